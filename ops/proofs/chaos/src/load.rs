//! The producers: they enqueue probes all the time and write down what they know of each.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    fleet::{CAPPED, Program, QUEUE},
    ledger::{Fate, Promise},
};

/// A tenant to enqueue for.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) database: String,
}

/// One of the producers.
pub(crate) struct Producer {
    pub(crate) number: usize,
    pub(crate) seed: u64,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) options: PgConnectOptions,
    pub(crate) program: Program,
    pub(crate) url: String,
}

/// Between two requests of a producer, in milliseconds.
const PAUSE: (u64, u64) = (80, 400);
/// What the command line enqueues with.
const ATTEMPTS_MAX: i16 = 25;
/// How often a doomed probe may fail, and how often it will: an attempt that is lost after it has failed is not charged.
const DOOMED_ATTEMPTS_MAX: i16 = 3;
const DOOMED_FAILURES: u16 = 999;
const REQUEST_TRIES: usize = 100;

impl Producer {
    /// Enqueues until told to stop, then answers what it promised.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Vec<Promise> {
        // Another sequence than that of the faults and of the other producers.
        let number = u64::try_from(self.number).expect("producers are few");
        let mut random = StdRng::seed_from_u64(self.seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut promises = Vec::new();
        let mut conn = None;
        while !*stop.borrow() {
            let tenant = &self.tenants[random.random_range(0..self.tenants.len())];
            let begin = promises.len();
            if random.random_bool(0.08) {
                promises.push(self.promise(begin, &mut random, ATTEMPTS_MAX));
                self.by_command(tenant, &mut promises[begin]).await;
            } else {
                let attempts_max = if random.random_bool(0.04) { DOOMED_ATTEMPTS_MAX } else { ATTEMPTS_MAX };
                let count = random.random_range(1..5);
                for number in begin..begin + count {
                    promises.push(self.promise(number, &mut random, attempts_max));
                }
                let wants_commit = random.random_bool(0.9);
                let queue = if random.random_bool(0.3) { CAPPED } else { QUEUE };
                let fate = self.by_sql(&mut conn, queue, tenant, &promises[begin..], wants_commit).await;
                promises[begin..].iter_mut().for_each(|promise| promise.fate = fate);
            }
            let pause = Duration::from_millis(random.random_range(PAUSE.0..PAUSE.1));
            // Told to stop, or it is time: the loop looks.
            let _stopped = tokio::time::timeout(pause, stop.changed()).await;
        }
        promises
    }

    fn promise(&self, number: usize, random: &mut StdRng, attempts_max: i16) -> Promise {
        let doomed = attempts_max == DOOMED_ATTEMPTS_MAX;
        // One in six runs for many seconds: it is what a lost lease meets in the middle.
        let is_long = random.random_bool(0.16);
        let steps = if is_long { random.random_range(18..33) } else { random.random_range(1..6) };
        let failures = if doomed {
            DOOMED_FAILURES
        } else {
            u16::from(random.random_bool(0.06)) * random.random_range(1..3)
        };
        Promise {
            label: format!("{}-{number}", self.number),
            fate: Fate::Unknown,
            steps,
            failures,
            hang: !doomed && random.random_bool(0.005),
            attempts_max,
        }
    }

    /// One transaction of somebody's own, as the engine allows.
    async fn by_sql(
        &self,
        conn: &mut Option<PgConnection>,
        queue: &str,
        tenant: &Tenant,
        promises: &[Promise],
        wants_commit: bool,
    ) -> Fate {
        let asked = async {
            let mut open = match conn.take() {
                Some(open) => open,
                None => PgConnection::connect_with(&self.options).await?,
            };
            let mut tx = open.begin().await?;
            for promise in promises {
                sqlx::query(
                    "insert into queue.job (queue, kind, tenant, attempts_max, payload)
                     values ($1, 'probe', $2, $3, $4) returning id",
                )
                .bind(queue)
                .bind(tenant.id)
                .bind(promise.attempts_max)
                .bind(payload(promise))
                .fetch_one(&mut *tx)
                .await?
                .try_get::<i64, _>(0)?;
            }
            if !wants_commit {
                tx.rollback().await?;
                *conn = Some(open);
                return Ok(Fate::RolledBack);
            }
            // From here on an error leaves the outcome open.
            if tx.commit().await.is_err() {
                return Ok(Fate::Unknown);
            }
            *conn = Some(open);
            Ok::<Fate, sqlx::Error>(Fate::Committed)
        };
        match tokio::time::timeout(Duration::from_secs(20), asked).await {
            Ok(fate) => fate.unwrap_or(Fate::RolledBack),
            Err(_) => Fate::Unknown,
        }
    }

    /// The command line under an idempotency key, again and again until it answers.
    async fn by_command(&self, tenant: &Tenant, promise: &mut Promise) {
        let (payload, key) = (payload(promise).to_string(), format!("chaos {}", promise.label));
        let arguments = ["job", "enqueue", "probe", "--tenant", &tenant.name, "--payload", &payload];
        let arguments = [&arguments[..], &["--idempotency-key", &key]].concat();
        for _ in 0..REQUEST_TRIES {
            if self.program.json(&self.url, &arguments).await.is_ok() {
                promise.fate = Fate::Committed;
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn payload(promise: &Promise) -> Value {
    let Promise { label, steps, failures, hang, .. } = promise;
    let is_long = *steps > 10;
    json!({
        "label": label,
        "steps": steps,
        "failures": failures,
        "hang": hang,
        "pause_ms": if is_long { 300 } else { 40 },
        // A transaction that is open when its attempt is overtaken stands in the newer one's way.
        "hold_ms": if steps % 3 == 0 { 60 } else { 0 },
        "bytes": if steps % 5 == 0 { 8_000 } else { 0 },
    })
}
