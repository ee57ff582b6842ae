//! Prose that nothing runs goes stale: the commands and paths of the documents are looked up.

use std::{fs, path::Path, process::Command};

const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "ops/bench.md"];

fn text(document: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap()
}

/// The shell lines of the documents that call the program.
fn commands() -> Vec<Vec<String>> {
    let lines = DOCUMENTS.map(text).join("\n");
    let calls = lines.lines().filter_map(|line| line.trim().strip_prefix("tenure "));
    let without_comment = calls.map(|call| call.split(" #").next().unwrap_or_default());
    without_comment.map(|call| call.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn commands_in_the_documents_are_understood() {
    let commands = commands();
    assert!(commands.len() >= 5, "the documents show {} commands", commands.len());
    for arguments in commands {
        // The flags are read before the help that is asked for at the end.
        let output =
            Command::new(env!("CARGO_BIN_EXE_tenure")).args(&arguments).arg("--help").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`tenure {}`: {said}", arguments.join(" "));
    }
}

#[test]
fn paths_in_the_documents_exist() {
    for document in DOCUMENTS {
        for quoted in text(document).split('`').skip(1).step_by(2) {
            let is_path = ["crates/", "jobs/", "src/", "ops/", "config/", "tests/", "migrations/"]
                .iter()
                .any(|folder| quoted.starts_with(folder));
            if is_path && !quoted.contains(['{', ' ', '*']) {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(quoted);
                assert!(path.exists(), "{document} speaks of {quoted}, which is not there");
            }
        }
    }
}
