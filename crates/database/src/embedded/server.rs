//! The server process: made, started, awaited, stopped.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::account::Account;
use super::folder::{Folder, PORT, tail};
use super::installation::Installation;
use super::{Durability, EmbeddedError, Options, SUPERUSER, ShutdownMode, keeper};

/// Crash recovery of a large database takes minutes.
pub(super) const START_MAX: Duration = Duration::from_mins(5);
/// How long `pg_ctl` waits for a stop, in seconds; the last checkpoint of a busy server takes a while.
const STOP_MAX_SECS: &str = "120";
/// How often a starting server is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A server that this process started. The lock keeps other processes from starting it too.
#[derive(Debug)]
pub(super) struct Server {
    folder: Folder,
    options: Options,
    account: Account,
    installation: Installation,
    socket: PathBuf,
    child: Option<Child>,
    _lock: File,
}

impl Server {
    /// Makes the data folder if there is none, then starts the server and waits until it takes connections.
    pub(super) fn start(options: Options, folder: Folder, lock: File) -> Result<Self, EmbeddedError> {
        let account = Account::choose()?;
        account.check_reach(folder.path())?;
        let installation = Installation::find(&folder.data())?;
        let socket = folder.socket(&account);
        let mut server = Self { folder, options, account, installation, socket, child: None, _lock: lock };
        if !server.folder.data().exists() {
            server.make_data()?;
        }
        server.end_leftover()?;
        server.account.private_folder(&server.socket)?;
        server.launch()?;
        Ok(server)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn restart(&mut self, mode: ShutdownMode) -> Result<(), EmbeddedError> {
        self.shut_down(mode)?;
        self.launch()
    }

    /// Stops the server, waits until it is gone, and removes a socket folder that lies elsewhere.
    pub(super) fn stop(&mut self) -> Result<(), EmbeddedError> {
        self.shut_down(ShutdownMode::Fast)?;
        self.folder.remove_socket(&self.socket);
        Ok(())
    }

    /// Runs initdb into a folder that is renamed at the end, so that a kill leaves nothing half made.
    fn make_data(&self) -> Result<(), EmbeddedError> {
        let unfinished = self.folder.unfinished_data();
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(EmbeddedError::file(&unfinished))?;
        }
        self.account.private_folder(&unfinished)?;
        let mut initdb = self.account.command(self.installation.program("initdb"));
        initdb.arg("-D").arg(&unfinished).args([
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--data-checksums",
        ]);
        initdb.args(["--no-instructions", "--locale", locale()?]);
        if self.options.durability == Durability::ThrowAway {
            initdb.arg("--no-sync");
        }
        run(initdb)?;
        fs::rename(&unfinished, self.folder.data()).map_err(EmbeddedError::file(unfinished))
    }

    /// Ends the server of a process that was killed: it is on its way out, or its parent died before the signal
    /// was arranged.
    fn end_leftover(&self) -> Result<(), EmbeddedError> {
        if self.folder.live_process().is_none() {
            return Ok(());
        }
        match self.pg_ctl_stop(ShutdownMode::Fast) {
            // It ended by itself in between, which pg_ctl calls a failure.
            Err(_) if self.folder.live_process().is_none() => Ok(()),
            stopped => stopped,
        }
    }

    fn launch(&mut self) -> Result<(), EmbeddedError> {
        let log = self.folder.open_log()?;
        let errors = log.try_clone().map_err(EmbeddedError::file(self.folder.log()))?;
        let mut command = self.account.command("setpriv");
        // The signal of a fast shutdown: sessions end, the data is written, the next start is clean.
        command.args(["--pdeathsig", "INT", "--"]).arg(self.installation.program("postgres"));
        command.arg("-D").arg(self.folder.data());
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // A group of its own: Ctrl-C in the terminal is for us; the server stops after we have finished with it.
        command.process_group(0).stdout(log).stderr(errors);
        let child = keeper::spawn(command).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => EmbeddedError::NoSetpriv,
            _ => EmbeddedError::spawn("setpriv")(error),
        })?;
        self.await_ready(child)
    }

    fn settings(&self) -> Vec<(String, String)> {
        let durable = if self.options.durability == Durability::Full { "on" } else { "off" };
        let own = [
            ("listen_addresses", String::new()),
            ("port", PORT.to_string()),
            ("unix_socket_directories", self.socket.display().to_string()),
            ("unix_socket_permissions", "0700".to_owned()),
            ("fsync", durable.to_owned()),
            ("full_page_writes", durable.to_owned()),
            ("max_connections", self.options.connections_max.to_string()),
            ("logging_collector", "off".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.settings.iter().cloned()).collect()
    }

    fn await_ready(&mut self, mut child: Child) -> Result<(), EmbeddedError> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if child.try_wait().map_err(EmbeddedError::spawn("postgres"))?.is_some() {
                return Err(EmbeddedError::NotStarted {
                    log: self.folder.log(),
                    said: self.folder.log_tail(),
                });
            }
            // The number tells our server's file from one that a crash left behind.
            let ready = self.folder.pid_file().is_some_and(|found| found.ready && found.pid == child.id());
            if ready {
                self.child = Some(child);
                return Ok(());
            }
            if Instant::now() > deadline {
                self.child = Some(child);
                return Err(EmbeddedError::NotReady(self.folder.path().to_owned()));
            }
            pause();
        }
    }

    fn shut_down(&mut self, mode: ShutdownMode) -> Result<(), EmbeddedError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let alive = child.try_wait().map_err(EmbeddedError::spawn("postgres"))?.is_none();
        if alive && let Err(error) = self.pg_ctl_stop(mode) {
            self.child = Some(child);
            return Err(error);
        }
        child.wait().map_err(EmbeddedError::spawn("postgres"))?;
        Ok(())
    }

    fn pg_ctl_stop(&self, mode: ShutdownMode) -> Result<(), EmbeddedError> {
        let mode = match mode {
            ShutdownMode::Fast => "fast",
            ShutdownMode::Immediate => "immediate",
        };
        let mut stop = self.account.command(self.installation.program("pg_ctl"));
        stop.args(["stop", "-w", "-t", STOP_MAX_SECS, "-m", mode, "-D"]).arg(self.folder.data());
        run(stop).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.stop()
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the embedded server could not be stopped"
            );
        }
    }
}

/// Sorts text by code point everywhere, with UTF-8's idea of letters where the system has that locale.
fn locale() -> Result<&'static str, EmbeddedError> {
    let known = Command::new("locale").arg("-a").output();
    let known = match known {
        Ok(output) => output.stdout,
        // musl has no such program, and its C locale is UTF-8.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(EmbeddedError::spawn("locale")(error)),
    };
    let known = String::from_utf8_lossy(&known).to_lowercase();
    let has_utf8 = known.lines().any(|name| matches!(name, "c.utf8" | "c.utf-8"));
    Ok(if has_utf8 { "C.UTF-8" } else { "C" })
}

/// Waits before another look at a server that starts.
#[expect(clippy::disallowed_methods, reason = "all of `Embedded` blocks, and says so")]
pub(super) fn pause() {
    thread::sleep(POLL);
}

fn run(mut command: Command) -> Result<Output, EmbeddedError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(EmbeddedError::spawn(&program))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(EmbeddedError::Failed { program, said: tail(said) })
}
