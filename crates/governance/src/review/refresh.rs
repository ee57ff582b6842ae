//! Deciding stale cases anew.

use serde_json::json;
use sqlx::PgConnection;

use super::{Opened, ReviewError, ReviewId, State, get, lock_path, locked, open};
use crate::{
    audit::{self, Event},
    decision,
    path::{self, Path},
    policy,
};

/// What became of a stale case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// The case that took its place; none if the record is gone, or no longer needs a person.
    pub by: Option<ReviewId>,
}

/// Closes a stale case and decides its record anew, by the path's newest policy. [`ReviewError::NotStale`] if the
/// record is as it was. The last call of its transaction.
pub async fn refresh(conn: &mut PgConnection, id: ReviewId) -> Result<Refreshed, ReviewError> {
    let case = get(conn, id).await?.ok_or(ReviewError::NotFound(id))?;
    let path = path::by_name(conn, &case.path).await?;
    // The path first, as `open` does: two who refresh at once come one after the other.
    lock_path(conn, &path).await?;
    if !locked(conn, id).await?.is_stale {
        return Err(ReviewError::NotStale(id));
    }
    anew(conn, &path, &[case.key]).await?;
    let case = get(conn, id).await?.ok_or(ReviewError::NotFound(id))?;
    // The record may have changed back in this moment: then the case is as good as it was.
    if case.state == State::Open {
        Err(ReviewError::NotStale(id))
    } else {
        Ok(Refreshed { by: case.replaced_by })
    }
}

/// Does the same with at most so many stale cases of a path.
pub async fn refresh_all(conn: &mut PgConnection, path: &Path, limit: i64) -> Result<Opened, ReviewError> {
    let keys = sqlx::query_scalar!(
        "-- review.stale_keys
        select c.key from tenant.review_case c
        join tenant.decision d on d.id = c.decision
        left join tenant.record r on r.connector = $2 and r.stream = $3 and r.key = c.key and r.deleted_at is null
        where c.path = $1 and c.state = 'open' and (r.key is null or r.digest <> d.record_digest)
        order by c.id limit $4",
        path.id,
        path.connector,
        path.stream,
        limit.min(decision::PAGE_RECORDS),
    );
    let keys = keys.fetch_all(&mut *conn).await?;
    anew(conn, path, &keys).await
}

async fn anew(conn: &mut PgConnection, path: &Path, keys: &[String]) -> Result<Opened, ReviewError> {
    let gone = bury(conn, path, keys).await?;
    let (stored, policy) = policy::load(conn, path, None).await?;
    let records = decision::of_keys(conn, path, keys).await?;
    let mut opened = open(conn, path, (stored.version, &policy), &records, false).await?;
    opened.stale.extend(gone);
    Ok(opened)
}

/// Closes the open cases of these records that are gone.
async fn bury(conn: &mut PgConnection, path: &Path, keys: &[String]) -> Result<Vec<ReviewId>, ReviewError> {
    let gone = sqlx::query_scalar!(
        r#"-- review.bury
        update tenant.review_case c
        set state = 'stale', version = c.version + 1, changed_at = now(), closed_at = now()
        where c.path = $1 and c.key = any($2) and c.state = 'open' and not exists (
            select from tenant.record r
            where r.connector = $3 and r.stream = $4 and r.key = c.key and r.deleted_at is null)
        returning c.id as "id: ReviewId""#,
        path.id,
        keys,
        path.connector,
        path.stream,
    );
    let gone = gone.fetch_all(&mut *conn).await?;
    if !gone.is_empty() {
        let cases: Vec<_> = gone.iter().map(|id| id.0).collect();
        let body = json!({ "path": path.id, "cases": cases });
        audit::append(conn, &Event { kind: "review.buried", actor: None, job: None, body }).await?;
    }
    Ok(gone)
}
