//! Credentials and keys by the command line alone.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use database::testing::TestDatabase;

use crate::support::{Bench, Ran, object};

const SECRET: &str = "correct-horse-battery";

/// Runs a command with this on standard input.
fn fed(command: &mut Command, input: &str) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses at once does not read it.
    let _gone = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn set(bench: &Bench, name: &str, input: &str) -> Ran {
    fed(&mut bench.command(&["connector", "credential", "set", name]), input)
}

/// Ada asks with this command, ben says yes, and it is typed again.
fn agreed(bench: &Bench, arguments: &[&str]) -> Ran {
    let asked = bench.json(arguments);
    let id = asked["approval"].as_str().unwrap().to_owned();
    let digest = bench.json(&["approval", "show", &id, "--tenant", "acme", "--as", "ben"]);
    let digest = digest["approval"]["digest"].as_str().or(digest["digest"].as_str()).unwrap().to_owned();
    bench.ok(&["approval", "approve", &id, "--digest", &digest, "--tenant", "acme", "--as", "ben"]);
    let mut again = arguments.to_vec();
    again.push("--json");
    bench.run(&again)
}

async fn with_acme() -> Bench {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    bench
}

/// A source whose role has the password, and a connector that names the credential.
async fn source(bench: &Bench) -> (TestDatabase, String) {
    let source = TestDatabase::create().await;
    let rows = "create table people (id int primary key, name text); insert into people values (1, 'Ada')";
    sqlx::raw_sql(rows).execute(&mut source.connect().await).await.unwrap();
    let file = bench.file(
        "hr.toml",
        &format!(
            "name = \"hr\"\nkind = \"postgres\"\n[postgres]\nurl = \"{}\"\npassword_credential = \"hr-reader\"\n\
             [[streams]]\nname = \"people\"\ntable = \"people\"\nkey = [\"id\"]\n",
            source.url()
        ),
    );
    (source, file)
}

#[tokio::test]
async fn k9_a_credential_comes_from_standard_input_and_is_shown_by_nothing() {
    let bench = with_acme().await;
    let (_source, file) = source(&bench).await;
    let absent = bench.run(&["connector", "check", &file]);
    assert!(
        absent.code == Some(78) && absent.stderr.contains("connector credential set hr-reader"),
        "{absent:#?}"
    );
    let kept = set(&bench, "hr-reader", &format!("{SECRET}\n"));
    assert!(kept.code == Some(0) && kept.stdout.contains("hr-reader was set"), "{kept:#?}");
    bench.ok(&["connector", "check", &file]);
    bench.ok(&["connector", "sync", &file]);
    bench.ok(&["connector", "check", "hr"]);
    let again = set(&bench, "hr-reader", SECRET);
    assert!(again.stdout.contains("replaced"), "{again:#?}");
    let listed = bench.json(&["connector", "credential", "list"]);
    assert_eq!(
        (&listed["credentials"][0]["name"], &listed["credentials"][0]["connectors"][0]),
        (&"hr-reader".into(), &"hr".into())
    );
    assert_eq!(bench.run(&["connector", "credential", "remove", "hr-reader"]).code, Some(4));
    assert_eq!(bench.run(&["connector", "credential", "remove", "other"]).code, Some(3));
    let shown = [
        listed.to_string(),
        format!("{kept:?} {again:?} {absent:?}"),
        bench.ok(&["connector", "credential", "list"]),
        bench.ok(&["connector", "discover", "hr"]),
        bench.ok(&["job", "list", "--json"]),
        bench.ok(&["audit", "export", "--tenant", "acme"]),
        bench.ok(&["key", "census", "--tenant", "acme", "--json"]),
        everything(&bench).await,
    ];
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// All rows of all tables of all databases of the installation.
async fn everything(bench: &Bench) -> String {
    let mut conn = bench.connect().await;
    let tenant: String =
        sqlx::query_scalar("select database_name from control.tenant").fetch_one(&mut conn).await.unwrap();
    let options = bench.database().options().database(&tenant);
    let mut text = String::new();
    for mut conn in [conn, database::connect::connect(&options).await.unwrap()] {
        let dump = "select string_agg(query_to_xml(format('select * from %I.%I', n.nspname, c.relname), true, true, '')::text, '')
            from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.relkind = 'r' and n.nspname in ('queue', 'control', 'governance', 'tenant')";
        let dumped: String = sqlx::query_scalar(dump).fetch_one(&mut conn).await.unwrap();
        assert!(dumped.len() > 1_000);
        text.push_str(&dumped);
    }
    text
}

#[tokio::test]
async fn a_credential_that_is_none_is_2_and_is_not_repeated() {
    let bench = with_acme().await;
    let empty = set(&bench, "hr-reader", "\n");
    assert!(empty.code == Some(2) && empty.stderr.contains("standard input"), "{empty:#?}");
    let named = set(&bench, "Correct-Horse", "x");
    assert!(named.code == Some(2) && !named.stderr.contains("Correct-Horse"), "{named:#?}");
    assert_eq!(set(&bench, "long", &"x".repeat(70_000)).code, Some(2));
    let argument = bench.run(&["connector", "credential", "set", "hr-reader", SECRET]);
    assert_eq!(argument.code, Some(2));
    let dry = bench.json(&["connector", "credential", "set", "hr-reader", "--dry-run"]);
    assert_eq!((&dry["change"], &dry["dry_run"]), (&"set".into(), &true.into()));
    assert_eq!(bench.json(&["connector", "credential", "list"])["credentials"], serde_json::json!([]));
}

#[tokio::test]
async fn k1_k2_k3_keys_are_rotated_once_somebody_else_agrees() {
    let bench = with_acme().await;
    for name in ["a", "b", "c"] {
        assert_eq!(set(&bench, name, name).code, Some(0));
    }
    let dry =
        bench.json(&["key", "rotate", "--reseal", "--older-than", "0s", "--tenant", "acme", "--dry-run"]);
    assert_eq!((&dry["counts"]["rotated"], &dry["dry_run"]), (&3.into(), &true.into()));
    let rotate = ["key", "rotate", "--reseal", "--older-than", "0s", "--tenant", "acme"];
    let rotated = agreed(&bench, &rotate);
    assert_eq!(rotated.code, Some(0), "{rotated:#?}");
    assert_eq!(object(&rotated.stdout)["counts"], dry["counts"]);
    let second = agreed(&bench, &["key", "rotate", "--reseal", "--tenant", "acme"]);
    assert_eq!(object(&second.stdout)["counts"]["already"], 3, "{second:#?}");
    let rewrapped = agreed(&bench, &["key", "rotate", "--older-than", "0s", "--tenant", "acme"]);
    assert_eq!(object(&rewrapped.stdout)["counts"]["rotated"], 2, "{rewrapped:#?}");
    let census = bench.json(&["key", "census", "--tenant", "acme"]);
    let of = |state: &str| {
        let deks = census["deks"].as_array().unwrap();
        deks.iter().find(|dek| dek["state"] == state).unwrap().clone()
    };
    assert_eq!((&of("active")["values"], &of("former")["values"]), (&3.into(), &0.into()));
    assert_eq!(
        (&census["keks"][0]["vendor"], &census["keks"][0]["wraps"]["2"]),
        (&"local".into(), &2.into())
    );
    // K7: what is in use is kept, and what a backup may need too.
    let (active, former) = (of("active")["id"].clone(), of("former")["id"].clone());
    let (active, former) = (active.as_str().unwrap(), former.as_str().unwrap());
    let unsaid = bench.run(&["key", "retire", former, "--tenant", "acme"]);
    assert!(unsaid.code == Some(78) && unsaid.stderr.contains("`tenants.backup_days`"), "{unsaid:#?}");
    bench.file("tenure.toml", "[tenants]\nbackup_days = 30\n");
    let refused = bench.run(&["key", "retire", active, "--tenant", "acme"]);
    assert!(refused.code == Some(4) && refused.stderr.contains("active"), "{refused:#?}");
    let refused = bench.run(&["key", "retire", former, "--tenant", "acme"]);
    assert!(refused.code == Some(4) && refused.stderr.contains("backups"), "{refused:#?}");
    let unknown = "00000000-0000-4000-8000-000000000000";
    assert_eq!(bench.run(&["key", "retire", unknown, "--tenant", "acme"]).code, Some(3));
    assert_eq!(bench.json(&["key", "census", "--platform"])["deks"], serde_json::json!([]));
}

#[tokio::test]
async fn k4_a_row_that_does_not_open_is_named_and_the_exit_code_says_so() {
    let bench = with_acme().await;
    for name in ["a", "b", "c"] {
        assert_eq!(set(&bench, name, name).code, Some(0));
    }
    let mut conn = bench.connect().await;
    let tenant: String =
        sqlx::query_scalar("select database_name from control.tenant").fetch_one(&mut conn).await.unwrap();
    let options = bench.database().options().database(&tenant);
    let corrupt = "update tenant.connector_credential set value = set_byte(value, 50, get_byte(value, 50) # 1) where name = 'b'";
    sqlx::raw_sql(corrupt).execute(&mut database::connect::connect(&options).await.unwrap()).await.unwrap();
    let rotate = ["key", "rotate", "--reseal", "--older-than", "0s", "--tenant", "acme"];
    let rotated = agreed(&bench, &rotate);
    assert_eq!(rotated.code, Some(8), "{rotated:#?}");
    let told = object(&rotated.stdout);
    assert_eq!((&told["counts"]["rotated"], &told["faults"][0]["key"][0]), (&2.into(), &"b".into()));
}

#[tokio::test]
async fn a_keyring_in_a_bad_state_is_78_with_what_to_do() {
    let bench = with_acme().await;
    let keyring = bench.path("keyring.json");
    let path = keyring.to_str().unwrap();
    bench.ok(&["key", "keyring", path]);
    assert_eq!(bench.run(&["key", "keyring", path]).code, Some(78));
    let keep = |bench: &Bench| {
        let mut command = bench.command(&["connector", "credential", "set", "a"]);
        fed(command.env("TENURE_KEYS_KEYRING_FILE", path), "secret")
    };
    assert_eq!(keep(&bench).code, Some(0));
    let refuses = |what: &str| {
        let refused = keep(&bench);
        assert!(refused.code == Some(78) && refused.stderr.contains(what), "{what}: {refused:#?}");
        let mut work = bench.command(&["work"]);
        let refused = fed(work.env("TENURE_KEYS_KEYRING_FILE", path), "");
        {
            assert!(refused.code == Some(78) && refused.stderr.contains(what), "{what}: {refused:#?}");
        }
    };
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
    refuses("chmod 600");
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o600)).unwrap();
    let whole = fs::read(&keyring).unwrap();
    fs::write(&keyring, &whole[..whole.len() / 2]).unwrap();
    refuses("it is cut off");
    fs::remove_file(&keyring).unwrap();
    refuses("is not there");
}

#[tokio::test]
async fn a_keyring_of_another_installation_is_78_and_seals_nothing() {
    let bench = with_acme().await;
    assert_eq!(set(&bench, "a", "secret").code, Some(0));
    let other = bench.path("other.json");
    bench.ok(&["key", "keyring", other.to_str().unwrap()]);
    let mut command = bench.command(&["connector", "credential", "set", "a"]);
    let refused = fed(command.env("TENURE_KEYS_KEYRING_FILE", &other), "secret");
    assert!(refused.code == Some(78) && refused.stderr.contains("is of installation"), "{refused:#?}");
}
