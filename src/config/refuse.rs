//! What a process refuses to start with, as far as the configuration alone tells. The rest needs the database and is
//! refused in `wiring.rs`.

use std::time::Duration;

use super::{Config, Database, Environment, fault::Faults};

/// How many heartbeats a lease must survive: two may be lost.
const HEARTBEATS_PER_LEASE: u32 = 3;

/// What was approved may not lie about for longer, as a check of the schema says too.
const COOLING_OFF_MAX: Duration = Duration::from_hours(31 * 24);

pub(super) fn refuse(config: &Config, faults: &mut Faults) {
    lease(config, faults);
    pairs(config, faults);
    audit(config, faults);
    deletions(config, faults);
    aws(config, faults);
    metrics(config, faults);
    traces(config, faults);
    if config.environment == Environment::Production {
        production(config, faults);
    }
}

fn lease(config: &Config, faults: &mut Faults) {
    let worker = &config.worker;
    if worker.lease < worker.heartbeat * HEARTBEATS_PER_LEASE {
        let what = format!(
            "`worker.lease` of {:?} is shorter than three heartbeats of {:?}",
            worker.lease, worker.heartbeat
        );
        faults.add(config.place("worker.lease"), what, "raise `worker.lease` or lower `worker.heartbeat`");
    }
    if worker.queues.iter().any(String::is_empty) {
        faults.add(config.place("worker.queues"), "`worker.queues` has an empty name", "remove it");
    }
}

/// Half of what only works together.
fn pairs(config: &Config, faults: &mut Faults) {
    let Database { url, direct_url, provisioning_url, .. } = &config.database;
    let mut lonely = |path: &'static str, what: &str, help: &str| {
        let at = [path.to_owned(), format!("{path}_file")];
        let place = at.iter().find(|path| config.settings.contains_key(path.as_str()));
        let place = place.map_or_else(|| "configuration".to_owned(), |path| config.place(path));
        faults.add(place, format!("`{path}` {what}"), help);
    };
    if direct_url.is_some() && url.is_none() {
        lonely(
            "database.direct_url",
            "is set without `database.url`",
            "set `database.url` too, or remove it",
        );
    }
    if provisioning_url.is_some() && url.is_none() {
        lonely(
            "database.provisioning_url",
            "is set without `database.url`",
            "set `database.url` too, or remove it",
        );
    }
    if provisioning_url.is_some() && config.tenants.password_key_file.is_none() {
        lonely(
            "database.provisioning_url",
            "is set without `tenants.password_key_file`",
            "a tenant's role needs a password: set the key's file too",
        );
    }
}

fn audit(config: &Config, faults: &mut Faults) {
    let (key, folder) = ("audit.signing_key_file", "audit.checkpoint_folder");
    let (lonely, missing) = match (&config.audit.signing_key_file, &config.audit.checkpoint_folder) {
        (Some(_), None) => (key, folder),
        (None, Some(_)) => (folder, key),
        _ => return,
    };
    let help = "a checkpoint needs a key that signs it and a place to go to: set both or neither";
    faults.add(config.place(lonely), format!("`{lonely}` is set without `{missing}`"), help);
}

fn deletions(config: &Config, faults: &mut Faults) {
    let cooling_off = config.tenants.deletion_cooling_off;
    if cooling_off > COOLING_OFF_MAX {
        let what = format!("`tenants.deletion_cooling_off` of {cooling_off:?} is too long");
        faults.add(config.place("tenants.deletion_cooling_off"), what, "31d is the most");
    }
}

fn aws(config: &Config, faults: &mut Faults) {
    let Some(endpoint) = &config.keys.aws_endpoint else { return };
    if config.keys.aws_credentials_file.is_none() {
        let what = "`keys.aws_endpoint` is set without `keys.aws_credentials_file`";
        faults.add(config.place("keys.aws_endpoint"), what, "set that too, or remove it");
    }
    let is_private = config.environment == Environment::Production;
    let url = ::url::Url::parse(endpoint).ok();
    let schemes: &[&str] = if is_private { &["https"] } else { &["https", "http"] };
    if url.is_none_or(|url| !schemes.contains(&url.scheme())) {
        let what = format!("`keys.aws_endpoint` {endpoint:?} is no address to send keys to");
        faults.add(
            config.place("keys.aws_endpoint"),
            what,
            "write it like https://kms.eu-central-1.amazonaws.com/",
        );
    }
}

fn metrics(config: &Config, faults: &mut Faults) {
    if let Some(bind) = config.telemetry.metrics_bind
        && !bind.ip().is_loopback()
        && !config.telemetry.metrics_public
    {
        faults.add(
            config.place("telemetry.metrics_bind"),
            format!(
                "`telemetry.metrics_bind` {bind} can be reached from other machines, without authentication"
            ),
            "bind to 127.0.0.1, or say that it is meant with `telemetry.metrics_public = true`",
        );
    }
}

fn traces(config: &Config, faults: &mut Faults) {
    if config.telemetry.otlp_endpoint.is_some() && !cfg!(feature = "otlp") {
        faults.add(
            config.place("telemetry.otlp_endpoint"),
            "`telemetry.otlp_endpoint` is set, but this program was built without the feature `otlp`",
            "remove it, or build with `--features otlp`",
        );
    }
}

fn production(config: &Config, faults: &mut Faults) {
    let Database { url, direct_url, provisioning_url, .. } = &config.database;
    let names_one = ["database.url", "database.url_file"].iter().any(|key| config.settings.contains_key(key));
    if !names_one {
        faults.add(
            config.place("environment"),
            "production needs a database of its own: neither `database.url` nor `database.url_file` is set",
            "set one; the private Postgres is for development",
        );
    }
    if url.is_some() && config.tenants.password_key_file.is_none() {
        faults.add(
            config.place("environment"),
            "production needs `tenants.password_key_file`",
            "write 32 random bytes to a file of mode 0600 and name it",
        );
    }
    let urls = [
        ("database.url", url),
        ("database.direct_url", direct_url),
        ("database.provisioning_url", provisioning_url),
    ];
    for (path, url) in urls {
        let Some(url) = url else { continue };
        if url.is_plaintext() {
            let what = format!("`{path}` {url} does not insist on encryption, which production needs");
            faults.add(config.url_place(path), what, "add sslmode=verify-full (or at least require) to it");
        }
        if url.has_default_password() {
            let what = format!("`{path}` {url} has an empty or a default password");
            faults.add(config.url_place(path), what, "give the role a password of its own");
        }
    }
}
