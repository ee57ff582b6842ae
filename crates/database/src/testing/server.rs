//! A server that is thrown away.

use std::process::Child;
use std::sync::OnceLock;
use std::time::Instant;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;

use super::folder::ThrowAwayFolder;
use super::{TestDatabase, must, template};
use crate::embedded::{Durability, Embedded, EmbeddedError, Options, ShutdownMode};

/// Several test processes share one server, each with a few small pools.
const CONNECTIONS_MAX: u16 = 300;

/// A server of its own, in memory's care only (fsync off): for a test that restarts it, and for `with-postgres`.
/// Dropped, it is stopped and removed; killed with its process, it stops and is removed too.
#[derive(Debug)]
pub struct OwnServer {
    /// None only while it is dropped or restarted.
    server: Option<Embedded>,
    folder: ThrowAwayFolder,
    janitor: Child,
}

impl OwnServer {
    /// Starts one for a test.
    pub async fn start() -> Self {
        must(blocking(Self::launch).await, "start a server for this test")
    }

    /// Starts one; blocks for some seconds.
    pub fn launch() -> Result<Self, EmbeddedError> {
        let started = Instant::now();
        let folder = ThrowAwayFolder::make()?;
        let server = Embedded::start_or_attach(Options {
            durability: Durability::ThrowAway,
            connections_max: CONNECTIONS_MAX,
            ..Options::at(folder.path())
        })?;
        let janitor = folder.janitor(server.socket())?;
        tracing::debug!(folder = %folder.path().display(), elapsed = ?started.elapsed(), "a test server runs");
        Ok(Self { server: Some(server), folder, janitor })
    }

    /// The way to one of its databases, as superuser.
    #[must_use]
    pub fn options(&self, database: &str) -> PgConnectOptions {
        self.server().options(database)
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.server().url(database)
    }

    /// A new database on it, in which these sets of migrations have run.
    pub async fn database(&self, sets: &[&Migrator]) -> TestDatabase {
        let server = self.url("postgres");
        let template = template::of(&server, sets).await;
        TestDatabase::create_on(&server, &template).await
    }

    /// Stops and starts it; its socket stays where it is.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn restart(&mut self, mode: ShutdownMode) {
        let mut server = self.server.take().expect("only a drop leaves none");
        let restarted = blocking(move || server.restart(mode).map(|()| server)).await;
        self.server = Some(must(restarted, "restart the test's server"));
    }

    fn server(&self) -> &Embedded {
        self.server.as_ref().expect("only a drop leaves none")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let stopped = self.server.take().map_or(Ok(()), Embedded::stop).and_then(|()| self.folder.remove());
        // With its input closed the janitor finds nothing to do, or does what failed here.
        drop(self.janitor.stdin.take());
        let waited = self.janitor.wait();
        if let Err(error) = stopped {
            tracing::warn!(error = &error as &dyn std::error::Error, "a test server was not removed");
        }
        if let Err(error) = waited {
            tracing::warn!(%error, "a test server's janitor is lost");
        }
    }
}

/// The URL of a server for this process; its janitor removes it, since nothing drops a static.
pub(super) async fn of_this_process() -> String {
    static SERVER: OnceLock<OwnServer> = OnceLock::new();
    let server = OwnServer::start().await;
    SERVER.get_or_init(|| server).url("postgres")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    must(tokio::task::spawn_blocking(work).await, "run a blocking call")
}
