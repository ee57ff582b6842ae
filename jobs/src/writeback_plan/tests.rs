//! From a word, or from a policy alone, to a writeback: once, and only while everything is as it was judged.

pub(crate) mod alone;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use governance::{
    actor,
    review::{self, Case, ReviewId, Word},
    writeback::{State, WritebackId},
};
use queue::{JobRecord, State as JobState, WaitReason};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::*;
use crate::{
    testing::{Stage, Subject, battery},
    writeback::tests::house::{House, OPEN_GATE, furnish_postgres, one, run},
};

/// What the syncs have brought of the target's rows, and what the rules said of them; of the first two a person was
/// asked, and candidates are tried on them.
const RECORDS: &str = "
insert into tenant.record (connector, stream, key, digest, data)
select 'crm', 'rows', key, md5(email), jsonb_build_object('email', email)
from (values ('1', 'OLD@x.org'), ('2', 'B@x.org'), ('3', 'C@x.org'), ('4', 'D@x.org')) as r (key, email);
insert into tenant.decision (path, policy_version, input_digest, key, record_digest, evidence_digest, verdict, rule,
    class, confidence, proposed, reason)
select p.id, 1, sha256(convert_to(r.key, 'UTF8')), r.key, r.digest, sha256(''), 'fix', 'format', 'email_format', 97,
    jsonb_build_object('email', lower(r.data ->> 'email')), 'not normalised'
from tenant.path p, tenant.record r order by r.key;
insert into tenant.shadow_case (path, input_digest, connector, stream, key, original, input)
select 'email', d.input_digest, 'crm', 'rows', d.key, r.data, '{}'
from tenant.decision d join tenant.record r on r.key = d.key where d.key < '3' order by d.key;
insert into tenant.review_case (path, key, decision, shadow_case)
select d.path, d.key, d.id, s.id from tenant.decision d join tenant.shadow_case s on s.input_digest = d.input_digest
order by d.key";

const WISHES: &str = "select string_agg(concat_ws(' ', d.key, w.state, w.reason, b.state, b.class, b.accepted_by is null), ', '
        order by d.key)
    from tenant.wish w join tenant.decision d on d.id = w.decision left join tenant.writeback b on b.id = w.writeback";

pub(crate) async fn furnish(stage: &Stage) {
    run(&mut stage.tenant_connection().await, RECORDS).await;
}

async fn house() -> House {
    let house = House::postgres().await;
    furnish(&house.stage).await;
    house
}

/// Ada says this of the case on this record.
async fn says(stage: &Stage, key: &str, word: Word) -> Case {
    let db = stage.as_request().await;
    let mut write = db.write().await.unwrap();
    let ada = actor::named(&mut write, "ada").await.unwrap().id;
    let id: i64 = sqlx::query_scalar("select id from tenant.review_case where key = $1")
        .bind(key)
        .fetch_one(&mut *write)
        .await
        .unwrap();
    let case = review::decide(&mut write, ReviewId(id), 1, word, "as in the contract", ada).await.unwrap();
    write.commit().await.unwrap();
    case
}

async fn plans(house: &House, case: &Case) -> JobRecord {
    house.stage.run(job(&house.stage.tenant, WishId(case.decision)).unwrap()).await
}

/// Ada accepts, and the job that plans it has run.
async fn accepted(house: &House, key: &str) -> JobRecord {
    let case = says(&house.stage, key, Word::Accept).await;
    plans(house, &case).await
}

struct Accepted;

impl Subject for Accepted {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            furnish_postgres(stage).await;
            furnish(stage).await;
            let case = says(stage, "1", Word::Accept).await;
            job(&stage.tenant, WishId(case.decision)).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let mut conn = stage.tenant_connection().await;
            let counts = "select concat_ws(' ', (select count(*) from tenant.writeback),
                (select string_agg(state, ',') from governance.approval))";
            format!("{} {}", one(&mut conn, WISHES).await, one(&mut conn, counts).await)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_writeback_plan_passes_the_battery() {
    battery(&Accepted, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_what_a_person_accepted_is_planned_approved_by_another_sent_and_read_back() {
    let house = house().await;
    let record = accepted(&house, "1").await;
    assert_eq!(record.output, Some(json!({ "decision": "1", "writeback": "1" })), "{:?}", record.note);
    let row = house.row(WritebackId(1)).await;
    let ada = house.actor("ada").await;
    assert_eq!((row.requested_by, row.accepted_by, row.confidence), (ada, Some(ada), 97));
    assert_eq!(
        (row.state, row.approval.is_some()),
        (State::Planned, true),
        "the gate asks for another person"
    );
    house.approve(governance::writeback::Asked::Approval(row.approval.unwrap())).await;
    assert_eq!(house.run(WritebackId(1)).await.state, State::Verified);
    assert_eq!(house.target("select email from contacts where id = 1").await, "old@x.org");
    // Its receipt goes on from that of the word, which Ada gave.
    let former = "select convert_from(w.content, 'UTF8')::jsonb -> 'receipt' ->> 'outcome'
        from tenant.receipt r join tenant.receipt w on r.former = w.batch || '.' || w.position
        where convert_from(r.content, 'UTF8')::jsonb -> 'receipt' ->> 'outcome' = 'applied'";
    assert_eq!(house.tenant(former).await, "accepted");
    let again = house.stage.run(job(&house.stage.tenant, WishId(1)).unwrap()).await;
    assert_eq!(again.output, Some(json!({ "decision": "1", "writeback": "1" })));
    assert_eq!(house.tenant("select count(*)::text from tenant.writeback").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_value_that_a_person_wrote_does_not_pass_by_the_gate_of_a_rule() {
    let house = house().await;
    house.open_gate().await;
    let word = Word::Correct([("email".to_owned(), json!("other@x.org"))].into_iter().collect());
    let case = says(&house.stage, "1", word).await;
    plans(&house, &case).await;
    assert_eq!(house.tenant(WISHES).await, "1 planned planned correction f");
    assert!(house.row(WritebackId(1)).await.approval.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w4_a_record_that_changed_since_it_was_judged_is_not_written() {
    let house = house().await;
    // At the target, which no sync has seen …
    house.at_target("update contacts set email = 'a person''s' where id = 1").await;
    let record = accepted(&house, "1").await;
    assert_eq!(record.state, JobState::Succeeded);
    // … and in what a sync has brought.
    let case = says(&house.stage, "2", Word::Accept).await;
    house
        .inside("update tenant.record set digest = 'other', data = '{\"email\": \"B\"}' where key = '2'")
        .await;
    plans(&house, &case).await;
    assert_eq!(house.tenant(WISHES).await, "1 refused record_changed t, 2 refused record_changed t");
    assert_eq!(house.tenant("select count(*)::text from tenant.writeback").await, "0");
    assert_eq!(house.target("select email from contacts where id = 1").await, "a person's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_a_path_that_was_off_or_is_off_by_now_writes_nothing() {
    let house = house().await;
    let case = says(&house.stage, "1", Word::Accept).await;
    house.inside("update tenant.candidate set phase = 'off', generation = 2, snapshot = null").await;
    plans(&house, &case).await;
    let case = says(&house.stage, "2", Word::Accept).await;
    plans(&house, &case).await;
    assert_eq!(house.tenant(WISHES).await, "1 refused phase_off t, 2 off t");
    assert_eq!(house.tenant("select count(*)::text from tenant.writeback").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_change_is_planned_by_the_policy_that_decided_or_not_at_all() {
    let house = house().await;
    let digest = governance::digest::Digest::of(b"text");
    accepted(&house, "1").await;
    assert_eq!(house.row(WritebackId(1)).await.plan.policy, (1, digest));
    let case = says(&house.stage, "2", Word::Accept).await;
    house
        .inside(
            "insert into tenant.policy (path, version, text, digest, created_by)
             select id, 2, 'other', sha256('other'), gen_random_uuid() from tenant.path",
        )
        .await;
    plans(&house, &case).await;
    assert_eq!(
        house.tenant(WISHES).await,
        "1 planned planned email_format f, 2 refused policy_changed t",
        "no receipt names a version that decided nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w4_a_record_with_another_change_under_way_is_waited_for() {
    let house = house().await;
    house.plan(&house.wish("1", "one@x.org").await).await.unwrap();
    let case = says(&house.stage, "1", Word::Accept).await;
    let waiting = {
        let enqueued = house
            .stage
            .queue
            .enqueue(job(&house.stage.tenant, WishId(case.decision)).unwrap())
            .await
            .unwrap();
        let _worker = house.stage.worker(house.stage.environment());
        crate::testing::until(async || {
            let record = house.stage.queue.get(enqueued.id).await.unwrap().unwrap();
            (record.reason == WaitReason::Snoozed && record.state == JobState::Ready).then_some(record)
        })
        .await
    };
    assert!(waiting.note.unwrap().contains("another change"), "it says why");
    assert_eq!(house.tenant(WISHES).await, "1 due t");
}

/// What a sync brings of a record, by its own hand.
async fn synced(conn: &mut PgConnection, key: &str, email: &str) {
    let update = format!(
        "update tenant.record set digest = md5('{email}'), data = jsonb_build_object('email', '{email}'), changed_at = now()
         where key = '{key}'"
    );
    sqlx::raw_sql(AssertSqlSafe(update)).execute(conn).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_our_own_write_is_no_truth_and_a_persons_edit_is() {
    let house = house().await;
    house.open_gate().await;
    accepted(&house, "1").await;
    assert_eq!(house.run(WritebackId(1)).await.state, State::Verified);
    // Before the sync: what is asked anew of the same record must not take our write for a person's either.
    house
        .inside(
            "insert into tenant.shadow_baseline (case_id, number, verdict, actor)
             select id, 1, 'none', gen_random_uuid() from tenant.shadow_case where key = '2'",
        )
        .await;
    let db = house.stage.as_request().await;
    let mut write = db.write().await.unwrap();
    let original = [("email".to_owned(), json!("OLD@x.org"))].into_iter().collect();
    let late = governance::shadow::NewCase {
        path: "email",
        input_digest: governance::digest::Digest::of(b"late"),
        connector: "crm",
        stream: "rows",
        key: "1",
        original: &original,
        input: &json!({}),
    };
    governance::shadow::freeze(&mut write, &late).await.unwrap();
    write.commit().await.unwrap();
    let mut conn = house.stage.tenant_connection().await;
    synced(&mut conn, "1", "old@x.org").await;
    synced(&mut conn, "2", "b@x.org").await;
    let truths = "select string_agg(concat_ws(' ', c.key, t.source, t.value ->> 'email'), ', ')
        from tenant.shadow_truth t join tenant.shadow_case c on c.id = t.case_id";
    assert_eq!(house.tenant(truths).await, "2 observed b@x.org");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w6_a_wish_whose_job_was_lost_is_taken_up_by_the_nightly_check() {
    let house = Arc::new(house().await);
    says(&house.stage, "1", Word::Accept).await;
    let check = crate::drift_check::DriftCheck { days: 90 };
    let check = crate::drift_check::job(&house.stage.tenant, &check).unwrap();
    house.stage.queue.enqueue(check).await.unwrap();
    let _worker = house.stage.worker(house.stage.environment());
    crate::testing::until(async || {
        (house.tenant(WISHES).await == "1 planned planned email_format f").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_is_not_there_is_a_fault_of_the_configuration() {
    let house = house().await;
    let record = house.stage.run(job(&house.stage.tenant, WishId(99)).unwrap()).await;
    assert_eq!(record.state, JobState::Failed);
}
