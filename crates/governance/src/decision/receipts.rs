//! A receipt for each decision, anchored by one entry of the chain for a page of them.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::{
    Decision,
    store::{DecisionError, New},
};
use crate::{
    digest::Digest,
    path::Path,
    receipt::{self, By, PolicyUse, Receipt, Subject},
};

/// Issues the receipts of the new ones among these decisions. The last call of its transaction.
pub(crate) async fn issue(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    decisions: &[Decision],
    new: &[New],
) -> Result<(), DecisionError> {
    if new.is_empty() {
        return Ok(());
    }
    let digest = sqlx::query_scalar!(
        "-- decision.policy_digest\nselect digest from tenant.policy where path = $1 and version = $2",
        path.id,
        version,
    );
    let policy = PolicyUse {
        digest: Digest::try_from(digest.fetch_one(&mut *conn).await?)?,
        path: path.name.clone(),
        version: version.unsigned_abs(),
    };
    let by_input: HashMap<_, _> = decisions.iter().map(|it| (it.input_digest.to_vec(), it)).collect();
    let of = |new: &New| {
        let decision = by_input.get(&new.input_digest)?;
        Some((Subject::Decision(new.id), of_decision(decision, &policy)))
    };
    let receipts: Vec<_> = new.iter().filter_map(of).collect();
    receipt::issue_about(conn, &receipts, By::default()).await?;
    Ok(())
}

fn of_decision(decision: &Decision, policy: &PolicyUse) -> Receipt {
    let judged = &decision.judged;
    Receipt {
        approval: None,
        candidate: None,
        decision: receipt::Decision {
            class: judged.class.clone(),
            confidence: judged.confidence,
            verdict: judged.verdict.to_string(),
        },
        evidence: vec![decision.input_digest, decision.evidence_digest],
        former: None,
        model: None,
        outcome: "none".to_owned(),
        policy: policy.clone(),
        verification: None,
        writeback: None,
    }
}
