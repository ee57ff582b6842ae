//! The battery, whole nights over a path on which policy acts alone, and a path that is not there.

use std::collections::BTreeMap;

use connectors::Definition;
use database::testing::TestDatabase;
use futures_util::future::BoxFuture;
use governance::{
    actor,
    candidate::{self, ENGINE},
    policy::{self, Fields, Policy},
};
use queue::State as JobState;

use super::*;
use crate::{
    connector_registry,
    nightly_baseline::{self, Report},
    testing::{Stage, Subject, battery, until},
    writeback::tests::house::{CHAIN_HOLDS, OPEN_GATE, PATH, furnish_postgres, one, run},
    writeback_plan::tests::{
        alone::{format, let_act},
        furnish,
    },
};

struct Alone;

impl Subject for Alone {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            furnish_postgres(stage).await;
            furnish(stage).await;
            let_act(stage, &format(97, 90)).await;
            job(&stage.tenant, "email").unwrap()
        })
    }

    /// What was taken up, and how often the chain says so.
    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let taken =
                "select string_agg(d.key, ' ' order by d.key) || (select count(*) from governance.audit_entry
                where convert_from(content, 'UTF8')::json ->> 'kind' = 'wish.taken_up')
                from tenant.wish w join tenant.decision d on d.id = w.decision";
            one(&mut stage.tenant_connection().await, taken).await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_w2_policy_wish_passes_the_battery() {
    battery(&Alone, true).await;
}

/// A CRM that one role reads and another writes, registered as the tenant's connector.
async fn crm(stage: &Stage, rows: &str) -> TestDatabase {
    let crm = TestDatabase::create().await;
    let mut conn = crm.connect().await;
    let writer: String =
        sqlx::query_scalar("select 'writer_' || current_database()").fetch_one(&mut conn).await.unwrap();
    let tables = format!(
        "create table contacts (id int primary key, email text);
         insert into contacts values {rows};
         create role {writer} login;
         grant select, update on contacts to {writer}"
    );
    run(&mut conn, &tables).await;
    let url = crm.url();
    let text = format!(
        "name = 'crm'\nkind = 'postgres'\n[postgres]\nurl = '{url}'\n\
         [target]\nurl = '{url}{}user={writer}'\n\
         [[streams]]\nname = 'rows'\ntable = 'contacts'\nkey = ['id']\n\
         [streams.target]\nowned = ['email']\nconvergence = {{ reads = 3, pause = '10ms' }}\n",
        if url.contains('?') { '&' } else { '?' }
    );
    let definition = Definition::parse(&text, "crm.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    connector_registry::register(&stage.as_request().await, &definition, "ada").await.unwrap();
    crm
}

/// A tenant whose candidate assists over this CRM; nothing was synced yet.
async fn house(rows: &str) -> (Stage, TestDatabase) {
    let stage = Stage::provisioned().await;
    let crm = crm(&stage, rows).await;
    let bare =
        "set session_replication_role = replica; delete from tenant.candidate; delete from tenant.policy";
    let mut conn = stage.tenant_connection().await;
    for sql in [PATH, bare, OPEN_GATE] {
        run(&mut conn, sql).await;
    }
    let mut write = stage.as_request().await.write().await.unwrap();
    let ada = actor::named(&mut write, "ada").await.unwrap();
    let path = path::by_name(&mut write, "email").await.unwrap();
    let policy = Policy::compile(&format(97, 90), "policy", &Fields::any(), None).unwrap();
    policy::add(&mut write, &path, &policy, &ada).await.unwrap();
    let definition = candidate::Definition {
        path: path.name,
        policy: candidate::Policy { version: 1, digest: policy.digest() },
        model: None,
        prompt: None,
        tools: BTreeMap::new(),
        redaction: None,
        engine: ENGINE,
    };
    candidate::create(&mut write, "cleaner", &definition, ada.id).await.unwrap();
    write.commit().await.unwrap();
    set_phase(&stage, "assist").await;
    (stage, crm)
}

/// By hand, past the gate: how a candidate rises is others' to test.
async fn set_phase(stage: &Stage, phase: &str) {
    let set = format!(
        "set session_replication_role = replica;
         update tenant.candidate set phase = '{phase}', generation = generation + 1, snapshot = sha256('')"
    );
    run(&mut stage.tenant_connection().await, &set).await;
}

/// A night, and all that comes of it.
async fn night(stage: &Stage) -> Report {
    let id = stage.queue.enqueue(nightly_baseline::job(&stage.tenant).unwrap()).await.unwrap().id;
    let _worker = stage.worker(stage.environment());
    let last = stage.at_the_end(id).await;
    assert_eq!(last.state, JobState::Succeeded, "{:?}", last.note);
    until(async || {
        let mut conn = stage.tenant_connection().await;
        let open = "select (select count(*) from tenant.wish where state = 'due')
            + (select count(*) from tenant.writeback where ended_at is null) = 0";
        sqlx::query_scalar::<_, bool>(open).fetch_one(&mut conn).await.unwrap().then_some(())
    })
    .await;
    let run = last.output.unwrap()["run"].as_str().unwrap().parse().unwrap();
    nightly_baseline::report(&stage.as_request().await, run).await.unwrap().unwrap()
}

async fn emails(crm: &TestDatabase) -> String {
    one(&mut crm.connect().await, "select string_agg(email, ' ' order by id) from contacts").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_w3_what_policy_alone_may_write_is_written_and_read_back_by_the_night() {
    let (stage, crm) = house("(1, 'OLD@x.org'), (2, 'B@x.org'), (3, 'c@x.org')").await;
    set_phase(&stage, "autonomous").await;
    let report = night(&stage).await;
    assert!(report.is_complete(), "{:?}", report.failures());
    assert_eq!(report.paths[0].wanted, 2, "what is right already is wanted by nobody: {report:?}");
    assert_eq!(emails(&crm).await, "old@x.org b@x.org c@x.org");
    let mut conn = stage.tenant_connection().await;
    let ends = "select string_agg(key || ' ' || state, ', ' order by key) from tenant.writeback";
    assert_eq!(one(&mut conn, ends).await, "1 verified, 2 verified");
    assert_eq!(one(&mut conn, CHAIN_HOLDS).await, "true");
    // The next night finds nothing more, and what a person types is taken up by the night after.
    assert_eq!(night(&stage).await.paths[0].wanted, 0);
    run(&mut crm.connect().await, "update contacts set email = 'NEW@x.org' where id = 3").await;
    assert_eq!(night(&stage).await.paths[0].wanted, 1);
    assert_eq!(emails(&crm).await, "old@x.org b@x.org new@x.org");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_a_night_writes_nothing_where_the_candidate_only_assists_or_the_days_cap_is_spent() {
    let (stage, crm) = house("(1, 'OLD@x.org'), (2, 'B@x.org')").await;
    assert_eq!(night(&stage).await.paths[0].wanted, 0);
    set_phase(&stage, "autonomous").await;
    run(&mut stage.tenant_connection().await, "update tenant.path set daily_cap = 1").await;
    assert_eq!(night(&stage).await.paths[0].wanted, 1);
    assert_eq!(night(&stage).await.paths[0].wanted, 0, "the day's cap is spent");
    assert_eq!(emails(&crm).await, "old@x.org B@x.org");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_is_a_fault_of_the_configuration() {
    let stage = Stage::provisioned().await;
    let record = stage.run(job(&stage.tenant, "no-such").unwrap()).await;
    assert_eq!(record.state, JobState::Failed);
    assert!(record.note.unwrap().contains("there is no path no-such"));
}
