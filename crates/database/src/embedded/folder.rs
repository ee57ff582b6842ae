//! Where a server's files lie: `lock`, `data`, `server.log` and, if the path is short enough, `socket`.

use std::env;
use std::fs::{self, File, TryLockError};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::EmbeddedError;
use super::account::Account;

/// The port is part of the socket's file name, nothing more: the server listens on no network.
pub(super) const PORT: u16 = 5432;

/// A socket's path is limited to 107 bytes on Linux and 103 on a Mac.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Above this size the log of earlier runs is set aside at a start.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The folder of one server.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// What the running server wrote into `postmaster.pid`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    pub(super) socket: PathBuf,
    pub(super) ready: bool,
}

impl Folder {
    /// A folder that exists.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Makes the folder unless it exists.
    pub(super) fn prepare(path: &Path) -> Result<Self, EmbeddedError> {
        let path = std::path::absolute(path).map_err(EmbeddedError::file(path))?;
        fs::create_dir_all(&path).map_err(EmbeddedError::file(&path))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Where a data folder grows, so that a killed initdb leaves nothing that looks like data.
    pub(super) fn unfinished_data(&self) -> PathBuf {
        self.path.join("data.unfinished")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("server.log")
    }

    /// Takes the folder for this process; none if another one has it. The kernel lets go when the process dies.
    pub(super) fn try_lock(&self) -> Result<Option<File>, EmbeddedError> {
        let path = self.path.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(EmbeddedError::file(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(EmbeddedError::file(&path)(error)),
        }
    }

    /// Opens the log to append, the old one set aside once it is large.
    pub(super) fn open_log(&self) -> Result<File, EmbeddedError> {
        let path = self.log();
        if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            fs::rename(&path, path.with_extension("log.old")).map_err(EmbeddedError::file(&path))?;
        }
        File::options().create(true).append(true).open(&path).map_err(EmbeddedError::file(&path))
    }

    /// The folder of the socket: in here, or in a short private one that is named after this one.
    pub(super) fn socket(&self, account: &Account) -> PathBuf {
        let beside = self.path.join("socket");
        if fits(&beside) {
            return beside;
        }
        let digest = Sha256::digest(self.path.as_os_str().as_encoded_bytes());
        let name =
            format!("tenure-{:016x}", u64::from_be_bytes(digest[..8].try_into().expect("32 bytes hold 8")));
        let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|_| !account.is_root()).map(PathBuf::from);
        let bases = [runtime, Some(env::temp_dir())].into_iter().flatten();
        bases
            .map(|base| base.join(&name))
            .find(|path| fits(path))
            .unwrap_or_else(|| Path::new("/tmp").join(&name))
    }

    /// Removes the socket's folder if it lies elsewhere; in here it may stay.
    pub(super) fn remove_socket(&self, socket: &Path) {
        if !socket.starts_with(&self.path)
            && let Err(error) = fs::remove_dir_all(socket)
        {
            tracing::warn!(folder = %socket.display(), %error, "the socket's folder could not be removed");
        }
    }

    /// What the server last wrote about itself, alive or not.
    pub(super) fn pid_file(&self) -> Option<PidFile> {
        PidFile::parse(&fs::read_to_string(self.data().join("postmaster.pid")).ok()?)
    }

    /// The process of the server that runs on this data. After a crash or a reboot the number in the file may be another
    /// process's; a postmaster's working folder is its data folder.
    pub(super) fn live_process(&self) -> Option<u32> {
        let pid = self.pid_file()?.pid;
        let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
        cwd.is_ok_and(|cwd| cwd == self.data()).then_some(pid)
    }

    /// The socket's folder of a server that takes connections.
    pub(super) fn live_socket(&self) -> Option<PathBuf> {
        let found = self.pid_file().filter(|found| found.ready)?;
        UnixStream::connect(socket_file(&found.socket)).is_ok().then_some(found.socket)
    }

    /// The last lines of the log.
    pub(super) fn log_tail(&self) -> String {
        tail(&fs::read(self.log()).unwrap_or_default())
    }
}

impl PidFile {
    /// Lines: process, data folder, start time, port, socket folder, address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<_> = text.lines().collect();
        let pid = lines.first()?.trim().parse().ok()?;
        let socket = PathBuf::from(lines.get(4)?);
        Some(Self { pid, socket, ready: lines.get(7).is_some_and(|status| status.trim() == "ready") })
    }
}

/// The last lines of what a program said, for an error message.
pub(super) fn tail(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn socket_file(folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{PORT}"))
}

fn fits(folder: &Path) -> bool {
    socket_file(folder).as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_ready_only_when_it_says_so() {
        let lines = |status| format!("4711\n/d\n1700000000\n5432\n/d/socket\n\n  123  4\n{status}\n");
        let file = |ready| PidFile { pid: 4711, socket: PathBuf::from("/d/socket"), ready };
        assert_eq!(PidFile::parse(&lines("ready   ")), Some(file(true)));
        assert_eq!(PidFile::parse(&lines("starting")), Some(file(false)));
        assert_eq!(PidFile::parse(&lines("stopping")), Some(file(false)));
        assert_eq!(PidFile::parse("4711\n/d\n"), None);
    }

    #[test]
    fn a_long_folder_gets_a_short_socket_of_its_own() {
        let account = Account::choose().expect("this machine has users");
        let long = Folder { path: PathBuf::from(format!("/{}", "x".repeat(200))) };
        let other = Folder { path: PathBuf::from(format!("/{}", "y".repeat(200))) };
        assert!(fits(&long.socket(&account)));
        assert_eq!(long.socket(&account), long.socket(&account));
        assert_ne!(long.socket(&account), other.socket(&account));
        let short = Folder { path: PathBuf::from("/s") };
        assert_eq!(short.socket(&account), Path::new("/s/socket"));
    }
}
