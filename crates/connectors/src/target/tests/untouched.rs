//! W5: what is not owned is the same before and after, byte by byte.

use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::server::{Lie, Server, header};
use crate::json;

const RECORD: &str = r#"{"id": "1", "n": 1.500e3, "big": 12345678901234567890123.10, "email": "old", "at": {"zip": 007.0e0, "city": "X", "deep": [1.0,  {"a": null}]}, "é": "\u00e9\/"}"#;

#[tokio::test]
async fn w5_a_merge_patch_holds_the_owned_fields_and_nothing_else() {
    let server = Server::start(&RECORD.replace("007.0e0", "7.0e0"), Lie::None).await;
    let target = server.target("", "owned = [\"email\", \"at.city\"]").await;
    let before = target.seen("1").await;
    let change = target.change("1", [("email", json!(null)), ("at.city", json!("Y"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    let sent = server.writes().remove(0);
    assert_eq!((sent.method.as_str(), sent.body.as_str()), ("PATCH", r#"{"at":{"city":"Y"},"email":null}"#));
    assert_eq!(header(&sent.head, "content-type").as_deref(), Some("application/merge-patch+json"));
    assert_eq!(header(&sent.head, "if-match").as_deref(), Some("\"7\""));
    assert_eq!(target.seen("1").await.rest, before.rest);
    assert_eq!(target.standing(&change).await, Standing::Desired);
}

#[tokio::test]
async fn w5_a_put_sends_every_other_value_as_it_was_read() {
    let record = RECORD.replace("007.0e0", "7.0e0");
    let server = Server::start(&record, Lie::None).await;
    let target = server.target("", "owned = [\"email\", \"at.city\"]\nwrite = \"put\"").await;
    let change = target.change("1", [("email", json!("new")), ("at.city", json!("Y"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    let sent = server.writes().remove(0).body;
    for field in ["id", "n", "big", "at.zip", "at.deep", "é"] {
        let path: Vec<_> = field.split('.').map(str::to_owned).collect();
        let [was, is] = [&record, &sent].map(|text| json::at(text, &path).unwrap().get().to_owned());
        assert_eq!(was, is, "{field}");
    }
    assert_eq!(target.standing(&change).await, Standing::Desired);
}

#[tokio::test]
async fn w5_a_change_beside_the_owned_fields_shows_and_a_stamp_does_not() {
    let server = Server::start(r#"{"data":{"id":"1","email":"old","at":1,"n":1}}"#, Lie::None).await;
    let target = server.target("", "record = \"data\"\nstamped = [\"at\"]").await;
    let before = target.seen("1").await;
    server.edit("data", json!({"id": "1", "email": "new", "at": 2, "n": 1}));
    assert_eq!(target.seen("1").await.rest, before.rest);
    server.edit("data", json!({"id": "1", "email": "new", "at": 2, "n": 1.0}));
    assert_ne!(target.seen("1").await.rest, before.rest);
}

#[tokio::test]
async fn w5_an_object_is_not_sent_where_it_would_be_merged() {
    let server = Server::start(r#"{"id":"1","email":{"a":1}}"#, Lie::None).await;
    let target = server.target("", "").await;
    let change = target.change("1", [("email", json!({"b": 2}))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Refused { .. }));
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn w5_a_field_within_what_is_no_object_is_not_written() {
    let server = Server::start(r#"{"id":"1","at":"a text of its own"}"#, Lie::None).await;
    let target = server.target("", "owned = [\"at.city\"]").await;
    assert!(target.read("1").await.is_err());
}

/// Any JSON, with the numbers that a parse would round.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        "-?[1-9][0-9]{0,30}(\\.[0-9]{1,9})?(e[0-9]{1,2})?",
        ".{0,8}".prop_map(|text| json!(text).to_string()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn w5_whatever_else_is_in_a_record_a_put_leaves_it(others in prop::collection::btree_map("[f-z]{1,3}", value(), 0..6)) {
        let definition = Definition::parse(&text(), "f").unwrap();
        let settings = definition.streams()[0].target().unwrap();
        let TargetPlace::Http(target) = &settings.place else { panic!() };
        let mut members: Vec<_> = others.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        members.insert(members.len() / 2, "\"email\":\"old\"".into());
        let before = format!("{{{}}}", members.join(" , "));
        let after = target.body(&super::fields([("email", json!("new"))]), Some(&before)).unwrap();
        for (name, value) in &others {
            prop_assert_eq!(json::at(&after, std::slice::from_ref(name)).unwrap().get(), value.as_str());
        }
        let seen = |text| target.observe(settings, text).unwrap();
        prop_assert_eq!(seen(&after).rest, seen(&before).rest);
        prop_assert_eq!(&seen(&after).fields["email"], "new");
    }
}

fn text() -> String {
    "name = \"crm\"\nkind = \"http\"\n[http]\nbase_url = \"https://x/\"\n\
     [target]\nbase_url = \"https://x/\"\nauth = { type = \"none\" }\n\
     [[streams]]\nname = \"rows\"\npath = \"rows\"\nkey = [\"id\"]\npagination = { type = \"none\" }\n\
     [streams.target]\npath = \"rows/{key}\"\nowned = [\"email\"]\nwrite = \"put\"\n"
        .to_owned()
}
