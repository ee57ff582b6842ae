//! Finished jobs and failed attempts: a partition per UTC day, made a week ahead, dropped whole when its time is over.
//!
//! A partition is built beside its parent and brought in by `attach`, which waits for nobody; `create … partition of`
//! would hold up every finishing job behind one slow reader. There is no default partition: it would make every attach
//! scan it.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing::info;

use crate::bulk;

const TABLES: [&str; 3] = ["job_history", "attempt", "reason_change"];

/// How many days ahead of today have their partition.
const DAYS_AHEAD: u64 = 7;

/// Serialises the making and dropping of partitions among processes.
const LOCK: i64 = 0x7175_6575_6864_6179;
/// Held while partitions are dropped, which may wait long for a reader: finishing jobs must not wait behind it.
const DROP_LOCK: i64 = LOCK + 1;

/// How long finished jobs are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Whole days after the day on which a job finished.
    pub days: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 90 }
    }
}

/// Makes the partitions of yesterday, today and the next days that are missing.
pub(crate) async fn ensure_partitions(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    // Most looks find nothing to do, and must not wait for a process that is at it.
    if missing_partitions(conn).await?.is_empty() {
        return Ok(());
    }
    let mut tx = conn.begin().await?;
    lock(&mut tx).await?;
    for (table, day) in missing_partitions(&mut tx).await? {
        make_partition(&mut tx, table, day).await?;
    }
    tx.commit().await
}

/// A process that freezes with the lock would keep every other from starting: the server ends its session.
async fn lock(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("-- queue.lock_history_briefly\nset local idle_in_transaction_session_timeout = '5s'")
        .execute(&mut *conn)
        .await?;
    sqlx::query!("-- queue.lock_history\nselect pg_advisory_xact_lock($1)", LOCK)
        .fetch_one(conn)
        .await
        .map(drop)
}

/// Asks the catalog itself: `to_regclass` answers from the session's cache, which may still hold the answer of before the
/// lock was waited for.
async fn missing_partitions(conn: &mut PgConnection) -> Result<Vec<(&'static str, NaiveDate)>, sqlx::Error> {
    // Yesterday's too: a clock that is set back must not stop jobs from finishing.
    let yesterday = today(conn).await? - Days::new(1);
    let days = (0..=DAYS_AHEAD + 1).map(|offset| yesterday + Days::new(offset));
    let wanted: Vec<_> = days.flat_map(|day| TABLES.map(|table| (table, day))).collect();
    let names: Vec<String> = wanted.iter().map(|(table, day)| partition(table, *day)).collect();
    let present = sqlx::query_scalar!(
        r#"-- queue.present_partitions
        select exists (select from pg_class where relnamespace = 'queue'::regnamespace and relname = split_part(name, '.', 2))
            as "present!"
        from unnest($1::text[]) with ordinality as n(name, i) order by i"#,
        &names
    )
    .fetch_all(conn)
    .await?;
    Ok(wanted.into_iter().zip(present).filter(|(_, present)| !present).map(|(wanted, _)| wanted).collect())
}

async fn today(conn: &mut PgConnection) -> Result<NaiveDate, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- queue.today
        select (now() at time zone 'UTC')::date as "today!""#
    )
    .fetch_one(conn)
    .await
}

fn partition(table: &str, day: NaiveDate) -> String {
    format!("queue.{table}_{}", day.format("%Y%m%d"))
}

async fn make_partition(conn: &mut PgConnection, table: &str, day: NaiveDate) -> Result<(), sqlx::Error> {
    let name = partition(table, day);
    let next = day + Days::new(1);
    let statement = format!(
        "-- queue.make_partition
        create table {name} (like queue.{table} including all);
        alter table queue.{table} attach partition {name}
            for values from ('{day} 00:00:00+00') to ('{next} 00:00:00+00')"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

/// Drops the partitions of days that ended longer ago than the retention, the bulk operations of that time, and expired
/// idempotency keys.
///
/// While another process is at it, it has the partitions to itself.
pub(crate) async fn drop_expired(conn: &mut PgConnection, retention: Retention) -> Result<(), sqlx::Error> {
    // Of the session, since a partition cannot be detached concurrently inside a transaction.
    if sqlx::query_scalar!(
        r#"-- queue.lock_drop
        select pg_try_advisory_lock($1) as "taken!""#,
        DROP_LOCK
    )
    .fetch_one(&mut *conn)
    .await?
    {
        let dropped = drop_partitions(conn, retention).await;
        sqlx::query!("-- queue.unlock_drop\nselect pg_advisory_unlock($1)", DROP_LOCK)
            .fetch_one(&mut *conn)
            .await?;
        dropped?;
    }
    sqlx::query!("-- queue.forget_keys\ndelete from queue.idempotency_key where expires_at < now()")
        .execute(&mut *conn)
        .await?;
    // A century is for ever, and Postgres can still subtract it.
    let days = i32::try_from(retention.days).unwrap_or(i32::MAX).min(36_500);
    bulk::forget(conn, days).await
}

async fn drop_partitions(conn: &mut PgConnection, retention: Retention) -> Result<(), sqlx::Error> {
    let last_kept = today(conn).await? - Days::new(retention.days);
    for table in TABLES {
        for Old { name, attached, detaching } in partitions_before(conn, table, last_kept).await? {
            if attached {
                // Concurrently: a reader of the parent is not disturbed. A detach that was interrupted is finished first.
                let how = if detaching { "finalize" } else { "concurrently" };
                let detach =
                    format!("-- queue.detach\nalter table queue.{table} detach partition {name} {how}");
                sqlx::raw_sql(AssertSqlSafe(detach)).execute(&mut *conn).await?;
            }
            sqlx::raw_sql(AssertSqlSafe(format!("-- queue.drop\ndrop table {name}")))
                .execute(&mut *conn)
                .await?;
            info!(partition = name, "history past its retention was dropped");
        }
    }
    Ok(())
}

/// A day that is over, still in its table or taken out by a process that died before it could drop it.
struct Old {
    name: String,
    attached: bool,
    detaching: bool,
}

async fn partitions_before(
    conn: &mut PgConnection,
    table: &str,
    day: NaiveDate,
) -> Result<Vec<Old>, sqlx::Error> {
    sqlx::query_as!(
        Old,
        r#"-- queue.partitions
        select 'queue.' || c.relname as "name!", i.inhrelid is not null as "attached!",
            coalesce(i.inhdetachpending, false) as "detaching!"
        from pg_class c left join pg_inherits i on i.inhrelid = c.oid
        where c.relnamespace = 'queue'::regnamespace and c.relkind = 'r' and c.relname ~ ('^' || $1 || '_[0-9]{8}$')
          and 'queue.' || c.relname < $2
        order by c.relname"#,
        table,
        partition(table, day)
    )
    .fetch_all(conn)
    .await
}

/// How often a worker looks after the partitions.
pub(crate) const UPKEEP_EVERY: Duration = Duration::from_hours(1);

/// Whether a statement failed because no partition takes today's rows.
pub(crate) fn is_missing_partition(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| {
        e.code().as_deref() == Some("23514")
            && e.constraint().is_none()
            && e.table().is_some_and(|table| TABLES.contains(&table))
    })
}
