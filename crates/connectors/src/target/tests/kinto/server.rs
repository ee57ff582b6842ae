//! The server as a process of its own, for the tests of this crate and, by its path, for those of `jobs`.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
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

/// A server of its own with the collection `people`.
pub(crate) struct Kinto {
    pub(crate) url: String,
    client: reqwest::Client,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Kinto {
    pub(crate) async fn start() -> Self {
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
        kinto.put("buckets/crm", &json!({})).await;
        kinto.put("buckets/crm/collections/people", &json!({})).await;
        kinto
    }

    /// What somebody else does.
    pub(crate) async fn put(&self, path: &str, body: &Value) {
        let request = self.request(reqwest::Method::PUT, path);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    }

    /// A request of the person whose records these are.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).basic_auth("person", Some("secret"))
    }
}

/// Where the record of this key is.
pub(crate) fn record(key: &str) -> String {
    format!("buckets/crm/collections/people/records/{key}")
}

/// Installed by the first test that needs it.
async fn program() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let install = here.ancestors().map(|folder| folder.join("ops/install-kinto")).find(|file| file.exists());
    let install = install.expect("the repository has ops/install-kinto");
    let installed = Command::new(install).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(installed.status.success(), "ops/install-kinto failed");
    String::from_utf8(installed.stdout).unwrap().trim().to_owned()
}
