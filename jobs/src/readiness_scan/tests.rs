//! The battery, and what a scan says of real sources.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, extract::Request, response::IntoResponse};
use connectors::{Beside, Definition, Precision, Proof, Volume};
use database::testing::TestDatabase;
use futures_util::future::BoxFuture;
use governance::{
    actor,
    path::{self, NewPath},
    policy::{self, Fields, Policy},
};
use sqlx::{AssertSqlSafe, Row};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{Stage, Subject, battery};

const POLICY: &str = r#"
path = "email"
[[rules]]
name = "format"
when = 'email(record.email) != record.email'
verdict = "fix"
value = { email = 'email(record.email)' }
class = "email_format"
"#;

/// A source with 30 contacts and a table that nobody agreed on, a role that reads contacts and one that writes them.
struct Office {
    source: TestDatabase,
    reader: String,
    writer: String,
}

impl Office {
    async fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let source = TestDatabase::create().await;
        let office = Self {
            reader: format!("reader_{}_{number}", std::process::id()),
            writer: format!("writer_{}_{number}", std::process::id()),
            source,
        };
        let Self { reader, writer, .. } = &office;
        office
            .sql(&format!(
                "create table contacts (id int primary key, email text, phone text, secret text);
                insert into contacts
                select n, case when n <= 6 then 'P' else 'p' end || n || '@example.org', '+44', 'x'
                from generate_series(1, 30) n;
                create table notes (id int primary key);
                create role {reader} login; create role {writer} login;
                grant select on contacts to {reader};
                grant select, update (email) on contacts to {writer}"
            ))
            .await;
        office
    }

    async fn sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.source.connect().await).await.unwrap();
    }

    /// A connector that reads by the reader and writes by the writer.
    fn definition(&self) -> String {
        let (url, reader, writer) = (self.source.url(), &self.reader, &self.writer);
        format!(
            "name = 'crm'\nkind = 'postgres'\n[postgres]\nurl = '{url}&user={reader}'\n[target]\n\
             url = '{url}&user={writer}'\n[[streams]]\nname = 'contacts'\ntable = 'contacts'\nkey = ['id']\n\
             fields = ['email', 'phone']\n[streams.target]\nowned = ['email']\n"
        )
    }
}

async fn register(stage: &Stage, definition: &str) {
    let definition = Definition::parse(definition, "crm.toml").unwrap_or_else(|error| panic!("{error}"));
    connector_registry::register(&stage.as_request().await, &definition, "ada").await.unwrap();
}

/// A path over e-mail and phone, with rules for e-mail alone.
async fn govern(stage: &Stage) {
    let mut conn = stage.tenant_connection().await;
    let ada = actor::named(&mut conn, "ada").await.unwrap();
    let new = NewPath {
        name: "email".into(),
        connector: "crm".into(),
        stream: "contacts".into(),
        fields: ["email", "phone"].map(str::to_owned).to_vec(),
        daily_cap: 10,
        breaker_limit: 3,
    };
    let path = path::create(&mut conn, &new, &ada).await.unwrap();
    let policy = Policy::compile(POLICY, "p", &Fields::any(), None).unwrap();
    policy::add(&mut conn, &path, &policy, &ada).await.unwrap();
}

async fn scanned(stage: &Stage) -> Report {
    let done = stage.run(job(&stage.tenant).unwrap()).await;
    assert_eq!(done.state, queue::State::Succeeded, "{:?}", done.note);
    let stored = load(&stage.as_request().await, Some(done.id.0)).await.unwrap().unwrap();
    assert_eq!(done.output.unwrap()["blocks"], stored.report.count(Severity::Blocks));
    stored.report
}

fn said(report: &Report, severity: Severity) -> String {
    let of = report.findings.iter().filter(|finding| finding.severity == severity);
    of.map(|finding| format!("{}: {}", finding.about, finding.what)).collect::<Vec<_>>().join("\n")
}

/// Whether something of this severity says all of this.
#[track_caller]
fn says(report: &Report, severity: Severity, parts: &[&str]) {
    let said = said(report, severity);
    let found = said.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "{severity:?} {parts:?} is not in\n{said}");
}

impl Subject for Office {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            register(stage, &self.definition()).await;
            if path::list(&mut stage.tenant_connection().await).await.unwrap().is_empty() {
                govern(stage).await;
            }
            job(&stage.tenant).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            // A cancelled job may have kept its report before the next one kept another.
            let row = sqlx::query(
                "select string_agg(distinct report::text, ' | '), count(*) = count(distinct job),
                    (select count(*) from tenant.record) from tenant.readiness_scan",
            )
            .fetch_one(&mut stage.tenant_connection().await)
            .await
            .unwrap();
            format!("{} {} {}", row.get::<String, _>(0), row.get::<bool, _>(1), row.get::<i64, _>(2))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_scan_passes_the_battery() {
    battery(&Office::new().await, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_ready_blocks_nothing_and_it_is_shown_that_nothing_was_written() {
    let (office, stage) = (Office::new().await, Stage::provisioned().await);
    register(&stage, &office.definition()).await;
    govern(&stage).await;
    let report = scanned(&stage).await;
    assert_eq!(report.count(Severity::Blocks), 0, "{}", said(&report, Severity::Blocks));
    let crm = &report.connectors[0];
    // One transaction for the catalog, one for the sample; and one at the target.
    let proof = |begun| Proof::Transactions { begun, unwritten: begun, broken: 0 };
    assert_eq!(crm.proofs, [proof(2), proof(1)]);
    assert!(report.is_proven());
    let beside = Beside { name: "public.notes".into(), rows_estimated: None, may_read: false };
    assert_eq!(crm.beside, [beside]);
    let contacts = &crm.streams[0];
    assert_eq!(contacts.volume, Some(Volume { records: 30, precision: Precision::Exact }));
    assert_eq!((contacts.missing.len(), contacts.extra.as_deref()), (0, Some(&["secret".to_owned()][..])));
    assert_eq!((contacts.may_write, contacts.refused.len()), (Some(false), 0));
    assert_eq!(contacts.sample, Some(SampleReport { records: 30, rejected: 0 }));
    let target = contacts.target.as_ref().unwrap();
    assert_eq!((target.may_write, target.capability.as_deref()), (Some(true), None));
    says(&report, Severity::Warns, &["crm/contacts", "never tried"]);
    let path = &report.paths[0];
    assert_eq!((path.ruled.join(","), path.unruled.join(",")), ("email".into(), "phone".into()));
    let issues = path.issues.as_ref().unwrap();
    assert_eq!((issues.of.as_str(), issues.records, issues.fix, issues.failed), ("source", 30, 6, 0));
    says(&report, Severity::Warns, &["path email", "no rule reads phone"]);
    let records = "select count(*) from tenant.record";
    let stored: i64 =
        sqlx::query_scalar(records).fetch_one(&mut stage.tenant_connection().await).await.unwrap();
    assert_eq!(stored, 0);

    // Once synced and tried, that counts.
    let sync = crate::connector_sync::ConnectorSync {
        connector: "crm".into(),
        stream: "contacts".into(),
        reset: false,
    };
    stage.run(crate::connector_sync::job(&stage.tenant, &sync).unwrap()).await;
    let db = stage.as_request().await;
    crate::target_capability::find_out(&db, &stage.vault, "crm", "contacts").await.unwrap();
    let report = scanned(&stage).await;
    let target = report.connectors[0].streams[0].target.as_ref().unwrap();
    assert_eq!(target.capability.as_deref(), Some("conditional_write"));
    assert!(target.probed_at.is_some());
    assert_eq!(report.paths[0].issues.as_ref().unwrap().of, "synced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_named_with_what_to_do() {
    let (office, stage) = (Office::new().await, Stage::provisioned().await);
    let Office { reader, writer, .. } = &office;
    let definition = office.definition();
    let changed = |from: &str, to: &str| {
        assert!(definition.contains(from));
        definition.replace(from, to)
    };
    // A credential that reads and could write, and no list.
    register(
        &stage,
        &changed(&format!("user={reader}"), &format!("user={writer}2"))
            .replace("fields = ['email', 'phone']\n", ""),
    )
    .await;
    office.sql(&format!("create role {writer}2 login; grant select, insert on contacts to {writer}2")).await;
    let report = scanned(&stage).await;
    assert_eq!(report.connectors[0].streams[0].may_write, Some(true));
    says(&report, Severity::Warns, &["could also write"]);
    says(&report, Severity::Warns, &["no list of fields is agreed"]);
    says(&report, Severity::Warns, &["no path governs it"]);
    assert_eq!(report.count(Severity::Blocks), 0, "{}", said(&report, Severity::Blocks));

    // A field that is not there; a governed one among them.
    govern(&stage).await;
    register(&stage, &changed("'phone'", "'fax'")).await;
    office.sql("alter table contacts rename phone to telephone").await;
    let report = scanned(&stage).await;
    assert_eq!(report.connectors[0].streams[0].missing, ["fax"]);
    says(&report, Severity::Blocks, &["crm/contacts", "agreed fields are not there: fax"]);
    says(&report, Severity::Blocks, &["path email", "does not have: phone"]);
    assert!(report.findings.iter().filter(|it| it.severity != Severity::Ok).all(|it| it.help.is_some()));

    // Fields that may not be read, and a target that may not be written.
    register(&stage, &definition).await;
    office
        .sql(&format!(
            "alter table contacts rename telephone to phone; revoke select on contacts from {reader}; grant select (id, email) on contacts to {reader};
            revoke update (email) on contacts from {writer}"
        ))
        .await;
    let report = scanned(&stage).await;
    says(&report, Severity::Blocks, &["may not read phone"]);
    says(&report, Severity::Blocks, &["target's credential may not write email"]);
    assert!(report.is_proven(), "{:?}", report.connectors[0].proofs);

    // A table that is not there.
    register(&stage, &changed("table = 'contacts'", "table = 'contracts'")).await;
    let report = scanned(&stage).await;
    says(&report, Severity::Blocks, &["crm/contacts", "contracts"]);
    says(&report, Severity::Blocks, &["path email", "stream contacts"]);

    // Nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let down = format!("postgres://{reader}@{}/crm", listener.local_addr().unwrap());
    drop(listener);
    register(&stage, &changed(&format!("{}&user={reader}", office.source.url()), &down)).await;
    let report = scanned(&stage).await;
    says(&report, Severity::Blocks, &["crm: connect"]);
    assert_eq!(report.connectors[0].proofs, [Proof::Transactions { begun: 0, unwritten: 0, broken: 0 }]);

    let empty = Stage::provisioned().await;
    says(&scanned(&empty).await, Severity::Blocks, &["connectors: there is none"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_writes_is_refused_by_the_source_and_one_that_may_have_is_told() {
    let (office, stage) = (Office::new().await, Stage::provisioned().await);
    office
        .sql(
            "create function note() returns int language plpgsql as $$
            begin insert into notes values (1); return 1; end $$;
            create view writing as select id, email, note()::text as phone from contacts;
            create view marking as select id, email, txid_current()::text as phone from contacts;
            grant select on writing, marking to public; grant insert, select on notes to public",
        )
        .await;
    let of = |view: &str| office.definition().replace("table = 'contacts'", &format!("table = '{view}'"));
    register(&stage, &of("writing")).await;
    let report = scanned(&stage).await;
    says(&report, Severity::Blocks, &["read-only transaction"]);
    assert!(report.is_proven());
    let notes: i64 = sqlx::query_scalar("select count(*) from notes")
        .fetch_one(&mut office.source.connect().await)
        .await
        .unwrap();
    assert_eq!(notes, 0);
    // An id was drawn, as by a transaction that writes.
    register(&stage, &of("marking")).await;
    let report = scanned(&stage).await;
    assert!(!report.is_proven());
    says(&report, Severity::Blocks, &["not shown that nothing was written"]);
}

/// An API that keeps the methods it was asked with.
async fn api() -> (String, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let kept = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        kept.lock().unwrap().push(request.method().to_string());
        async { axum::Json(json!([{"id": 1, "email": "P1@example.org", "n": 1}])).into_response() }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_is_asked_by_get_alone_and_what_it_does_not_say_is_unknown() {
    let stage = Stage::provisioned().await;
    let (url, seen) = api().await;
    register(
        &stage,
        &format!(
            "name = 'crm'\nkind = 'http'\n[http]\nbase_url = '{url}'\n[target]\nbase_url = '{url}'\n\
             auth = {{ type = 'none' }}\n[[streams]]\nname = 'contacts'\npath = 'rows'\nkey = ['id']\n\
             fields = ['email', 'phone']\npagination = {{ type = 'none' }}\n[streams.target]\n\
             path = 'rows/{{key}}'\nowned = ['email']\n[[streams]]\nname = 'found'\npath = 'search'\n\
             method = 'POST'\nkey = ['id']\npagination = {{ type = 'none' }}\n"
        ),
    )
    .await;
    let report = scanned(&stage).await;
    let crm = &report.connectors[0];
    let Proof::Requests { sent } = &crm.proofs[0] else { panic!("{:?}", crm.proofs) };
    assert_eq!(sent.get("GET").copied(), Some(seen.lock().unwrap().len() as u64));
    assert!(seen.lock().unwrap().iter().all(|method| method == "GET"), "{seen:?}");
    assert!(report.is_proven());
    let contacts = &crm.streams[0];
    assert_eq!(contacts.may_write, None);
    assert_eq!(
        (contacts.missing.join(","), contacts.extra.clone()),
        ("phone".into(), Some(vec!["n".into()]))
    );
    assert_eq!(contacts.volume, Some(Volume { records: 1, precision: Precision::Exact }));
    assert_eq!(contacts.target.as_ref().unwrap().may_write, None);
    says(&report, Severity::Warns, &["crm/found", "read by POST"]);
    says(&report, Severity::Ok, &["unknown"]);
    says(&report, Severity::Blocks, &["agreed fields are not there: phone"]);
}
