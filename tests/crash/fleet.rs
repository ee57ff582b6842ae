//! Two worker processes, a Postgres of their own, a source with many rows, and a watch on every effect.

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use database::{embedded::ShutdownMode, testing::OwnServer};
use queue::{JobId, JobRecord, Queue, State};
use rand::{RngExt, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tempfile::TempDir;

pub(super) struct Fleet {
    server: OwnServer,
    queue: Queue,
    folder: TempDir,
    workers: HashMap<i64, Child>,
    lease: &'static str,
    heartbeat: &'static str,
    tenant_database: String,
    seed: u64,
}

/// Long enough for a loaded machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_mins(2);

impl Fleet {
    pub(super) async fn start(rows: u32, lease: &'static str, heartbeat: &'static str) -> Self {
        let server = OwnServer::start().await;
        let mut admin = PgConnection::connect_with(&server.options("postgres")).await.unwrap();
        for name in ["control", "source"] {
            let statement = format!("create database {name}");
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::connect(server.options("control"), 3).await.unwrap();
        let seed = rand::random();
        eprintln!("seed {seed}");
        let mut fleet = Self {
            server,
            queue,
            folder,
            workers: HashMap::new(),
            lease,
            heartbeat,
            tenant_database: String::new(),
            seed,
        };
        fleet.make_source(rows).await;
        fleet.run(&["db", "migrate"]);
        fleet.run(&["tenant", "create", "acme", "--wait"]);
        fleet.tenant_database = sqlx::query_scalar("select database_name from control.tenant")
            .fetch_one(fleet.queue.pool())
            .await
            .unwrap();
        fleet.watch_effects().await;
        fleet.add_worker().await;
        fleet.add_worker().await;
        fleet
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    async fn make_source(&self, rows: u32) {
        let mut source = PgConnection::connect_with(&self.server.options("source")).await.unwrap();
        let statement = format!(
            "create table contacts (id bigint primary key, email text, note text, updated_at timestamptz not null);
            insert into contacts
            select i, 'p' || i || '@example.org', md5(i::text), timestamptz '2026-01-01' + make_interval(secs => i / 3)
            from generate_series(1, {rows}) i;
            create index on contacts (updated_at, id);
            analyze contacts"
        );
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut source).await.unwrap();
        let definition = format!(
            "name = \"crm\"\nkind = \"postgres\"\n\n[postgres]\nurl = \"{}\"\n\n[[streams]]\nname = \"contacts\"\n\
             table = \"contacts\"\nkey = [\"id\"]\ncursor = {{ field = \"updated_at\", type = \"timestamp\" }}\n",
            self.server.url("source")
        );
        std::fs::write(self.folder.path().join("crm.toml"), definition).unwrap();
    }

    /// Every effect notes under which fence it was made (a session is named after its attempt) and which was in place.
    async fn watch_effects(&self) {
        let mut conn = self.tenant_connection().await;
        sqlx::raw_sql(
            "create table public.effect (number bigserial, job bigint, step text, made_under bigint, in_place bigint);
            create function public.note_effect() returns trigger language plpgsql security definer as $$
            begin
                insert into public.effect (job, step, made_under, in_place)
                select new.job, new.step, substring(current_setting('application_name') from '/([0-9]+) ')::bigint, f.fence
                from tenant.job_fence f where f.job = new.job;
                return new;
            end $$;
            create trigger note_effect after insert on tenant.applied_step
            for each row execute function public.note_effect()",
        )
        .execute(&mut conn)
        .await
        .unwrap();
    }

    async fn tenant_connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.server.options(&self.tenant_database)).await.unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("DATABASE_URL", self.server.url("control"))
            .env("TENURE_DATA_FOLDER", self.folder.path())
            .env("TENURE_WORKER_LEASE", self.lease)
            .env("TENURE_WORKER_HEARTBEAT", self.heartbeat)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) async fn add_worker(&mut self) {
        let known = self.worker_ids().await;
        let child = self.command(&["work"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let id = until("a worker registers", async || {
            let workers = self.queue.workers(true).await.ok()?;
            workers.into_iter().find(|w| w.pid == pid && !known.contains(&w.id)).map(|w| w.id)
        })
        .await;
        self.workers.insert(id, child);
    }

    async fn worker_ids(&self) -> Vec<i64> {
        self.queue.workers(true).await.unwrap().into_iter().map(|worker| worker.id).collect()
    }

    pub(super) async fn begin_sync(&self) -> JobId {
        self.run(&["connector", "sync", "./crm.toml", "--detach"]);
        let jobs = self.queue.list(&queue::JobFilter::default(), 10).await.unwrap();
        jobs.into_iter().find(|job| job.kind == "connector_sync").expect("it was enqueued").id
    }

    pub(super) async fn job(&self, id: JobId) -> JobRecord {
        self.queue.get(id).await.unwrap().expect("the job exists")
    }

    pub(super) async fn fence(&self, id: JobId) -> i64 {
        self.job(id).await.fence
    }

    /// The worker that runs the job, once it has made a random amount of progress since now.
    pub(super) async fn holder_after_progress(&self, id: JobId, random: &mut StdRng) -> i64 {
        let mut conn = self.tenant_connection().await;
        let before = steps(&mut conn).await;
        let wanted = before + random.random_range(2..15);
        until("the sync gets on", async || {
            let job = self.queue.get(id).await.ok()??;
            assert!(!job.state.is_final(), "the sync was over before it could be disturbed: {job:?}");
            let mut conn =
                PgConnection::connect_with(&self.server.options(&self.tenant_database)).await.ok()?;
            let steps = steps(&mut conn).await;
            conn.close().await.ok()?;
            job.worker.filter(|_| steps >= wanted)
        })
        .await
    }

    /// As long as the connection is open, nobody can read or renew a lease.
    pub(super) async fn hide_leases(&self) -> PgConnection {
        let mut conn = PgConnection::connect_with(&self.server.options("control")).await.unwrap();
        sqlx::raw_sql("begin; lock table queue.job in access exclusive mode")
            .execute(&mut conn)
            .await
            .unwrap();
        conn
    }

    /// Waits until this many more steps are in the tenant's database.
    pub(super) async fn more_steps(&self, count: i64) {
        let wanted = steps(&mut self.tenant_connection().await).await + count;
        until("the sync gets on", async || {
            (steps(&mut self.tenant_connection().await).await >= wanted).then_some(())
        })
        .await;
    }

    pub(super) fn kill(&mut self, worker: i64) {
        let mut child = self.workers.remove(&worker).expect("one of ours");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(super) fn signal(&self, worker: i64, signal: &str) {
        let pid = self.workers[&worker].id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    }

    pub(super) fn all_workers_live(&mut self) {
        for (id, child) in &mut self.workers {
            assert!(child.try_wait().unwrap().is_none(), "worker {id} ended");
        }
    }

    pub(super) async fn restart_postgres(&mut self, mode: ShutdownMode) {
        self.server.restart(mode).await;
    }

    /// Waits until a newer attempt holds the job.
    pub(super) async fn claimed_above(&self, id: JobId, fence: i64) {
        until("another attempt begins", async || {
            let job = self.queue.get(id).await.ok()??;
            (job.fence > fence && (job.state == State::Running || job.state.is_final())).then_some(())
        })
        .await;
    }

    pub(super) async fn finished_well(&self, id: JobId) {
        let job = until("the job rests", async || {
            self.queue
                .get(id)
                .await
                .ok()?
                .filter(|job| job.state.is_final() || job.state == State::Quarantined)
        })
        .await;
        assert_eq!(job.state, State::Succeeded, "{job:?}");
        let report = job.output.expect("a sync has a report");
        assert_eq!(report["outcome"], "complete", "{report}");
    }

    /// Row by row: what is in the source and not among the records, or among the records and not in the source.
    pub(super) async fn records_equal_the_source(&self) {
        let mut source = PgConnection::connect_with(&self.server.options("source")).await.unwrap();
        let theirs = sqlx::query(
            "select count(*), md5(string_agg(id || '|' || email || '|' || note, ';' order by id)) from contacts",
        )
        .fetch_one(&mut source)
        .await
        .unwrap();
        let ours = sqlx::query(
            "select count(*), md5(string_agg(key || '|' || (data ->> 'email') || '|' || (data ->> 'note'), ';'
                                             order by key::bigint))
            from tenant.record where deleted_at is null",
        )
        .fetch_one(&mut self.tenant_connection().await)
        .await
        .unwrap();
        assert_eq!(ours.get::<i64, _>(0), theirs.get::<i64, _>(0));
        assert_eq!(
            ours.get::<String, _>(1),
            theirs.get::<String, _>(1),
            "the same rows with the same content"
        );
    }

    pub(super) async fn nothing_was_written_under_an_older_fence(&self) {
        let fell = sqlx::query(
            "select count(*), count(*) filter (where made_under is distinct from in_place or made_under < highest_before),
                count(*) - count(distinct step)
            from (select *, max(in_place) over (order by number rows unbounded preceding) as highest_before
                  from public.effect) e",
        )
        .fetch_one(&mut self.tenant_connection().await)
        .await
        .unwrap();
        let (effects, older, repeated): (i64, i64, i64) = (fell.get(0), fell.get(1), fell.get(2));
        assert!(effects > 10, "the watch saw {effects} effects");
        assert_eq!((older, repeated), (0, 0), "effects under an older fence, steps applied twice");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.workers.values_mut() {
            // A frozen process cannot be waited for unless it is killed; one that has ended needs neither.
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}

async fn steps(conn: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select coalesce(max(step), 0) from tenant.sync_run")
        .fetch_one(conn)
        .await
        .unwrap_or(0)
}

/// Looks again and again until there is something to see.
async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
