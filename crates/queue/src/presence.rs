//! How a worker shows that it lives: a row with its name, and a session lock that Postgres frees when its process dies.
//!
//! The same connection listens for bells. When it breaks while the process lives, everything the worker holds is renewed
//! at once: its leases may have been shortened meanwhile.

use std::{pin::pin, sync::Arc, time::Duration};

use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    bell::{CANCEL_CHANNEL, QUEUE_CHANNEL},
    connection::{unless, within},
    rescue::LOCK_CLASS,
};

/// How long to wait before trying again to connect, or to take a lock that an old session still holds.
const AGAIN: Duration = Duration::from_millis(100);

/// How long the connection may be quiet before it is asked whether it lives; well below what routers forget after.
const QUIET_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What a worker tells of itself.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub queues: Vec<String>,
    pub kinds: Vec<String>,
    pub slots: usize,
}

/// Enters the worker under a new id.
pub(crate) async fn register(conn: &mut PgConnection, who: &Identity) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        "-- queue.register
        insert into queue.worker (name, host, pid, version, queues, slots, kinds) values ($1, $2, $3, $4, $5, $6, $7)
        returning id",
        who.name,
        who.host,
        i32::try_from(who.pid).unwrap_or(0),
        who.version,
        &who.queues,
        i32::try_from(who.slots).unwrap_or(i32::MAX),
        &who.kinds
    )
    .fetch_one(conn)
    .await
}

/// Says that the worker is still there, and whether it is about to leave; answers whether a job is charged with its
/// death.
pub(crate) async fn beat(conn: &mut PgConnection, worker: i64, stopping: bool) -> Result<bool, sqlx::Error> {
    let charged = sqlx::query_scalar!(
        r#"-- queue.beat
        update queue.worker w set last_seen_at = now(), ended_at = null, stopping = $2 where id = $1
        returning exists (select from queue.crash_charge c where c.worker = w.id) as "is_charged!""#,
        worker,
        stopping
    )
    .fetch_optional(conn)
    .await?;
    Ok(charged.unwrap_or(false))
}

/// Strikes the worker off.
pub(crate) async fn leave(conn: &mut PgConnection, worker: i64) -> Result<(), sqlx::Error> {
    sqlx::query!("-- queue.leave\nupdate queue.worker set ended_at = now() where id = $1", worker)
        .execute(conn)
        .await
        .map(drop)
}

/// Strikes off workers that were not heard of for an hour: the absence of their lock proves nothing when they died while
/// the server restarted. One that lives after all enters itself again with its next beat.
pub(crate) async fn strike_off_forgotten(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- queue.strike_off_forgotten
        update queue.worker set ended_at = last_seen_at
        where ended_at is null and last_seen_at < now() - interval '1 hour'"
    )
    .execute(conn)
    .await
    .map(drop)
}

/// What the presence connection wakes.
#[derive(Debug, Clone)]
pub(crate) struct Wakes {
    /// The claimers, by queue.
    pub claimers: Arc<std::collections::HashMap<String, Arc<Notify>>>,
    /// Renews everything that is held.
    pub renew_all: Arc<Notify>,
}

/// A taken lock and the connection that holds it.
pub(crate) struct Presence {
    worker: i64,
    options: PgConnectOptions,
    listener: PgListener,
    // The listener borrows its connection from here.
    _pool: PgPool,
}

impl Presence {
    /// Connects, takes the worker's lock and listens.
    pub(crate) async fn take(options: &PgConnectOptions, worker: i64) -> Result<Self, sqlx::Error> {
        let named = options.clone().application_name("queue presence");
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(5));
        let pool = pool.connect_with(named).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen_all([QUEUE_CHANNEL, CANCEL_CHANNEL]).await?;
        while !lock(&mut listener, worker).await? {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(Self { worker, options: options.clone(), listener, _pool: pool })
    }

    /// Holds the lock until told to stop, taking it anew whenever the connection broke.
    pub(crate) async fn hold(mut self, wakes: Wakes, stop: CancellationToken) {
        while let Some(heard) = unless(&stop, self.listen()).await {
            match heard {
                Ok(Some(bell)) if bell.channel() == QUEUE_CHANNEL => {
                    if let Some(claimer) = wakes.claimers.get(bell.payload()) {
                        claimer.notify_one();
                    }
                }
                Ok(Some(_cancelled)) => wakes.renew_all.notify_one(),
                Ok(None) | Err(_) => {
                    warn!(worker = self.worker, "the presence connection broke");
                    let Some(again) = unless(&stop, self.retake(&wakes.renew_all)).await else { return };
                    self = again;
                    wakes.renew_all.notify_one();
                    wakes.claimers.values().for_each(|claimer| claimer.notify_one());
                }
            }
        }
    }

    /// The next notification; `None` once the connection is broken. A quiet one is asked whether it lives: its other
    /// side may be gone without a word, and the lock with it.
    async fn listen(&mut self) -> Result<Option<PgNotification>, sqlx::Error> {
        loop {
            if let Ok(heard) = tokio::time::timeout(QUIET_MAX, self.listener.try_recv()).await {
                return heard;
            }
            let ping = sqlx::query!("-- queue.ping\nselect 1 as alive").fetch_one(&mut self.listener);
            within(ANSWER_MAX, ping).await?;
        }
    }

    /// Takes the lock anew. Until then the worker is taken for dead and its leases are shortened again and again, so
    /// they are renewed as often.
    async fn retake(&self, renew_all: &Notify) -> Self {
        let taken = async {
            loop {
                match Self::take(&self.options, self.worker).await {
                    Ok(presence) => return presence,
                    Err(_still_down) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        let mut taken = pin!(taken);
        loop {
            renew_all.notify_one();
            if let Ok(presence) = tokio::time::timeout(AGAIN, &mut taken).await {
                return presence;
            }
        }
    }
}

async fn lock(listener: &mut PgListener, worker: i64) -> Result<bool, sqlx::Error> {
    let key = i32::try_from(worker).expect("2^31 worker starts are centuries away");
    let taken = sqlx::query_scalar!(
        r#"-- queue.take_lock
        select pg_try_advisory_lock($1, $2) as "taken!""#,
        LOCK_CLASS,
        key
    )
    .fetch_one(&mut *listener)
    .await?;
    if taken {
        sqlx::query!(
            "-- queue.locked_on
            update queue.worker set server_started_at = pg_postmaster_start_time(), ended_at = null where id = $1",
            worker
        )
        .execute(listener)
        .await?;
    }
    Ok(taken)
}
