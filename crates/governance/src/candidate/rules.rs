//! What a path asks of its candidates.

use serde_json::json;
use sqlx::{PgConnection, types::Json};

use super::CandidateError;
use crate::{
    actor::ActorId,
    audit::{self, Event},
    digest::Digest,
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

/// Sets stricter rules for a path. Rules that ask for less in any point are refused: lowering a gate is itself gated.
pub async fn tighten(
    conn: &mut PgConnection,
    path: &str,
    new: &Rules,
    by: ActorId,
) -> Result<(), CandidateError> {
    new.check()?;
    // Two who set rules at a time follow one another, else the laxer of both could win.
    sqlx::query!(
        "-- candidate.lock_rules
        select pg_advisory_xact_lock(hashtextextended('promotion_rule ' || $1, 0))",
        path,
    )
    .execute(&mut *conn)
    .await?;
    if new.loosen(&rules(conn, path).await?) {
        return Err(CandidateError::Laxer);
    }
    sqlx::query!(
        "-- candidate.tighten
        insert into tenant.promotion_rule (path, rules, set_by) values ($1, $2, $3)
        on conflict (path) do update set rules = excluded.rules, set_by = excluded.set_by, set_at = now()",
        path,
        Json(new) as _,
        by as ActorId,
    )
    .execute(&mut *conn)
    .await?;
    let body = json!({ "path": Digest::of(path.as_bytes()), "rules": new });
    audit::append(conn, &Event { kind: "gate.tightened", actor: Some(by), job: None, body }).await?;
    Ok(())
}
