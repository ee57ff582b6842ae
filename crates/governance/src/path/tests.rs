use chrono::DateTime;
use database::testing::TestTenants;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::*;
use crate::{
    actor::{self, Actor},
    approval::{self, ApprovalId, DecideError, Requested},
    decision::{self, Decider},
    policy::{Fields, Policy},
};

pub(crate) fn new(name: &str) -> NewPath {
    NewPath {
        name: name.to_owned(),
        connector: "crm".to_owned(),
        stream: "contacts".to_owned(),
        fields: ["email", "phone"].map(str::to_owned).to_vec(),
        daily_cap: 100,
        breaker_limit: 3,
    }
}

/// A tenant's database, past its role's rules, and somebody who acts.
pub(crate) async fn tenant() -> (TestTenants, PgConnection, Actor) {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("acme").await;
    let mut conn = tenants.inside(&tenant).await;
    let ada = actor::named(&mut conn, "ada").await.unwrap();
    (tenants, conn, ada)
}

/// A policy whose one rule fails on a record without an e-mail address, if `strict`.
fn policy(threshold: u8, strict: bool) -> Policy {
    let when = if strict { "size(record.email) > 100" } else { "email(record.email) != record.email" };
    let text = format!(
        "path = \"crm-email\"\n[[rules]]\nname = \"format\"\nwhen = '{when}'\nverdict = \"fix\"\n\
         value = {{ email = 'email(record.email)' }}\nconfidence = {threshold}\nclass = \"email_format\"\n"
    );
    Policy::compile(&text, "p", &Fields::any(), None).unwrap_or_else(|error| panic!("{error}"))
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

/// Adds the policy as the newest version and decides by it over every record.
async fn decide(conn: &mut PgConnection, ada: &Actor, policy: &Policy) {
    let path = by_name(conn, "crm-email").await.unwrap();
    let (version, _) = crate::policy::add(conn, &path, policy, ada).await.unwrap();
    let page = decision::next_page(conn, &path, None, 100).await.unwrap();
    let decider = Decider::new(&path, policy, DateTime::UNIX_EPOCH);
    let decisions = decision::decide_page(conn, &path, &decider, &page).await.unwrap();
    decision::store(conn, &path, version, &decisions).await.unwrap();
}

const CONNECTOR: &str = "insert into tenant.connector (name, definition) values ('crm', 'as it is')";
const PROBE: &str = "
    insert into tenant.target_capability (connector, stream, definition, capability, evidence)
    values ('crm', 'contacts', sha256('as it is'), 'conditional_write', '{tried}')
    on conflict (connector, stream) do update set definition = excluded.definition, evidence = '{tried}',
        capability = 'conditional_write', obstacle = null, probed_at = clock_timestamp()";
const RECORDS: &str = r"
    insert into tenant.record (connector, stream, key, digest, data)
    select 'crm', 'contacts', n::text, md5(n::text), jsonb_build_object('email', 'P' || n || '@Example.com')
    from generate_series(1, 3) n";
const SYNC: &str = r#"
    insert into tenant.sync_run (job, connector, stream, finished_at, report)
    values (1, 'crm', 'contacts', now(), '{"outcome": "complete"}')"#;

/// A path that is probed and has all that speaks for its certification.
async fn ready(conn: &mut PgConnection, ada: &Actor) {
    create(conn, &new("crm-email"), ada).await.unwrap();
    for sql in [CONNECTOR, PROBE, RECORDS, SYNC] {
        run(conn, sql).await;
    }
    decide(conn, ada, &policy(90, false)).await;
    assert_eq!(probed(conn, "crm-email", ada).await.unwrap().state, PathState::Probed);
}

async fn ask(conn: &mut PgConnection, by: &Actor) -> Requested {
    match certify(conn, "crm-email", by).await.unwrap() {
        Certifying::Asked(asked) => asked,
        Certifying::Certified(path) => panic!("nobody was asked to certify {path:?}"),
    }
}

async fn approve(conn: &mut PgConnection, asked: Requested, by: &str) -> Result<(), DecideError> {
    let by = actor::named(conn, by).await.unwrap();
    approval::approve(conn, asked.id, &asked.digest, by.id, None).await.map(drop)
}

/// What keeps the path from being certified, in words.
async fn lacks(conn: &mut PgConnection, ada: &Actor) -> String {
    match certify(conn, "crm-email", ada).await {
        Err(StepError::Lacking { missing, .. }) => {
            missing.into_iter().map(|it| it.what).collect::<Vec<_>>().join("; ")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_path_climbs_with_its_evidence_and_is_certified_by_a_second_person() {
    let (_tenants, mut conn, ada) = tenant().await;
    ready(&mut conn, &ada).await;
    let asked = ask(&mut conn, &ada).await;
    assert_eq!(ask(&mut conn, &ada).await.id, asked.id, "the same is asked for once");
    let own = approve(&mut conn, asked, "ada").await;
    assert!(matches!(own, Err(DecideError::OwnRequest(_))), "{own:?}");
    assert_eq!(ask(&mut conn, &ada).await.id, asked.id);
    approve(&mut conn, asked, "ben").await.unwrap();
    let Certifying::Certified(path) = certify(&mut conn, "crm-email", &ada).await.unwrap() else {
        panic!("it was approved")
    };
    assert_eq!(path.state, PathState::Certified);
    let again = certify(&mut conn, "crm-email", &ada).await;
    assert!(matches!(again, Err(StepError::NotNext { .. })), "{again:?}");
    let taken = steps(&mut conn, &path).await.unwrap();
    assert_eq!(taken.iter().map(|it| it.to).collect::<Vec<_>>(), [PathState::Probed, PathState::Certified]);
    assert_eq!((taken[0].approval, taken[1].approval), (None, Some(asked.id)));
    let evidence = &taken[1].evidence;
    assert_eq!((&evidence["policy"]["version"], &evidence["records"]), (&json!(1), &json!(3)));
    assert_eq!(evidence["probe"], taken[0].evidence["probe"]);
    let kinds: Vec<String> = sqlx::query_scalar(
        "select convert_from(content, 'utf8')::jsonb ->> 'kind' from governance.audit_entry
         where convert_from(content, 'utf8')::jsonb -> 'body' ->> 'approval' = $1 order by seq",
    )
    .bind(asked.id.to_string())
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(kinds, ["approval.requested", "approval.approved", "approval.consumed", "path.stepped"]);
}

#[tokio::test]
async fn no_rung_is_skipped_and_down_needs_nothing() {
    let (_tenants, mut conn, ada) = tenant().await;
    create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    let skipped = certify(&mut conn, "crm-email", &ada).await;
    assert!(matches!(skipped, Err(StepError::NotNext { .. })), "{skipped:?}");
    let held = by_name(&mut conn, "crm-email").await.unwrap();
    for to in [PathState::Catalogued, PathState::Certified, PathState::Live] {
        let step = Step { to, approval: Some(ApprovalId(1)), evidence: json!({}), at: None };
        let refused = ladder::step(&mut conn, &held, &step, ada.id, None).await;
        assert!(matches!(refused, Err(StepError::NotNext { .. })), "{to}");
    }
    let held = Path { state: PathState::Probed, ..held };
    let step = Step { to: PathState::Certified, approval: None, evidence: json!({}), at: None };
    let refused = ladder::step(&mut conn, &held, &step, ada.id, None).await;
    assert!(matches!(refused, Err(StepError::NoApproval)), "{refused:?}");
    let shortcut = "insert into tenant.path_step (path, number, from_state, to_state, by_actor, evidence)
        select id, 1, 'probed', 'certified', created_by, '{}' from tenant.path";
    sqlx::raw_sql(shortcut).execute(&mut conn).await.expect_err("the schema asks for the approval too");

    run(&mut conn, "update tenant.path set state = 'live'").await;
    for (to, from) in [(PathState::Certified, "live"), (PathState::Catalogued, "certified")] {
        let lowered = lower(&mut conn, "crm-email", to, &ada).await;
        assert_eq!(lowered.unwrap().state, to, "from {from}");
    }
    for to in [PathState::Catalogued, PathState::Live] {
        let refused = lower(&mut conn, "crm-email", to, &ada).await;
        assert!(matches!(refused, Err(StepError::NotDown { .. })), "{refused:?}");
    }
    let path = by_name(&mut conn, "crm-email").await.unwrap();
    let taken = steps(&mut conn, &path).await.unwrap();
    assert_eq!(
        taken.iter().map(|it| it.to).collect::<Vec<_>>(),
        [PathState::Certified, PathState::Catalogued]
    );
}

#[tokio::test]
async fn p5_whatever_changes_in_the_evidence_voids_the_approval() {
    let (_tenants, mut conn, ada) = tenant().await;
    ready(&mut conn, &ada).await;
    let mut seen = Vec::new();
    // The same found again is no change: it would not do if every look at a target asked people anew.
    for (change, voids) in [
        (PROBE, false),
        ("update tenant.target_capability set evidence = '{tried otherwise}'", true),
        ("update tenant.target_capability set capability = 'read_check'", true),
        ("delete from tenant.record where key = '3'", true),
        ("update tenant.path set fields = '{email}'", true),
        ("update tenant.path set daily_cap = 5", true),
    ] {
        let asked = ask(&mut conn, &ada).await;
        approve(&mut conn, asked, "ben").await.unwrap();
        run(&mut conn, change).await;
        match certify(&mut conn, "crm-email", &ada).await.unwrap() {
            Certifying::Asked(anew) => {
                assert!(voids, "{change}");
                assert_ne!(anew.digest, asked.digest, "{change}");
                seen.push(anew.digest);
            }
            Certifying::Certified(_) => {
                assert!(!voids, "{change}");
                lower(&mut conn, "crm-email", PathState::Probed, &ada).await.unwrap();
            }
        }
    }
    // Another version of the policy, and a path that went down and up again.
    let asked = ask(&mut conn, &ada).await;
    approve(&mut conn, asked, "ben").await.unwrap();
    decide(&mut conn, &ada, &policy(91, false)).await;
    let with_policy = ask(&mut conn, &ada).await;
    approve(&mut conn, with_policy, "ben").await.unwrap();
    lower(&mut conn, "crm-email", PathState::Catalogued, &ada).await.unwrap();
    probed(&mut conn, "crm-email", &ada).await.unwrap();
    seen.extend([asked.digest, with_policy.digest, ask(&mut conn, &ada).await.digest]);
    let count = seen.len();
    seen.sort();
    seen.dedup();
    // The first of the last three is the request that the change before made.
    assert_eq!(seen.len(), count - 1);
}

#[tokio::test]
async fn what_a_path_lacks_is_told_rung_by_rung() {
    let (_tenants, mut conn, ada) = tenant().await;
    let path = create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    let told = async |conn: &mut PgConnection| {
        let path = by_name(conn, "crm-email").await.unwrap();
        let missing = standing(conn, &path).await.unwrap().missing;
        assert!(missing.iter().all(|it| !it.help.is_empty()));
        missing.into_iter().map(|it| it.what).collect::<Vec<_>>().join("; ")
    };
    assert!(told(&mut conn).await.contains("there is no connector crm"));
    run(&mut conn, CONNECTOR).await;
    assert_eq!(told(&mut conn).await, "its target has not been probed");
    let refused = probed(&mut conn, "crm-email", &ada).await;
    assert!(matches!(refused, Err(StepError::Lacking { .. })), "{refused:?}");
    for (change, says) in [
        ("update tenant.connector set definition = 'as it was'", "another definition"),
        ("update tenant.target_capability set obstacle = 'locked'", "no write can succeed: locked"),
        ("update tenant.target_capability set capability = 'blind'", "could not be read"),
    ] {
        run(&mut conn, PROBE).await;
        run(&mut conn, change).await;
        let said = told(&mut conn).await;
        assert!(said.contains(says), "{change}: {said}");
        let refused = probed(&mut conn, "crm-email", &ada).await;
        assert!(matches!(refused, Err(StepError::Lacking { .. })), "{change}: {refused:?}");
        run(&mut conn, "update tenant.connector set definition = 'as it is'").await;
    }
    run(&mut conn, PROBE).await;
    assert!(told(&mut conn).await.contains("the step is not taken"));
    probed(&mut conn, &path.name, &ada).await.unwrap();

    let said = told(&mut conn).await;
    assert_eq!(
        said,
        "there is no policy; the stream has not been synced; nobody has approved its certification"
    );
    run(&mut conn, SYNC).await;
    assert_eq!(lacks(&mut conn, &ada).await, "there is no policy; the stream has no records");
    run(&mut conn, RECORDS).await;
    decide(&mut conn, &ada, &policy(90, false)).await;
    run(&mut conn, "update tenant.record set digest = 'changed' where key = '2'").await;
    let said = lacks(&mut conn, &ada).await;
    assert_eq!(said, "no baseline: version 1 of its policy has decided over 2 of 3 records");
    run(&mut conn, "update tenant.record set data = '{\"email\": null}' where key = '2'").await;
    decide(&mut conn, &ada, &policy(90, true)).await;
    assert_eq!(lacks(&mut conn, &ada).await, "no clean baseline: a rule failed on 1 records");
    run(&mut conn, "update tenant.record set data = '{\"email\": \"x@y.org\"}' where key = '2'").await;
    decide(&mut conn, &ada, &policy(92, false)).await;
    run(&mut conn, "update tenant.target_capability set capability = 'blind'").await;
    assert!(lacks(&mut conn, &ada).await.contains("could not be read"));
    run(&mut conn, PROBE).await;
    let later = "insert into tenant.sync_run (job, connector, stream, started_at, finished_at, report)
        values (2, 'crm', 'contacts', clock_timestamp() + interval '1 s', now(), '{\"outcome\": \"incomplete\"}')";
    run(&mut conn, later).await;
    assert_eq!(lacks(&mut conn, &ada).await, "the last sync of its stream ended as incomplete");
    // One that has not ended says nothing.
    run(&mut conn, "update tenant.sync_run set finished_at = null, report = null where job = 2").await;
    ask(&mut conn, &ada).await;
}

#[tokio::test]
async fn a_path_that_cannot_be_is_refused_with_the_reason() {
    let (_tenants, mut conn, ada) = tenant().await;
    create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    assert!(matches!(create(&mut conn, &new("crm-email"), &ada).await, Err(PathError::Taken(_))));
    for bad in [
        NewPath { name: "CRM".to_owned(), ..new("x") },
        NewPath { fields: Vec::new(), ..new("x") },
        NewPath { daily_cap: -1, ..new("x") },
        NewPath { breaker_limit: 0, ..new("x") },
    ] {
        let refused = create(&mut conn, &bad, &ada).await;
        assert!(matches!(refused, Err(PathError::Invalid(_))), "{bad:?}: {refused:?}");
    }
    assert!(matches!(by_name(&mut conn, "nothing").await, Err(PathError::Unknown(_))));
    assert_eq!(list(&mut conn).await.unwrap().len(), 1);
}
