//! The configuration of a process: read once, checked whole, then passed on as values.
//!
//! Owns: the keys, their layers (defaults < file < environment), their types, and the rules that the configuration
//! alone can break. Promises: every fault is reported at once with its place and what to do; a secret is never shown.
//! Refuses: unknown keys and variables, half of a pair, and what is unsafe in production.

mod fault;
mod keys;
mod layers;
mod read;
mod refuse;
#[cfg(test)]
mod tests;
pub(crate) mod units;
mod url;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use database::control::Region;

pub(crate) use self::{
    fault::{ConfigError, Fault},
    keys::{KEYS, Key},
    layers::{Origin, Setting, Settings, Value},
    url::{DatabaseUrl, redacted},
};

/// The file that is read when none is named.
const FILE: &str = "tenure.toml";

/// Names the configuration file.
const FILE_VARIABLE: &str = "TENURE_CONFIG";

/// How strict the process is with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    Development,
    Production,
}

impl FromStr for Environment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err("no such environment"),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Production => "production",
        })
    }
}

/// Everything a process is told. The meaning of each key stands in `config/default.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) environment: Environment,
    pub(crate) region: Region,
    pub(crate) database: Database,
    pub(crate) tenants: Tenants,
    pub(crate) audit: Audit,
    pub(crate) keys: Keys,
    pub(crate) exports: Exports,
    pub(crate) worker: Worker,
    pub(crate) telemetry: Telemetry,
    pub(crate) dev: Dev,
    /// The values as they were given, with their origins.
    pub(crate) settings: Settings,
    /// The file that the command line or the environment named.
    pub(crate) file: Option<PathBuf>,
}

/// The section `database`.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) url: Option<DatabaseUrl>,
    pub(crate) direct_url: Option<DatabaseUrl>,
    pub(crate) provisioning_url: Option<DatabaseUrl>,
    pub(crate) connections_max: u32,
}

/// The section `tenants`.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    pub(crate) password_key_file: Option<PathBuf>,
    pub(crate) backends_max: usize,
    pub(crate) deletion_cooling_off: Duration,
    pub(crate) tombstone_folder: Option<PathBuf>,
    /// How old a backup may be that is restored; none if nobody has said it.
    pub(crate) backup_days: Option<u32>,
}

/// The section `audit`: both or neither.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    pub(crate) signing_key_file: Option<PathBuf>,
    pub(crate) checkpoint_folder: Option<PathBuf>,
}

/// The section `keys`.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) keyring_file: Option<PathBuf>,
    pub(crate) aws_credentials_file: Option<PathBuf>,
    pub(crate) aws_endpoint: Option<String>,
}

/// The section `exports`.
#[derive(Clone, Debug)]
pub(crate) struct Exports {
    /// None means one in the data folder.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) keep: Duration,
}

/// The section `worker`.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// Empty means those of the region.
    pub(crate) queues: Vec<String>,
    pub(crate) slots: usize,
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) grace: Duration,
    pub(crate) poll_max: Duration,
    pub(crate) history_days: u64,
}

/// The section `telemetry`.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    pub(crate) log_filter: String,
    pub(crate) metrics_bind: Option<SocketAddr>,
    pub(crate) metrics_public: bool,
    pub(crate) otlp_endpoint: Option<String>,
}

/// The section `dev`.
#[derive(Clone, Debug)]
pub(crate) struct Dev {
    pub(crate) data_folder: Option<PathBuf>,
}

impl Config {
    /// Reads all layers: `file` is the one named on the command line.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let variables: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = variables.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        let file = file.map(Path::to_owned).or_else(|| named.map(|(_, value)| PathBuf::from(value)));
        Self::read(file.as_deref(), Path::new(FILE), variables)
    }

    /// Like [`load`](Self::load), with the environment and the unnamed file's place as arguments.
    fn read(
        file: Option<&Path>,
        unnamed: &Path,
        variables: Vec<(String, String)>,
    ) -> Result<Self, ConfigError> {
        let (mut settings, mut faults) = (layers::defaults(), fault::Faults::default());
        let path = file.unwrap_or(unnamed);
        match std::fs::read_to_string(path) {
            Ok(text) => layers::lay_file(&mut settings, path, &text, &mut faults),
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                faults.add(path.display(), format!("the file cannot be read: {error}"), "correct the path");
            }
        }
        layers::lay_environment(&mut settings, variables.into_iter(), &mut faults);
        let config = read::config(&settings, &mut faults);
        if let Some(config) = &config {
            refuse::refuse(config, &mut faults);
        }
        match config {
            Some(config) if faults.0.is_empty() => Ok(Self { file: file.map(Path::to_owned), ..config }),
            _ => Err(ConfigError { faults: faults.0 }),
        }
    }

    /// Whether it was said what to log.
    pub(crate) fn chose_log_filter(&self) -> bool {
        self.settings.get("telemetry.log_filter").is_some_and(|setting| setting.origin != Origin::Default)
    }

    /// Where a value came from, for a message.
    pub(crate) fn place(&self, path: &str) -> String {
        self.settings
            .get(path)
            .map_or_else(|| "configuration".to_owned(), |setting| setting.origin.to_string())
    }

    /// Where a URL came from, its own key or its file's.
    pub(crate) fn url_place(&self, path: &str) -> String {
        let file = format!("{path}_file");
        self.place(if self.settings.contains_key(path) { path } else { &file })
    }
}
