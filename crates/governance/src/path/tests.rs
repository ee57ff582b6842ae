use database::testing::TestTenants;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::*;
use crate::actor::{self, Actor};

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

fn to(to: PathState, approval: Option<Uuid>) -> Step {
    Step { to, approval, evidence: json!({}), at: None }
}

#[tokio::test]
async fn a_path_climbs_one_rung_at_a_time_and_is_certified_only_by_an_approval() {
    use PathState::{Catalogued, Certified, Live, Probed};
    let (_tenants, mut conn, ada) = tenant().await;
    let path = create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    assert_eq!(path.state, Catalogued);
    for skipped in [Catalogued, Certified, Live] {
        let refused = step(&mut conn, &path, &to(skipped, Some(Uuid::new_v4())), &ada).await;
        assert!(matches!(refused, Err(StepError::NotNext { .. })), "{skipped}");
    }
    let probed = step(&mut conn, &path, &to(Probed, None), &ada).await.unwrap();
    assert_eq!(probed.state, Probed);
    let refused = step(&mut conn, &path, &to(Certified, None), &ada).await;
    assert!(matches!(refused, Err(StepError::NoApproval)));
    let approval = Uuid::new_v4();
    step(&mut conn, &path, &to(Certified, Some(approval)), &ada).await.unwrap();
    step(&mut conn, &path, &to(Live, None), &ada).await.unwrap();
    // Down needs nothing, and up again needs it all.
    step(&mut conn, &path, &to(Certified, None), &ada).await.unwrap();
    step(&mut conn, &path, &to(Catalogued, None), &ada).await.unwrap();
    let taken = steps(&mut conn, &path).await.unwrap();
    let rungs: Vec<_> = taken.iter().map(|it| it.to).collect();
    assert_eq!(rungs, [Probed, Certified, Live, Certified, Catalogued]);
    assert_eq!(taken[1].approval, Some(approval));
    let kinds: Vec<String> = sqlx::query_scalar(
        "select convert_from(content, 'utf8')::jsonb ->> 'kind' from governance.audit_entry order by seq",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(kinds.iter().filter(|it| *it == "path.stepped").count(), 5, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|it| *it == "path.created").count(), 1);
}

#[tokio::test]
async fn what_a_path_lacks_is_told_rung_by_rung() {
    let (_tenants, mut conn, ada) = tenant().await;
    let path = create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    let lacks = missing(&mut conn, &path).await.unwrap();
    assert!(lacks[0].what.contains("probed"), "{lacks:?}");
    let path = step(&mut conn, &path, &to(PathState::Probed, None), &ada).await.unwrap();
    let lacks = missing(&mut conn, &path).await.unwrap();
    let told: Vec<_> = lacks.iter().map(|it| it.what.as_str()).collect();
    for what in ["no policy", "synced", "baseline", "approved"] {
        assert!(told.iter().any(|it| it.contains(what)), "{what}: {told:?}");
    }
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
