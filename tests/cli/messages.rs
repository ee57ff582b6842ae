//! What is said about wrong input: the place, the fault, the way out.

use crate::support::{Bench, object, ran, without_folder};

#[test]
fn config_check_tells_every_fault_with_its_line() {
    let bench = Bench::without_database();
    let file = bench.file(
        "tenure.toml",
        "region = \"eu\"\n[worker]\nslots = 0\nheart_beat = \"5s\"\nlease = \"20s\"\n[telemetry]\nmetrics_bind = \"0.0.0.0:80\"\n",
    );
    let checked = ran(bench.command(&["config", "check", "--config", &file]).env("TENURE_WORKER_SLOT", "1"));
    assert_eq!(checked.code, Some(78), "{checked:#?}");
    insta::assert_snapshot!(without_folder(&checked.stderr, bench.folder.path()), @r#"
    error: the configuration has 3 faults
      FOLDER/tenure.toml:4: there is no key `worker.heart_beat`
        help: did you mean `worker.heartbeat`? config/default.toml lists every key
      variable TENURE_WORKER_SLOT: there is no such setting
        help: did you mean TENURE_WORKER_SLOTS? otherwise unset it
      FOLDER/tenure.toml:3: `worker.slots` is out of range
        help: write a whole number from 1 to 10000
    "#);
    let as_json = bench.run(&["config", "check", "--config", &file, "--json"]);
    let error = object(&as_json.stdout)["error"].clone();
    assert_eq!(
        (error["code"].as_str(), error["faults"].as_array().map(Vec::len)),
        (Some("configuration"), Some(2))
    );
}

#[test]
fn i7_config_show_tells_origins_and_no_password() {
    let bench = Bench::without_database();
    bench.file("tenure.toml", "[database]\nurl = \"postgres://ada:hunter2@db/app?password=hunter2\"\n");
    let shown = bench.ok(&["config", "show"]);
    assert!(shown.contains("tenure.toml:2") && shown.contains("postgres://ada:…@db/app"), "{shown}");
    assert!(
        !shown.contains("hunter2") && !bench.ok(&["config", "show", "--json"]).contains("hunter2"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_payload_is_checked_before_anything_is_written() {
    let bench = Bench::with_database().await;
    let enqueue = |payload: &str| bench.run(&["job", "enqueue", "connector_sync", "--payload", payload]);
    let unknown = enqueue(r#"{"connector": "crm", "streem": "contacts"}"#);
    assert_eq!(unknown.code, Some(2), "{unknown:#?}");
    insta::assert_snapshot!(unknown.stderr, @r#"
    error: the payload does not fit the kind connector_sync: unknown field `streem`, expected one of `connector`, `stream`, `reset` at line 1 column 29
      help: connector_sync takes a payload like {"connector": "crm", "stream": "contacts"}
    "#);
    assert!(enqueue("{").stderr.contains("the payload is not JSON"));
    let kind = bench.run(&["job", "enqueue", "connector_synch"]);
    assert!(
        kind.code == Some(2)
            && kind.stderr.contains("there are audit_checkpoint, bulk_operation, connector_sync"),
        "{kind:#?}"
    );
    assert_eq!(bench.json(&["job", "list"])["jobs"], serde_json::json!([]));
}

#[test]
fn a_connectors_file_is_judged_whole_and_needs_no_database() {
    let bench = Bench::without_database();
    let file = bench.file(
        "crm.toml",
        "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://reader@db/crm\"\nstatement_timeuot = \"10m\"\n\
         [[streams]]\nname = \"contacts\"\ntable = \"contacts\"\nkey = [\"id\"]\nsettle = \"soon\"\n",
    );
    let checked = bench.run(&["connector", "check", &file]);
    assert_eq!(checked.code, Some(78), "{checked:#?}");
    let text = without_folder(&checked.stderr, bench.folder.path());
    assert!(text.contains("FOLDER/crm.toml:5:1: ") && text.contains("statement_timeout"), "{text}");
    assert!(text.contains("FOLDER/crm.toml:10:"), "{text}");
    assert!(!bench.path("data").exists(), "no private Postgres was started for that");
}

#[test]
fn production_refuses_a_secret_in_a_connectors_file() {
    let bench = Bench::without_database();
    let file = bench.file(
        "api.toml",
        "name = \"api\"\nkind = \"http\"\n[http]\nbase_url = \"https://api.example.com/\"\n\
         auth = { type = \"bearer\", token = \"hunter2\" }\n[[streams]]\nname = \"people\"\npath = \"people\"\nkey = [\"id\"]\nrecords = \"data\"\n\
         pagination = { type = \"none\" }\n",
    );
    let key = bench.file("key", "");
    let mut command = bench.command(&["connector", "check", &file]);
    command.env("TENURE_ENVIRONMENT", "production").env("TENURE_TENANTS_PASSWORD_KEY_FILE", key);
    command.env("DATABASE_URL", "postgres://ada:b3tter@db.invalid/app?sslmode=verify-full");
    let checked = ran(&mut command);
    assert_eq!(checked.code, Some(78), "{checked:#?}");
    assert!(checked.stderr.contains("`http.auth.token` holds a secret"), "{}", checked.stderr);
    assert!(!checked.stderr.contains("hunter2"), "{}", checked.stderr);
}

#[tokio::test]
async fn t5_production_refuses_a_superuser_and_a_plaintext_address() {
    let bench = Bench::with_database().await;
    let key = bench.file("key", "");
    let production = |url: String| {
        let mut command = bench.command(&["job", "list"]);
        command.env("TENURE_ENVIRONMENT", "production").env("TENURE_TENANTS_PASSWORD_KEY_FILE", &key);
        ran(command.env("DATABASE_URL", url))
    };
    let superuser = production(bench.database().url());
    assert_eq!(superuser.code, Some(78), "{superuser:#?}");
    assert!(superuser.stderr.contains("may not be a superuser"), "{}", superuser.stderr);
    let plaintext = production("postgres://ada:b3tter@db.invalid/app".to_owned());
    assert_eq!(plaintext.code, Some(78), "{plaintext:#?}");
    assert!(plaintext.stderr.contains("does not insist on encryption"), "{}", plaintext.stderr);
}
