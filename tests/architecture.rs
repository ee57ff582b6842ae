//! The rules of the house that no compiler knows. Each failure says what to do.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The workspace's own crates that a manifest depends on, tests excluded.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let crates = ["database", "queue", "connectors", "governance", "jobs", "vault", "verifier", "tenure"];
    let named = manifest["dependencies"].as_table().unwrap().keys();
    named.filter(|name| crates.contains(&name.as_str())).cloned().collect()
}

#[test]
fn arrows_between_crates_point_one_way() {
    for (manifest, allowed) in [
        ("crates/queue/Cargo.toml", &[][..]),
        ("crates/database/Cargo.toml", &[]),
        ("crates/connectors/Cargo.toml", &[]),
        ("crates/vault/Cargo.toml", &[]),
        ("crates/verifier/Cargo.toml", &[]),
        ("crates/governance/Cargo.toml", &["database", "queue", "verifier"]),
        ("jobs/Cargo.toml", &["connectors", "database", "governance", "queue", "vault", "verifier"]),
        ("Cargo.toml", &["connectors", "database", "governance", "jobs", "queue", "vault", "verifier"]),
    ] {
        let forbidden: Vec<_> =
            dependencies(manifest).into_iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(
            forbidden.is_empty(),
            "{manifest} depends on {forbidden:?}; the arrows are src → jobs → governance, connectors, vault → queue, database, verifier: \
             move what is needed down, or pass it in as a value"
        );
    }
}

#[test]
fn the_history_checker_shares_no_code_with_what_it_checks() {
    let manifest = "ops/proofs/chaos/Cargo.toml";
    let ours = dependencies(manifest);
    assert!(
        ours.is_empty(),
        "{manifest} depends on {ours:?}: a checker that shares code with the engine shares its mistakes; \
         drive the command line and SQL instead"
    );
    for (file, text) in sources("ops/proofs/chaos/src") {
        for sign in ["queue::", "database::", "connectors::", "jobs::", "#[path"] {
            assert!(!text.contains(sign), "{} uses {sign}", file.display());
        }
    }
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).unwrap();
                found.push((entry, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources: this test looks at the wrong place");
    found
}

#[test]
fn src_holds_no_sql() {
    let sql = [
        "query!(",
        "query_as!(",
        "query_scalar!(",
        "query_file",
        "sqlx::query(",
        "raw_sql",
        "\"select ",
        "\"insert into ",
        "\"update ",
        "\"delete from ",
        "\"create table",
        "\"with ",
    ];
    for (file, text) in sources("src") {
        let found: Vec<_> = sql.iter().filter(|sign| text.to_lowercase().contains(**sign)).collect();
        assert!(
            found.is_empty(),
            "{} has SQL ({found:?}): put the statement beside the function it serves, in crates/* or jobs",
            file.display()
        );
    }
}

#[test]
fn jobs_see_no_environment_no_configuration_and_no_http() {
    for (file, text) in sources("jobs/src") {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_of_tests = file.parent().is_some_and(|folder| folder.ends_with("tests"));
        for sign in ["std::env", "env::var", "reqwest", "axum", "toml::"] {
            assert!(
                !code.contains(sign)
                    || file.ends_with("testing.rs")
                    || file.ends_with("tests.rs")
                    || is_of_tests,
                "{} uses {sign}: a job gets values from Environment",
                file.display()
            );
        }
    }
}

#[test]
fn the_queue_names_no_kind_and_no_tenant_rule() {
    for (file, text) in sources("crates/queue/src") {
        for kind in jobs::catalogue() {
            // Some names are ordinary words as well: code can mean the kind only by a quoted text.
            let quoted = ['"', '\''].map(|quote| format!("{quote}{}{quote}", kind.name));
            let is_named = quoted.iter().any(|name| text.contains(name))
                || (kind.name.contains('_') && text.contains(kind.name));
            assert!(
                !is_named,
                "{} names the kind {}: the engine knows leases and states only",
                file.display(),
                kind.name
            );
        }
    }
}

#[test]
fn every_kind_is_registered_and_passes_the_battery() {
    let catalogue: BTreeSet<&str> = jobs::catalogue().iter().map(|kind| kind.name).collect();
    let library = fs::read_to_string(root().join("jobs/src/lib.rs")).unwrap();
    let mut found = BTreeSet::new();
    for (file, text) in sources("jobs/src") {
        let Some(name) =
            text.split("const KIND: &'static str = \"").nth(1).and_then(|rest| rest.split('"').next())
        else {
            continue;
        };
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, stem, "the kind {name} lives in {}: name the file after the kind", file.display());
        assert!(catalogue.contains(name), "the kind {name} is missing in jobs::catalogue(): add its line");
        let registered = format!(".with::<{stem}::");
        assert!(
            library.contains(&registered),
            "the kind {name} is missing in jobs::registry(): add `{registered}…>()`"
        );
        let tests = file.with_extension("").join("tests.rs");
        let tests = fs::read_to_string(tests).unwrap_or_default();
        assert!(
            text.contains("battery(") || tests.contains("battery("),
            "the kind {name} does not pass the battery: end its file with a test that calls testing::battery"
        );
        found.insert(name.to_owned());
    }
    let without_file: Vec<_> = catalogue.iter().filter(|name| !found.contains(**name)).collect();
    assert!(without_file.is_empty(), "kinds of the catalogue without a file in jobs/src: {without_file:?}");
}

#[test]
fn payload_examples_of_the_catalogue_are_taken() {
    for kind in jobs::catalogue() {
        let example = serde_json::from_str(kind.example).unwrap();
        (kind.check)(example)
            .unwrap_or_else(|error| panic!("the example of {} is refused: {error}", kind.name));
        let unknown = serde_json::from_str(r#"{"no_such_field": 1}"#).unwrap();
        assert!(
            (kind.check)(unknown).is_err(),
            "{} takes unknown fields: add deny_unknown_fields",
            kind.name
        );
    }
}

/// What stands between quotes and looks like the kind of an audit entry.
fn dotted_words(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |word: &&str| {
        let part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        word.split_once('.').is_some_and(|(family, event)| part(family) && part(event))
    };
    text.split('"').filter(is_word)
}

#[test]
fn every_kind_of_audit_entry_is_listed_and_every_listed_one_is_used() {
    let listed: BTreeSet<&str> = governance::audit::kinds::ALL.iter().map(|(kind, _)| *kind).collect();
    assert!(governance::audit::kinds::ALL.is_sorted(), "audit/kinds.rs: sort the kinds by name");
    // The name of an action in a plan, files, and a table.
    let others = ["candidate.promote", "audit.key", "tenant.key", "tenant.connector_credential"];
    let is_of_tests =
        |file: &Path| file.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"));
    let mut used = BTreeSet::new();
    for folder in ["crates/governance/src", "jobs/src", "src"] {
        for (file, text) in sources(folder) {
            // The configuration's keys have dots as well, and so have tables.
            let is_apart = file.ends_with("audit/kinds.rs")
                || file.ends_with("tenant_bundle/classification.rs")
                || file.starts_with(root().join("src/config"));
            if is_apart || is_of_tests(&file) {
                continue;
            }
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let appends = code.contains("Event {") || code.contains("Deed {") || code.contains("fn event(");
            for word in dotted_words(code).filter(|word| !others.contains(word)) {
                let family = word.split('.').next().unwrap_or_default();
                let is_known_family = listed.iter().any(|kind| kind.split('.').next() == Some(family));
                assert!(
                    listed.contains(word) || !(appends || is_known_family),
                    "{} speaks of `{word}`: enter that kind with a sentence in crates/governance/src/audit/kinds.rs",
                    file.display()
                );
                used.insert(word.to_owned());
            }
        }
    }
    let unused: Vec<_> = listed.iter().filter(|kind| !used.contains(**kind)).collect();
    assert!(unused.is_empty(), "audit/kinds.rs lists {unused:?}, which no code appends: remove them");
}

/// Verbs of the engine that a person's word sets off.
const VERBS: [&str; 17] = [
    "enqueue",
    "enqueue_all",
    "enqueue_once",
    "cancel",
    "retry",
    "release",
    "snooze",
    "reprioritise",
    "freeze",
    "thaw",
    "pause",
    "resume",
    "set_limit",
    "clear_limit",
    "put_schedule",
    "run_schedule",
    "delete_schedule",
];

#[test]
fn what_a_person_does_to_jobs_goes_through_the_operator_and_into_the_chain() {
    for (file, text) in sources("src") {
        if file.starts_with(root().join("src/operator")) || file.ends_with("src/operator.rs") {
            continue;
        }
        let code: String = text.split_whitespace().collect();
        for verb in VERBS {
            for call in [format!("queue().{verb}("), format!("queue.{verb}(")] {
                assert!(
                    !code.contains(&call),
                    "{} calls `{call}…)`: call `control.operator().{verb}(…)`, which puts it on record",
                    file.display()
                );
            }
        }
        assert!(!code.contains(".intervene("), "{}: intervene by src/operator.rs", file.display());
    }
}
