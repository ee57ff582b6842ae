//! Kinto: an HTTP server that was not written here, with ETag, If-Match and merge patches.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::super::*;

const SETTINGS: &str = "[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = 0
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.userid_hmac_secret = of no use to anybody
multiauth.policies = basicauth
multiauth.policy.basicauth.use = kinto.core.authentication.BasicAuthAuthenticationPolicy
kinto.bucket_create_principals = system.Authenticated
";

/// It takes two seconds on an idle machine.
const START_MAX: Duration = Duration::from_mins(1);

/// A server of its own with the collection `people`.
struct Kinto {
    url: String,
    client: reqwest::Client,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Kinto {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("kinto.ini");
        std::fs::write(&settings, SETTINGS).unwrap();
        let mut process = Command::new(program().await)
            .args(["start", "--ini"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env("PYTHONUNBUFFERED", "1")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let serving = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, url)) = line.split_once("Serving on ") {
                    return format!("{}/v1/", url.trim());
                }
            }
            panic!("Kinto ended before it served");
        };
        let url = tokio::time::timeout(START_MAX, serving).await.expect("Kinto says where it serves");
        // Whatever else it says is read, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let kinto = Self { url, client: reqwest::Client::new(), _process: process, _folder: folder };
        kinto.put("buckets/crm", "{}").await;
        kinto.put("buckets/crm/collections/people", "{}").await;
        kinto
    }

    /// What somebody else does.
    async fn put(&self, path: &str, body: &str) {
        let request = self.client.put(format!("{}{path}", self.url)).basic_auth("person", Some("secret"));
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    }

    async fn record(&self, key: &str, data: Value) {
        let path = format!("buckets/crm/collections/people/records/{key}");
        self.put(&path, &json!({ "data": data }).to_string()).await;
    }

    async fn target(&self, stream: &str) -> Target {
        super::target(&format!(
            "name = \"crm\"\nkind = \"http\"\n[http]\nbase_url = {url:?}\n[target]\nbase_url = {url:?}\n\
             auth = {{ type = \"basic\", username = \"person\", password = \"secret\" }}\n\
             [[streams]]\nname = \"people\"\npath = \"people\"\nkey = [\"id\"]\n\
             pagination = {{ type = \"none\" }}\n[streams.target]\nowned = [\"email\", \"at.city\"]\n\
             stamped = [\"last_modified\"]\nrecord = \"data\"\n\
             path = \"buckets/crm/collections/people/records/{{key}}\"\n{stream}\n",
            url = self.url,
        ))
        .await
    }
}

/// Installed by the first test that needs it.
async fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let installed =
        Command::new(root.join("ops/install-kinto")).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(installed.status.success(), "ops/install-kinto failed");
    PathBuf::from(String::from_utf8(installed.stdout).unwrap().trim())
}

fn ada() -> Value {
    json!({"email": "old", "at": {"city": "X", "zip": "1"}, "other": [1, {"a": null}]})
}

#[tokio::test]
async fn w3_w5_kinto_stores_an_accepted_change_and_leaves_the_rest() {
    let kinto = Kinto::start().await;
    for (key, stream) in [("patched", ""), ("put", "write = \"put\"")] {
        kinto.record(key, ada()).await;
        let target = kinto.target(stream).await;
        let before = target.seen(key).await;
        let change = target.change(key, [("email", json!("new")), ("at.city", json!("Y"))]).await;
        let answer = target.write(&change).await;
        assert!(matches!(answer, WriteAnswer::Accepted), "{answer:?}");
        let after = target.seen(key).await;
        assert_eq!(target.compare(&change, Some(&after)), Standing::Desired);
        assert_eq!(after.rest, before.rest);
        assert_ne!(after.validator, before.validator);
        assert!(matches!(target.write(&change).await, WriteAnswer::Already));
    }
}

#[tokio::test]
async fn w4_kinto_keeps_a_persons_edit() {
    let kinto = Kinto::start().await;
    kinto.record("ada", ada()).await;
    let target = kinto.target("").await;
    let change = target.change("ada", [("email", json!("new"))]).await;
    kinto.record("ada", json!({"email": "old", "at": {"city": "X", "zip": "2"}})).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Conflict(Conflict::Version)));
    kinto.record("ada", json!({"email": "a person's"})).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Conflict(Conflict::Fields(_))));
    let create = Change { expected: Expected::Absent, ..change };
    assert!(matches!(target.write(&create).await, WriteAnswer::Conflict(Conflict::Exists)));
    let create = Change { key: "grace".into(), ..create };
    assert_eq!(target.standing(&create).await, Standing::Before);
    assert!(matches!(target.write(&create).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&create).await, Standing::Desired);
    assert_eq!(target.seen("ada").await.fields["email"], "a person's");
}

#[tokio::test]
async fn w4_kinto_is_found_to_check_the_version() {
    let kinto = Kinto::start().await;
    for (key, stream) in [("a", ""), ("b", "probe_key = \"b\""), ("c", "probe_key = \"c\"\nwrite = \"put\"")]
    {
        kinto.record(key, ada()).await;
        let target = kinto.target(stream).await;
        let before = target.seen(key).await;
        let probed = target.probe(Some(key)).await;
        assert_eq!(
            (probed.capability, &probed.obstacle),
            (Capability::ConditionalWrite, &None),
            "{probed:?}"
        );
        let after = target.seen(key).await;
        assert_eq!((after.fields, after.rest), (before.fields, before.rest));
    }
}
