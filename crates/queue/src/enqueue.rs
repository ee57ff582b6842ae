//! Putting jobs in: inside a caller's transaction or on their own, one or many, at most once per key.
//!
//! A bulk is all or nothing. No notification is sent from inside a transaction, because `NOTIFY` takes a lock on the
//! whole cluster at commit: what commits is rung for afterwards (see [`Ring`](crate::Ring)), or found by the next poll.

use std::{collections::HashMap, time::Duration};

use serde_json::{json, value::RawValue};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, types::Json};

use crate::{JobId, NewJob, dependency, dependency::DependencyError};

/// The largest payload: a job says what to do; the data it works on belongs elsewhere.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// How often a lookup may miss a job that finished between the insert and the lookup: far more than happens where jobs of
/// one key end as fast as they are made.
const LOOKUPS_MAX: usize = 100;

/// What became of one job of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The job, new or found.
    pub id: JobId,
    /// It was there before: a live job has the same unique key, or the request was made before under its idempotency key.
    pub existing: bool,
}

/// Why nothing was enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The payload is larger than [`PAYLOAD_BYTES_MAX`].
    #[error(
        "the payload of a {kind} job has {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are taken: store the data and pass a reference"
    )]
    PayloadTooLarge {
        /// The job's kind.
        kind: String,
        /// The payload's size.
        bytes: usize,
    },
    /// Postgres cannot hold the payload as `jsonb`.
    #[error(
        "the payload cannot be stored: it has a NUL character, a lone surrogate or a number out of range"
    )]
    PayloadUnstorable(#[source] sqlx::Error),
    /// The idempotency key was used before for another request.
    #[error(
        "the idempotency key {key:?} was used for another request (job {job}): use a new key for a new request"
    )]
    KeyReused {
        /// The key.
        key: String,
        /// What it was used for.
        job: JobId,
    },
    /// A job cannot wait for what it was to wait for.
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    /// The database did not take it.
    #[error("the jobs could not be enqueued")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for EnqueueError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
        match code.as_deref() {
            // untranslatable_character, invalid_text_representation, numeric_value_out_of_range
            Some("22P05" | "22P02" | "22003") => Self::PayloadUnstorable(error),
            _ => Self::Database(error),
        }
    }
}

/// Inserts the jobs and says, in the same order, what became of each.
pub(crate) async fn enqueue(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
    refuse_large(jobs)?;
    if dependency::any(jobs) {
        return dependency::enqueue(conn, jobs).await;
    }
    insert_all(conn, jobs).await
}

/// The same without a look at what the jobs wait for.
pub(crate) async fn insert_all(
    conn: &mut PgConnection,
    jobs: &[NewJob],
) -> Result<Vec<Enqueued>, EnqueueError> {
    if jobs.iter().all(|job| job.unique_key.is_none()) {
        let ids = insert(conn, jobs).await?;
        return Ok(ids.into_iter().map(|id| Enqueued { id: JobId(id), existing: false }).collect());
    }
    enqueue_unique(conn, jobs).await
}

fn refuse_large(jobs: &[NewJob]) -> Result<(), EnqueueError> {
    match jobs.iter().find(|job| job.payload().len() > PAYLOAD_BYTES_MAX) {
        Some(job) => {
            Err(EnqueueError::PayloadTooLarge { kind: job.kind.clone(), bytes: job.payload().len() })
        }
        None => Ok(()),
    }
}

/// The columns of a bulk, as arrays for `unnest`.
pub(crate) struct Columns<'a> {
    pub queues: Vec<&'a str>,
    pub kinds: Vec<&'a str>,
    pub tenants: Vec<Option<uuid::Uuid>>,
    pub priorities: Vec<i16>,
    pub attempts_max: Vec<i16>,
    pub run_at: Vec<Option<chrono::DateTime<chrono::Utc>>>,
    pub payloads: Vec<Json<&'a RawValue>>,
    pub unique_keys: Vec<Option<&'a str>>,
    pub traceparents: Vec<Option<&'a str>>,
    pub rate_keys: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(jobs: impl Iterator<Item = &'a NewJob> + Clone) -> Self {
        Self {
            queues: jobs.clone().map(|j| j.queue.as_str()).collect(),
            kinds: jobs.clone().map(|j| j.kind.as_str()).collect(),
            tenants: jobs.clone().map(|j| j.tenant).collect(),
            priorities: jobs.clone().map(|j| j.priority.code()).collect(),
            attempts_max: jobs.clone().map(|j| i16::try_from(j.attempts_max).unwrap_or(i16::MAX)).collect(),
            run_at: jobs.clone().map(|j| j.run_at).collect(),
            payloads: jobs.clone().map(|j| Json(&*j.payload)).collect(),
            unique_keys: jobs.clone().map(|j| j.unique_key.as_deref()).collect(),
            traceparents: jobs.clone().map(|j| j.traceparent.as_deref()).collect(),
            rate_keys: jobs.map(|j| j.rate_key.as_deref()).collect(),
        }
    }
}

async fn insert(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<i64>, sqlx::Error> {
    let c = Columns::of(jobs.iter());
    // Due jobs of governed queues go into their tenants' lines at once (see `governed`); for others that column stays null.
    // Jobs of frozen tenants wait from the beginning (see `freeze`).
    // The rows of one `insert … select unnest` are written, and returned, in the order of the arrays.
    sqlx::query_scalar!(
        "-- queue.enqueue
        insert into queue.job
            (queue, kind, tenant, priority, attempts_max, run_at, payload, traceparent, rate_key, state, reason, governed)
        select queue, kind, tenant, priority, attempts_max, coalesce(run_at, now()), payload, traceparent, rate_key,
               case when tenant = any(f.tenants) then 2 else 0 end, case when tenant = any(f.tenants) then 8 else 0 end,
               nullif(coalesce(run_at <= now(), true) and (queue = any(g.queues) or '*' = any(g.queues)), false)
        from unnest($1::text[], $2::text[], $3::uuid[], $4::smallint[], $5::smallint[], $6::timestamptz[],
                    $7::jsonb[], $8::text[], $9::text[])
            as n(queue, kind, tenant, priority, attempts_max, run_at, payload, traceparent, rate_key)
        cross join (select array_agg(queue) as queues from queue.governed) as g
        cross join (select array_agg(tenant) as tenants from queue.frozen_tenant) as f
        returning id",
        &c.queues as _,
        &c.kinds as _,
        &c.tenants as _,
        &c.priorities,
        &c.attempts_max,
        &c.run_at as _,
        &c.payloads as _,
        &c.traceparents as _,
        &c.rate_keys as _,
    )
    .fetch_all(conn)
    .await
}

/// Insert and look-up are two statements: one statement would look with a snapshot older than the row that blocked it.
async fn enqueue_unique(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
    let mut answers: Vec<Option<Enqueued>> = vec![None; jobs.len()];
    for _ in 0..LOOKUPS_MAX {
        let open: Vec<usize> = (0..jobs.len()).filter(|&i| answers[i].is_none()).collect();
        if open.is_empty() {
            break;
        }
        for (slot, id) in insert_unique(conn, jobs, &open).await? {
            answers[slot] = Some(Enqueued { id: JobId(id), existing: false });
        }
        let found = find_live(conn, jobs, &answers).await?;
        for (answer, job) in answers.iter_mut().zip(jobs) {
            if let (None, Some(key)) = (&answer, &job.unique_key) {
                *answer = found
                    .get(&(job.kind.clone(), key.clone()))
                    .map(|&id| Enqueued { id: JobId(id), existing: true });
            }
        }
    }
    answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
        EnqueueError::Database(sqlx::Error::Protocol(
            "jobs with the same unique key kept finishing while they were looked up".into(),
        ))
    })
}

async fn insert_unique(
    conn: &mut PgConnection,
    jobs: &[NewJob],
    open: &[usize],
) -> Result<Vec<(usize, i64)>, sqlx::Error> {
    let c = Columns::of(open.iter().map(|&i| &jobs[i]));
    let rows = sqlx::query!(
        r#"-- queue.enqueue_unique
        with n as materialized (
            select nextval('queue.job_id') as id, u.*
            from unnest($1::text[], $2::text[], $3::uuid[], $4::smallint[], $5::smallint[], $6::timestamptz[],
                        $7::jsonb[], $8::text[], $9::text[], $10::text[])
                with ordinality
                as u(queue, kind, tenant, priority, attempts_max, run_at, payload, unique_key, traceparent, rate_key,
                     ordinal)
        ), i as (
            insert into queue.job
                (id, queue, kind, tenant, priority, attempts_max, run_at, payload, unique_key, traceparent, rate_key,
                 state, reason, governed)
            select id, queue, kind, tenant, priority, attempts_max, coalesce(run_at, now()), payload, unique_key,
                   traceparent, rate_key,
                   case when tenant = any(f.tenants) then 2 else 0 end, case when tenant = any(f.tenants) then 8 else 0 end,
                   nullif(coalesce(run_at <= now(), true) and (queue = any(g.queues) or '*' = any(g.queues)), false)
            from n
            cross join (select array_agg(queue) as queues from queue.governed) as g
            cross join (select array_agg(tenant) as tenants from queue.frozen_tenant) as f
            order by kind, unique_key, ordinal
            on conflict (kind, unique_key) where unique_key is not null do nothing
            returning id
        )
        select n.ordinal as "ordinal!", n.id as "id!" from n join i using (id)"#,
        &c.queues as _,
        &c.kinds as _,
        &c.tenants as _,
        &c.priorities,
        &c.attempts_max,
        &c.run_at as _,
        &c.payloads as _,
        &c.unique_keys as _,
        &c.traceparents as _,
        &c.rate_keys as _,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (open[usize::try_from(row.ordinal - 1).expect("ordinals begin at 1")], row.id))
        .collect())
}

async fn find_live(
    conn: &mut PgConnection,
    jobs: &[NewJob],
    answers: &[Option<Enqueued>],
) -> Result<HashMap<(String, String), i64>, sqlx::Error> {
    let missing = jobs.iter().zip(answers).filter(|(_, answer)| answer.is_none()).map(|(job, _)| job);
    let (kinds, keys): (Vec<&str>, Vec<&str>) =
        missing.filter_map(|job| Some((job.kind.as_str(), job.unique_key.as_deref()?))).unzip();
    if kinds.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        r#"-- queue.find_live
        select j.id, j.kind, j.unique_key as "unique_key!"
        from unnest($1::text[], $2::text[]) as w(kind, unique_key)
        join queue.job j on j.kind = w.kind and j.unique_key = w.unique_key"#,
        &kinds as _,
        &keys as _,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.kind, row.unique_key), row.id)).collect())
}

/// Enqueues a job once per (`scope`, `key`) within `window`, also when the first one has long finished.
///
/// `conn` must be in a transaction: the key and the job stand or fall together.
pub(crate) async fn enqueue_once(
    conn: &mut PgConnection,
    scope: &str,
    key: &str,
    window: Duration,
    job: &NewJob,
) -> Result<Enqueued, EnqueueError> {
    let digest = request_digest(job);
    sqlx::query!(
        "-- queue.forget_key
        delete from queue.idempotency_key where scope = $1 and key = $2 and expires_at <= now()",
        scope,
        key
    )
    .execute(&mut *conn)
    .await?;
    let reserved = sqlx::query_scalar!(
        "-- queue.reserve_key
        insert into queue.idempotency_key (scope, key, job, digest, expires_at)
        values ($1, $2, 0, $3, now() + make_interval(secs => $4))
        on conflict do nothing returning job",
        scope,
        key,
        &digest[..],
        window.as_secs_f64()
    )
    .fetch_optional(&mut *conn)
    .await?;
    if reserved.is_none() {
        return earlier_request(conn, scope, key, &digest).await;
    }
    let enqueued = enqueue(conn, std::slice::from_ref(job)).await?[0];
    sqlx::query!(
        "-- queue.bind_key
        update queue.idempotency_key set job = $3 where scope = $1 and key = $2",
        scope,
        key,
        enqueued.id.0
    )
    .execute(conn)
    .await?;
    Ok(enqueued)
}

async fn earlier_request(
    conn: &mut PgConnection,
    scope: &str,
    key: &str,
    digest: &[u8],
) -> Result<Enqueued, EnqueueError> {
    let earlier = sqlx::query!(
        "-- queue.find_key
        select job, digest from queue.idempotency_key where scope = $1 and key = $2",
        scope,
        key
    )
    .fetch_one(conn)
    .await?;
    let id = JobId(earlier.job);
    if earlier.digest != digest {
        return Err(EnqueueError::KeyReused { key: key.to_owned(), job: id });
    }
    Ok(Enqueued { id, existing: true })
}

/// Two requests are the same when they ask for the same work, however their JSON is spaced or ordered.
fn request_digest(job: &NewJob) -> Vec<u8> {
    let payload: serde_json::Value =
        serde_json::from_str(job.payload()).expect("a RawValue holds valid JSON");
    let mut request = vec![json!(job.kind), json!(job.queue), json!(job.tenant), payload];
    // Only where there are any: a job that waits for nothing keeps the digest it has in the table.
    if !job.after.is_empty() {
        request.push(json!(format!("{:?}", job.after)));
    }
    Sha256::digest(json!(request).to_string()).to_vec()
}
