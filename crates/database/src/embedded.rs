//! A Postgres of our own for one machine: an *installed* one, started in a private folder, reachable through a
//! private socket only.
//!
//! Promises: one server per folder, whoever starts it; a second process attaches to it. It runs with fsync and
//! checksums, never as root, and it stops with the process that started it, even when that one is killed.
//! Refuses: to download a Postgres, to listen on the network, and to open data of another major version.
//!
//! Authentication is `trust`, which is safe only because nobody else can enter the socket's folder.

mod account;
mod error;
mod folder;
mod installation;
mod keeper;
mod server;
#[cfg(test)]
mod tests;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

pub use error::EmbeddedError;

use account::Account;
use folder::{Folder, PORT};
use server::Server;

/// The superuser of a server made here.
const SUPERUSER: &str = "postgres";

/// How much the data survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is on the disk.
    Full,
    /// For tests only: a crash of the machine may lose or corrupt everything.
    ThrowAway,
}

/// What to start and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for the data, the socket and the server's log; it is made if absent.
    pub folder: PathBuf,
    /// How much the data survives.
    pub durability: Durability,
    /// The server's `max_connections`.
    pub connections_max: u16,
    /// Further settings, by their Postgres names.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// A durable server in this folder, for up to 100 connections.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            durability: Durability::Full,
            connections_max: 100,
            settings: Vec::new(),
        }
    }
}

/// How a stop treats the open sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Sessions are ended and the data is written: a clean stop.
    Fast,
    /// As if the server had crashed: it recovers at the next start.
    Immediate,
}

/// A running server. Its methods block for up to minutes: in async code call them on a blocking thread. Dropped by
/// the process that started it, the server stops.
#[derive(Debug)]
pub struct Embedded {
    running: Running,
}

#[derive(Debug)]
enum Running {
    Own(Server),
    /// Another process runs it; this is its socket's folder.
    Attached(PathBuf),
}

impl Embedded {
    /// Starts the folder's server, or attaches to it when another process runs it.
    pub fn start_or_attach(options: Options) -> Result<Self, EmbeddedError> {
        let folder = Folder::prepare(&options.folder)?;
        let deadline = Instant::now() + server::START_MAX;
        loop {
            if let Some(lock) = folder.try_lock()? {
                return Ok(Self { running: Running::Own(Server::start(options, folder, lock)?) });
            }
            if let Some(socket) = folder.live_socket() {
                return Ok(Self { running: Running::Attached(socket) });
            }
            // The one who has the lock is still starting, or has just died.
            if Instant::now() > deadline {
                return Err(EmbeddedError::NotReady(options.folder));
            }
            server::pause();
        }
    }

    /// Whether this process started the server and will stop it.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        matches!(self.running, Running::Own(_))
    }

    /// The way to one of its databases, as its superuser. `postgres` always exists.
    #[must_use]
    pub fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.socket())
            .port(PORT)
            .ssl_mode(PgSslMode::Disable)
            .username(SUPERUSER)
            .database(database)
    }

    /// The same as a URL, for a child process.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let socket = percent_encoded(&self.socket().display().to_string());
        let database = percent_encoded(database);
        format!("postgres:///{database}?host={socket}&port={PORT}&user={SUPERUSER}&sslmode=disable")
    }

    /// Stops and starts a server that this process started; its socket stays where it is.
    pub fn restart(&mut self, mode: ShutdownMode) -> Result<(), EmbeddedError> {
        match &mut self.running {
            Running::Own(server) => server.restart(mode),
            Running::Attached(_) => Err(EmbeddedError::NotOwner),
        }
    }

    /// Stops the server and waits until it is gone; one of another process is left alone.
    pub fn stop(self) -> Result<(), EmbeddedError> {
        match self.running {
            Running::Own(mut server) => server.stop(),
            Running::Attached(_) => Ok(()),
        }
    }

    /// The folder of its socket.
    pub(crate) fn socket(&self) -> &Path {
        match &self.running {
            Running::Own(server) => server.socket(),
            Running::Attached(socket) => socket,
        }
    }
}

/// Where a server's folder lies unless the configuration names one: `/var/lib/tenure` for root, else under
/// `XDG_DATA_HOME` or `~/.local/share`.
pub fn default_folder() -> Result<PathBuf, EmbeddedError> {
    if Account::choose()?.is_root() {
        // root's home is private, and the server's user has to enter the folder.
        return Ok(PathBuf::from("/var/lib/tenure"));
    }
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("XDG_DATA_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("tenure"))
        .ok_or(EmbeddedError::NoHome)
}

/// Whether a server started by this process could enter the folder.
pub(crate) fn is_reachable(folder: &Path) -> Result<bool, EmbeddedError> {
    match Account::choose()?.check_reach(folder) {
        Ok(()) => Ok(true),
        Err(EmbeddedError::NotReachable { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a server runs on the data in this folder.
pub(crate) fn has_live_server(folder: &Path) -> bool {
    Folder::at(folder).live_process().is_some()
}

/// Leaves only what has no meaning in any part of a URL (RFC 3986, unreserved).
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |url, byte| match byte {
        byte if plain(byte) => url + &char::from(byte).to_string(),
        byte => url + &format!("%{byte:02X}"),
    })
}
