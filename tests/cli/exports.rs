//! A tenant's data out of one tenant and into another, by the command line.

use std::fs;

use sqlx::Connection as _;

use crate::support::{Bench, object};

/// A bench with a tenant in service that holds a record and a chain with a checkpoint.
async fn bench() -> Bench {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let name: String = sqlx::query_scalar("select database_name from control.tenant")
        .fetch_one(&mut bench.connect().await)
        .await
        .unwrap();
    let options = bench.database().options().database(&name);
    let mut inside = sqlx::PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("insert into tenant.record (connector, stream, key, digest, data) values ('crm', 'people', '1', 'd', '{}')")
        .execute(&mut inside)
        .await
        .unwrap();
    bench
}

/// Exports the tenant into the folder, approved by somebody else, and gives the file.
fn exported(bench: &Bench, more: &[&str]) -> serde_json::Value {
    let asked = bench.json(&[&["tenant", "export", "acme"][..], more].concat());
    let (approval, digest) = (asked["approval"].as_str().unwrap(), asked["digest"].as_str().unwrap());
    bench.ok(&["approval", "approve", approval, "--digest", digest, "--tenant", "acme", "--as", "ben"]);
    // The same is asked for once: this waits for the same job, under the yes that was given.
    let done = bench.json(&[&["tenant", "export", "acme", "--wait"][..], more].concat());
    assert_eq!((&done["approval"], &done["job"]["id"]), (&asked["approval"], &asked["job"]));
    done["job"]["output"].clone()
}

#[tokio::test]
async fn e1_what_is_exported_is_verified_and_restored_into_an_empty_tenant() {
    let bench = bench().await;
    let folder = bench.path("handover");
    fs::create_dir(&folder).unwrap();
    let to = folder.display().to_string();
    let output = exported(&bench, &["--to", &to]);
    let file = output["file"].as_str().unwrap();
    assert!(file.starts_with(&to), "{file}");

    // Nothing vouches for this chain: there is no checkpoint yet.
    let offline = Bench::without_database();
    let told = offline.run(&["tenant", "verify-bundle", file, "--json"]);
    assert_eq!(told.code, Some(9), "{told:#?}");
    let told = object(&told.stdout);
    assert_eq!((&told["sha256"], &told["name"]), (&output["sha256"], &serde_json::json!("acme")));

    let broken = bench.path("broken.zip").display().to_string();
    let mut bytes = fs::read(file).unwrap();
    bytes[1_000] ^= 1;
    fs::write(&broken, bytes).unwrap();
    let refused = offline.run(&["tenant", "verify-bundle", &broken]);
    assert_eq!(refused.code, Some(7), "{refused:#?}");
    assert_eq!(offline.run(&["tenant", "verify-bundle", "nowhere.zip"]).code, Some(3));

    // The tenant itself is still here, and its chain goes on there.
    bench.ok(&["tenant", "create", "other", "--wait"]);
    let second = bench.run(&["tenant", "import", file, "--into", "other"]);
    assert!(second.code == Some(4) && second.stderr.contains("acme"), "{second:#?}");

    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "other", "--wait"]);
    let planned = bench.json(&["tenant", "import", file, "--into", "other", "--dry-run"]);
    let restored = bench.json(&["tenant", "import", file, "--into", "other"]);
    assert_eq!((&planned["rows"], &planned["dry_run"]), (&restored["rows"], &serde_json::json!(true)));
    let chain = bench.json(&["audit", "head", "--tenant", "other"]);
    assert_eq!((&chain["origin"], &chain["size"]), (&restored["origin"], &restored["size"]));
    let again = bench.run(&["tenant", "import", file, "--into", "other"]);
    assert_eq!(again.code, Some(4), "{again:#?}");
    assert_eq!(bench.run(&["tenant", "import", &broken, "--into", "other"]).code, Some(7));
    let platform = bench.ok(&["audit", "export", "--platform"]);
    assert_eq!(platform.matches("tenant.import_begun").count(), 1, "a bundle that is refused begins nothing");
}

#[tokio::test]
async fn a_bundle_without_a_place_is_listed_until_it_expires_and_a_dry_run_names_what_stays() {
    let bench = bench().await;
    let planned = bench.json(&["tenant", "export", "acme", "--dry-run"]);
    let names = |part: &str| -> Vec<String> {
        let tables = planned[part].as_array().unwrap();
        tables.iter().map(|table| table["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names("tables").contains(&"tenant.record".to_owned()));
    assert!(names("excluded").contains(&"queue.worker".to_owned()));
    let asked = bench.json(&["approval", "list", "--tenant", "acme"]);
    assert_eq!(asked["approvals"].as_array().map(Vec::len), Some(0), "nobody is asked by a dry run");

    let output = exported(&bench, &[]);
    let listed = bench.json(&["tenant", "export", "list", "--tenant", "acme"]);
    let bundle = &listed["bundles"][0];
    assert_eq!((&bundle["file"], &bundle["bytes"]), (&output["file"], &output["bytes"]));
    assert_eq!(
        (&bundle["is_over"], &output["keep_secs"]),
        (&serde_json::json!(false), &serde_json::json!(7 * 86_400))
    );
    let jobs = bench.ok(&["job", "list", "--state", "ready"]);
    assert!(jobs.contains("export_sweep"), "{jobs}");
    assert_eq!(bench.run(&["tenant", "export"]).code, Some(2));
    assert_eq!(bench.run(&["tenant", "export", "nobody"]).code, Some(3));
}
