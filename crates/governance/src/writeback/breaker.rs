//! The circuit breaker of a path: targets that go on storing something else than they were told are not written to.

use sqlx::PgConnection;

use super::{Writeback, WritebackError};
use crate::{
    actor,
    candidate::{self, Phase},
};

/// On whose account the breaker acts.
const BREAKER: &str = "tenure breaker";

/// Demotes the candidate if this mismatch is the last of as many in a row as the path bears. Only what the candidate
/// wrote since its phase was last set counts.
pub(super) async fn look(
    conn: &mut PgConnection,
    mismatch: &Writeback,
    job: Option<i64>,
) -> Result<(), WritebackError> {
    let Some((candidate, generation)) = &mismatch.candidate else { return Ok(()) };
    let streak = sqlx::query_scalar!(
        r#"-- writeback.mismatches_in_a_row
        select coalesce(bool_and(state = 'mismatch') and count(*) = max(breaker_limit), false) as "trips!"
        from (
            select w.state, p.breaker_limit,
                row_number() over (order by w.ended_at desc, w.id desc) as place
            from tenant.writeback w join tenant.path p on p.name = w.path
            where w.path = $1 and w.candidate = $2 and w.generation = $3 and w.state in ('verified', 'mismatch')
              and not w.sent_nothing
        ) latest
        where place <= breaker_limit"#,
        mismatch.plan.path,
        candidate,
        generation,
    )
    .fetch_one(&mut *conn)
    .await?;
    if !streak {
        return Ok(());
    }
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| WritebackError::Candidate(error);
    let breaker = actor::named(conn, BREAKER).await.map_err(|error| failed(error.into()))?;
    let reason = format!("mismatches in a row, the last in job {}", job.unwrap_or_default());
    candidate::demote(conn, candidate, Phase::Off, breaker.id, Some(&reason))
        .await
        .map_err(|error| failed(error.into()))?;
    Ok(())
}
