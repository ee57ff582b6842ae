//! What policy alone may write.

use governance::{
    decision::{self, Decider},
    path, policy, wish,
};

use super::*;

/// The candidate is autonomous, by the rules that are the path's policy; Ada let it act alone.
fn autonomous(rules: &str) -> String {
    format!(
        "set session_replication_role = replica;
         update tenant.policy set text = $rules${rules}$rules$;
         update tenant.policy set digest = sha256(convert_to(text, 'UTF8'));
         update tenant.candidate set created_by = ada.id from governance.actor ada where ada.name = 'ada';
         update tenant.candidate set phase = 'autonomous', generation = 2, definition = d, digest = sha256(d)
         from (select convert_to(jsonb_build_object('policy', jsonb_build_object(
             'version', 1, 'digest', encode(digest, 'hex')))::text, 'UTF8') as d from tenant.policy) as promoted;
         set session_replication_role = default"
    )
}

/// Writes the address in its common form, as sure as this, and leaves to people what is less sure than the floor.
pub(crate) fn format(confidence: u8, floor: u8) -> String {
    format!(
        r#"path = "email"
review_below = {floor}
[[rules]]
name = "format"
when = 'email(record.email) != record.email'
verdict = "fix"
class = "email_format"
confidence = {confidence}
value = {{ email = "email(record.email)" }}
"#
    )
}

/// A house whose candidate acts alone.
async fn alone(rules: &str) -> House {
    let house = house().await;
    let_act(&house.stage, rules).await;
    house
}

/// Lets the candidate of a furnished stage act alone: its gate asks for nobody, its rules have decided over every record.
pub(crate) async fn let_act(stage: &Stage, rules: &str) {
    let mut conn = stage.tenant_connection().await;
    for sql in [&autonomous(rules), OPEN_GATE, "delete from tenant.decision where key > '2'"] {
        run(&mut conn, sql).await;
    }
    decide(stage).await;
}

/// What a night's decisions would leave.
async fn decide(stage: &Stage) {
    let db = stage.as_request().await;
    let mut write = db.write().await.unwrap();
    let path = path::by_name(&mut write, "email").await.unwrap();
    let (stored, policy) = policy::load(&mut write, &path, None).await.unwrap();
    let now = decision::now(&mut write).await.unwrap();
    let records = decision::next_page(&mut write, &path, None, 100).await.unwrap();
    let decider = Decider::new(&path, &policy, now);
    let decisions = decision::decide_page(&mut write, &path, &decider, &records).await.unwrap();
    decision::store(&mut write, &path, stored.version, &decisions).await.unwrap();
    write.commit().await.unwrap();
}

/// The records of these decisions.
async fn keys(house: &House, taken: &[WishId]) -> String {
    let ids: Vec<_> = taken.iter().map(ToString::to_string).collect();
    let named = "select string_agg(key, ' ' order by key) from tenant.decision where id = any('{IDS}')";
    house.tenant(&named.replace("IDS", &ids.join(","))).await
}

async fn takes_up(house: &House, limit: i64) -> Vec<WishId> {
    let db = house.stage.as_request().await;
    let mut write = db.write().await.unwrap();
    let taken = wish::take_up(&mut write, "email", limit, None).await.unwrap();
    write.commit().await.unwrap();
    taken
}

/// Enqueues the jobs of what is due, and sees so many writebacks to their end, and the others to where they wait.
async fn carried_out(house: &House, ended: usize) -> String {
    let mut conn = house.stage.tenant_connection().await;
    for job in due(&mut conn, &house.stage.tenant, 100).await.unwrap() {
        house.stage.queue.enqueue(job).await.unwrap();
    }
    let _worker = house.stage.worker(house.stage.environment());
    let stands = "select (select count(*) from tenant.wish where state = 'due') || ' '
        || (select count(*) from tenant.writeback where ended_at is not null)";
    let stands_so = format!("0 {ended}");
    crate::testing::until(async || {
        let jobs = house.stage.queue.list(&queue::JobFilter::default(), 1_000).await.unwrap();
        let rests = jobs.iter().all(|job| job.state.is_final() || job.reason == WaitReason::Snoozed);
        (rests && house.tenant(stands).await == stands_so).then_some(())
    })
    .await;
    house.tenant(WISHES).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_an_autonomous_candidate_writes_what_nobody_was_asked_about_once() {
    let house = alone(&format(97, 90)).await;
    // Records 1 and 2 are before people.
    let taken = takes_up(&house, 100).await;
    assert_eq!(keys(&house, &taken).await, "3 4");
    assert_eq!(takes_up(&house, 100).await, [], "each decision once");
    let written = "3 planned verified email_format t, 4 planned verified email_format t";
    assert_eq!(carried_out(&house, 2).await, written);
    let stored = "select string_agg(email, ' ' order by id) from contacts";
    assert_eq!(house.target(stored).await, "OLD@x.org B@x.org c@x.org d@x.org");
    assert_eq!(takes_up(&house, 100).await, []);
    // Whoever let it act alone stands behind it, and so could not have approved it.
    let behind =
        "select distinct p.name from tenant.writeback b join governance.actor a on a.id = b.requested_by
        join governance.actor p on p.id = a.person where a.person <> a.id";
    assert_eq!(house.tenant(behind).await, "ada");
    let mut conn = house.stage.tenant_connection().await;
    assert_eq!(one(&mut conn, crate::writeback::tests::house::CHAIN_HOLDS).await, "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_policy_alone_takes_up_nothing_in_assist_or_by_rules_that_nobody_promoted() {
    let house = house().await;
    assert_eq!(takes_up(&house, 100).await, [], "it only assists");
    house.inside(&autonomous(&format(97, 0))).await;
    house
        .inside(
            "insert into tenant.policy (path, version, text, digest, created_by)
             select path, 2, text || '#', sha256(convert_to(text || '#', 'UTF8')), created_by from tenant.policy;
             set session_replication_role = replica; update tenant.decision set policy_version = 2",
        )
        .await;
    assert_eq!(takes_up(&house, 100).await, []);
    let wish = Wish { accepted_by: None, ..house.wish("3", "c@x.org").await };
    let refused = house.plan(&wish).await;
    let is_other = matches!(refused, Err(PlanError::Refused(rows::Refusal::OtherPolicy(_))));
    assert!(is_other, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_policy_alone_takes_up_nothing_below_its_floor_or_of_a_record_that_changed() {
    // What is below the floor is no fix but a question: said otherwise by hand.
    let house = alone(&format(96, 97)).await;
    house.inside("update tenant.decision set verdict = 'fix', proposed = '{}', class = 'email_format'").await;
    assert_eq!(takes_up(&house, 100).await, []);
    let house = alone(&format(97, 97)).await;
    house.inside("update tenant.record set digest = 'other'").await;
    assert_eq!(takes_up(&house, 100).await, []);
    // Nor does the plan or the intent, whoever asks.
    let unsure = Wish { accepted_by: None, confidence: 96, ..house.wish("3", "c@x.org").await };
    let refused = house.plan(&unsure).await;
    let is_unsure =
        matches!(refused, Err(PlanError::Refused(rows::Refusal::NotSure { confidence: 96, floor: 97, .. })));
    assert!(is_unsure, "{refused:?}");
    house.plan(&Wish { confidence: 97, ..unsure }).await.unwrap();
}

/// Sure of an address that no other record has.
const UNIQUE: &str = r#"path = "email"
[evidence.duplicates]
field = "email"
[[rules]]
name = "duplicate"
when = "size(evidence.duplicates) > 0"
verdict = "block"
[[rules]]
name = "format"
when = 'email(record.email) != record.email'
verdict = "fix"
class = "email_format"
confidence = 97
value = { email = "email(record.email)" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_policy_alone_takes_up_nothing_that_rests_on_evidence_of_before() {
    let house = alone(UNIQUE).await;
    let twin = "insert into tenant.record (connector, stream, key, digest, data)
        values ('crm', 'rows', '5', 'twin', '{\"email\": \"c@x.org\"}')";
    // The fix of the third record was decided on before it had a twin, whether or not a night has seen that since.
    house.inside(twin).await;
    let taken = takes_up(&house, 100).await;
    assert_eq!(keys(&house, &taken).await, "4");
    decide(&house.stage).await;
    assert_eq!(takes_up(&house, 100).await, []);
    // The first answer is right again, and was not stored anew.
    house.inside("update tenant.record set deleted_at = now() where key = '5'").await;
    decide(&house.stage).await;
    let taken = takes_up(&house, 100).await;
    assert_eq!(keys(&house, &taken).await, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_demotion_between_wish_and_plan_stops_it() {
    let house = alone(&format(97, 0)).await;
    takes_up(&house, 1).await;
    house.inside("update tenant.candidate set phase = 'off', generation = 3, snapshot = null").await;
    assert_eq!(carried_out(&house, 0).await, "3 refused phase_off t");
    assert_eq!(takes_up(&house, 100).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w8_the_breaker_stops_what_policy_alone_would_go_on_with() {
    let house = alone(&format(97, 0)).await;
    house.inside("update tenant.path set breaker_limit = 1").await;
    house
        .at_target(
            "create function lie() returns trigger language plpgsql as $$
             begin new.email := 'a lie'; return new; end $$;
             create trigger lie before update on contacts for each row execute function lie()",
        )
        .await;
    takes_up(&house, 1).await;
    assert_eq!(carried_out(&house, 1).await, "3 planned mismatch email_format t");
    assert_eq!(house.tenant("select phase from tenant.candidate").await, "off");
    assert_eq!(takes_up(&house, 100).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn w2_many_who_take_up_and_send_at_once_never_exceed_the_cap() {
    let house = Arc::new(alone(&format(97, 0)).await);
    let more = "insert into tenant.record (connector, stream, key, digest, data)
        select 'crm', 'rows', n::text, md5('P' || n || '@x.org'), jsonb_build_object('email', 'P' || n || '@x.org')
        from generate_series(10, 29) as n;
        update tenant.path set daily_cap = 7";
    house.inside(more).await;
    decide(&house.stage).await;
    let rows = "insert into contacts select n, 'P' || n || '@x.org', n from generate_series(10, 29) as n;
        truncate contacts_log";
    house.at_target(rows).await;
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move { takes_up(&house, 5).await.len() })
        })
        .collect();
    let mut taken = 0;
    for taker in takers {
        taken += taker.await.unwrap();
    }
    assert_eq!(taken, 7, "the day's cap, whoever takes up");
    // People's wishes beside them: what is sent is counted, whoever wanted it.
    for key in ["1", "2"] {
        says(&house.stage, key, Word::Accept).await;
    }
    carried_out(&house, 7).await;
    assert_eq!(house.target("select count(*)::text from contacts_log").await, "7");
    let sent = "select count(*)::text from tenant.writeback where intent_at is not null";
    assert_eq!(house.tenant(sent).await, "7");
    assert_eq!(takes_up(&house, 100).await, [], "tomorrow");
}
