//! What is wrong is named, with what to do, and never with a password.

use crate::testing::{Database, Sink, source};
use crate::{Definition, ErrorClass, SourceError};

async fn fails(database: &Database, stream: &str) -> SourceError {
    let definition = database.definition(stream);
    let error =
        Sink::default().run(&source(&definition).await, &definition.streams()[0], 10).await.unwrap_err();
    assert!(error.to_string().starts_with("connector crm, stream rows: "), "{error}");
    error
}

#[tokio::test]
async fn an_unknown_table_or_column_is_named_with_the_nearest() {
    let mut database = Database::new().await;
    database.run("create table contacts (id int primary key, updated_at timestamptz)").await;
    for (stream, near) in [
        ("table = \"contact\"", "public.contacts"),
        ("table = \"public.Contacts\"", "public.contacts"),
        ("table = \"crm.contacts\"", "public.contacts"),
        ("table = \"contacts\"\nkey = [\"ids\"]", "\"id\""),
        ("table = \"contacts\"\nfields = [\"update_at\"]", "updated_at"),
        ("table = \"contacts\"\ncursor = { field = \"updatedat\", type = \"timestamp\" }", "updated_at"),
        ("table = \"contacts\"\ndeletions = { flag = \"deleted\" }", "it has id, updated_at"),
    ] {
        let error = fails(&database, stream).await;
        assert_eq!(error.class(), ErrorClass::Configuration, "{stream}");
        assert!(error.to_string().contains(near), "{stream}: {error}");
    }
}

#[tokio::test]
async fn a_table_without_key_and_a_cursor_of_another_type_say_what_to_write() {
    let mut database = Database::new().await;
    database.run("create table rows (id int, at timestamptz, doc json)").await;
    for (stream, help) in [
        ("table = \"rows\"", "key = [\"id\"]"),
        (
            "table = \"rows\"\nkey = [\"id\"]\ncursor = { field = \"at\", type = \"integer\" }",
            "type = \"timestamp\"",
        ),
        (
            "table = \"rows\"\nkey = [\"id\"]\ncursor = { field = \"id\", type = \"timestamp\" }",
            "type = \"integer\"",
        ),
        ("table = \"rows\"\nkey = [\"id\"]\nfields = [\"doc.city\"]", "as a whole"),
        ("table = \"rows\"\nkey = [\"doc.id\"]", "read from a view"),
    ] {
        let error = fails(&database, stream).await;
        assert_eq!(error.class(), ErrorClass::Configuration, "{stream}");
        assert!(error.to_string().contains(help), "{stream}: {error}");
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends_the_run_as_incomplete() {
    let mut database = Database::new().await;
    database.run("create view rows as select 1 as id, pg_sleep(60)::text as slow").await;
    let text = database
        .definition("table = \"rows\"\nkey = [\"id\"]")
        .text()
        .replace("[[streams]]", "statement_timeout = \"50ms\"\n[[streams]]");
    let definition = Definition::parse(&text, "crm.toml").unwrap();
    let error =
        Sink::default().run(&source(&definition).await, &definition.streams()[0], 10).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Incomplete);
    assert!(error.to_string().contains("statement_timeout"), "{error}");
}

#[tokio::test]
async fn missing_privileges_say_what_to_grant() {
    let mut database = Database::new().await;
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    database
        .run(&format!(
            "create table rows (id int primary key); create role {role} login password 'planted-password'"
        ))
        .await;
    let text = database.definition("table = \"rows\"").text().replace("postgres@", &format!("{role}@"));
    let text = text.replace("user=postgres", &format!("user={role}"));
    let definition = Definition::parse(&text, "crm.toml").unwrap();
    let error =
        Sink::default().run(&source(&definition).await, &definition.streams()[0], 10).await.unwrap_err();
    database.run(&format!("drop role {role}")).await;
    assert_eq!(error.class(), ErrorClass::Configuration, "{error}");
    assert!(error.to_string().contains("grant usage"), "{error}");
}

#[tokio::test]
async fn i7_a_source_that_cannot_be_reached_is_transient_and_keeps_the_password_to_itself() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://reader:planted-password@127.0.0.1:{port}/crm\"\n\
         [[streams]]\nname = \"rows\"\ntable = \"rows\""
    );
    let definition = Definition::parse(&text, "crm.toml").unwrap();
    assert_eq!(definition.inline_secrets(), ["postgres.url"]);
    let source = source(&definition).await;
    let error = Sink::default().run(&source, &definition.streams()[0], 10).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient);
    let report = source.check(definition.streams()).await;
    let said = format!("{error} {error:?} {source:?} {definition:?} {report} {report:?}");
    assert!(!said.contains("planted"), "{said}");
}
