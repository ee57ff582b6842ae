//! The request budget of a connector, shared by all workers through a row in the tenant's database.
//!
//! Generic cell rate algorithm (ITU-T I.371): the row holds when the bucket will be full again, by the database's clock.
//! A request moves that time by one interval; it may be sent as soon as no more than a burst lies before it.

use std::time::Duration;

use connectors::{Bucket, RequestBudget};
use database::tenant::{TenantDb, TenantError};
use futures_util::future::BoxFuture;
use tracing::warn;

/// A wait up to this long is waited out; a longer one gives the slot back.
const WAIT_INSIDE_MAX: Duration = Duration::from_secs(5);

/// The pause after the shared budget could not be asked.
const UNKNOWN: Duration = Duration::from_secs(5);

pub(crate) struct TenantBudget {
    db: TenantDb,
    connector: String,
}

impl std::fmt::Debug for TenantBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantBudget").field("connector", &self.connector).finish_non_exhaustive()
    }
}

impl TenantBudget {
    pub(crate) fn new(db: TenantDb, connector: &str) -> Self {
        Self { db, connector: connector.to_owned() }
    }

    fn name(&self, bucket: &Bucket) -> String {
        format!("{}/{}", self.connector, bucket.name)
    }

    /// Takes one request from the bucket and answers how long to wait before sending it; too long a wait takes none.
    async fn draw(&self, bucket: &Bucket) -> Result<Result<Duration, Duration>, TenantError> {
        let interval = bucket.interval().as_secs_f64();
        let burst = interval * f64::from(bucket.requests.saturating_sub(1));
        let mut conn = self.db.fenced().await?;
        let drawn = sqlx::query!(
            r#"-- budget.draw
            insert into tenant.rate_bucket as b (name, full_at)
            values ($1, clock_timestamp() + make_interval(secs => $2::float8))
            on conflict (name) do update
            set full_at = greatest(b.full_at, clock_timestamp()) + make_interval(secs => $2::float8)
            where greatest(b.full_at, clock_timestamp())
                <= clock_timestamp() + make_interval(secs => $3::float8 + $4::float8)
            returning extract(epoch from full_at - clock_timestamp())::float8 - $2::float8 - $3::float8 as "wait!""#,
            self.name(bucket),
            interval,
            burst,
            WAIT_INSIDE_MAX.as_secs_f64()
        )
        .fetch_optional(&mut *conn)
        .await?;
        let answer = if let Some(row) = drawn {
            Ok(Duration::from_secs_f64(row.wait.max(0.0)))
        } else {
            let wait = sqlx::query_scalar!(
                r#"-- budget.wait
                select extract(epoch from full_at - clock_timestamp())::float8 - $2::float8 as "wait!"
                from tenant.rate_bucket where name = $1"#,
                self.name(bucket),
                burst
            )
            .fetch_one(&mut *conn)
            .await?;
            Err(Duration::from_secs_f64(wait.max(0.0)))
        };
        conn.commit().await?;
        Ok(answer)
    }

    async fn silence(&self, bucket: &Bucket, pause: Duration) -> Result<(), TenantError> {
        let burst = bucket.interval() * bucket.requests.saturating_sub(1);
        let mut conn = self.db.fenced().await?;
        sqlx::query!(
            "-- budget.silence
            insert into tenant.rate_bucket as b (name, full_at)
            values ($1, clock_timestamp() + make_interval(secs => $2::float8))
            on conflict (name) do update set full_at = greatest(b.full_at, excluded.full_at)",
            self.name(bucket),
            (pause + burst).as_secs_f64()
        )
        .execute(&mut *conn)
        .await?;
        conn.commit().await
    }
}

impl RequestBudget for TenantBudget {
    fn acquire<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<(), Duration>> {
        Box::pin(async move {
            let wait = match self.draw(bucket).await {
                Ok(answer) => answer?,
                // Without an answer no request may go out: the other side would see more than was agreed.
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "the request budget could not be asked");
                    return Err(UNKNOWN);
                }
            };
            tokio::time::sleep(wait).await;
            Ok(())
        })
    }

    fn throttled<'a>(&'a self, bucket: &'a Bucket, pause: Duration) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.silence(bucket, pause).await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the pause could not be told to other workers"
                );
            }
        })
    }
}
