//! The battery, on a real source, and what a sync promises of its counts.

use database::testing::TestDatabase;
use futures_util::future::BoxFuture;
use queue::State;
use sqlx::{AssertSqlSafe, Row};

use super::*;
use crate::{
    connector_registry,
    testing::{Stage, Subject, battery},
};

/// Contacts with ties, a record too large, and rows that vanish: two batches and a range of keys.
struct Contacts {
    source: TestDatabase,
}

impl Contacts {
    async fn new() -> Self {
        let source = TestDatabase::create().await;
        let mut conn = source.connect().await;
        sqlx::raw_sql(
            "create table contacts (id bigint primary key, email text, amount numeric, updated_at timestamptz);
            insert into contacts
            select i, 'p' || i || '@example.org', 0.1234567890123456789012345 + i,
                   timestamptz '2026-01-01' + make_interval(mins => i / 7)
            from generate_series(1, 1500) i;
            update contacts set email = repeat('x', 2000000) where id = 77",
        )
        .execute(&mut conn)
        .await
        .unwrap();
        Self { source }
    }

    fn definition(&self) -> Definition {
        let text = format!(
            "name = 'crm'\nkind = 'postgres'\n[postgres]\nurl = '{}'\n
            [[streams]]\nname = 'contacts'\ntable = 'contacts'\nkey = ['id']\n
            cursor = {{ field = 'updated_at', type = 'timestamp' }}\ndeletions = 'keys'\n",
            self.source.url()
        );
        Definition::parse(&text, "crm.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&mut self.source.connect().await).await.unwrap();
    }
}

fn contacts() -> ConnectorSync {
    ConnectorSync { connector: "crm".into(), stream: "contacts".into(), reset: false }
}

async fn register(stage: &Stage, definition: &Definition) {
    connector_registry::register(&stage.as_request().await, definition, "ada").await.unwrap();
}

impl Subject for Contacts {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            register(stage, &self.definition()).await;
            job(&stage.tenant, &contacts()).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let mut conn = stage.tenant_connection().await;
            let row = sqlx::query(
                "select (select md5(string_agg(key || cursor || digest || data || (deleted_at is null), ';' order by key))
                         from tenant.record) as records,
                    (select count(*)::text from tenant.record) as count,
                    (select string_agg(key || reason, ';' order by key) from tenant.rejected_record) as rejected,
                    (select state ->> 'cursor' from tenant.sync_state) as cursor",
            )
            .fetch_one(&mut conn)
            .await
            .unwrap();
            (0..4).map(|i| row.get::<Option<String>, _>(i).unwrap_or_default()).collect::<Vec<_>>().join(" ")
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_connector_sync_passes_the_battery() {
    battery(&Contacts::new().await, true).await;
}

/// Runs one sync to its report.
async fn sync(stage: &Stage) -> Report {
    let record = stage.run(job(&stage.tenant, &contacts()).unwrap()).await;
    assert_eq!(record.state, State::Succeeded, "{:?}", record.note);
    serde_json::from_value(record.output.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_second_sync_reads_only_what_changed_and_finds_what_vanished() {
    let (contacts, stage) = (Contacts::new().await, Stage::provisioned().await);
    register(&stage, &contacts.definition()).await;
    let first = sync(&stage).await;
    assert!(first.is_complete(), "{first:?}");
    assert_eq!((first.counts.read, first.counts.written, first.counts.rejected), (1500, 1499, 1));

    contacts
        .sql(
            "update contacts set email = 'new@example.org', updated_at = '2026-06-01' where id in (3, 4);
        delete from contacts where id = 9",
        )
        .await;
    let second = sync(&stage).await;
    assert_eq!((second.counts.read, second.counts.written, second.counts.deleted), (2, 2, 1), "{second:?}");

    let amount = sqlx::query("select data ->> 'amount' from tenant.record where key = '5'")
        .fetch_one(&mut stage.tenant_connection().await)
        .await
        .unwrap();
    assert_eq!(amount.get::<String, _>(0), "5.1234567890123456789012345", "no digit is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_reached_is_the_result_and_not_a_crash() {
    let stage = Stage::provisioned().await;
    let text = "name = 'crm'\nkind = 'postgres'\n[postgres]\nurl = 'postgres://nobody@127.0.0.1:1/none'\n
        [[streams]]\nname = 'contacts'\ntable = 'contacts'\nkey = ['id']\n";
    register(&stage, &Definition::parse(text, "crm.toml").unwrap()).await;
    let report = sync(&stage).await;
    assert_eq!(
        (report.outcome.as_str(), report.class.as_deref()),
        ("incomplete", Some("transient")),
        "{report:?}"
    );
    assert!(report.why.unwrap().contains("crm"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_an_emptied_source_never_wipes_the_records_or_the_cursor() {
    let (contacts, stage) = (Contacts::new().await, Stage::provisioned().await);
    register(&stage, &contacts.definition()).await;
    let before = {
        sync(&stage).await;
        contacts.fingerprint(&stage).await
    };
    contacts.sql("truncate contacts").await;
    let emptied = sync(&stage).await;
    assert_eq!(emptied.outcome, "failed", "{emptied:?}");
    assert_eq!(contacts.fingerprint(&stage).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_cursor_moves_back_only_by_a_reset() {
    let (contacts, stage) = (Contacts::new().await, Stage::provisioned().await);
    register(&stage, &contacts.definition()).await;
    sync(&stage).await;
    let again = ConnectorSync { reset: true, ..self::contacts() };
    let record = stage.run(job(&stage.tenant, &again).unwrap()).await;
    let report: Report = serde_json::from_value(record.output.unwrap()).unwrap();
    assert_eq!((report.counts.read, report.counts.written, report.counts.unchanged), (1500, 0, 1499));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_zombie_writes_zero_rows() {
    let (contacts, stage) = (Contacts::new().await, Stage::provisioned().await);
    register(&stage, &contacts.definition()).await;
    let environment = stage.environment();
    let (old, new) = (stage.claim(71, 5), stage.claim(71, 9));
    let zombie = stage.tenants.open(old).await.unwrap();
    zombie.raise_fence(async { Ok::<_, sqlx::Error>(true) }).await.unwrap();
    let Begun::Fresh(_open) = environment.effect(&zombie, "begin 1").await.unwrap() else {
        panic!("not yet applied")
    };
    let heir = stage.tenants.open(new).await.unwrap();
    heir.raise_fence(async { Ok::<_, sqlx::Error>(true) }).await.unwrap();
    let refused = environment.effect(&zombie, "batch 1").await;
    assert!(matches!(refused, Err(database::tenant::TenantError::Fenced)), "{refused:?}");
    let rows = sqlx::query(AssertSqlSafe("select count(*) from tenant.applied_step".to_owned()))
        .fetch_one(&mut stage.tenant_connection().await)
        .await
        .unwrap();
    assert_eq!(rows.get::<i64, _>(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_source_whose_keys_were_all_replaced_does_not_delete_the_records() {
    let (contacts, stage) = (Contacts::new().await, Stage::provisioned().await);
    register(&stage, &contacts.definition()).await;
    sync(&stage).await;
    // As many rows as before, so that counting them tells nothing.
    contacts.sql("update contacts set id = id + 1000000").await;
    let record = stage.run(job(&stage.tenant, &self::contacts()).unwrap()).await;
    assert_eq!(record.state, State::Failed, "{:?}", record.note);
    assert!(record.note.unwrap().contains("deletions_percent_max"));
    let deleted = sqlx::query("select count(*) from tenant.record where deleted_at is not null")
        .fetch_one(&mut stage.tenant_connection().await)
        .await
        .unwrap();
    assert_eq!(deleted.get::<i64, _>(0), 0);
}
