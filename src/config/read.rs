//! From settings, which are text and numbers, to values with types. Never stops at a fault.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use super::{
    Audit, Config, Database, Dev, Exports, Keys, Telemetry, Tenants, Worker,
    fault::Faults,
    layers::{Settings, Value},
    units,
    url::DatabaseUrl,
};

/// Reads every key. `None` if a value could not be read; what is wrong is among the faults.
pub(super) fn config(settings: &Settings, faults: &mut Faults) -> Option<Config> {
    let mut reader = Reader { settings, faults };
    let environment = reader.parsed("environment", "write \"development\" or \"production\"");
    let region =
        reader.parsed("region", "begin with a letter a-z and go on with a-z, 0-9 and -, at most 40 in all");
    let database = reader.database();
    let tenants = reader.tenants();
    let audit = Audit {
        signing_key_file: reader.path("audit.signing_key_file"),
        checkpoint_folder: reader.path("audit.checkpoint_folder"),
    };
    let keyring_file = reader.path("keys.keyring_file");
    let aws_credentials_file = reader.path("keys.aws_credentials_file");
    let aws_endpoint = reader.text("keys.aws_endpoint");
    let (exports_folder, exports_keep) = (reader.path("exports.folder"), reader.duration("exports.keep"));
    let worker = reader.worker();
    let telemetry = reader.telemetry();
    let dev = Dev { data_folder: reader.path("dev.data_folder") };
    Some(Config {
        environment: environment?,
        region: region?,
        database: database?,
        tenants: tenants?,
        audit,
        keys: Keys { keyring_file, aws_credentials_file, aws_endpoint },
        exports: Exports { folder: exports_folder, keep: exports_keep? },
        worker: worker?,
        telemetry: telemetry?,
        dev,
        settings: settings.clone(),
        file: None,
    })
}

struct Reader<'a> {
    settings: &'a Settings,
    faults: &'a mut Faults,
}

impl Reader<'_> {
    fn database(&mut self) -> Option<Database> {
        let url = self.database_url("database.url", "database.url_file");
        let direct_url = self.database_url("database.direct_url", "database.direct_url_file");
        let provisioning_url =
            self.database_url("database.provisioning_url", "database.provisioning_url_file");
        let connections_max = self.count("database.connections_max", 1_000);
        Some(Database { url, direct_url, provisioning_url, connections_max: connections_max? })
    }

    fn tenants(&mut self) -> Option<Tenants> {
        let password_key_file = self.path("tenants.password_key_file");
        let backends_max = self.count("tenants.backends_max", 1_000);
        let deletion_cooling_off = self.duration("tenants.deletion_cooling_off");
        let tombstone_folder = self.path("tenants.tombstone_folder");
        let backup_days = self.count("tenants.backup_days", 36_500);
        Some(Tenants {
            password_key_file,
            backends_max: backends_max?,
            deletion_cooling_off: deletion_cooling_off?,
            tombstone_folder,
            backup_days,
        })
    }

    fn worker(&mut self) -> Option<Worker> {
        let queues = self.list("worker.queues");
        let slots = self.count("worker.slots", 10_000);
        let lease = self.duration("worker.lease");
        let heartbeat = self.duration("worker.heartbeat");
        let grace = self.duration("worker.grace");
        let poll_max = self.duration("worker.poll_max");
        let history_days = self.count("worker.history_days", 36_500);
        Some(Worker {
            queues,
            slots: slots?,
            lease: lease?,
            heartbeat: heartbeat?,
            grace: grace?,
            poll_max: poll_max?,
            history_days: history_days?,
        })
    }

    fn telemetry(&mut self) -> Option<Telemetry> {
        let log_filter = self.text("telemetry.log_filter")?;
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&log_filter) {
            self.wrong(
                "telemetry.log_filter",
                &format!("is no filter: {error}"),
                "write a level such as \"info\"",
            );
        }
        let help = "write an address and a port, such as \"127.0.0.1:9464\"";
        let bind = self.text("telemetry.metrics_bind");
        let metrics_bind = bind.and_then(|_| self.parsed::<SocketAddr>("telemetry.metrics_bind", help));
        let metrics_public = self.boolean("telemetry.metrics_public");
        let otlp_endpoint = self.text("telemetry.otlp_endpoint");
        Some(Telemetry { log_filter, metrics_bind, metrics_public: metrics_public?, otlp_endpoint })
    }

    fn text(&mut self, path: &str) -> Option<String> {
        if let Value::Text(text) = &self.settings.get(path)?.value {
            return Some(text.clone());
        }
        self.wrong(path, "must be text", "write it in quotes");
        None
    }

    fn path(&mut self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    fn list(&mut self, path: &str) -> Vec<String> {
        match self.settings.get(path).map(|setting| &setting.value) {
            Some(Value::List(items)) => items.clone(),
            Some(Value::Text(text)) => text.split(',').map(|item| item.trim().to_owned()).collect(),
            Some(_) => {
                self.wrong(path, "must be a list of texts", "write it like [\"a\", \"b\"]");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn boolean(&mut self, path: &str) -> Option<bool> {
        match &self.settings.get(path)?.value {
            Value::Boolean(value) => return Some(*value),
            Value::Text(text) if text == "true" => return Some(true),
            Value::Text(text) if text == "false" => return Some(false),
            _ => self.wrong(path, "must be true or false", "write true or false, without quotes"),
        }
        None
    }

    /// A whole number from 1.
    fn count<T: TryFrom<i64>>(&mut self, path: &str, max: i64) -> Option<T> {
        let number = match &self.settings.get(path)?.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        let number =
            number.filter(|number| (1..=max).contains(number)).and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.wrong(path, "is out of range", &format!("write a whole number from 1 to {max}"));
        }
        number
    }

    fn duration(&mut self, path: &str) -> Option<Duration> {
        let text = self.text(path)?;
        let duration = units::duration(&text).filter(|duration| !duration.is_zero());
        if duration.is_none() {
            self.wrong(
                path,
                "is not a duration",
                "write a whole number and ms, s, m, h or d, such as \"30s\"",
            );
        }
        duration
    }

    fn parsed<T: FromStr>(&mut self, path: &str, help: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = self.text(path)?;
        let parsed = text.parse();
        if parsed.is_err() {
            self.wrong(path, &format!("cannot be {text:?}"), help);
        }
        parsed.ok()
    }

    /// A URL from the key itself or from the file that another key names.
    fn database_url(&mut self, key: &str, file_key: &str) -> Option<DatabaseUrl> {
        const HELP: &str = "write it like postgres://tenure@db.example.com/tenure?sslmode=verify-full";
        let (inline, file) = (self.text(key), self.path(file_key));
        if inline.is_some() && file.is_some() {
            self.wrong(file_key, &format!("stands beside `{key}`"), "give one or the other");
            return None;
        }
        let (key, text) = match (inline, file) {
            (Some(text), _) => (key, text),
            (None, Some(file)) => match std::fs::read_to_string(&file) {
                Ok(text) => (file_key, text.trim_end().to_owned()),
                Err(error) => {
                    let what = format!("names {}, which cannot be read: {error}", file.display());
                    self.wrong(file_key, &what, "correct the path or make the file readable");
                    return None;
                }
            },
            (None, None) => return None,
        };
        DatabaseUrl::parse(&text).map_err(|what| self.wrong(key, what, HELP)).ok()
    }

    fn wrong(&mut self, path: &str, what: &str, help: &str) {
        let setting = self.settings.get(path);
        let place = setting.map_or_else(|| "configuration".to_owned(), |setting| setting.origin.to_string());
        self.faults.add(place, format!("`{path}` {what}"), help);
    }
}
