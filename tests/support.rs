//! The program under test as a script would run it, and what it works on.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use database::testing::TestDatabase;
use serde_json::Value;
use sqlx::PgConnection;
use tempfile::TempDir;

/// A folder of its own, an environment of its own, and perhaps a database.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    database: Option<TestDatabase>,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// Without a database: the private Postgres would be used.
    pub(crate) fn without_database() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Run as root, the private Postgres runs as another user, who must get in.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, database: None }
    }

    /// With an empty database that DATABASE_URL names.
    pub(crate) async fn with_empty_database() -> Self {
        Self { database: Some(TestDatabase::create().await), ..Self::without_database() }
    }

    /// With a migrated database.
    pub(crate) async fn with_database() -> Self {
        let bench = Self::with_empty_database().await;
        bench.ok(&["db", "migrate"]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        self.database().connect().await
    }

    pub(crate) fn database(&self) -> &TestDatabase {
        self.database.as_ref().expect("this bench has a database")
    }

    /// The database's URL for another role; the server asks for no password.
    pub(crate) fn url_as(&self, role: &str) -> String {
        let options = self.database().options();
        let (host, port) =
            (options.get_socket().map(|folder| folder.display().to_string()), options.get_port());
        let host = host.unwrap_or_else(|| options.get_host().to_owned());
        let database = options.get_database().unwrap_or_default();
        format!("postgres:///{database}?host={host}&port={port}&user={role}")
    }

    /// The program with these arguments and nothing of our own environment that it would take in.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        let ours = |name: &str| name.starts_with("TENURE_") || name == "DATABASE_URL";
        for name in
            std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| ours(name))
        {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("TENURE_DATA_FOLDER", self.path("data")).env("USER", "ada");
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database.url());
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// Runs what must succeed and gives its stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:#?}");
        ran.stdout
    }

    /// The same with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        object(&self.ok(&arguments))
    }

    /// Starts it and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { child }
    }
}

/// Runs a command to its end.
pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// One JSON object of the promised version.
pub(crate) fn object(text: &str) -> Value {
    let object: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(object["schema"], "tenure/v1", "{text}");
    object
}

/// A program that runs; killed if the test ends before it.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Reads stderr up to the first line with this text, and gives that line.
    pub(crate) fn says(&mut self, text: &str) -> String {
        let stderr = self.child.stderr.take().unwrap();
        let mut lines = BufReader::new(stderr);
        let mut heard = String::new();
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it never said {text:?}, only {heard}");
            if line.contains(text) {
                // The rest must still be read, else the program might wait for us.
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return line;
            }
            heard.push_str(&line);
        }
    }

    /// The exit code once it has ended; none if a signal ended it.
    pub(crate) fn ends(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The last part of a path that differs from machine to machine, for snapshots.
pub(crate) fn without_folder(text: &str, folder: &Path) -> String {
    text.replace(&folder.display().to_string(), "FOLDER")
}
