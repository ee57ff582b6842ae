//! A Postgres as a target, with a person who edits beside us.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::super::*;
use crate::ErrorClass;
use crate::testing::Database;

const TABLE: &str = "create table contacts (id int primary key, email text, n numeric(10,2), born date, tags text[], \
                     doc jsonb, version int not null default 1, updated_at timestamptz not null default now(), \
                     other text default 'x');
                     insert into contacts values (1, 'old', 1.5, '2000-02-29', '{a,\"b c\"}', '{\"a\":1.0}');
                     insert into contacts values (2, 'second')";

async fn contacts() -> Database {
    let mut database = Database::new().await;
    database.run(TABLE).await;
    database
}

fn text(url: &str, stream: &str) -> String {
    let owned = if stream.contains("owned") { "" } else { "owned = [\"email\"]" };
    let target = toml::Value::from(url);
    format!(
        "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://reader@db/crm\"\n\
         [target]\nurl = {target}\nstatement_timeout = \"20s\"\n\
         [[streams]]\nname = \"contacts\"\ntable = \"contacts\"\nkey = [\"id\"]\n[streams.target]\n{owned}\n{stream}\n"
    )
}

async fn of(database: &Database, stream: &str) -> Target {
    super::target(&text(database.url(), stream)).await
}

async fn one(conn: &mut PgConnection, sql: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(conn).await.unwrap()
}

/// Returns once a backend waits for a lock in this database.
async fn somebody_waits(conn: &mut PgConnection) {
    let waiting = "select (count(*) > 0)::text from pg_stat_activity \
                    where datname = current_database() and wait_event_type = 'Lock'";
    while one(&mut *conn, waiting).await != "true" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn w3_values_of_every_type_are_stored_and_read_back_on_another_connection() {
    let database = contacts().await;
    let owned = "owned = [\"email\", \"n\", \"born\", \"tags\", \"doc\"]\nnormalise = { n = \"number\" }";
    let target = of(&database, owned).await;
    let before = target.seen("1").await;
    assert_eq!(before.fields["n"].to_string(), "1.50");
    let desired = [
        ("email", json!("new 'quoted' \"é\"")),
        ("n", json!(12_345_678.9)),
        ("born", json!("1999-01-01")),
        ("tags", json!(["x", "y,z"])),
        ("doc", json!({"b": [1, null]})),
    ];
    let change = target.change("1", desired).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&change).await, Standing::Desired);
    assert_eq!(target.seen("1").await.rest, before.rest);
    let nothing = target.change("1", [("email", json!(null)), ("doc", json!(null))]).await;
    assert!(matches!(target.write(&nothing).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&nothing).await, Standing::Desired);
}

#[tokio::test]
async fn w1_a_change_that_is_there_is_not_written_again() {
    let mut database = contacts().await;
    let target = of(&database, "version = \"xmin\"").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    let version = one(&mut database.conn, "select xmin::text from contacts where id = 1").await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Already));
    assert_eq!(one(&mut database.conn, "select xmin::text from contacts where id = 1").await, version);
}

#[tokio::test]
async fn w4_an_edit_that_commits_while_the_write_waits_for_it_is_not_overwritten() {
    let mut database = contacts().await;
    for (version, edit) in [("", "email = 'a person''s'"), ("version = \"xmin\"", "other = 'a person''s'")] {
        let target = of(&database, version).await;
        let change = target.change("1", [("email", json!("new"))]).await;
        database.run(&format!("begin; update contacts set {edit} where id = 1")).await;
        let write = target.write(&change);
        let mut beside = database.connect().await;
        let person = async {
            somebody_waits(&mut beside).await;
            database.run("commit").await;
        };
        let (answer, ()) = tokio::join!(write, person);
        match version {
            "" => assert!(matches!(answer, WriteAnswer::Conflict(Conflict::Fields(_))), "{answer:?}"),
            _ => assert!(matches!(answer, WriteAnswer::Conflict(Conflict::Version)), "{answer:?}"),
        }
        assert_ne!(one(&mut database.conn, "select email from contacts where id = 1").await, "new");
    }
}

#[tokio::test]
async fn w4_without_a_version_only_the_fields_themselves_are_guarded() {
    let mut database = contacts().await;
    let target = of(&database, "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    database.run("update contacts set other = 'a person''s' where id = 1").await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(
        one(&mut database.conn, "select email || other from contacts where id = 1").await,
        "newa person's"
    );
    database.run("delete from contacts where id = 2").await;
    let expected = Expected::Present { before: super::fields([("email", json!("second"))]), validator: None };
    let gone = Change { key: "2".into(), expected, ..change };
    assert!(matches!(target.write(&gone).await, WriteAnswer::Conflict(Conflict::Gone)));
}

#[tokio::test]
async fn w5_what_the_target_stamps_does_not_count_and_everything_else_does() {
    let mut database = contacts().await;
    database
        .run(
            "create function stamp() returns trigger language plpgsql as $$ begin
               new.version := old.version + 1; new.updated_at := clock_timestamp(); return new; end $$;
             create trigger stamp before update on contacts for each row execute function stamp()",
        )
        .await;
    let target = of(&database, "version = \"version\"\nstamped = [\"updated_at\"]").await;
    let before = target.seen("1").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    let after = target.seen("1").await;
    assert_eq!((&after.rest, after.validator), (&before.rest, Some(Validator("2".into()))));
    database.run("update contacts set other = 'y' where id = 1").await;
    assert_ne!(target.seen("1").await.rest, before.rest);
}

#[tokio::test]
async fn w1_a_commit_without_an_answer_is_unknown_and_one_that_is_refused_is_refused() {
    for (body, unknown) in [
        ("perform pg_terminate_backend(pg_backend_pid())", true),
        ("raise 'no such contact' using errcode = '23514'", false),
    ] {
        let mut database = contacts().await;
        database
            .run(&format!(
                "create function at_commit() returns trigger language plpgsql as $$ begin {body}; return null; end $$;
                 create constraint trigger at_commit after update on contacts deferrable initially deferred
                   for each row execute function at_commit()"
            ))
            .await;
        let target = of(&database, "").await;
        let change = target.change("1", [("email", json!("new"))]).await;
        let answer = target.write(&change).await;
        assert_eq!(matches!(answer, WriteAnswer::Unknown { .. }), unknown, "{answer:?}");
        assert_eq!(matches!(answer, WriteAnswer::Refused { .. }), !unknown, "{answer:?}");
        // What became of it is found by reading: here both were rolled back.
        assert_eq!(target.standing(&change).await, Standing::Before);
    }
}

#[tokio::test]
async fn w1_what_ends_before_the_commit_is_not_applied_or_refused() {
    let mut database = contacts().await;
    database.run("alter table contacts add check (email <> 'bad')").await;
    let target = of(&database, "owned = [\"email\", \"n\"]").await;
    for desired in [("email", json!("bad")), ("n", json!("not a number")), ("n", json!("1e99"))] {
        let change = target.change("1", [desired]).await;
        let answer = target.write(&change).await;
        assert!(matches!(answer, WriteAnswer::Refused { .. }), "{answer:?}");
    }
    let change = target.change("1", [("email", json!("new"))]).await;
    database.run("begin; select from contacts where id = 1 for update").await;
    let impatient = text(database.url(), "").replace("20s", "200ms");
    let answer = super::target(&impatient).await.write(&change).await;
    assert!(matches!(answer, WriteAnswer::NotApplied(_)), "{answer:?}");
    database.run("rollback").await;
    assert_eq!(target.standing(&change).await, Standing::Before);
}

#[tokio::test]
async fn w8_a_trigger_that_swallows_the_write_is_no_success() {
    let mut database = contacts().await;
    database
        .run(
            "create function swallow() returns trigger language plpgsql as $$ begin return null; end $$;
             create trigger swallow before update on contacts for each row execute function swallow()",
        )
        .await;
    let target = of(&database, "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Refused { .. }));
    assert!(target.probe(Some("1")).await.obstacle.is_some());
}

#[tokio::test]
async fn w8_a_trigger_that_writes_something_else_shows_when_it_is_read() {
    let mut database = contacts().await;
    database
        .run(
            "create function keep() returns trigger language plpgsql as $$ begin new.email := old.email; return new; end $$;
             create trigger keep before update on contacts for each row execute function keep()",
        )
        .await;
    let target = of(&database, "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&change).await, Standing::Before);
}

#[tokio::test]
async fn w1_a_record_is_created_once_and_only_under_a_unique_key() {
    let mut database = contacts().await;
    let target = of(&database, "").await;
    let create = |key: &str| Change {
        key: key.into(),
        expected: Expected::Absent,
        desired: super::fields([("email", json!("new"))]),
        idempotency_key: String::new(),
    };
    assert!(matches!(target.write(&create("2")).await, WriteAnswer::Conflict(Conflict::Exists)));
    let (a, b) = (create("3"), create("3"));
    let (first, second) = tokio::join!(target.write(&a), target.write(&b));
    let accepted = [&first, &second].iter().filter(|answer| matches!(answer, WriteAnswer::Accepted)).count();
    assert_eq!(accepted, 1, "{first:?} {second:?}");
    assert_eq!(target.standing(&create("3")).await, Standing::Desired);
    database.run("alter table contacts drop constraint contacts_pkey").await;
    assert!(matches!(target.write(&create("4")).await, WriteAnswer::Refused { .. }));
    database.run("insert into contacts values (3, 'double')").await;
    assert_eq!(target.read("3").await.unwrap_err().class(), ErrorClass::Configuration);
}

#[tokio::test]
async fn w4_a_probe_proves_the_guard_and_leaves_the_row_as_it_is() {
    let mut database = contacts().await;
    for (stream, said) in [
        ("", "changed 0 rows"),
        ("version = \"xmin\"", "the row version changed"),
        ("version = \"version\"", "did not change"),
    ] {
        let row = "select xmin::text || contacts::text from contacts where id = 1";
        let before = one(&mut database.conn, row).await;
        let probed = of(&database, stream).await.probe(Some("1")).await;
        assert_eq!(
            (probed.capability, &probed.obstacle),
            (Capability::ConditionalWrite, &None),
            "{probed:?}"
        );
        assert!(probed.evidence.join(" ").contains(said), "{probed:?}");
        assert_eq!(one(&mut database.conn, row).await, before);
    }
    let target = of(&database, "").await;
    assert_eq!(target.probe(Some("99")).await.capability, Capability::Blind);
    assert_eq!(target.probe(None).await.capability, Capability::Blind);
}

#[tokio::test]
async fn w5_a_role_that_may_only_do_what_it_must_can_write_and_one_that_may_not_is_found() {
    let mut database = contacts().await;
    let role = format!("w_{}", uuid::Uuid::new_v4().simple());
    database
        .run(&format!(
            "create role {role} login; grant select (id, email), update (email) on contacts to {role}"
        ))
        .await;
    let target = super::target(&text(&format!("{}&user={role}", database.url()), "")).await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&change).await, Standing::Desired);
    database.run(&format!("revoke update (email) on contacts from {role}")).await;
    let back = target.change("1", [("email", json!("old"))]).await;
    let WriteAnswer::NotApplied(error) = target.write(&back).await else { panic!("no right to write") };
    assert_eq!(error.class(), ErrorClass::Configuration);
    assert!(target.probe(Some("1")).await.obstacle.is_some());
    database.run(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn w1_a_database_that_is_not_there_has_taken_nothing() {
    let database = contacts().await;
    let target = of(&database, "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://w@{}/crm", listener.local_addr().unwrap());
    drop(listener);
    let answer = super::target(&text(&url, "")).await.write(&change).await;
    let WriteAnswer::NotApplied(error) = answer else { panic!("{answer:?}") };
    assert_eq!(error.class(), ErrorClass::Transient);
}

#[tokio::test]
async fn several_key_columns_and_odd_names_are_found_by_the_key_that_a_sync_stores() {
    let mut database = Database::new().await;
    database
        .run(
            r#"create table "Odd ""T""" (a text, "b'" int, "e$" text, primary key (a, "b'"));
                insert into "Odd ""T""" values ('x, "y"', 7, 'old')"#,
        )
        .await;
    let text = text(database.url(), "owned = [\"e$\"]")
        .replace("table = \"contacts\"", r#"table = '"Odd ""T"""'"#)
        .replace("key = [\"id\"]", "key = [\"a\", \"b'\"]");
    let target = super::target(&text).await;
    let key = r#"["x, \"y\"", 7]"#;
    let change = target.change(key, [("e$", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&change).await, Standing::Desired);
    assert_eq!(target.read(r#"["x", 7]"#).await.unwrap(), None);
    assert!(target.read("x").await.is_err());
}

#[tokio::test]
async fn w4_a_check_tries_the_target_on_the_first_record_and_tells_what_it_saw() {
    let mut database = contacts().await;
    let role = format!("r_{}", uuid::Uuid::new_v4().simple());
    database.run(&format!("create role {role} login; grant select on contacts to {role}")).await;
    let reader = toml::Value::from(format!("{}&user={role}", database.url()));
    let text = text(database.url(), "version = \"xmin\"")
        .replace("\"postgres://reader@db/crm\"", &reader.to_string());
    let definition = Definition::parse(&text, "crm.toml").unwrap();
    let budget: Arc<dyn RequestBudget> = Arc::new(crate::LocalBudget::default());
    let source = crate::Source::connect(&definition, Arc::clone(&budget)).await.unwrap();
    let mut report = crate::CheckReport::default();
    let found = check_targets(&definition, &source, definition.streams(), &budget, &mut report).await;
    assert_eq!(
        (found[0].stream.as_str(), found[0].probed.capability),
        ("contacts", Capability::ConditionalWrite)
    );
    assert_eq!(report.outcome(), crate::Outcome::Ok, "{report}");
    assert!(report.to_string().contains("changed 0 rows with an outdated expectation"), "{report}");
    database.run(&format!("drop owned by {role}; drop role {role}")).await;
}
