//! What an operator should know of the control database's server, gathered by plain questions.
//!
//! Judges nothing: what is healthy is for the caller to say. Every question is cheap and changes nothing, except
//! [`check_sessions`], which takes a lock that nobody else uses for the time of a round trip.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection};

/// How long a notification may take to arrive.
const NOTIFICATION_MAX: Duration = Duration::from_secs(2);

/// The channel and the lock of [`check_sessions`].
const CHANNEL: &str = "tenure_health";
const LOCK: i64 = 0x7465_6e75_7265_6865;

/// The server and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the settings carry their own names")]
pub struct Server {
    /// As in `15.3 (Debian …)`.
    pub version: String,
    /// As in 150003.
    pub version_num: i32,
    /// The role of this connection.
    pub role: String,
    /// Whether this server is a standby, which takes no writes.
    pub is_standby: bool,
    pub fsync: bool,
    pub full_page_writes: bool,
    pub synchronous_commit: String,
    pub max_connections: i32,
    /// Sessions of all databases and roles, as far as this role may count them.
    pub sessions: i64,
    /// The clock, to compare with the caller's.
    pub now: DateTime<Utc>,
}

/// What keeps vacuum from removing dead rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Hazards {
    /// The age of the oldest snapshot that a session holds; seconds.
    pub oldest_snapshot_secs: Option<f64>,
    /// Who holds it.
    pub oldest_snapshot_holder: Option<String>,
    /// Transactions that were prepared and neither committed nor rolled back.
    pub prepared_transactions: i64,
    /// Replication slots that hold rows back while nobody reads them.
    pub idle_slots: i64,
}

/// How sessions behave on the way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// A session's advisory lock keeps others out.
    pub locks_hold: bool,
    /// What one session notifies, another hears.
    pub notifications_arrive: bool,
}

/// The server and its settings.
pub async fn server(conn: &mut PgConnection) -> Result<Server, sqlx::Error> {
    sqlx::query_as!(
        Server,
        r#"-- health.server
        select current_setting('server_version') as "version!",
               current_setting('server_version_num')::int as "version_num!",
               current_user::text as "role!",
               pg_is_in_recovery() as "is_standby!",
               current_setting('fsync')::bool as "fsync!",
               current_setting('full_page_writes')::bool as "full_page_writes!",
               current_setting('synchronous_commit') as "synchronous_commit!",
               current_setting('max_connections')::int as "max_connections!",
               (select count(*) from pg_stat_activity where backend_type = 'client backend') as "sessions!",
               clock_timestamp() as "now!""#
    )
    .fetch_one(conn)
    .await
}

/// The server's clock.
pub async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- health.now
        select clock_timestamp() as "now!""#
    )
    .fetch_one(conn)
    .await
}

/// What keeps vacuum from removing dead rows.
pub async fn hazards(conn: &mut PgConnection) -> Result<Hazards, sqlx::Error> {
    sqlx::query_as!(
        Hazards,
        r#"-- health.hazards
        select extract(epoch from clock_timestamp() - s.xact_start)::float8 as oldest_snapshot_secs,
               case when s.pid is not null
                    then format('process %s, role %s, %s', s.pid, s.usename, s.application_name) end
                   as oldest_snapshot_holder,
               (select count(*) from pg_prepared_xacts) as "prepared_transactions!",
               (select count(*) from pg_replication_slots
                 where not active and (xmin is not null or catalog_xmin is not null)) as "idle_slots!"
          from (values (1)) as one
          left join lateral (
               select pid, usename, application_name, xact_start from pg_stat_activity
                where backend_xmin is not null and xact_start is not null and pid <> pg_backend_pid()
                order by xact_start limit 1) s on true"#
    )
    .fetch_one(conn)
    .await
}

/// The last day for which finished jobs have a partition; none before the queue was set up.
pub async fn history_prepared_until(conn: &mut PgConnection) -> Result<Option<NaiveDate>, sqlx::Error> {
    // Each partition's upper bound is the midnight, UTC, after its day.
    sqlx::query_scalar!(
        r#"-- health.history_prepared_until
        select max((substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)')::timestamptz
                   at time zone 'UTC')::date - 1)
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = to_regclass('queue.job_history')"#
    )
    .fetch_one(conn)
    .await
}

/// The size of a database in bytes; none if there is no such database.
pub async fn database_size(conn: &mut PgConnection, name: &str) -> Result<Option<i64>, sqlx::Error> {
    let size = sqlx::query_scalar!(
        "-- health.database_size
        select pg_database_size(oid) from pg_database where datname = $1",
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(size.flatten())
}

/// Tries what a worker needs of a session, which a transaction pooler does not give.
pub async fn check_sessions(options: &PgConnectOptions) -> Result<Sessions, sqlx::Error> {
    let mut one = PgConnection::connect_with(options).await?;
    let mut other = PgConnection::connect_with(options).await?;
    let taken = try_lock(&mut one).await?;
    let taken_twice = try_lock(&mut other).await?;
    let freed = unlock(&mut one).await?;
    let locks_hold = taken && !taken_twice && freed;
    let notifications_arrive = notifications_arrive(options, &mut other).await?;
    one.close().await?;
    other.close().await?;
    Ok(Sessions { locks_hold, notifications_arrive })
}

async fn notifications_arrive(
    options: &PgConnectOptions,
    from: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    sqlx::query!("-- health.notify\nselect pg_notify($1, '')", CHANNEL).execute(from).await?;
    let heard = matches!(tokio::time::timeout(NOTIFICATION_MAX, listener.recv()).await, Ok(Ok(_)));
    drop(listener);
    pool.close().await;
    Ok(heard)
}

async fn try_lock(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- health.try_lock
        select pg_try_advisory_lock($1) as "taken!""#,
        LOCK,
    )
    .fetch_one(conn)
    .await
}

async fn unlock(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- health.unlock
        select pg_advisory_unlock($1) as "freed!""#,
        LOCK,
    )
    .fetch_one(conn)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    #[tokio::test]
    async fn the_server_tells_its_settings_and_its_clock() {
        let mut conn = TestDatabase::create().await.connect().await;
        let found = server(&mut conn).await.unwrap();
        assert!(found.version_num >= 140_000 && found.sessions >= 1, "{found:?}");
        assert_eq!(found.role, "postgres");
        assert!(now(&mut conn).await.unwrap() >= found.now);
    }

    #[tokio::test]
    async fn a_held_snapshot_is_seen_with_its_holder() {
        let database = TestDatabase::create().await;
        let mut holder = database.connect().await;
        let hold =
            "begin isolation level repeatable read; set local application_name = 'the holder'; select 1";
        sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
        let found = hazards(&mut database.connect().await).await.unwrap();
        // Other tests' snapshots on the same server may be older.
        assert!(found.oldest_snapshot_secs.is_some_and(|age| age >= 0.0), "{found:?}");
        assert!(found.oldest_snapshot_holder.is_some_and(|holder| holder.contains("role postgres")));
    }

    #[tokio::test]
    async fn a_direct_way_has_sessions() {
        let options = TestDatabase::create().await.options();
        let found = check_sessions(&options).await.unwrap();
        assert_eq!(found, Sessions { locks_hold: true, notifications_arrive: true });
    }

    #[tokio::test]
    async fn a_database_has_a_size_and_an_absent_one_none() {
        let database = TestDatabase::create().await;
        let mut conn = database.connect().await;
        assert!(database_size(&mut conn, "template1").await.unwrap().is_some_and(|bytes| bytes > 1_000_000));
        assert_eq!(database_size(&mut conn, "nowhere").await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_last_prepared_day_is_the_one_before_the_last_bound() {
        let mut conn = TestDatabase::create().await.connect().await;
        assert_eq!(history_prepared_until(&mut conn).await.unwrap(), None);
        let make = "create schema queue;
            create table queue.job_history (finished_at timestamptz not null) partition by range (finished_at);
            set timezone = 'UTC';
            create table queue.day partition of queue.job_history for values from ('2026-03-01') to ('2026-03-02')";
        sqlx::raw_sql(make).execute(&mut conn).await.unwrap();
        let day = NaiveDate::from_ymd_opt(2026, 3, 1);
        assert_eq!(history_prepared_until(&mut conn).await.unwrap(), day);
    }
}
