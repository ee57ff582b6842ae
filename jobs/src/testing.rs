//! The battery that every kind passes: it runs a kind's job on real parts and, at every boundary of its steps, kills its
//! worker, overtakes it with a newer attempt, cuts the connection or cancels it. The end must be that of a clean run.
//!
//! A kind gives a [`Subject`]: how to enqueue its job, and a fingerprint of everything it leaves behind.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use database::{
    control::{self, Region, Tenant, TenantName},
    migrate,
    passwords::{DerivedPasswords, generate_key_file},
    provision::Provisioner,
    tenant::{Claim, Limits, Scope, TenantDatabases, TenantDb},
    testing::TestDatabase,
    tombstone::Tombstones,
};
use futures_util::{StreamExt, future::BoxFuture};
use queue::{JobId, JobRecord, NewJob, Queue, RetryRefused, State, Worker, WorkerOptions};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgPoolOptions};
use tokio::{
    runtime::Runtime,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

use vault::{Keyring, Services, Vault, Vendor};
use verifier::note::SecretKey;

use crate::{
    Environment, audit_checkpoint::Checkpoints, deletions_of, environment::When, registry,
    tenant_bundle::Exports, tenant_delete::Deletions,
};

/// What happens at a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    /// The process dies.
    Kill,
    /// The process hangs, is overtaken, and wakes up late.
    Hang,
    /// The connection breaks: before the step, or with the commit's answer on the way.
    Cut,
    /// Somebody cancels the job.
    Cancel,
}

const STRIKES: [Strike; 4] = [Strike::Kill, Strike::Hang, Strike::Cut, Strike::Cancel];

/// The plan of one run: which boundary is struck, and how.
#[derive(Default)]
pub(crate) struct Fault(Mutex<Plan>);

#[derive(Default)]
struct Plan {
    target: Option<(usize, Strike)>,
    seen: Vec<String>,
    struck: Option<watch::Sender<bool>>,
    go_on: Arc<Notify>,
}

impl Fault {
    /// Strikes the boundary of this index (from 0, in the order of a clean run), once.
    pub(crate) fn plan(&self, index: usize, strike: Strike) -> (watch::Receiver<bool>, Arc<Notify>) {
        let (struck, seen) = watch::channel(false);
        let go_on = Arc::<Notify>::default();
        let target = Some((index, strike));
        *self.0.lock().unwrap() =
            Plan { target, seen: Vec::new(), struck: Some(struck), go_on: go_on.clone() };
        (seen, go_on)
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().seen.clone()
    }

    pub(crate) async fn strike(&self, step: &str, when: When) -> Result<(), sqlx::Error> {
        let (strike, go_on) = {
            let mut plan = self.0.lock().unwrap();
            let index = plan.seen.len();
            plan.seen.push(format!("{when:?} {step}"));
            let Some((_, strike)) = plan.target.take_if(|(target, _)| *target == index) else {
                return Ok(());
            };
            plan.struck.take().expect("a plan strikes once").send_replace(true);
            (strike, plan.go_on.clone())
        };
        match strike {
            Strike::Cut => Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())),
            Strike::Kill => std::future::pending().await,
            Strike::Hang | Strike::Cancel => {
                go_on.notified().await;
                Ok(())
            }
        }
    }
}

/// A kind under the battery.
pub(crate) trait Subject: Sync {
    /// Prepares what the job works on, and gives the job.
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob>;
    /// Everything the job leaves behind, as text that two equal ends share.
    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String>;
}

/// A control database, a tenant and what a worker needs, made anew for each run.
pub(crate) struct Stage {
    pub database: TestDatabase,
    pub queue: Queue,
    pub tenant: Tenant,
    pub tenants: TenantDatabases,
    pub provisioner: Provisioner,
    pub checkpoints: Checkpoints,
    pub deletions: Deletions,
    pub exports: Exports,
    /// Keeps no key in memory, so that what befalls a key service is seen at once.
    pub vault: Vault,
    pub keyring: PathBuf,
    passwords: Arc<DerivedPasswords>,
    /// Keys, checkpoints, tombstones, and the data folder.
    pub folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let queue_migrations = queue::migrations();
        let database =
            TestDatabase::migrated(&[&queue_migrations, migrate::control(), migrate::governance()]).await;
        let pool = database.pool(8).await;
        let keys = tempfile::tempdir().unwrap();
        let key = keys.path().join("passwords.key");
        generate_key_file(&key).unwrap();
        let passwords = Arc::new(DerivedPasswords::from_file(&key).unwrap());
        let name: TenantName = "acme".parse().unwrap();
        let tenant = control::create(&mut pool.acquire().await.unwrap(), &name, &region()).await.unwrap();
        let tenants =
            TenantDatabases::new(pool.clone(), database.options(), passwords.clone(), Limits::default());
        let provisioner = Provisioner::new(database.options(), passwords.clone());
        let signing = SecretKey::from_seed("stage", &[1; 32]).unwrap();
        let checkpoints = Checkpoints::new(signing, keys.path().join("checkpoints"));
        let (tombstones, data) = (keys.path().join("tombstones"), keys.path().join("data folder"));
        for folder in [&tombstones, &data] {
            std::fs::create_dir(folder).unwrap();
        }
        let deletions = Deletions::new(Tombstones::of(tombstones), vec![data], Some(35));
        let keyring = keys.path().join("keyring.json");
        let vault = vault_of(&keyring);
        let exports = Exports::new(keys.path().join("exports"), Duration::from_hours(24));
        let queue = Queue::new(pool);
        Self {
            database,
            queue,
            tenant,
            tenants,
            provisioner,
            checkpoints,
            deletions,
            exports,
            vault,
            keyring,
            passwords,
            folder: keys,
        }
    }

    pub(crate) async fn provisioned() -> Self {
        let mut stage = Self::new().await;
        stage.tenant = stage.provisioner.run(stage.tenant.id).await.unwrap();
        stage
    }

    /// What a worker uses, with pools of its own: a connection dies with the runtime in which it was opened, and the
    /// worker's is not the test's.
    pub(crate) fn environment(&self) -> Environment {
        let options = self.database.options();
        let pool = PgPoolOptions::new().max_connections(8).connect_lazy_with(options.clone());
        let passwords = self.passwords.clone();
        let tombstones = self.deletions.tombstones();
        let tenants =
            TenantDatabases::new(pool.clone(), options.clone(), passwords.clone(), Limits::default())
                .heeding(tombstones.clone());
        let provisioner = Provisioner::new(options, passwords).heeding(tombstones.clone());
        let checkpoints = Some(self.checkpoints.clone());
        Environment::new(Queue::new(pool), tenants, provisioner, region(), checkpoints, self.vault.clone())
            .deleting(self.deletions.clone())
            .with_exports(self.exports.clone())
    }

    /// A connection to the tenant's database as its owner.
    pub(crate) async fn tenant_connection(&self) -> PgConnection {
        let options = self.database.options().database(&self.tenant.database_name);
        database::connect::connect(&options).await.unwrap()
    }

    /// The tenant's database as an operator's request has it.
    pub(crate) async fn as_request(&self) -> TenantDb {
        self.tenants.open(Scope::of_request(self.tenant.id, region())).await.unwrap()
    }

    /// The scope of an attempt with this fence.
    pub(crate) fn claim(&self, job: i64, fence: i64) -> Scope {
        Scope::of_job(self.tenant.id, region(), Claim { job, fence })
    }

    /// Runs a job to its rest.
    pub(crate) async fn run(&self, job: NewJob) -> JobRecord {
        let id = self.queue.enqueue(job).await.unwrap().id;
        let _worker = self.worker(self.environment());
        self.at_rest(id).await
    }

    /// Starts a worker in a runtime of its own, so that it can be killed with everything it runs.
    pub(crate) fn worker(&self, environment: Environment) -> Process {
        let options = WorkerOptions {
            queues: vec![region().to_string(), deletions_of(&region())],
            slots: 4,
            poll_max: Duration::from_millis(50),
            ..WorkerOptions::default()
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connect = self.database.options();
        let stop = CancellationToken::new();
        let ordered = stop.clone();
        runtime.spawn(async move {
            let worker = Worker::start(connect, registry(environment), options).await.unwrap();
            worker.run(ordered).await;
        });
        Process { runtime: Some(runtime), stop }
    }

    async fn job_record(&self, id: JobId) -> JobRecord {
        self.queue.get(id).await.unwrap().expect("the job exists")
    }

    /// Waits until the job rests.
    pub(crate) async fn at_rest(&self, id: JobId) -> JobRecord {
        until(async || Some(self.job_record(id).await).filter(|job| job.state.is_final())).await
    }

    /// Waits until the job rests, and whatever it fanned out into, and gives the last one.
    pub(crate) async fn at_the_end(&self, mut id: JobId) -> JobRecord {
        loop {
            let record = self.at_rest(id).await;
            match self.queue.dependencies(id).await.unwrap().fanned_out_into.first() {
                Some(next) => id = next.id,
                None => return record,
            }
        }
    }

    /// Makes every lease end now.
    pub(crate) async fn expire_leases(&self) {
        let statement = "update queue.job set lease_expires_at = now() where state = 1";
        sqlx::raw_sql(statement).execute(self.queue.pool()).await.unwrap();
    }

    /// Makes the job's lease end now, as if its worker had not renewed it.
    async fn expire_lease(&self, id: JobId) {
        let statement =
            format!("update queue.job set lease_expires_at = now() where id = {id} and state = 1");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(self.queue.pool()).await.unwrap();
    }
}

fn vault_of(keyring: &Path) -> Vault {
    let keyring = Keyring::generate(keyring).unwrap();
    Vault::keeping(Services::none().with(Vendor::Local, Arc::new(keyring)), Duration::ZERO)
}

fn region() -> Region {
    "local".parse().unwrap()
}

/// Looks again and again until there is something to see. The deadline only keeps a broken test from hanging.
pub(crate) async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing came within 30 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) struct Process {
    runtime: Option<Runtime>,
    stop: CancellationToken,
}

impl Process {
    /// As SIGTERM would: what runs may put its progress in order and is handed back.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// As `kill -9` would: no future is told, every connection is closed.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs the subject clean, then struck at every boundary in every way.
pub(crate) async fn battery<S: Subject>(subject: &S, provisioned: bool) {
    let (clean, boundaries) = clean_run(subject, provisioned).await;
    assert!(!boundaries.is_empty(), "a kind without steps cannot be interrupted: give its effects names");
    let runs = boundaries.iter().enumerate().flat_map(|run| STRIKES.map(|strike| (run, strike)));
    let mut ends = futures_util::stream::iter(runs)
        .map(async |((index, boundary), strike)| {
            // Seen only when the battery fails: which run it was.
            eprintln!("{strike:?} at {boundary}");
            (strike, boundary, struck_run(subject, provisioned, index, strike).await)
        })
        .buffer_unordered(RUNS_AT_A_TIME);
    while let Some((strike, boundary, end)) = ends.next().await {
        assert_eq!(end, clean, "{strike:?} at {boundary:?} left another end than a clean run");
    }
}

/// Each run mostly waits: for a database to be made, for a lease to be taken back.
const RUNS_AT_A_TIME: usize = 4;

async fn stage(provisioned: bool) -> Stage {
    if provisioned { Stage::provisioned().await } else { Stage::new().await }
}

async fn clean_run<S: Subject>(subject: &S, provisioned: bool) -> (String, Vec<String>) {
    let stage = stage(provisioned).await;
    let environment = stage.environment();
    let job = subject.job(&stage).await;
    let id = stage.queue.enqueue(job).await.unwrap().id;
    let _worker = stage.worker(environment.clone());
    let record = stage.at_rest(id).await;
    assert_eq!(record.state, State::Succeeded, "{:?}", record.note);
    (subject.fingerprint(&stage).await, environment.fault().seen())
}

async fn struck_run<S: Subject>(subject: &S, provisioned: bool, index: usize, strike: Strike) -> String {
    let stage = stage(provisioned).await;
    let environment = stage.environment();
    let (mut struck, go_on) = environment.fault().plan(index, strike);
    let job = subject.job(&stage).await;
    let id = stage.queue.enqueue(job.clone().attempts_max(5)).await.unwrap().id;
    let first = stage.worker(environment);
    struck.wait_for(|struck| *struck).await.expect("the boundary is reached");
    match strike {
        Strike::Kill => {
            first.kill();
            stage.expire_lease(id).await;
            let _second = stage.worker(stage.environment());
            let record = stage.at_rest(id).await;
            assert_eq!(record.state, State::Succeeded, "{:?}", record.note);
        }
        Strike::Hang => {
            let fence = stage.job_record(id).await.fence;
            let _second = stage.worker(stage.environment());
            until(async || {
                // Again and again: the heartbeat of the hanging job's process goes on.
                stage.expire_lease(id).await;
                (stage.job_record(id).await.fence > fence).then_some(())
            })
            .await;
            go_on.notify_one();
            let record = stage.at_rest(id).await;
            assert_eq!(record.state, State::Succeeded, "{:?}", record.note);
        }
        Strike::Cut => {
            let record = until(async || {
                // A charged failure waits for its backoff; nobody here wants to.
                let record = stage.job_record(id).await;
                if record.state == State::Ready {
                    match stage.queue.retry(id).await {
                        // Its backoff was over before we came.
                        Ok(()) | Err(RetryRefused::State { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                Some(record).filter(|record| record.state.is_final())
            })
            .await;
            assert_eq!(record.state, State::Succeeded, "{:?}", record.note);
        }
        Strike::Cancel => {
            stage.queue.cancel(id, "the battery").await.unwrap();
            go_on.notify_one();
            let ended = stage.at_rest(id).await.state;
            assert!(matches!(ended, State::Cancelled | State::Succeeded), "cancelled became {ended}");
            // What a cancelled job left must not stand in the way of the next.
            let again = stage.queue.enqueue(job).await.unwrap().id;
            assert_eq!(stage.at_rest(again).await.state, State::Succeeded);
        }
    }
    subject.fingerprint(&stage).await
}
