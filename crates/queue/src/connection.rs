//! The connections of the hot statements, and what to do when one breaks.
//!
//! Claim, renewal and finish hold a connection each: a pool's liveness ping would triple a query's cost. The planner is
//! told to take their indexes whatever its statistics say, because a table that is empty at one moment and holds a
//! million rows at the next has no statistics worth following; a sequential scan chosen on the empty table and kept in
//! a cached plan makes the queue fifty times slower. Nor may it join by trying every pair, which it does once it has seen
//! the table's pages without a row: a statement that joins jobs with a batch says `id = any(…)` besides, so that the
//! index gives the batch's rows, and the join hashes them. One that wants a probe for each row says `lateral … limit`.

use std::{future::Future, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::sleep;
use tracing::warn;

/// The pause between two tries to reach a database that is down.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// How often a statement that met a deadlock or a serialization failure is repeated at once.
const COLLISIONS_MAX: u32 = 20;

/// A connection of its own that is opened again when it breaks.
#[derive(Debug)]
pub(crate) struct Dedicated {
    name: &'static str,
    options: PgConnectOptions,
    conn: Option<PgConnection>,
    pause: Duration,
    collisions: u32,
}

impl Dedicated {
    pub(crate) fn new(name: &'static str, options: &PgConnectOptions) -> Self {
        let options = options.clone().application_name(&format!("queue {name}"));
        Self { name, options, conn: None, pause: RECONNECT_MIN, collisions: 0 }
    }

    /// The connection, opened if need be.
    pub(crate) async fn get(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => open(&self.options).await?,
        };
        Ok(self.conn.insert(conn))
    }

    /// Takes in that a statement failed: a broken connection will be opened anew.
    pub(crate) fn failed(&mut self, error: &sqlx::Error) {
        if is_outage(error) {
            self.conn = None;
        }
    }

    /// Returns when the failed statement is worth repeating: at once after a collision, after a growing pause while the
    /// database is down. An error of the statement itself comes back.
    ///
    /// The statement may have been carried out, its answer lost on the way: it must be safe to repeat.
    pub(crate) async fn outlive(&mut self, error: sqlx::Error) -> Result<(), sqlx::Error> {
        // It could not even be opened, for whatever reason: a password being changed, a database being restored.
        let unopened = self.conn.is_none();
        if is_collision(&error) && self.collisions < COLLISIONS_MAX {
            self.collisions += 1;
            return Ok(());
        }
        if !unopened && !is_outage(&error) {
            self.collisions = 0;
            return Err(error);
        }
        warn!(
            connection = self.name,
            error = &error as &dyn std::error::Error,
            "the database is out of reach"
        );
        self.conn = None;
        sleep(self.pause.mul_f64(rand::random_range(0.5..1.0))).await;
        self.pause = (self.pause * 2).min(RECONNECT_MAX);
        Ok(())
    }

    /// Takes in that a statement succeeded: the next outage begins with a short pause again.
    pub(crate) fn succeeded(&mut self) {
        self.pause = RECONNECT_MIN;
        self.collisions = 0;
    }
}

/// Opens a connection whose plans hold to the hot statements' indexes.
pub(crate) async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut conn = PgConnection::connect_with(options).await?;
    sqlx::raw_sql(
        "-- queue.open
        set enable_seqscan = off; set enable_bitmapscan = off; set enable_nestloop = off; set enable_mergejoin = off;
        set jit = off; set plan_cache_mode = force_generic_plan",
    )
    .execute(&mut conn)
    .await?;
    Ok(conn)
}

/// Whether the database, rather than the statement, was at fault: trying again later may help.
pub(crate) fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            // connection exceptions, operator intervention (shutdown, crash, cannot connect now), insufficient resources,
            // a cancelled statement, a server that has become a standby
            code.starts_with("08")
                || code.starts_with("57P")
                || code.starts_with("53")
                || code == "57014"
                || code == "25006"
        }),
        _ => false,
    }
}

/// Whether two transactions met: repeating the statement helps.
pub(crate) fn is_collision(error: &sqlx::Error) -> bool {
    // deadlock detected, serialization failure
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "40P01" || code == "40001")
}

/// Waits for an answer, but not for ever: when the other side of a connection is gone without a word, none will come.
pub(crate) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Runs a future until it answers or the token fires.
pub(crate) async fn unless<T>(
    stop: &tokio_util::sync::CancellationToken,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        answer = future => Some(answer),
    }
}
