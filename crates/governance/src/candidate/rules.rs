//! What a path asks of its candidates.

use serde_json::json;
use sqlx::{PgConnection, types::Json};

use super::CandidateError;
use crate::{
    actor::ActorId,
    approval::{self, ConsumeError, RequestError, Requested, Terms},
    audit::{self, Event},
    digest::Digest,
    gate::ActionClass,
    promotion::Rules,
};

/// The rules in force for a path; the floors alone if it has set none.
pub async fn rules(conn: &mut PgConnection, path: &str) -> Result<Rules, CandidateError> {
    let stored = sqlx::query_scalar!(
        r#"-- candidate.rules
        select rules as "rules: Json<Rules>" from tenant.promotion_rule where path = $1"#,
        path,
    );
    Ok(stored.fetch_optional(conn).await?.map_or_else(Rules::default, |rules| rules.0))
}

/// Sets what a path asks. Stricter rules hold at once, also for evidence that was frozen before. Rules that ask for less
/// in any point use up an approval of exactly these rules, or are refused with [`CandidateError::Laxer`]: [`ask_laxer`]
/// asks for it. All or nothing: after an error the transaction must be rolled back.
pub async fn set_rules(
    conn: &mut PgConnection,
    path: &str,
    new: &Rules,
    by: ActorId,
) -> Result<(), CandidateError> {
    new.check()?;
    lock_rules(conn, path).await?;
    let before = rules(conn, path).await?;
    let (kind, approval) = if new.loosen(&before) {
        ("gate.loosened", Some(use_up(conn, path, &before, new, by).await?))
    } else {
        ("gate.tightened", None)
    };
    sqlx::query!(
        "-- candidate.set_rules
        insert into tenant.promotion_rule (path, rules, set_by) values ($1, $2, $3)
        on conflict (path) do update set rules = excluded.rules, set_by = excluded.set_by, set_at = now()",
        path,
        Json(new) as _,
        by as ActorId,
    )
    .execute(&mut *conn)
    .await?;
    let body = json!({ "path": Digest::of(path.as_bytes()), "rules": new, "approval": approval });
    audit::append(conn, &Event { kind, actor: Some(by), job: None, body }).await?;
    Ok(())
}

/// Asks for the approval of laxer rules. The same is asked for once at a time; other rules meanwhile void it.
pub async fn ask_laxer(
    conn: &mut PgConnection,
    path: &str,
    new: &Rules,
    by: ActorId,
) -> Result<Requested, CandidateError> {
    new.check()?;
    lock_rules(conn, path).await?;
    let before = rules(conn, path).await?;
    Ok(asked(conn, path, &before, new, by).await?)
}

/// Keeps out who sets the rules of a path or relies on them, to the end of the transaction.
pub(super) async fn lock_rules(conn: &mut PgConnection, path: &str) -> Result<(), CandidateError> {
    sqlx::query!(
        "-- candidate.lock_rules
        select pg_advisory_xact_lock(hashtextextended('promotion_rule ' || $1, 0))",
        path,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn asked(
    conn: &mut PgConnection,
    path: &str,
    before: &Rules,
    new: &Rules,
    by: ActorId,
) -> Result<Requested, RequestError> {
    let plan = json!({ "path": path, "from": before, "to": new });
    let terms = Terms {
        validators: json!({ "from": before }),
        ..Terms::new(ActionClass::gate_lower(), path.to_owned(), vec![format!("promotion_rule/{path}")], plan)
    };
    approval::request(conn, &terms, by, None).await
}

async fn use_up(
    conn: &mut PgConnection,
    path: &str,
    before: &Rules,
    new: &Rules,
    by: ActorId,
) -> Result<String, CandidateError> {
    // The request that is open for exactly this, or a new one that goes with the transaction when nobody has said yes.
    let Requested { id, digest, .. } = asked(conn, path, before, new, by).await?;
    match approval::consume(conn, id, &digest, Some(by), None).await {
        Ok(consumed) => Ok(consumed.id.to_string()),
        Err(ConsumeError::Undecided { .. }) => Err(CandidateError::Laxer),
        Err(error) => Err(error.into()),
    }
}
