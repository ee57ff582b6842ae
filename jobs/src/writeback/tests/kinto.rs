//! Kinto: an HTTP server that was not written here, with ETag, If-Match, merge patches and a history of its records.

use std::{path::Path, process::Stdio, time::Duration};

use connectors::Definition;
use futures_util::future::BoxFuture;
use governance::writeback::{State, WritebackId};
use queue::NewJob;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::house::{CHAIN_HOLDS, House, PATH, approve_asked, one, run, wish};
use crate::{
    connector_registry,
    testing::{Stage, Subject, battery},
    writeback::{job, plan},
};

const SETTINGS: &str = "[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = 0
[app:main]
use = egg:kinto
kinto.includes = kinto.plugins.history
kinto.storage_backend = kinto.core.storage.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.userid_hmac_secret = of no use to anybody
multiauth.policies = basicauth
multiauth.policy.basicauth.use = kinto.core.authentication.BasicAuthAuthenticationPolicy
kinto.bucket_create_principals = system.Authenticated
";

/// It takes two seconds on an idle machine.
const START_MAX: Duration = Duration::from_mins(2);

/// One server for the battery; a record of its own for each run.
struct Kinto {
    url: String,
    client: reqwest::Client,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Kinto {
    async fn start() -> Self {
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/install-kinto");
        let installed = Command::new(install).stderr(Stdio::inherit()).output().await.unwrap();
        assert!(installed.status.success(), "ops/install-kinto failed");
        let program = String::from_utf8(installed.stdout).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("kinto.ini");
        std::fs::write(&settings, SETTINGS).unwrap();
        let mut process = Command::new(program.trim())
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
        kinto.put("buckets/crm", &json!({})).await;
        kinto.put("buckets/crm/collections/people", &json!({})).await;
        kinto
    }

    /// What somebody else does.
    async fn put(&self, path: &str, body: &Value) {
        let request = self.client.put(format!("{}{path}", self.url)).basic_auth("person", Some("secret"));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.url)).basic_auth("person", Some("secret"));
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    fn record(key: &str) -> String {
        format!("buckets/crm/collections/people/records/{key}")
    }

    fn definition(&self) -> Definition {
        let text = format!(
            "name = \"crm\"\nkind = \"http\"\n[http]\nbase_url = {url:?}\n[target]\nbase_url = {url:?}\n\
             auth = {{ type = \"basic\", username = \"person\", password = \"secret\" }}\n\
             [[streams]]\nname = \"rows\"\npath = \"people\"\nkey = [\"id\"]\n\
             pagination = {{ type = \"none\" }}\n[streams.target]\nowned = [\"email\"]\n\
             stamped = [\"last_modified\"]\nrecord = \"data\"\n\
             path = \"buckets/crm/collections/people/records/{{key}}\"\n\
             convergence = {{ reads = 3, pause = \"10ms\" }}\n",
            url = self.url,
        );
        Definition::parse(&text, "crm.toml").unwrap_or_else(|error| panic!("{error}"))
    }

    /// How often the record was changed since it was made.
    async fn updates(&self, key: &str) -> usize {
        let path = format!("buckets/crm/history?record_id={key}&action=update");
        self.get(&path).await["data"].as_array().unwrap().len()
    }

    async fn prepare(&self, stage: &Stage) -> NewJob {
        let key = &stage.tenant.database_name;
        self.put(&Self::record(key), &json!({"data": {"email": "OLD@x.org", "other": [1, null]}})).await;
        connector_registry::register(&stage.as_request().await, &self.definition()).await.unwrap();
        let mut conn = stage.tenant_connection().await;
        run(&mut conn, PATH).await;
        let ada = governance::actor::named(&mut conn, "ada").await.unwrap().id;
        let wish = wish(ada, key, "old@x.org");
        let (planned, asked) = plan(&stage.as_request().await, &wish, false).await.unwrap();
        approve_asked(&mut conn, asked).await;
        job(&stage.tenant, planned.id).unwrap()
    }
}

impl Subject for Kinto {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(self.prepare(stage))
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let mut conn = stage.tenant_connection().await;
            assert_eq!(one(&mut conn, CHAIN_HOLDS).await, "true", "the audit chain does not verify");
            let row = governance::writeback::find(&mut conn, WritebackId(1)).await.unwrap();
            let key = &stage.tenant.database_name;
            let record = self.get(&Self::record(key)).await;
            let (email, other) = (&record["data"]["email"], &record["data"]["other"]);
            format!("{} {email} {other} {}", row.state, self.updates(key).await)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_w6_writeback_passes_the_battery_on_a_server_not_written_here() {
    battery(&Kinto::start().await, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_w4_w5_a_change_on_a_server_not_written_here_and_a_person_beside() {
    let kinto = Kinto::start().await;
    let stage = Stage::provisioned().await;
    let change = kinto.prepare(&stage).await;
    stage.run(change).await;
    assert_eq!(kinto.fingerprint(&stage).await, "verified \"old@x.org\" [1,null] 1");
    let house = House { stage, server: None };
    let key = house.stage.tenant.database_name.clone();
    let id = house.approved(&key, "another@x.org").await;
    kinto.put(&Kinto::record(&key), &json!({"data": {"email": "old@x.org", "other": ["a person's"]}})).await;
    assert_eq!(house.run(id).await.state, State::Conflict);
    let record = kinto.get(&Kinto::record(&key)).await;
    assert_eq!(
        (&record["data"]["email"], &record["data"]["other"][0]),
        (&json!("old@x.org"), &json!("a person's"))
    );
}
