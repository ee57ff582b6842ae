//! How fast tenants come and go: both kinds of jobs as a worker runs them, in a control database of its own.

use std::{path::Path, sync::Arc, time::Duration};

use database::{
    control::{self, ControlError, Region, Tenant},
    migrate,
    passwords::PasswordSource,
    provision::Provisioner,
    tenant::{Limits, TenantDatabases},
    tombstone::Tombstones,
};
use governance::{actor, approval};
use queue::{NewJob, Queue, Worker, WorkerOptions};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;
use vault::{Services, Vault};
use verifier::note::SecretKey;

use crate::{
    Environment, audit_checkpoint::Checkpoints, deletions_of, queue_of, registry, tenant_delete,
    tenant_delete::Deletions, tenant_provision,
};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tenants that come and go.
    pub tenants: usize,
    /// Jobs at the same time.
    pub slots: usize,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Tenants that came and went.
    pub tenants: usize,
    /// Jobs at the same time.
    pub slots: usize,
    /// `tenant_provision` jobs, from the first claim to the last end.
    pub provisioned_per_min: f64,
    /// `tenant_delete` jobs, approved and cooled off before, likewise: each from its approval to its certificate.
    pub deleted_per_min: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[error("the measurement failed while {doing}")]
pub struct MeasureError {
    doing: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

trait While<T> {
    fn doing(self, doing: &'static str) -> Result<T, MeasureError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> While<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, MeasureError> {
        self.map_err(|source| MeasureError { doing, source: source.into() })
    }
}

/// Measures in a control database of its own on the server, which it drops; `folder` is for tombstones, and is the
/// caller's to remove. The role must be able to make databases and roles.
pub async fn tenants(
    server: &PgConnectOptions,
    passwords: Arc<dyn PasswordSource>,
    folder: &Path,
    options: Options,
    say: impl Fn(&str),
) -> Result<Measured, MeasureError> {
    let name = format!("bench_tenants_{}", std::process::id());
    let mut admin = PgConnection::connect_with(server).await.doing("connecting")?;
    run(&mut admin, format!("create database {name} template template0")).await?;
    let bench = Bench {
        server: server.clone().database(&name),
        passwords,
        folder,
        options,
        region: "bench".parse().doing("naming a region")?,
    };
    let measured = bench.measure(say).await;
    // Whatever came of it, no database and no role stays behind.
    let cleaned = bench.clean().await;
    run(&mut admin, format!("drop database {name} with (force)")).await?;
    admin.close().await.doing("disconnecting")?;
    let measured = measured?;
    cleaned.map(|()| measured)
}

async fn run(conn: &mut PgConnection, statement: String) -> Result<(), MeasureError> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(conn)
        .await
        .doing("making or dropping a database")
        .map(drop)
}

struct Bench<'a> {
    server: PgConnectOptions,
    passwords: Arc<dyn PasswordSource>,
    folder: &'a Path,
    options: Options,
    region: Region,
}

impl Bench<'_> {
    async fn measure(&self, say: impl Fn(&str)) -> Result<Measured, MeasureError> {
        let mut conn = PgConnection::connect_with(&self.server).await.doing("connecting")?;
        for set in [migrate::control(), migrate::governance()] {
            migrate::run(&mut conn, set).await.doing("migrating")?;
        }
        let queue = Queue::connect(self.server.clone(), 8).await.doing("connecting")?;
        queue.install().await.doing("migrating")?;
        let tenants = self.enter(&mut conn).await.doing("entering tenants")?;
        let Options { tenants: count, slots } = self.options;
        say(&format!("provisioning {count} tenants"));
        let jobs = tenants.iter().map(tenant_provision::job).collect::<Result<Vec<_>, _>>();
        let provisioned_per_min = self.rate(&queue, jobs.doing("enqueueing")?).await?;
        say(&format!("deleting {count} tenants"));
        let mut jobs = Vec::with_capacity(count);
        for tenant in &tenants {
            jobs.push(approved(&mut conn, tenant).await.doing("approving")?);
        }
        let deleted_per_min = self.rate(&queue, jobs).await?;
        queue.pool().close().await;
        conn.close().await.doing("disconnecting")?;
        Ok(Measured { tenants: count, slots, provisioned_per_min, deleted_per_min })
    }

    async fn enter(&self, conn: &mut PgConnection) -> Result<Vec<Tenant>, ControlError> {
        let mut tenants = Vec::with_capacity(self.options.tenants);
        for n in 0..self.options.tenants {
            tenants.push(control::create(conn, &format!("bench-{n}").parse()?, &self.region).await?);
        }
        Ok(tenants)
    }

    /// Jobs per minute, from before the first claim to after the last end; all of them must succeed.
    async fn rate(&self, queue: &Queue, jobs: Vec<NewJob>) -> Result<f64, MeasureError> {
        let enqueued = queue.enqueue_all(&jobs).await.doing("enqueueing")?;
        let worker = self.worker(queue).await?;
        let begun = Instant::now();
        worker.run_until_empty().await.doing("working")?;
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        for job in &enqueued {
            let record = queue.get(job.id).await.doing("looking at a job")?;
            let record = record.ok_or("a job is gone").doing("looking at a job")?;
            if record.state != queue::State::Succeeded {
                let error = queue.attempts(job.id).await.doing("looking at a job")?;
                let error = error.last().map_or_else(|| record.state.to_string(), |last| last.error.clone());
                return Err(error).doing("working");
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        Ok(jobs.len() as f64 / minutes)
    }

    async fn worker(&self, queue: &Queue) -> Result<Worker, MeasureError> {
        let pool = queue.pool().clone();
        let passwords = self.passwords.clone();
        let tenants = TenantDatabases::new(pool, self.server.clone(), passwords.clone(), Limits::default());
        let provisioner = Provisioner::new(self.server.clone(), passwords);
        let key = SecretKey::from_seed("bench", &[7; 32]).doing("making a key")?;
        let checkpoints = Checkpoints::new(key, self.folder.join("checkpoints"));
        let tombstones = Tombstones::of(self.folder.to_owned());
        let region = self.region.clone();
        // A tenant that only comes and goes seals nothing.
        let vault = Vault::new(Services::none());
        let environment =
            Environment::new(queue.clone(), tenants, provisioner, region, Some(checkpoints), vault)
                .deleting(Deletions::new(tombstones, Vec::new(), None));
        let options = WorkerOptions {
            queues: vec![queue_of(&self.region), deletions_of(&self.region)],
            slots: self.options.slots,
            ..WorkerOptions::default()
        };
        Worker::start(self.server.clone(), registry(environment), options).await.doing("starting a worker")
    }

    /// Drops what a measurement that failed has left.
    async fn clean(&self) -> Result<(), MeasureError> {
        let mut conn = PgConnection::connect_with(&self.server).await.doing("connecting")?;
        let has_tenants = sqlx::query_scalar!(
            r#"-- measure.has_tenants
            select to_regclass('control.tenant') is not null as "has!""#
        );
        if !has_tenants.fetch_one(&mut conn).await.doing("looking for tenants")? {
            return Ok(());
        }
        let left = control::list(&mut conn).await.doing("looking for tenants")?;
        let provisioner = Provisioner::new(self.server.clone(), self.passwords.clone());
        for tenant in left.into_iter().filter(|tenant| tenant.state != control::TenantState::Deleted) {
            let doom = format!("update control.tenant set state = 'deleting' where id = '{}'", tenant.id);
            run(&mut conn, doom).await?;
            provisioner.drop(tenant.id).await.doing("dropping a tenant")?;
        }
        conn.close().await.doing("disconnecting")
    }
}

/// A deletion that one person has asked for and another has approved.
async fn approved(
    conn: &mut PgConnection,
    tenant: &Tenant,
) -> Result<NewJob, Box<dyn std::error::Error + Send + Sync>> {
    let one = actor::named(conn, "one").await?.id;
    let other = actor::named(conn, "other").await?.id;
    let id = control::deletion::reserve(conn).await?;
    let asked = tenant_delete::enter(conn, tenant, id, one, Duration::ZERO, None).await?;
    let seen = approval::get(conn, asked).await?.ok_or("the approval is gone")?;
    approval::approve(conn, asked, &seen.digest, other, Some(tenant.name.as_str())).await?;
    Ok(tenant_delete::job(tenant, id)?)
}
