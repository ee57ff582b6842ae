//! A Postgres of the run's own, with fsync on, in a folder that is thrown away, on a port of the loopback.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sqlx::{
    ConnectOptions, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// Connections of the server: enough for a worker, and for what is not one; few enough to be taken all.
const CONNECTIONS_PER_WORKER: usize = 36;
const CONNECTIONS_BESIDE: usize = 40;
const START_MAX: Duration = Duration::from_mins(1);
/// Postgres kills its own processes after five seconds.
const STOP_MAX: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(20);

/// The account that the server runs as where it is not our own: Postgres refuses root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A running server; dropped, it is stopped with all that belongs to it.
pub(crate) struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    account: Option<Account>,
    password: String,
    pub(crate) port: u16,
    connections_max: usize,
    child: Option<Child>,
}

impl Postgres {
    /// Makes its data in `folder` and starts it, for so many workers.
    pub(crate) async fn start(folder: &Path, workers: usize) -> anyhow::Result<Self> {
        let home = folder.join("postgres");
        fs::create_dir(&home)?;
        let account = account().await?;
        if let Some(account) = account {
            chown(&home, Some(account.uid), Some(account.gid))?;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let password = uuid::Uuid::new_v4().to_string();
        let connections_max = workers * CONNECTIONS_PER_WORKER + CONNECTIONS_BESIDE;
        let (bin, data) = (installation().await?, home.join("data"));
        let mut server = Self { bin, data, account, password, port, connections_max, child: None };
        server.make_data(&home).await?;
        server.launch().await?;
        Ok(server)
    }

    /// The way to one of its databases, as its superuser.
    pub(crate) fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .password(&self.password)
            .ssl_mode(PgSslMode::Disable)
            .database(database)
            .application_name("chaos")
            .disable_statement_logging()
    }

    /// The same as a URL, through a port of a relay.
    pub(crate) fn url(&self, database: &str, port: u16) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{port}/{database}?sslmode=disable", self.password)
    }

    pub(crate) async fn connect(&self, database: &str) -> anyhow::Result<PgConnection> {
        let options = self.options(database);
        let connecting = tokio::time::timeout(Duration::from_secs(10), options.connect());
        Ok(connecting.await.context("Postgres does not answer")??)
    }

    /// Stops it, in order or at once, leaves it down for a while and starts it again.
    pub(crate) async fn restart(&mut self, signal: &str, down: Duration) -> anyhow::Result<()> {
        let mut child = self.child.take().context("Postgres is not running")?;
        send(signal, child.id().context("Postgres has ended")?).await?;
        child.wait().await?;
        tokio::time::sleep(down).await;
        self.launch().await
    }

    /// Waits until it takes connections again after one of its backends was killed.
    pub(crate) async fn recovered(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        while let Err(error) = self.connect("postgres").await {
            ensure!(Instant::now() < deadline, "Postgres did not come back: {error:#}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        // With us it dies, however we die; `setpriv` asks the kernel for that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT", "--"]).arg(self.bin.join(program));
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C").process_group(0);
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    async fn make_data(&self, home: &Path) -> anyhow::Result<()> {
        let file = home.join("password");
        fs::write(&file, &self.password)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        if let Some(account) = self.account {
            chown(&file, Some(account.uid), Some(account.gid))?;
        }
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(&self.data).args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"]);
        initdb.args(["--locale", "C", "--data-checksums"]).arg("--pwfile").arg(&file);
        let output = initdb.output().await.context("while running initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let log = self.data.with_file_name("postgres.log");
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data).kill_on_drop(true).stdout(log.try_clone()?).stderr(log);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=on",
            "synchronous_commit=on",
            // The checker's order of things is that of the commits.
            "track_commit_timestamp=on",
            "restart_after_crash=on",
            // Before a recovery one call instead of one for each of some thousand files, which takes seconds.
            "recovery_init_sync_method=syncfs",
            "timezone=UTC",
            "log_min_messages=warning",
        ] {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("port={}", self.port)]);
        command.args(["-c", &format!("max_connections={}", self.connections_max)]);
        let mut child = command.spawn().context("while starting Postgres")?;
        let deadline = Instant::now() + START_MAX;
        while let Err(error) = self.connect("postgres").await {
            if let Some(status) = child.try_wait()? {
                bail!("Postgres ended at its start ({status})");
            }
            ensure!(Instant::now() < deadline, "Postgres did not start: {error:#}");
            tokio::time::sleep(POLL).await;
        }
        self.child = Some(child);
        Ok(())
    }
}

impl Drop for Postgres {
    /// However the run ends, nothing of the server may be left in a folder that is about to be removed.
    #[expect(clippy::disallowed_methods, reason = "a drop cannot wait in any other way, and the run is over")]
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let Some(pid) = child.id() else { return };
        // Where `kill` cannot be started, the child is killed by its own drop.
        let _told = std::process::Command::new("kill").args(["-QUIT", &pid.to_string()]).status();
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
    }
}

/// Sends a signal to a process that we have started, or whose parent we have.
pub(crate) async fn send(signal: &str, pid: u32) -> anyhow::Result<()> {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().await?;
    ensure!(status.success(), "the process {pid} could not be sent SIG{signal}");
    Ok(())
}

async fn account() -> anyhow::Result<Option<Account>> {
    if id(&["-u"]).await? != Some(0) {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let (Some(uid), Some(gid)) = (id(&["-u", name]).await?, id(&["-g", name]).await?) {
            return Ok(Some(Account { uid, gid }));
        }
    }
    bail!("Postgres does not run as root, and there is no user `postgres` or `nobody` to run it as")
}

async fn id(arguments: &[&str]) -> anyhow::Result<Option<u32>> {
    let output = Command::new("id").args(arguments).output().await.context("while asking `id`")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

/// The folder of the newest installed Postgres, or of the one that TENURE_POSTGRES_BIN names.
async fn installation() -> anyhow::Result<PathBuf> {
    if let Some(bin) = std::env::var_os("TENURE_POSTGRES_BIN") {
        return Ok(bin.into());
    }
    let mut found: Vec<PathBuf> = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output().await {
        found.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        found.extend(versions.into_iter().rev());
    }
    found.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let complete = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("postgres").is_file();
    found
        .into_iter()
        .find(complete)
        .context("no Postgres is installed: set TENURE_POSTGRES_BIN to its folder")
}
