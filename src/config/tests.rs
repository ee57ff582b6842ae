use std::fs;

use super::*;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenure.toml");
    fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read(Some(&path), Path::new("/nowhere"), variables)
}

fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let error = read(text, variables).expect_err("the configuration is wrong");
    let name = |place: &str| place.rsplit('/').next().unwrap_or_default().to_owned();
    error
        .faults
        .iter()
        .map(|fault| format!("{}: {}; {}", name(&fault.place), fault.what, fault.help))
        .collect()
}

fn assert_refused(text: &str, variables: &[(&str, &str)], expected: &str) {
    let faults = faults(text, variables);
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected:?} is not in {faults:#?}");
}

#[test]
fn every_key_stands_in_the_file_of_defaults_with_its_variable() {
    for key in &KEYS {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let text = layers::DEFAULTS;
        let part = match section {
            "" => text.split("\n[").next().unwrap(),
            section => {
                text.split(&format!("\n[{section}]")).nth(1).expect(section).split("\n[").next().unwrap()
            }
        };
        let line = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{name} = "));
        assert!(part.lines().any(line), "config/default.toml lacks {}", key.path);
        assert!(part.contains(key.variable), "config/default.toml lacks {}", key.variable);
    }
}

#[test]
fn the_shipped_files_are_valid() {
    let config = Config::read(None, Path::new("/nowhere"), Vec::new()).expect("the defaults alone are valid");
    assert_eq!((config.worker.slots, config.worker.lease), (16, Duration::from_secs(30)));
    read(include_str!("../../config/development.toml"), &[]).expect("config/development.toml is valid");
    let production =
        read(include_str!("../../config/production.example.toml"), &[]).expect_err("its secrets are absent");
    assert!(
        production.faults.iter().all(|fault| fault.what.contains("cannot be read")),
        "{:#?}",
        production.faults
    );
}

#[test]
fn the_environment_overrides_the_file_which_overrides_the_defaults() {
    let config = read("[worker]\nslots = 3\nlease = \"60s\"", &[("TENURE_WORKER_SLOTS", "4")]).unwrap();
    assert_eq!((config.worker.slots, config.worker.lease), (4, Duration::from_mins(1)));
    assert_eq!(config.settings["worker.slots"].origin, Origin::Variable("TENURE_WORKER_SLOTS"));
    assert!(matches!(config.settings["worker.lease"].origin, Origin::File(_, 3)));
    assert_eq!(config.settings["worker.grace"].origin, Origin::Default);
    let config = read("[worker]\nslots = 3", &[("TENURE_WORKER_SLOTS", "")]).unwrap();
    assert_eq!(config.worker.slots, 3, "an empty variable is the same as none");
}

#[test]
fn all_faults_are_told_at_once_with_their_places() {
    let text = "region = \"EU\"\n[worker]\nslot = 3\nlease = \"soon\"\nheartbeat = 5\n[wroker]\nslots = 1\n";
    let told = faults(text, &[("TENURE_WORKER_SLOTZ", "1"), ("TENURE_METRICS_BIND", "here")]);
    insta::assert_snapshot!(told.join("\n"), @r#"
    tenure.toml:3: there is no key `worker.slot`; did you mean `worker.slots`? config/default.toml lists every key
    tenure.toml:6: there is no key `wroker`; did you mean `worker`? config/default.toml lists every key
    variable TENURE_WORKER_SLOTZ: there is no such setting; did you mean TENURE_WORKER_SLOTS? otherwise unset it
    tenure.toml:1: `region` cannot be "EU"; begin with a letter a-z and go on with a-z, 0-9 and -, at most 40 in all
    tenure.toml:4: `worker.lease` is not a duration; write a whole number and ms, s, m, h or d, such as "30s"
    tenure.toml:5: `worker.heartbeat` must be text; write it in quotes
    variable TENURE_METRICS_BIND: `telemetry.metrics_bind` cannot be "here"; write an address and a port, such as "127.0.0.1:9464"
    "#);
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_refused() {
    let absent = Config::read(Some(Path::new("/nowhere.toml")), Path::new("/nowhere"), Vec::new());
    assert!(absent.unwrap_err().faults[0].what.contains("cannot be read"));
    assert_refused("region = \n", &[], "tenure.toml:1: this is not TOML");
}

#[test]
fn a_lease_survives_two_lost_heartbeats() {
    assert_refused(
        "[worker]\nlease = \"29s\"",
        &[],
        "`worker.lease` of 29s is shorter than three heartbeats of 10s",
    );
    read("[worker]\nlease = \"30s\"", &[]).unwrap();
}

#[test]
fn half_of_a_pair_is_refused() {
    let url = ("DATABASE_URL", "postgres://ada@db/app");
    let provisioning = ("TENURE_DATABASE_PROVISIONING_URL", "postgres://root@db/app");
    assert_refused("", &[url, provisioning], "without `tenants.password_key_file`");
    assert_refused("", &[provisioning], "without `database.url`");
    assert_refused("", &[("TENURE_DATABASE_DIRECT_URL", "postgres://ada@db/app")], "without `database.url`");
    assert_refused("", &[url, ("TENURE_DATABASE_URL_FILE", "/x")], "stands beside `database.url`");
    let key = ("TENURE_AUDIT_SIGNING_KEY_FILE", "/x");
    assert_refused("", &[key], "without `audit.checkpoint_folder`");
    assert_refused("[audit]\ncheckpoint_folder = \"/x\"", &[], "without `audit.signing_key_file`");
    read("[audit]\ncheckpoint_folder = \"/x\"", &[key]).unwrap();
}

#[test]
fn a_variable_replaces_the_files_way_to_name_a_url() {
    let config =
        read("[database]\nurl_file = \"/nowhere\"", &[("DATABASE_URL", "postgres://ada@db/app")]).unwrap();
    assert_eq!(config.database.url.unwrap().to_string(), "postgres://ada@db/app");
}

#[test]
fn a_deletion_cools_off_for_a_month_at_most() {
    assert_refused("[tenants]\ndeletion_cooling_off = \"32d\"", &[], "31d is the most");
    assert_refused("[tenants]\ndeletion_cooling_off = \"0s\"", &[], "is not a duration");
    let config = read("[tenants]\ndeletion_cooling_off = \"31d\"\nbackup_days = 35", &[]).unwrap();
    assert_eq!(config.tenants.backup_days, Some(35));
    assert_eq!(read("", &[]).unwrap().tenants.backup_days, None, "nobody has said it");
}

#[test]
fn a_listener_beyond_loopback_must_be_meant() {
    let bind = ("TENURE_METRICS_BIND", "0.0.0.0:9464");
    assert_refused("", &[bind], "can be reached from other machines");
    read("", &[bind, ("TENURE_METRICS_PUBLIC", "true")]).unwrap();
    read("", &[("TENURE_METRICS_BIND", "[::1]:9464")]).unwrap();
}

#[test]
fn t5_production_refuses_what_is_unsafe() {
    let production = ("TENURE_ENVIRONMENT", "production");
    assert_refused("", &[production], "production needs a database of its own");
    let plain = ("DATABASE_URL", "postgres://ada:b3tter@db/app");
    assert_refused("", &[production, plain], "does not insist on encryption");
    assert_refused("", &[production, plain], "production needs `tenants.password_key_file`");
    let weak = ("DATABASE_URL", "postgres://postgres:postgres@db/app?sslmode=require");
    assert_refused("", &[production, weak], "has an empty or a default password");
    let good = ("DATABASE_URL", "postgres://ada:b3tter@db/app?sslmode=verify-full");
    read("", &[production, good, ("TENURE_TENANTS_PASSWORD_KEY_FILE", "/run/key")]).unwrap();
    read("", &[plain]).expect("development takes it");
}

#[test]
fn i7_no_fault_repeats_a_password() {
    let url = "postgres://ada:hunter2@db/app?sslmode=disable";
    for text in [url, "postgres:ada:hunter2@@db", "mysql://ada:hunter2@db/app"] {
        let told = faults("", &[("TENURE_ENVIRONMENT", "production"), ("DATABASE_URL", text)]);
        assert!(!told.join(" ").contains("hunter2"), "{told:?}");
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_collector_needs_a_program_that_can_speak_to_it() {
    assert_refused("", &[("TENURE_OTLP_ENDPOINT", "http://127.0.0.1:4318")], "without the feature `otlp`");
}
