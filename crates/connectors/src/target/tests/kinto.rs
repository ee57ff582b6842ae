//! Kinto: an HTTP server that was not written here, with ETag, If-Match and merge patches.

mod server;

use serde_json::{Value, json};

use self::server::{Kinto, record};
use super::super::*;

impl Kinto {
    async fn record(&self, key: &str, data: Value) {
        self.put(&record(key), &json!({ "data": data })).await;
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
