//! The workers: processes of `tenure work`, each behind a relay of its own, and the other commands of the same program.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    postgres::{Postgres, send},
    proxy::Proxy,
};

/// The control database.
pub(crate) const CONTROL: &str = "control";

/// The queue of most jobs, and one with caps.
pub(crate) const QUEUE: &str = "local";
pub(crate) const CAPPED: &str = "capped";

/// Leases of the capped queue at the same time: in all, and of each tenant. Far fewer than would like to.
pub(crate) const CAP: usize = 6;
pub(crate) const CAP_EACH: usize = 3;

/// How long a lease is good for, and how often it is renewed. Short, so that many end within a run.
pub(crate) const LEASE_SECS: u64 = 4;
const HEARTBEAT_SECS: u64 = 1;

/// How long a worker may take to stop before it is killed: its grace of a second, and time to say goodbye.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// How the program is called.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    folder: PathBuf,
    faketime: Option<PathBuf>,
}

impl Program {
    pub(crate) fn new(path: PathBuf, folder: PathBuf, faketime: Option<PathBuf>) -> Self {
        Self { path, folder, faketime }
    }

    /// The program on this database, with nothing of our own environment that it would take in.
    pub(crate) fn command(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.path).args(arguments);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder);
        command.env("DATABASE_URL", url).env("TENURE_DATA_FOLDER", self.folder.join("tenure"));
        command.env("TENURE_WORKER_LEASE", format!("{LEASE_SECS}s"));
        command.env("TENURE_WORKER_HEARTBEAT", format!("{HEARTBEAT_SECS}s"));
        command.env("TENURE_WORKER_GRACE", "1s").env("TENURE_WORKER_SLOTS", "16");
        command.env("TENURE_WORKER_POLL_MAX", "250ms");
        command.env("TENURE_DATABASE_CONNECTIONS_MAX", "5").env("TENURE_TENANTS_BACKENDS_MAX", "16");
        command.current_dir(&self.folder).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        command
    }

    /// Runs a command with `--json` and gives its answer.
    pub(crate) async fn json(&self, url: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.command(url, arguments).arg("--json").output().await?;
        let said = || String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "`tenure {}`: {}", arguments.join(" "), said());
        serde_json::from_slice(&output.stdout).with_context(said)
    }
}

/// A place in the fleet: a relay, and the worker that stands behind it now.
pub(crate) struct Place {
    number: usize,
    program: Program,
    url: String,
    pub(crate) proxy: Proxy,
    child: Option<Child>,
    frozen: bool,
}

impl Place {
    /// Opens the relay and starts a worker behind it.
    pub(crate) async fn open(number: usize, program: Program, postgres: &Postgres) -> anyhow::Result<Self> {
        let proxy = Proxy::start(postgres.port, CONTROL).await?;
        let url = postgres.url(CONTROL, proxy.port);
        let mut place = Self { number, program, url, proxy, child: None, frozen: false };
        place.start()?;
        Ok(place)
    }

    /// Starts a worker.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let log = self.program.folder.join(format!("worker-{}.log", self.number));
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut command =
            self.program.command(&self.url, &["work", "--queues", &format!("{QUEUE},{CAPPED}")]);
        if let Some(library) = &self.program.faketime {
            fs::write(self.clock(), "+0")?;
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.clock());
            // The clock of the wall is stepped; a monotonic one never is.
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("while starting a worker")?);
        Ok(())
    }

    fn clock(&self) -> PathBuf {
        self.program.folder.join(format!("worker-{}.clock", self.number))
    }

    /// Steps the worker's clock to this many seconds off; false without libfaketime.
    pub(crate) fn step_clock(&self, seconds: i64) -> anyhow::Result<bool> {
        if self.program.faketime.is_none() {
            return Ok(false);
        }
        // Renamed into place: half a line would be another time.
        let written = self.clock().with_extension("new");
        fs::write(&written, format!("{seconds:+}"))?;
        fs::rename(written, self.clock())?;
        Ok(true)
    }

    /// The process of the worker, if it lives.
    pub(crate) fn pid(&mut self) -> Option<u32> {
        let child = self.child.as_mut()?;
        match child.try_wait() {
            Ok(None) => child.id(),
            _ => None,
        }
    }

    /// Kills the worker; its process id, if there was one.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<Option<u32>> {
        let pid = self.pid();
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        self.frozen = false;
        Ok(pid)
    }

    /// Asks the worker to stop, and waits until it has; its process id if it had to be killed.
    pub(crate) async fn drain(&mut self) -> anyhow::Result<Option<u32>> {
        let Some(pid) = self.pid() else { return Ok(None) };
        send("TERM", pid).await?;
        let Some(child) = self.child.as_mut() else { return Ok(None) };
        // It may be cut off from Postgres, and cannot hand anything back then.
        if tokio::time::timeout(DRAIN_MAX, child.wait()).await.is_err() {
            return self.kill().await;
        }
        self.child = None;
        Ok(None)
    }

    /// Stops the process where it is, or lets it go on; false if that is so already.
    pub(crate) async fn freeze(&mut self, frozen: bool) -> anyhow::Result<bool> {
        let Some(pid) = self.pid().filter(|_| self.frozen != frozen) else { return Ok(false) };
        send(if frozen { "STOP" } else { "CONT" }, pid).await?;
        self.frozen = frozen;
        Ok(true)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }
}
