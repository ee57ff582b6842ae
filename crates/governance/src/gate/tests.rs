use database::{migrate, testing::TestDatabase};
use proptest::prelude::*;
use sqlx::AssertSqlSafe;

use super::{change::direction, *};
use crate::{
    actor,
    approval::{self, Alone, ApprovalId, ConsumeError, DecideError, Requested, Terms, tests::gate},
};

async fn connection() -> PgConnection {
    TestDatabase::migrated(&[migrate::governance()]).await.connect().await
}

async fn person(conn: &mut PgConnection, name: &str) -> ActorId {
    actor::named(conn, name).await.unwrap().id
}

/// Asks for the approval of a lowering.
async fn ask(conn: &mut PgConnection, change: &Change, by: ActorId) -> Requested {
    let terms = terms(conn, change).await.unwrap().expect("it is a lowering");
    approval::request(conn, &terms, by, None).await.unwrap()
}

#[tokio::test]
async fn a_class_for_which_nothing_was_set_asks_for_one_other_person_and_24_hours() {
    let mut conn = connection().await;
    let gates = list(&mut conn).await.unwrap();
    assert_eq!(gates.iter().map(|gate| gate.class.as_str()).collect::<Vec<_>>(), ActionClass::FIXED);
    for gate in gates {
        assert_eq!((gate.persons, gate.window_secs, gate.approvers), (1, 86_400, None));
    }
    assert!(!is_single_admin(&mut conn).await.unwrap());
}

#[tokio::test]
async fn p7_raising_is_immediate_and_lowering_needs_an_approval_of_exactly_this_lowering() {
    let mut conn = connection().await;
    let (ada, ben) = (person(&mut conn, "ada").await, person(&mut conn, "ben").await);
    assert_eq!(set(&mut conn, &gate(2, 3600, None), ada, None).await.unwrap(), Direction::Raised);
    assert_eq!(set(&mut conn, &gate(2, 3600, None), ada, None).await.unwrap(), Direction::Unchanged);
    let down = gate(1, 3600, None);
    let refused = set(&mut conn, &down, ada, None).await;
    assert!(matches!(refused, Err(GateError::NeedsApproval(_))), "{refused:?}");
    let asked = ask(&mut conn, &down, ada).await;
    let early = set(&mut conn, &down, ada, Some(asked.id)).await;
    assert!(matches!(early, Err(GateError::Approval(ConsumeError::Undecided { .. }))), "{early:?}");
    approval::approve(&mut conn, asked.id, &asked.digest, ben, None).await.unwrap();
    let further = set(&mut conn, &gate(1, 7200, None), ada, Some(asked.id)).await;
    assert!(matches!(further, Err(GateError::Approval(ConsumeError::PlanChanged { .. }))), "{further:?}");
    assert_eq!(set(&mut conn, &down, ada, Some(asked.id)).await.unwrap(), Direction::Lowered);
    assert_eq!(get(&mut conn, &"promotion".parse().unwrap()).await.unwrap().persons, 1);
    let kinds =
        "select convert_from(content, 'UTF8')::json ->> 'kind' from governance.audit_entry order by seq";
    let kinds: Vec<String> = sqlx::query_scalar(kinds).fetch_all(&mut conn).await.unwrap();
    assert_eq!(
        kinds,
        ["gate.raised", "approval.requested", "approval.approved", "approval.consumed", "gate.lowered"]
    );
    set(&mut conn, &gate(2, 3600, None), ada, None).await.unwrap();
    let second_use = set(&mut conn, &down, ada, Some(asked.id)).await;
    assert!(matches!(second_use, Err(GateError::Approval(ConsumeError::Ended { .. }))), "{second_use:?}");
}

#[tokio::test]
async fn p7_no_gate_but_a_writebacks_goes_below_one_person() {
    let mut conn = connection().await;
    let ada = person(&mut conn, "ada").await;
    for class in ActionClass::FIXED {
        let gate = Gate { class: class.parse().unwrap(), persons: 0, window_secs: 60, approvers: None };
        let refused = set(&mut conn, &Change::Gate(gate), ada, None).await;
        assert!(matches!(refused, Err(GateError::BadSettings { .. })), "{class}: {refused:?}");
        let row = format!("insert into governance.gate values ('{class}', 0, 60, null)");
        sqlx::raw_sql(AssertSqlSafe(row)).execute(&mut conn).await.expect_err(class);
    }
    let class = ActionClass::writeback("email_format").unwrap();
    let free = Change::Gate(Gate { class, persons: 0, window_secs: 86_400, approvers: None });
    let ben = person(&mut conn, "ben").await;
    let asked = ask(&mut conn, &free, ada).await;
    approval::approve(&mut conn, asked.id, &asked.digest, ben, None).await.unwrap();
    assert_eq!(set(&mut conn, &free, ada, Some(asked.id)).await.unwrap(), Direction::Lowered);
    for (persons, window, approvers) in
        [(11, 60, None), (1, 0, None), (1, 1_209_601, None), (2, 60, Some(vec![ada, ada]))]
    {
        let refused = set(&mut conn, &gate(persons, window, approvers), ada, None).await;
        assert!(matches!(refused, Err(GateError::BadSettings { .. })), "{refused:?}");
    }
}

/// Moves a request into the past.
async fn age(conn: &mut PgConnection, id: ApprovalId, seconds: i64) {
    let statement = format!(
        "set session_replication_role = replica;
         update governance.approval set requested_at = clock_timestamp() - interval '{seconds} s' where id = {id};
         set session_replication_role = origin"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.unwrap();
}

#[tokio::test]
async fn p7_the_only_person_becomes_single_administrator_after_a_cooling_off_with_the_name_typed() {
    let mut conn = connection().await;
    let ada = person(&mut conn, "ada").await;
    let single = Change::SingleAdmin(true);
    let asked = ask(&mut conn, &single, ada).await;
    age(&mut conn, asked.id, 86_400 - 60).await;
    let early = approval::approve(&mut conn, asked.id, &asked.digest, ada, Some("single_admin")).await;
    assert!(matches!(early, Err(DecideError::CoolingOff { .. })), "{early:?}");
    age(&mut conn, asked.id, 86_400).await;
    let untyped = approval::approve(&mut conn, asked.id, &asked.digest, ada, None).await;
    assert!(matches!(untyped, Err(DecideError::NotConfirmed { .. })), "{untyped:?}");
    approval::approve(&mut conn, asked.id, &asked.digest, ada, Some("single_admin")).await.unwrap();
    assert_eq!(set(&mut conn, &single, ada, Some(asked.id)).await.unwrap(), Direction::Lowered);

    let action = Terms::new("promotion".parse().unwrap(), "fixer".into(), vec![], serde_json::json!({}));
    let asked = approval::request(&mut conn, &action, ada, None).await.unwrap();
    age(&mut conn, asked.id, 86_400).await;
    approval::approve(&mut conn, asked.id, &asked.digest, ada, Some("fixer")).await.unwrap();
    let consumed = approval::consume(&mut conn, asked.id, &asked.digest, None, None).await.unwrap();
    assert_eq!((consumed.alone, consumed.persons), (Some(Alone::SingleAdmin), vec![ada]));

    // Out of the mode: up at once, and what stood on it stands no more.
    let asked = approval::request(&mut conn, &action, ada, None).await.unwrap();
    age(&mut conn, asked.id, 86_400).await;
    approval::approve(&mut conn, asked.id, &asked.digest, ada, Some("fixer")).await.unwrap();
    assert_eq!(set(&mut conn, &Change::SingleAdmin(false), ada, None).await.unwrap(), Direction::Raised);
    let used = approval::consume(&mut conn, asked.id, &asked.digest, None, None).await;
    assert!(matches!(used, Err(ConsumeError::Lapsed { .. })), "{used:?}");
}

#[tokio::test]
async fn p7_where_a_second_person_is_known_the_switch_needs_that_person() {
    let mut conn = connection().await;
    let ada = person(&mut conn, "ada").await;
    let single = Change::SingleAdmin(true);
    let asked = ask(&mut conn, &single, ada).await;
    age(&mut conn, asked.id, 3600).await;
    let ben = person(&mut conn, "ben").await;
    let own = approval::approve(&mut conn, asked.id, &asked.digest, ada, Some("single_admin")).await;
    assert!(matches!(own, Err(DecideError::OwnRequest(_))), "{own:?}");
    approval::approve(&mut conn, asked.id, &asked.digest, ben, None).await.unwrap();
    assert_eq!(set(&mut conn, &single, ada, Some(asked.id)).await.unwrap(), Direction::Lowered);
}

fn any_gate() -> impl Strategy<Value = Gate> {
    let lists = prop::option::of(prop::collection::btree_set(0..4_u128, 1..4));
    (0..3_i16, 1..4_i32, lists).prop_map(|(persons, window_secs, list)| {
        let approvers =
            list.map(|list| list.into_iter().map(|id| ActorId(uuid::Uuid::from_u128(id))).collect());
        Gate { class: ActionClass::writeback("x").unwrap(), persons, window_secs, approvers }
    })
}

/// Whether these persons' yeses, each so old, pass the gate.
fn passes(gate: &Gate, yeses: &[(u128, i32)]) -> bool {
    let counts = |&&(person, age): &&(u128, i32)| {
        let id = ActorId(uuid::Uuid::from_u128(person));
        age < gate.window_secs && gate.approvers.as_ref().is_none_or(|list| list.contains(&id))
    };
    yeses.iter().filter(counts).count() >= usize::from(gate.persons.unsigned_abs())
}

proptest! {
    #[test]
    fn p7_whatever_passes_only_after_a_change_makes_it_a_lowering(
        from in any_gate(), to in any_gate(), ages in prop::collection::btree_map(0..6_u128, 0..4_i32, 0..6),
    ) {
        let yeses: Vec<_> = ages.into_iter().collect();
        if !passes(&from, &yeses) && passes(&to, &yeses) {
            prop_assert_eq!(direction(&from, &to), Direction::Lowered);
        }
        prop_assert_eq!(direction(&from, &to) == Direction::Unchanged, from == to);
    }
}
