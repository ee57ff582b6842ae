//! Kinto: an HTTP server that was not written here, with ETag, If-Match, merge patches and a history of its records.

#[path = "../../../../crates/connectors/src/target/tests/kinto/server.rs"]
mod server;

use connectors::Definition;
use futures_util::future::BoxFuture;
use governance::writeback::{State, WritebackId};
use queue::NewJob;
use serde_json::{Value, json};

use self::server::{Kinto, record};
use super::house::{CHAIN_HOLDS, House, PATH, approve_asked, one, run, wish};
use crate::{
    connector_registry,
    testing::{Stage, Subject, battery},
    writeback::{job, plan},
};

impl Kinto {
    async fn get(&self, path: &str) -> Value {
        let request = self.request(reqwest::Method::GET, path);
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
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
        self.put(&record(key), &json!({"data": {"email": "OLD@x.org", "other": [1, null]}})).await;
        connector_registry::register(&stage.as_request().await, &self.definition(), "ada").await.unwrap();
        let mut conn = stage.tenant_connection().await;
        run(&mut conn, PATH).await;
        let ada = governance::actor::named(&mut conn, "ada").await.unwrap().id;
        let wish = wish(ada, key, "old@x.org");
        let (planned, asked) = plan(&stage.as_request().await, &stage.vault, &wish, false).await.unwrap();
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
            let record = self.get(&record(key)).await;
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
    kinto.put(&record(&key), &json!({"data": {"email": "old@x.org", "other": ["a person's"]}})).await;
    assert_eq!(house.run(id).await.state, State::Conflict);
    let record = kinto.get(&record(&key)).await;
    assert_eq!(
        (&record["data"]["email"], &record["data"]["other"][0]),
        (&json!("old@x.org"), &json!("a person's"))
    );
}
