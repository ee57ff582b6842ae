//! Every key of the configuration, once: its path in the file, its environment variable, whether it is a secret.

/// A key of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its path in the file, such as `worker.lease`.
    pub(crate) path: &'static str,
    /// The environment variable that overrides the file.
    pub(crate) variable: &'static str,
    /// Whether its value may hold a password.
    pub(crate) is_secret: bool,
}

/// Variables with our prefix that are read elsewhere: the file's own place, who acts, where Postgres is
/// installed, and the server of the tests.
pub(crate) const OTHER_VARIABLES: [&str; 4] =
    ["TENURE_CONFIG", "TENURE_ACTOR", "TENURE_POSTGRES_BIN", "TENURE_TEST_SERVER"];

/// What all variables but DATABASE_URL begin with.
pub(crate) const PREFIX: &str = "TENURE_";

const fn key(path: &'static str, variable: &'static str) -> Key {
    Key { path, variable, is_secret: false }
}

const fn secret(path: &'static str, variable: &'static str) -> Key {
    Key { path, variable, is_secret: true }
}

/// All keys, in the order in which they are shown.
pub(crate) const KEYS: [Key; 33] = [
    key("environment", "TENURE_ENVIRONMENT"),
    key("region", "TENURE_REGION"),
    secret("database.url", "DATABASE_URL"),
    key("database.url_file", "TENURE_DATABASE_URL_FILE"),
    secret("database.direct_url", "TENURE_DATABASE_DIRECT_URL"),
    key("database.direct_url_file", "TENURE_DATABASE_DIRECT_URL_FILE"),
    secret("database.provisioning_url", "TENURE_DATABASE_PROVISIONING_URL"),
    key("database.provisioning_url_file", "TENURE_DATABASE_PROVISIONING_URL_FILE"),
    key("database.connections_max", "TENURE_DATABASE_CONNECTIONS_MAX"),
    key("tenants.password_key_file", "TENURE_TENANTS_PASSWORD_KEY_FILE"),
    key("tenants.backends_max", "TENURE_TENANTS_BACKENDS_MAX"),
    key("tenants.deletion_cooling_off", "TENURE_TENANTS_DELETION_COOLING_OFF"),
    key("tenants.tombstone_folder", "TENURE_TENANTS_TOMBSTONE_FOLDER"),
    key("tenants.backup_days", "TENURE_TENANTS_BACKUP_DAYS"),
    key("audit.signing_key_file", "TENURE_AUDIT_SIGNING_KEY_FILE"),
    key("audit.checkpoint_folder", "TENURE_AUDIT_CHECKPOINT_FOLDER"),
    key("keys.keyring_file", "TENURE_KEYS_KEYRING_FILE"),
    key("keys.aws_credentials_file", "TENURE_KEYS_AWS_CREDENTIALS_FILE"),
    key("keys.aws_endpoint", "TENURE_KEYS_AWS_ENDPOINT"),
    key("exports.folder", "TENURE_EXPORTS_FOLDER"),
    key("exports.keep", "TENURE_EXPORTS_KEEP"),
    key("worker.queues", "TENURE_WORKER_QUEUES"),
    key("worker.slots", "TENURE_WORKER_SLOTS"),
    key("worker.lease", "TENURE_WORKER_LEASE"),
    key("worker.heartbeat", "TENURE_WORKER_HEARTBEAT"),
    key("worker.grace", "TENURE_WORKER_GRACE"),
    key("worker.poll_max", "TENURE_WORKER_POLL_MAX"),
    key("worker.history_days", "TENURE_WORKER_HISTORY_DAYS"),
    key("telemetry.log_filter", "TENURE_LOG"),
    key("telemetry.metrics_bind", "TENURE_METRICS_BIND"),
    key("telemetry.metrics_public", "TENURE_METRICS_PUBLIC"),
    key("telemetry.otlp_endpoint", "TENURE_OTLP_ENDPOINT"),
    key("dev.data_folder", "TENURE_DATA_FOLDER"),
];

/// The key of this path.
pub(crate) fn by_path(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The candidate closest to `word`, if it is close enough to be a slip of the hand.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
