//! Jobs, queues and tenants by the command line.

use crate::support::Bench;

#[tokio::test]
async fn a_tenant_is_made_with_a_worker_of_the_commands_own() {
    let bench = Bench::with_database().await;
    let dry = bench.json(&["tenant", "create", "acme", "--dry-run"]);
    assert_eq!((dry["dry_run"].as_bool(), dry["id"].is_null()), (Some(true), true));
    assert_eq!(bench.json(&["tenant", "list"])["tenants"], serde_json::json!([]), "a dry run does nothing");
    let created = bench.run(&["tenant", "create", "acme", "--wait"]);
    assert_eq!(created.code, Some(0), "{created:#?}");
    assert!(created.stderr.contains("running one here"), "{}", created.stderr);
    let shown = bench.json(&["tenant", "show", "acme"]);
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["schema_version"], shown["newest_schema_version"]);
    assert!(shown["size_bytes"].as_i64().is_some_and(|size| size > 1_000_000), "{shown}");
    let workers = bench.json(&["worker", "list"]);
    assert_eq!(workers["workers"], serde_json::json!([]), "the command's worker has left");
}

#[tokio::test]
async fn keys_make_enqueueing_repeatable() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let enqueue = |more: &[&str]| {
        let mut arguments = vec!["job", "enqueue", "tenant_provision", "--tenant", "acme"];
        arguments.extend(more);
        bench.json(&arguments)
    };
    let dry = enqueue(&["--dry-run"]);
    assert!(dry["id"].is_null() && dry["queue"] == "local", "{dry}");
    for key in ["--unique-key", "--idempotency-key"] {
        let (first, second) = (enqueue(&[key, "k"]), enqueue(&[key, "k"]));
        assert_eq!((first["existing"].as_bool(), second["existing"].as_bool()), (Some(false), Some(true)));
        assert_eq!(first["id"], second["id"]);
    }
    let other = ["job", "enqueue", "connector_sync", "--tenant", "acme", "--idempotency-key", "k"];
    let payload = ["--payload", r#"{"connector": "crm", "stream": "contacts"}"#];
    let reused = bench.run(&[&other[..], &payload].concat());
    assert_eq!(reused.code, Some(4), "{reused:#?}");
}

#[tokio::test]
async fn lists_go_from_the_newest_to_the_oldest_in_pages() {
    let bench = Bench::with_database().await;
    for name in ["one", "two", "three"] {
        bench.ok(&["tenant", "create", name]);
    }
    let ids = |listed: &serde_json::Value| -> Vec<i64> {
        let jobs = listed["jobs"].as_array().unwrap();
        jobs.iter().map(|job| job["id"].as_str().unwrap().parse().unwrap()).collect()
    };
    let first = bench.json(&["job", "list", "--limit", "2"]);
    let next = first["next_before"].as_str().unwrap();
    let second = bench.json(&["job", "list", "--limit", "2", "--before", next]);
    let all = [ids(&first), ids(&second)].concat();
    assert_eq!((all.len(), second["next_before"].is_null()), (3, true));
    assert!(all.is_sorted_by(|a, b| a > b), "{all:?}");
    let of_two = bench.json(&["job", "list", "--tenant", "two", "--state", "ready"]);
    assert_eq!(of_two["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(of_two["jobs"][0]["tenant"], "two");
}

#[tokio::test]
async fn a_paused_queue_says_by_whom_and_why() {
    let bench = Bench::with_database().await;
    bench.ok(&["queue", "pause", "local", "--reason", "the source is down", "--dry-run"]);
    assert_eq!(bench.json(&["queue", "list"])["queues"], serde_json::json!([]), "a dry run does nothing");
    bench.ok(&["queue", "pause", "local", "--reason", "the source is down"]);
    let listed = bench.ok(&["queue", "list"]);
    assert!(listed.contains("by ada by the command line: the source is down"), "{listed}");
    assert_eq!(bench.ok(&["queue", "resume", "local"]), "the queue local is now open\n");
    assert_eq!(bench.ok(&["queue", "resume", "local"]), "the queue local was already open\n");
}

#[tokio::test]
async fn a_job_waits_for_others_and_both_sides_tell() {
    let bench = Bench::with_database().await;
    for tenant in ["acme", "other"] {
        bench.ok(&["tenant", "create", tenant, "--wait"]);
    }
    let arguments = |tenant, more: &[&str]| -> Vec<String> {
        let all = [&["job", "enqueue", "tenant_provision", "--tenant", tenant][..], more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let run = |tenant, more: &[&str]| {
        bench.run(&arguments(tenant, more).iter().map(String::as_str).collect::<Vec<_>>())
    };
    let enqueue = |tenant, more: &[&str]| {
        let ran = run(tenant, &[more, &["--json"]].concat());
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        crate::support::object(&ran.stdout)["id"].as_str().unwrap().to_owned()
    };
    let parent = enqueue("acme", &[]);
    let waiter = enqueue("acme", &["--after", &parent]);
    let released = enqueue("acme", &["--after", &parent, "--or-release"]);
    let any = enqueue("acme", &["--after-any", &format!("{parent},{waiter}")]);

    let shown = bench.json(&["job", "get", &waiter]);
    assert_eq!(
        (shown["job"]["state"].as_str(), shown["job"]["reason"].as_str()),
        (Some("waiting"), Some("dependency"))
    );
    assert_eq!(shown["dependencies"]["waits_for"]["total"], 1);
    assert_eq!(shown["job"]["progress"]["total"], 1);
    assert_eq!(bench.json(&["job", "get", &parent])["dependencies"]["waited_for_by"], 3);
    let told = bench.ok(&["job", "get", &any]);
    assert!(
        told.contains(&format!("0 of 2 ended (0 well, 0 failed, 0 cancelled): {parent} ready")),
        "{told}"
    );
    let listed = bench.ok(&["job", "list", "--state", "waiting"]);
    assert!(listed.contains("0 of 2 jobs that it waits for have ended"), "{listed}");

    // What is another tenant's is told like what never was.
    let theirs = enqueue("other", &[]);
    for more in [&[][..], &["--dry-run"]] {
        for missing in [theirs.as_str(), "999999"] {
            let ran = run("acme", &[&["--after", missing][..], more].concat());
            assert_eq!(ran.code, Some(3), "{ran:#?}");
            let text = format!("a job cannot wait for job {missing}: there is no such job");
            assert!(ran.stderr.contains(&text), "{}", ran.stderr);
        }
    }
    let dry = run("acme", &["--after", &parent, "--dry-run"]);
    assert!(dry.stdout.contains(&format!("after {parent}")), "{dry:#?}");

    bench.ok(&["job", "cancel", &parent]);
    let state = |id: &str| bench.json(&["job", "get", id])["job"]["state"].as_str().unwrap().to_owned();
    assert_eq!([state(&waiter), state(&released), state(&any)], ["failed", "ready", "ready"]);
    let retried = bench.run(&["job", "retry", &waiter]);
    assert_eq!(retried.code, Some(4), "{retried:#?}");
    assert!(retried.stderr.contains(&format!("retry job {parent} first")), "{}", retried.stderr);
    bench.ok(&["job", "retry", &parent]);
    bench.ok(&["job", "retry", &waiter]);
    assert_eq!(state(&waiter), "waiting");
}

#[tokio::test]
async fn limits_are_set_listed_and_cleared() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let set = |arguments: &[&str]| bench.ok(&[&["queue", "limit", "set"], arguments].concat());
    let cap = ["--queue", "local", "--running", "5"];
    assert!(set(&[&cap[..], &["--dry-run"]].concat()).starts_with("would be set"));
    assert_eq!(bench.ok(&["queue", "limit", "list"]), "there is no limit\n", "a dry run does nothing");
    assert_eq!(set(&cap), "is set: all jobs (local): 5 running\n");
    set(&["--tenant", "acme", "--running", "2"]);
    set(&["--tenant", "acme", "--weight", "3"]);
    set(&["--key", "api.example.com", "--rate", "100/1m", "--burst", "5"]);
    set(&["--queue", "local", "--fair"]);
    insta::assert_snapshot!(bench.ok(&["queue", "limit", "list"]), @"
    QUEUE         OF                        ALLOWED
    all together  tenant acme               2 running
    local         all jobs                  5 running
    all together  rate key api.example.com  100 starts in 60s, burst 5
    each          tenant acme               3 in a round
    local         all tenants               turns
    ");
    let queues = bench.json(&["queue", "list"])["queues"].clone();
    assert_eq!((queues[0]["running_max"].as_i64(), queues[0]["governed"].as_bool()), (Some(5), Some(true)));
    let listed = bench.json(&["queue", "limit", "list"])["limits"].clone();
    let rate = listed.as_array().unwrap().iter().find(|limit| limit["limit"] == "rate").unwrap();
    assert_eq!((rate["per_secs"].as_f64(), rate["burst"].as_i64()), (Some(60.0), Some(5)));

    let clear = |arguments: &[&str]| bench.run(&[&["queue", "limit", "clear"], arguments].concat());
    assert_eq!(clear(&["--queue", "local", "--dry-run"]).code, Some(0));
    assert_eq!(clear(&["--queue", "local"]).stdout, "is cleared: all jobs (local): 5 running\n");
    assert_eq!(clear(&["--queue", "local"]).code, Some(3), "it was cleared");
    for rest in [&["--tenant", "acme"][..], &["--tenant", "acme", "--weight"], &["--key", "api.example.com"]]
    {
        assert_eq!(clear(rest).code, Some(0), "{rest:?}");
    }
    assert_eq!(clear(&["--queue", "local", "--fair"]).code, Some(0));
    assert_eq!(bench.ok(&["queue", "limit", "list"]), "there is no limit\n");
}

#[tokio::test]
async fn a_limit_that_would_stop_everything_is_refused_with_the_way_out() {
    let bench = Bench::with_database().await;
    let set = |arguments: &[&str]| bench.run(&[&["queue", "limit", "set"], arguments].concat());
    let zero = set(&["--queue", "local", "--running", "0"]);
    assert_eq!(zero.code, Some(2), "{zero:#?}");
    assert!(zero.stderr.contains("to stop a queue, pause it"), "{}", zero.stderr);
    assert_eq!(set(&["--running", "5"]).code, Some(2), "everything at once");
    assert_eq!(set(&["--key", "k", "--rate", "fast"]).code, Some(2));
    assert_eq!(set(&["--queue", "local"]).code, Some(2), "nothing is limited");
    assert_eq!(set(&["--tenant", "nobody", "--running", "5"]).code, Some(3));
    assert_eq!(bench.json(&["queue", "limit", "list"])["limits"], serde_json::json!([]));
}
