//! Writing limits down, so that they hold from the moment the transaction commits.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{CapOn, EVERY_QUEUE, Limit, LimitError, LimitName, micros, spacing};

/// Postgres's integers have a sign; the bounds have been checked.
fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn unsigned(value: i32) -> u32 {
    value.unsigned_abs()
}

fn queue_or_every(queue: Option<&str>) -> &str {
    queue.unwrap_or(EVERY_QUEUE)
}

/// The columns in which a cap says whose jobs it counts.
fn columns(on: CapOn) -> (Option<Uuid>, bool) {
    match on {
        CapOn::Queue => (None, false),
        CapOn::EachTenant => (None, true),
        CapOn::Tenant(tenant) => (Some(tenant), false),
    }
}

/// Sets the limit, in the place of one of the same name.
pub(crate) async fn set(conn: &mut PgConnection, limit: &Limit) -> Result<(), LimitError> {
    limit.check()?;
    let mut tx = conn.begin().await?;
    exclude_claims(&mut tx).await?;
    write(&mut tx, limit).await?;
    govern(&mut tx).await?;
    Ok(tx.commit().await?)
}

/// Removes the limit and answers whether there was one. A queue without any is claimed plainly again.
pub(crate) async fn clear(conn: &mut PgConnection, name: &LimitName) -> Result<bool, LimitError> {
    let mut tx = conn.begin().await?;
    exclude_claims(&mut tx).await?;
    let existed = remove(&mut tx, name).await?;
    govern(&mut tx).await?;
    tx.commit().await?;
    Ok(existed)
}

/// Every plain claim names `queue.governed` `for share`, and takes that lock before its snapshot: once this lock is
/// granted none is under way, and the next will see what this transaction writes. Nobody else holds the table's lock for
/// longer than a claim takes; a backup's does not conflict.
async fn exclude_claims(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "-- queue.exclude_claims
        set local lock_timeout = '10s'; lock table queue.governed in exclusive mode",
    )
    .execute(conn)
    .await
    .map(drop)
}

async fn govern(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"-- queue.govern
        select 1 as "done!" from queue.govern()"#
    )
    .fetch_one(conn)
    .await
    .map(drop)
}

async fn write(conn: &mut PgConnection, limit: &Limit) -> Result<(), LimitError> {
    match limit {
        Limit::Cap { queue, on, running_max } => {
            let (tenant, each) = columns(*on);
            sqlx::query!(
                "-- queue.set_cap
                insert into queue.cap (queue, tenant, each_tenant, running_max) values ($1, $2, $3, $4)
                on conflict (queue, each_tenant, coalesce(tenant, '00000000-0000-0000-0000-000000000000'))
                do update set running_max = excluded.running_max",
                queue_or_every(queue.as_deref()),
                tenant,
                each,
                signed(*running_max)
            )
            .execute(conn)
            .await?;
        }
        Limit::Rate { queue, key, starts, per, burst } => {
            // The bucket stays as full as it was.
            sqlx::query!(
                "-- queue.set_rate
                insert into queue.rate (queue, key, starts, per, burst, spacing) values ($1, $2, $3, $4, $5, $6)
                on conflict (queue, key) do update
                set starts = excluded.starts, per = excluded.per, burst = excluded.burst, spacing = excluded.spacing",
                queue_or_every(queue.as_deref()),
                key,
                signed(*starts),
                micros(i64::try_from(per.as_micros()).unwrap_or(i64::MAX)),
                signed(*burst),
                spacing(*starts, *per)?
            )
            .execute(conn)
            .await?;
        }
        Limit::Weight { tenant, weight } => {
            sqlx::query!(
                "-- queue.set_weight
                insert into queue.weight (tenant, weight) values ($1, $2)
                on conflict (tenant) do update set weight = excluded.weight",
                tenant,
                signed(*weight)
            )
            .execute(conn)
            .await?;
        }
        Limit::Fair { queue } => {
            sqlx::query!(
                "-- queue.set_fair
                insert into queue.governed (queue, fair) values ($1, true) on conflict (queue) do update set fair = true",
                queue
            )
            .execute(conn)
            .await?;
        }
    }
    Ok(())
}

async fn remove(conn: &mut PgConnection, name: &LimitName) -> Result<bool, sqlx::Error> {
    let removed = match name {
        LimitName::Cap { queue, on } => {
            let (tenant, each) = columns(*on);
            sqlx::query!(
                "-- queue.clear_cap
                delete from queue.cap where queue = $1 and tenant is not distinct from $2 and each_tenant = $3",
                queue_or_every(queue.as_deref()),
                tenant,
                each
            )
            .execute(conn)
            .await?
        }
        LimitName::Rate { queue, key } => {
            sqlx::query!(
                "-- queue.clear_rate
                delete from queue.rate where queue = $1 and key = $2",
                queue_or_every(queue.as_deref()),
                key
            )
            .execute(conn)
            .await?
        }
        LimitName::Weight { tenant } => {
            sqlx::query!("-- queue.clear_weight\ndelete from queue.weight where tenant = $1", tenant)
                .execute(conn)
                .await?
        }
        LimitName::Fair { queue } => {
            sqlx::query!(
                "-- queue.clear_fair\nupdate queue.governed set fair = false where queue = $1 and fair",
                queue
            )
            .execute(conn)
            .await?
        }
    };
    Ok(removed.rows_affected() == 1)
}

/// All limits: caps, rates, weights, turns, each in the order of their names.
pub(crate) async fn list(conn: &mut PgConnection) -> Result<Vec<Limit>, sqlx::Error> {
    let named = |queue: String| (queue != EVERY_QUEUE).then_some(queue);
    let caps = sqlx::query!(
        "-- queue.caps
        select queue, tenant, each_tenant, running_max from queue.cap order by queue, tenant nulls first, each_tenant"
    )
    .fetch_all(&mut *conn)
    .await?;
    let rates = sqlx::query!(
        r#"-- queue.rates
        select queue, key, starts, (extract(epoch from per) * 1000000)::bigint as "per_us!", burst from queue.rate
        order by queue, key"#
    )
    .fetch_all(&mut *conn)
    .await?;
    let weights = sqlx::query!("-- queue.weights\nselect tenant, weight from queue.weight order by tenant")
        .fetch_all(&mut *conn)
        .await?;
    let fair =
        sqlx::query_scalar!("-- queue.fair\nselect queue from queue.governed where fair order by queue")
            .fetch_all(conn)
            .await?;
    let caps = caps.into_iter().map(|cap| Limit::Cap {
        queue: named(cap.queue),
        on: match cap.tenant {
            Some(tenant) => CapOn::Tenant(tenant),
            None if cap.each_tenant => CapOn::EachTenant,
            None => CapOn::Queue,
        },
        running_max: unsigned(cap.running_max),
    });
    let rates = rates.into_iter().map(|rate| Limit::Rate {
        queue: named(rate.queue),
        key: rate.key,
        starts: unsigned(rate.starts),
        per: Duration::from_micros(rate.per_us.unsigned_abs()),
        burst: unsigned(rate.burst),
    });
    let weights =
        weights.into_iter().map(|row| Limit::Weight { tenant: row.tenant, weight: unsigned(row.weight) });
    Ok(caps.chain(rates).chain(weights).chain(fair.into_iter().map(|queue| Limit::Fair { queue })).collect())
}
