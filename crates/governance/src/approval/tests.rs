use database::{migrate, testing::TestDatabase, testing::TestTenants};
use proptest::prelude::*;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};

use super::*;
use crate::{
    actor,
    gate::{ActionClass, Change, Gate},
};

const DAY_SECS: i64 = 24 * 60 * 60;

async fn database() -> TestDatabase {
    TestDatabase::migrated(&[migrate::governance()]).await
}

async fn person(conn: &mut PgConnection, name: &str) -> ActorId {
    actor::named(conn, name).await.unwrap().id
}

fn promotion() -> Terms {
    let plan = json!({"candidate": "fixer", "from": "off", "to": "assist"});
    Terms::new(ActionClass::FIXED[0].parse().unwrap(), "fixer".to_owned(), vec!["fixer".to_owned()], plan)
}

/// What Ada asked for.
async fn asked(conn: &mut PgConnection) -> Requested {
    let ada = person(conn, "ada").await;
    request(conn, &promotion(), ada, None).await.unwrap()
}

/// What Ada asked for and Ben approved.
async fn approved(conn: &mut PgConnection) -> Requested {
    let asked = asked(conn).await;
    let ben = person(conn, "ben").await;
    approve(conn, asked.id, &asked.digest, ben, None).await.unwrap();
    asked
}

/// Moves a request, or a person's yes, into the past, past the rule that neither changes.
async fn age(conn: &mut PgConnection, what: &str, id: ApprovalId, seconds: i64) {
    let column = match what {
        "approval" => "requested_at",
        _ => "given_at",
    };
    let key = if what == "approval" { "id" } else { "approval" };
    let statement = format!(
        "set session_replication_role = replica;
         update governance.{what} set {column} = clock_timestamp() - interval '{seconds} s' where {key} = {id};
         set session_replication_role = origin"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.unwrap();
}

/// The kinds of the entries that belong to an approval, in order.
async fn history(conn: &mut PgConnection, id: ApprovalId) -> Vec<String> {
    let entries =
        "select convert_from(content, 'UTF8') from governance.audit_entry where approval = $1 order by seq";
    let entries: Vec<String> =
        sqlx::query_scalar(entries).bind(id.to_string()).fetch_all(conn).await.unwrap();
    let kind =
        |text: &String| serde_json::from_str::<Value>(text).unwrap()["kind"].as_str().unwrap().to_owned();
    entries.iter().map(kind).collect()
}

async fn state(conn: &mut PgConnection, id: ApprovalId) -> State {
    get(conn, id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn p1_nothing_is_consumed_without_a_yes_and_never_twice() {
    let mut conn = database().await.connect().await;
    let request = asked(&mut conn).await;
    let ada = person(&mut conn, "ada").await;
    let early = consume(&mut conn, request.id, &request.digest, Some(ada), Some(7)).await;
    assert!(matches!(early, Err(ConsumeError::Undecided { yeses: 0, needed: 1, .. })), "{early:?}");
    let ben = person(&mut conn, "ben").await;
    let decided = approve(&mut conn, request.id, &request.digest, ben, None).await.unwrap();
    assert_eq!(decided.state, State::Approved);
    let consumed = consume(&mut conn, request.id, &request.digest, Some(ada), Some(7)).await.unwrap();
    assert_eq!((consumed.persons, consumed.alone), (vec![ben], None));
    let again = consume(&mut conn, request.id, &request.digest, Some(ada), Some(8)).await;
    assert!(
        matches!(again, Err(ConsumeError::Ended { state: State::Consumed, job: Some(7), .. })),
        "{again:?}"
    );
    let unknown = consume(&mut conn, ApprovalId(99), &request.digest, None, None).await;
    assert!(matches!(unknown, Err(ConsumeError::NotFound(ApprovalId(99)))));
}

#[tokio::test]
async fn p1_a_consumption_that_is_rolled_back_never_was() {
    let mut conn = database().await.connect().await;
    let request = approved(&mut conn).await;
    let mut tx = conn.begin().await.unwrap();
    let _consumed = consume(&mut tx, request.id, &request.digest, None, Some(7)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(state(&mut conn, request.id).await, State::Approved);
    let _consumed = consume(&mut conn, request.id, &request.digest, None, Some(7)).await.unwrap();
}

#[tokio::test]
async fn p1_as_many_distinct_persons_as_the_gate_asks_for() {
    let mut conn = database().await.connect().await;
    let ada = person(&mut conn, "ada").await;
    set_gate(&mut conn, 2, 86_400, None).await;
    let request = asked(&mut conn).await;
    let ben = person(&mut conn, "ben").await;
    approve(&mut conn, request.id, &request.digest, ben, None).await.unwrap();
    let twice = approve(&mut conn, request.id, &request.digest, ben, None).await;
    assert!(matches!(twice, Err(DecideError::Repeated(_))), "{twice:?}");
    let one = consume(&mut conn, request.id, &request.digest, Some(ada), None).await;
    assert!(matches!(one, Err(ConsumeError::Undecided { yeses: 1, needed: 2, .. })), "{one:?}");
    let cleo = person(&mut conn, "cleo").await;
    approve(&mut conn, request.id, &request.digest, cleo, None).await.unwrap();
    let consumed = consume(&mut conn, request.id, &request.digest, Some(ada), None).await.unwrap();
    assert_eq!(consumed.persons, vec![cleo, ben]);
}

#[tokio::test]
async fn p1_a_denial_wins_over_any_number_of_yeses_and_is_final() {
    let mut conn = database().await.connect().await;
    let request = approved(&mut conn).await;
    let (ben, cleo) = (person(&mut conn, "ben").await, person(&mut conn, "cleo").await);
    // Whoever has said yes may still say no.
    let denied = deny(&mut conn, request.id, ben).await.unwrap();
    assert_eq!((denied.state, denied.decisions.len()), (State::Denied, 2));
    let used = consume(&mut conn, request.id, &request.digest, None, None).await;
    assert!(matches!(used, Err(ConsumeError::Ended { state: State::Denied, .. })), "{used:?}");
    let late = approve(&mut conn, request.id, &request.digest, cleo, None).await;
    assert!(matches!(late, Err(DecideError::Ended { state: State::Denied, .. })), "{late:?}");
}

#[tokio::test]
async fn p1_the_same_plan_is_asked_for_once_at_a_time() {
    let mut conn = database().await.connect().await;
    let first = asked(&mut conn).await;
    let second = asked(&mut conn).await;
    assert_eq!((second.id, second.is_new), (first.id, false));
    let ada = person(&mut conn, "ada").await;
    withdraw(&mut conn, first.id, ada).await.unwrap();
    let third = asked(&mut conn).await;
    assert!(third.is_new && third.id != first.id && third.digest == first.digest);
}

#[tokio::test]
async fn p2_neither_the_requester_nor_the_person_behind_a_bot_approves() {
    let mut conn = database().await.connect().await;
    let (ada, ben) = (person(&mut conn, "ada").await, person(&mut conn, "ben").await);
    let bot = actor::service(&mut conn, "nightly", ada).await.unwrap().id;
    let other_bot = actor::service(&mut conn, "ci", ben).await.unwrap().id;
    let request = request(&mut conn, &promotion(), bot, Some(3)).await.unwrap();
    let of_ada = approve(&mut conn, request.id, &request.digest, ada, Some("fixer")).await;
    assert!(matches!(of_ada, Err(DecideError::OwnRequest(_))), "{of_ada:?}");
    for service in [bot, other_bot] {
        let by = approve(&mut conn, request.id, &request.digest, service, None).await;
        assert!(matches!(by, Err(DecideError::NotAPerson)), "{by:?}");
    }
    let denied = deny(&mut conn, request.id, ada).await;
    assert!(matches!(denied, Err(DecideError::OwnRequest(_))), "to take it back is to withdraw it");
    // Even a row that got past every check does not count.
    let forged = "insert into governance.approval_decision (approval, digest, person, verdict, given_at)
                  select id, digest, requested_person, 'yes', clock_timestamp() from governance.approval";
    sqlx::raw_sql(forged).execute(&mut conn).await.unwrap();
    let used = consume(&mut conn, request.id, &request.digest, Some(bot), Some(3)).await;
    assert!(matches!(used, Err(ConsumeError::Undecided { yeses: 0, .. })), "{used:?}");
    approve(&mut conn, request.id, &request.digest, ben, None).await.unwrap();
    let consumed = consume(&mut conn, request.id, &request.digest, Some(bot), Some(3)).await.unwrap();
    assert_eq!(consumed.persons, vec![ben]);
}

#[tokio::test]
async fn p3_of_a_thousand_races_on_one_approval_one_wins() {
    let database = database().await;
    let request = approved(&mut database.connect().await).await;
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(20));
    let mut sessions = Vec::new();
    for session in 0..20_i64 {
        let (mut conn, start) = (database.connect().await, start.clone());
        sessions.push(tokio::spawn(async move {
            start.wait().await;
            let mut won = 0;
            for race in 0..50 {
                let mut tx = conn.begin().await.unwrap();
                match consume(&mut tx, request.id, &request.digest, None, Some(session * 50 + race)).await {
                    Ok(_) => won += 1,
                    Err(ConsumeError::Ended { state: State::Consumed, .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
                tx.commit().await.unwrap();
            }
            won
        }));
    }
    let mut won = 0;
    for session in sessions {
        won += session.await.unwrap();
    }
    assert_eq!(won, 1);
    let history = history(&mut database.connect().await, request.id).await;
    assert_eq!(history.iter().filter(|kind| *kind == "approval.consumed").count(), 1);
}

#[tokio::test]
async fn p4_a_yes_of_23_59_59_passes_and_one_of_24_00_00_fails() {
    let mut conn = database().await.connect().await;
    let request = approved(&mut conn).await;
    // The request's own clock counts until it is decided only. A minute short, not a second: the machine may be slow.
    age(&mut conn, "approval", request.id, 2 * DAY_SECS - 61).await;
    age(&mut conn, "approval_decision", request.id, DAY_SECS).await;
    let late = consume(&mut conn, request.id, &request.digest, None, None).await;
    assert!(matches!(late, Err(ConsumeError::Lapsed { .. })), "{late:?}");
    assert_eq!(state(&mut conn, request.id).await, State::Lapsed);

    let fresh = approved(&mut conn).await;
    assert!(fresh.is_new);
    age(&mut conn, "approval_decision", fresh.id, DAY_SECS - 60).await;
    let _consumed = consume(&mut conn, fresh.id, &fresh.digest, None, None).await.unwrap();
}

/// The boundary to the microsecond, by the view that every statement compares with the clock.
#[tokio::test]
async fn p4_the_boundaries_are_exactly_a_window_after_the_request_and_after_the_yes() {
    let mut conn = database().await.connect().await;
    let request = approved(&mut conn).await;
    let approval = get(&mut conn, request.id).await.unwrap().unwrap();
    let day = chrono::TimeDelta::seconds(DAY_SECS);
    assert_eq!(approval.request_until, approval.requested_at + day);
    assert_eq!(approval.approved_until, Some(approval.decisions[0].given_at + day));
    assert_eq!(approval.until(), approval.approved_until.unwrap());
}

#[tokio::test]
async fn p4_an_undecided_request_lapses_after_the_window() {
    let mut conn = database().await.connect().await;
    let ben = person(&mut conn, "ben").await;
    let old = asked(&mut conn).await;
    age(&mut conn, "approval", old.id, DAY_SECS - 60).await;
    assert_eq!(sweep(&mut conn, 10).await.unwrap(), 0);
    age(&mut conn, "approval", old.id, DAY_SECS).await;
    let late = approve(&mut conn, old.id, &old.digest, ben, None).await;
    assert!(matches!(late, Err(DecideError::Lapsed { .. })), "{late:?}");
    let anew = asked(&mut conn).await;
    assert!(anew.is_new);
    age(&mut conn, "approval", anew.id, DAY_SECS).await;
    assert_eq!(sweep(&mut conn, 10).await.unwrap(), 1);
    assert_eq!(sweep(&mut conn, 10).await.unwrap(), 0);
    assert_eq!(history(&mut conn, anew.id).await, ["approval.requested", "approval.lapsed"]);
    // One that nobody noticed does not stand in the way.
    let third = asked(&mut conn).await;
    age(&mut conn, "approval", third.id, DAY_SECS).await;
    assert!(asked(&mut conn).await.is_new);
}

proptest! {
    #[test]
    fn p5_any_change_of_what_is_bound_is_another_digest(change in 0..7_usize, text in "[a-z]{1,8}", number in 1..1000_i32) {
        let base = promotion();
        let mut other = base.clone();
        let mut tenant = "tenant/a";
        match change {
            0 => other.targets.push(text),
            1 => other.plan["to"] = json!(format!("{text}{number}")),
            2 => other.validators = json!({"etag": text}),
            3 => other.policy_version = Some(text),
            4 => other.limits = json!({"records": number}),
            5 => other.action = ActionClass::writeback(&text).unwrap(),
            _ => tenant = "tenant/b",
        }
        prop_assume!(change != 0 || other.targets[1] != "fixer");
        let digest = base.bind_to("tenant/a").unwrap().digest;
        prop_assert_ne!(digest, other.bind_to(tenant).unwrap().digest);
        prop_assert_eq!(digest, base.bind_to("tenant/a").unwrap().digest);
    }

    #[test]
    fn p5_the_order_of_targets_says_nothing(mut targets in prop::collection::vec("[a-z]{1,4}", 0..6)) {
        let with = |targets: &[String]| Terms { targets: targets.to_vec(), ..promotion() }.bind_to("t").unwrap().digest;
        let digest = with(&targets);
        targets.reverse();
        prop_assert_eq!(digest, with(&targets));
    }
}

#[tokio::test]
async fn p5_a_changed_plan_is_not_started_and_a_yes_is_for_what_was_seen() {
    let mut conn = database().await.connect().await;
    let request = approved(&mut conn).await;
    let changed = Terms { limits: json!({"records": 2}), ..promotion() }.digest(&mut conn).await.unwrap();
    let used = consume(&mut conn, request.id, &changed, None, None).await;
    assert!(matches!(used, Err(ConsumeError::PlanChanged { planned, .. }) if planned == changed), "{used:?}");
    let cleo = person(&mut conn, "cleo").await;
    let unseen = approve(&mut conn, request.id, &changed, cleo, None).await;
    assert!(matches!(unseen, Err(DecideError::OtherDigest { .. })), "{unseen:?}");
    assert_eq!(state(&mut conn, request.id).await, State::Approved);
}

#[tokio::test]
async fn p6_a_withdrawal_before_the_step_commits_its_start_stops_it() {
    let database = database().await;
    let (mut one, mut other) = (database.connect().await, database.connect().await);
    let request = approved(&mut one).await;
    let ada = person(&mut one, "ada").await;
    let mut withdrawing = one.begin().await.unwrap();
    withdraw(&mut withdrawing, request.id, ada).await.unwrap();
    let sending =
        tokio::spawn(async move { consume(&mut other, request.id, &request.digest, None, Some(1)).await });
    database_waits(&database).await;
    withdrawing.commit().await.unwrap();
    let sent = sending.await.unwrap();
    assert!(matches!(sent, Err(ConsumeError::Ended { state: State::Withdrawn, .. })), "{sent:?}");
}

#[tokio::test]
async fn p6_a_withdrawal_after_the_start_is_told_so() {
    let database = database().await;
    let (mut one, mut other) = (database.connect().await, database.connect().await);
    let request = approved(&mut one).await;
    let ada = person(&mut one, "ada").await;
    let mut starting = one.begin().await.unwrap();
    let _consumed = consume(&mut starting, request.id, &request.digest, None, Some(1)).await.unwrap();
    let withdrawing = tokio::spawn(async move { withdraw(&mut other, request.id, ada).await });
    database_waits(&database).await;
    starting.commit().await.unwrap();
    let refused = withdrawing.await.unwrap();
    assert!(
        matches!(refused, Err(WithdrawError::Ended { state: State::Consumed, job: Some(1), .. })),
        "{refused:?}"
    );
}

/// Until a session of this database waits for a lock.
async fn database_waits(database: &TestDatabase) {
    let mut conn = database.connect().await;
    let waits = "select exists (select from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut conn).await.unwrap() {
        tokio::task::yield_now().await;
    }
}

/// Sets the gate of promotions, past the rule that a lowering needs an approval.
pub(crate) async fn set_gate(conn: &mut PgConnection, persons: i16, window: i32, list: Option<Vec<ActorId>>) {
    let gate = "insert into governance.gate (class, persons, window_secs, approvers) values ('promotion', $1, $2, $3)
                on conflict (class) do update
                   set persons = excluded.persons, window_secs = excluded.window_secs, approvers = excluded.approvers";
    sqlx::query(gate).bind(persons).bind(window).bind(list).execute(conn).await.unwrap();
}

#[tokio::test]
async fn p7_raising_a_gate_counts_for_approvals_already_given_and_lowering_does_not() {
    let mut conn = database().await.connect().await;
    let (ben, cleo) = (person(&mut conn, "ben").await, person(&mut conn, "cleo").await);
    let request = approved(&mut conn).await;
    set_gate(&mut conn, 2, 86_400, None).await;
    assert_eq!(state(&mut conn, request.id).await, State::Open);
    set_gate(&mut conn, 1, 86_400, Some(vec![cleo])).await;
    let unlisted = consume(&mut conn, request.id, &request.digest, None, None).await;
    assert!(matches!(unlisted, Err(ConsumeError::Undecided { yeses: 0, .. })), "{unlisted:?}");
    let other = deny(&mut conn, request.id, ben).await;
    assert!(matches!(other, Err(DecideError::NotAnApprover(_))), "{other:?}");
    set_gate(&mut conn, 1, 86_400, None).await;
    assert_eq!(state(&mut conn, request.id).await, State::Approved);
    age(&mut conn, "approval_decision", request.id, 120).await;
    set_gate(&mut conn, 1, 60, None).await;
    assert_eq!(state(&mut conn, request.id).await, State::Lapsed);
    // Asked for while two were wanted: two are wanted, though one is now.
    assert!(lapse(&mut conn, request.id).await.unwrap());
    set_gate(&mut conn, 2, 60, None).await;
    let strict = approved(&mut conn).await;
    set_gate(&mut conn, 1, 86_400, None).await;
    let found = get(&mut conn, strict.id).await.unwrap().unwrap();
    assert_eq!((found.state, found.needed), (State::Open, 2));
    assert_eq!((found.request_until - found.requested_at).num_seconds(), 60);
}

#[tokio::test]
async fn p8_request_view_decision_consumption_and_withdrawal_are_in_the_chain() {
    let mut conn = database().await.connect().await;
    let used = asked(&mut conn).await;
    let ben = person(&mut conn, "ben").await;
    view(&mut conn, used.id, ben).await.unwrap();
    approve(&mut conn, used.id, &used.digest, ben, None).await.unwrap();
    let _consumed = consume(&mut conn, used.id, &used.digest, None, Some(1)).await.unwrap();
    let expected = ["approval.requested", "approval.viewed", "approval.approved", "approval.consumed"];
    assert_eq!(history(&mut conn, used.id).await, expected);
    let denied = asked(&mut conn).await;
    deny(&mut conn, denied.id, ben).await.unwrap();
    assert_eq!(history(&mut conn, denied.id).await, ["approval.requested", "approval.denied"]);
    let withdrawn = asked(&mut conn).await;
    withdraw(&mut conn, withdrawn.id, ben).await.unwrap();
    assert_eq!(history(&mut conn, withdrawn.id).await, ["approval.requested", "approval.withdrawn"]);
    let forgotten = asked(&mut conn).await;
    age(&mut conn, "approval", forgotten.id, DAY_SECS).await;
    let late = consume(&mut conn, forgotten.id, &forgotten.digest, None, None).await;
    assert!(matches!(late, Err(ConsumeError::Lapsed { .. })), "{late:?}");
    assert_eq!(history(&mut conn, forgotten.id).await, ["approval.requested", "approval.lapsed"]);
}

#[tokio::test]
async fn p8_what_was_decided_cannot_be_rewritten() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("acme").await;
    let options = tenants.control().options().username(&tenant.role_name).database(&tenant.database_name);
    let mut conn = database::connect::connect(&options).await.unwrap();
    let request = approved(&mut conn).await;
    let _consumed = consume(&mut conn, request.id, &request.digest, None, Some(1)).await.unwrap();
    for statement in [
        "update governance.approval set state = 'open', ended_at = null",
        "update governance.approval set plan = '{}'",
        "delete from governance.approval",
        "truncate governance.approval cascade",
        "update governance.approval_decision set given_at = clock_timestamp()",
        "delete from governance.approval_decision",
        "truncate governance.approval_decision",
    ] {
        let refused = sqlx::raw_sql(statement).execute(&mut conn).await.expect_err(statement);
        let code = refused.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {refused}");
    }
}

#[tokio::test]
async fn an_approver_who_was_erased_answers_for_nothing() {
    let mut conn = database().await.connect().await;
    let request = approved(&mut conn).await;
    sqlx::raw_sql("update governance.actor set name = null where name = 'ben'")
        .execute(&mut conn)
        .await
        .unwrap();
    let used = consume(&mut conn, request.id, &request.digest, None, None).await;
    assert!(matches!(used, Err(ConsumeError::Undecided { yeses: 0, .. })), "{used:?}");
}

#[tokio::test]
async fn a_severe_class_wants_the_name_typed_and_a_plan_is_bounded() {
    let mut conn = database().await.connect().await;
    let (ada, ben) = (person(&mut conn, "ada").await, person(&mut conn, "ben").await);
    let delete =
        |plan| Terms::new("tenant_delete".parse().unwrap(), "acme".to_owned(), vec!["acme".to_owned()], plan);
    let request_of = request(&mut conn, &delete(json!({})), ada, None).await.unwrap();
    for typed in [None, Some("Acme")] {
        let unconfirmed = approve(&mut conn, request_of.id, &request_of.digest, ben, typed).await;
        assert!(matches!(unconfirmed, Err(DecideError::NotConfirmed { .. })), "{unconfirmed:?}");
    }
    approve(&mut conn, request_of.id, &request_of.digest, ben, Some("acme")).await.unwrap();
    let large = request(&mut conn, &delete(json!("x".repeat(1 << 20))), ada, None).await;
    assert!(matches!(large, Err(RequestError::Terms(TermsError::TooLarge { .. }))), "{large:?}");
}

/// A change of gates, as the tests of gates make it.
pub(crate) fn gate(persons: i16, window_secs: i32, approvers: Option<Vec<ActorId>>) -> Change {
    Change::Gate(Gate { class: "promotion".parse().unwrap(), persons, window_secs, approvers })
}

#[tokio::test]
async fn a_sweep_takes_the_head_of_the_chain_after_all_that_it_ends() {
    let database = database().await;
    let mut conn = database.connect().await;
    let ada = person(&mut conn, "ada").await;
    let first = asked(&mut conn).await.id;
    let terms = Terms::new(ActionClass::gate_lower(), "g".to_owned(), vec!["g".to_owned()], json!({}));
    let second = request(&mut conn, &terms, ada, None).await.unwrap().id;
    for id in [first, second] {
        age(&mut conn, "approval", id, 30 * DAY_SECS).await;
    }
    let mut other = database.connect().await;
    let mut other = other.begin().await.unwrap();
    assert!(lock(&mut other, second).await.unwrap());
    let mut own = database.connect().await;
    let sweeping = tokio::spawn(async move {
        let mut own = own.begin().await.unwrap();
        let swept = sweep(&mut own, 10).await;
        own.commit().await.unwrap();
        swept
    });
    let waiting = "select count(*) from pg_locks where not granted
        and pid in (select pid from pg_stat_activity where datname = current_database())";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut conn).await.unwrap() == 0 {
        assert!(!sweeping.is_finished());
        tokio::task::yield_now().await;
    }
    let head = sqlx::raw_sql("select from governance.audit_head for update nowait").execute(&mut conn).await;
    assert!(head.is_ok(), "who decides the second one takes it: {head:?}");
    other.rollback().await.unwrap();
    assert_eq!(sweeping.await.unwrap().unwrap(), 2);
}
