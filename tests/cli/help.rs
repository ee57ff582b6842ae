use crate::support::Bench;

#[test]
fn help_stays_as_it_is_unless_it_is_meant_to_change() {
    let bench = Bench::without_database();
    let help = |arguments: &[&str]| bench.ok(arguments);
    insta::assert_snapshot!("help", help(&["--help"]));
    insta::assert_snapshot!("help_job_enqueue", help(&["job", "enqueue", "--help"]));
    insta::assert_snapshot!("help_connector_sync", help(&["connector", "sync", "--help"]));
}

#[test]
fn every_command_has_help() {
    let bench = Bench::without_database();
    let commands = |help: &str| -> Vec<String> {
        let list =
            help.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
        let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let all = commands(&bench.ok(&["--help"]));
    assert!(all.len() > 10, "{all:?}");
    for name in all.iter().filter(|name| *name != "help") {
        let help = bench.ok(&[name, "--help"]);
        assert!(help.contains("Usage: tenure"), "{help}");
        for inner in commands(&help).iter().filter(|name| *name != "help") {
            assert!(bench.ok(&[name, inner, "--help"]).contains("Usage: tenure"));
        }
    }
}

#[test]
fn completions_and_the_version_need_nothing() {
    let bench = Bench::without_database();
    for shell in ["bash", "zsh", "fish"] {
        assert!(bench.ok(&["completions", shell]).contains("tenure"), "{shell}");
    }
    assert_eq!(bench.ok(&["--version"]), format!("tenure {}\n", env!("CARGO_PKG_VERSION")));
    assert!(!bench.path("data").exists(), "nothing was started for that");
}
