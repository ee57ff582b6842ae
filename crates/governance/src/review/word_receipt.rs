//! The receipt of a person's word on a case.

use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::{Case, ReviewError, State};
use crate::{
    actor::ActorId,
    decision::Verdict,
    digest::Digest,
    receipt::{self, By, Decision, PolicyUse, Receipt, ReceiptId, Subject},
    shadow::value_digest,
};

/// Issues it: it goes on from the decision's own.
pub(super) async fn issue(
    conn: &mut PgConnection,
    case: &Case,
    word: State,
    value: Option<&Map<String, Value>>,
    by: ActorId,
) -> Result<ReceiptId, ReviewError> {
    let verdict = if value.is_some() { Verdict::Fix } else { Verdict::None };
    let mut evidence = vec![case.input_digest];
    if let Some(value) = value {
        evidence.push(value_digest(&Value::Object(value.clone()))?);
    }
    let receipt = Receipt {
        approval: None,
        candidate: None,
        decision: Decision {
            class: case.class.clone(),
            confidence: u8::try_from(case.confidence).unwrap_or_default(),
            verdict: verdict.to_string(),
        },
        evidence,
        former: receipt::about(conn, Subject::Decision(case.decision)).await?.first().copied(),
        model: None,
        outcome: word.to_string(),
        policy: PolicyUse {
            digest: policy(conn, case).await?,
            path: case.path.clone(),
            version: u32::try_from(case.policy_version).unwrap_or_default(),
        },
        verification: None,
        writeback: None,
    };
    let by = By { actor: Some(by), ..By::default() };
    let issued = receipt::issue_about(conn, &[(Subject::Review(case.id.0), receipt)], by).await?;
    Ok(issued.id(0))
}

async fn policy(conn: &mut PgConnection, case: &Case) -> Result<Digest, ReviewError> {
    let digest = sqlx::query_scalar!(
        "-- review.policy_digest
        select y.digest from tenant.decision d
        join tenant.policy y on y.path = d.path and y.version = d.policy_version where d.id = $1",
        case.decision,
    );
    let digest = digest.fetch_one(conn).await?;
    Digest::try_from(digest).map_err(|error| ReviewError::Unreadable(error.into()))
}
