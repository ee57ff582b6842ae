//! Why the embedded server could not be had; each message says what to do.

use std::io;
use std::path::PathBuf;

/// Why the embedded server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No usable Postgres is installed.
    #[error(
        "no Postgres server is installed: install PostgreSQL 14 or newer (Debian, Ubuntu: `apt install postgresql`; \
         Fedora: `dnf install postgresql-server`), set TENURE_POSTGRES_BIN to the folder that holds `initdb`, or \
         use a server of your own"
    )]
    NotInstalled,
    /// `TENURE_POSTGRES_BIN` names a folder without the server's programs.
    #[error(
        "TENURE_POSTGRES_BIN is {0}, where there is no initdb, postgres and pg_ctl of PostgreSQL 14 or newer"
    )]
    BadOverride(PathBuf),
    /// The folder's data was made by a major version that is not installed.
    #[error("{folder} was made by PostgreSQL {made_by}, but only {installed} is installed")]
    OtherMajor {
        /// The data folder.
        folder: PathBuf,
        /// The version that made it.
        made_by: String,
        /// The versions that were found.
        installed: String,
    },
    /// The program that ties the server's life to ours is missing.
    #[error("`setpriv` is missing, which ends the server when this program dies: install util-linux")]
    NoSetpriv,
    /// Postgres refuses to run as root and there is no account to run it as.
    #[error(
        "Postgres does not run as root, and there is neither a user `postgres` nor a user `nobody` to run it as"
    )]
    NoAccount,
    /// There is no home folder to keep data in.
    #[error("neither XDG_DATA_HOME nor HOME is set: name a data folder")]
    NoHome,
    /// A folder or file could not be made, read or written.
    #[error("{path} cannot be used")]
    File {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that must be private belongs to somebody else.
    #[error("{0} belongs to another user, so it is not safe to keep the server's files there")]
    NotPrivate(PathBuf),
    /// The server's user cannot reach its folder.
    #[error(
        "the user `{user}`, as which Postgres runs, may not enter {folder}: use a folder that others may enter"
    )]
    NotReachable {
        /// The folder.
        folder: PathBuf,
        /// The server's user.
        user: String,
    },
    /// A program could not be started.
    #[error("`{program}` could not be started")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended badly.
    #[error("`{program}` failed: {said}")]
    Failed {
        /// The program.
        program: String,
        /// The end of what it said.
        said: String,
    },
    /// The server ended while it started.
    #[error("the server did not start; the end of {log} says: {said}")]
    NotStarted {
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        said: String,
    },
    /// The server takes too long to start.
    #[error("the server of {0} was not ready in time")]
    NotReady(PathBuf),
    /// Only the process that started a server may restart it.
    #[error("another process runs this server")]
    NotOwner,
}

impl EmbeddedError {
    /// For `map_err` after a call on a file or folder.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err` after starting a program.
    pub(super) fn spawn(program: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Spawn { program, source }
    }
}
