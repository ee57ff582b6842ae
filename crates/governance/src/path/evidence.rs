//! What speaks for a path: what its target was seen to do, and how its newest policy fares on the synced records.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::{Path, PathError};
use crate::{canonical::CanonicalError, digest::Digest};

/// What the path's target was seen to do when it was last tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The class it was found to be of, as the connectors name it.
    pub capability: String,
    /// Why no write can succeed, if that is so.
    pub obstacle: Option<String>,
    /// Each thing tried and what came of it.
    pub evidence: Vec<String>,
    /// Which definition of the connector was tried.
    pub definition: Digest,
    /// Whether that is the definition now: another is another target.
    pub is_current: bool,
    /// When.
    pub probed_at: DateTime<Utc>,
}

/// The class of a target that could not be read.
const BLIND: &str = "blind";

impl Probe {
    /// Whether nothing was written to a target that cannot be read.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.capability == BLIND
    }

    /// What was found, not when: the same found again changes nothing.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        let Self { capability, obstacle, evidence, definition, .. } = self;
        Digest::of_canonical(&serde_json::json!({
            "definition": definition, "capability": capability, "obstacle": obstacle, "evidence": evidence,
        }))
    }
}

/// How the newest policy fares on the records of the path's stream. It is *clean* if the last finished sync of the
/// stream was complete, there are records, that version has decided over every one of them as it is now, and no rule
/// failed on any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Baseline {
    /// The newest version of the policy.
    pub policy: Option<PolicyVersion>,
    /// How the last finished sync of the stream ended.
    pub sync: Option<String>,
    /// Records of the stream, without deleted ones.
    pub records: i64,
    /// Of them, those that the version has decided on as they are now; a later decision on the same state counts.
    pub decided: i64,
    /// Of those, on which the rule or the record could not be evaluated.
    pub failed: i64,
    /// Of those decided, to be fixed.
    pub fix: i64,
    /// For people.
    pub review: i64,
    /// To be blocked.
    pub block: i64,
    /// In order.
    pub none: i64,
}

/// A version of a path's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyVersion {
    /// From 1.
    pub version: i32,
    /// The digest of its text.
    pub digest: Digest,
}

impl Baseline {
    /// The digest of all figures.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Digest::of_canonical(self)
    }
}

/// Whether the path's connector is registered.
pub(super) async fn is_registered(conn: &mut PgConnection, path: &Path) -> Result<bool, PathError> {
    let found = sqlx::query_scalar!(
        r#"-- path.connector
        select exists (select from tenant.connector where name = $1) as "known!""#,
        path.connector
    );
    Ok(found.fetch_one(conn).await?)
}

pub(super) async fn probe(conn: &mut PgConnection, path: &Path) -> Result<Option<Probe>, PathError> {
    let row = sqlx::query!(
        r#"-- path.probe
        select t.capability, t.obstacle, t.evidence, t.definition, t.probed_at,
            t.definition = sha256(convert_to(c.definition, 'UTF8')) as "is_current!"
        from tenant.target_capability t join tenant.connector c on c.name = t.connector
        where t.connector = $1 and t.stream = $2"#,
        path.connector,
        path.stream
    );
    let Some(row) = row.fetch_optional(conn).await? else { return Ok(None) };
    Ok(Some(Probe {
        capability: row.capability,
        obstacle: row.obstacle,
        evidence: row.evidence,
        definition: row.definition.try_into()?,
        is_current: row.is_current,
        probed_at: row.probed_at,
    }))
}

pub(super) async fn baseline(conn: &mut PgConnection, path: &Path) -> Result<Baseline, PathError> {
    let newest = sqlx::query!(
        "-- path.newest_policy
        select version, digest from tenant.policy where path = $1 order by version desc limit 1",
        path.id
    );
    let newest = newest.fetch_optional(&mut *conn).await?;
    let sync = sqlx::query_scalar!(
        "-- path.last_sync
        select report ->> 'outcome' from tenant.sync_run
        where connector = $1 and stream = $2 and finished_at is not null order by started_at desc, job desc limit 1",
        path.connector,
        path.stream
    );
    let sync = sync.fetch_optional(&mut *conn).await?.flatten();
    let figures = sqlx::query!(
        r#"-- path.baseline
        select count(*) as "records!", count(d.verdict) as "decided!", count(*) filter (where d.failed) as "failed!",
            count(*) filter (where d.verdict = 'fix') as "fix!", count(*) filter (where d.verdict = 'review') as "review!",
            count(*) filter (where d.verdict = 'block') as "block!", count(*) filter (where d.verdict = 'none') as "none!"
        from tenant.record r
        left join lateral (
            select verdict, failed from tenant.decision
            where path = $1 and key = r.key and policy_version = $4 and record_digest = r.digest
            order by decided_at desc, id desc limit 1) d on true
        where r.connector = $2 and r.stream = $3 and r.deleted_at is null"#,
        path.id,
        path.connector,
        path.stream,
        newest.as_ref().map(|it| it.version)
    );
    let figures = figures.fetch_one(conn).await?;
    let policy = match newest {
        Some(row) => Some(PolicyVersion { version: row.version, digest: row.digest.try_into()? }),
        None => None,
    };
    Ok(Baseline {
        policy,
        sync,
        records: figures.records,
        decided: figures.decided,
        failed: figures.failed,
        fix: figures.fix,
        review: figures.review,
        block: figures.block,
        none: figures.none,
    })
}
