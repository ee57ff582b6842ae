//! `with-postgres`: the command gets a server, and nothing is left behind.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use database::testing::SERVER_VARIABLE;

/// Prints the server's URL, then lives until it is told to end, or until the test is over and its input ends.
const COMMAND: &str = r#"printf '%s\n' "$TENURE_TEST_SERVER"; exec cat"#;

fn with_postgres(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-postgres"));
    command.args(["--", "sh", "-c", script]).env_remove(SERVER_VARIABLE);
    command
}

/// The program, running, and the folder of its server.
fn running() -> (Child, PathBuf) {
    let mut child = with_postgres(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut url = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped"))
        .read_line(&mut url)
        .expect("the command speaks");
    let (_, rest) = url.split_once("host=").expect("the URL names the socket");
    let (socket, _) = rest.split_once('&').expect("and more");
    let socket = PathBuf::from(socket.replace("%2F", "/"));
    assert!(socket.join(".s.PGSQL.5432").exists(), "{url}");
    (child, socket.parent().expect("the socket lies in the server's folder").to_owned())
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, "--", &child.id().to_string()]).status();
    assert!(sent.expect("there is a kill").success());
}

fn within_patience<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        thread::yield_now();
    }
}

fn end_of(child: &mut Child) -> ExitStatus {
    within_patience("the program ends", || child.try_wait().expect("the child is ours"))
}

#[test]
fn the_commands_exit_code_is_ours() {
    let status = with_postgres("exit 7").status().expect("the program starts");
    assert_eq!(status.code(), Some(7));
    let status = with_postgres("kill -KILL $$").status().expect("the program starts");
    assert_eq!(status.code(), Some(137));
}

#[test]
fn a_program_that_is_told_to_end_leaves_nothing() {
    let (mut child, folder) = running();
    signal(&child, "TERM");
    assert_eq!(end_of(&mut child).code(), Some(143), "the command was told, and ended by it");
    assert!(!folder.exists());
}

#[test]
fn an_interrupted_program_leaves_nothing() {
    let (mut child, folder) = running();
    // Only the program is told, so it passes the word on after its grace.
    signal(&child, "INT");
    assert_eq!(end_of(&mut child).code(), Some(143));
    assert!(!folder.exists());
}

#[test]
fn a_killed_program_leaves_nothing() {
    let (mut child, folder) = running();
    let pid = std::fs::read_to_string(folder.join("data/postmaster.pid")).expect("the server runs");
    // Its working folder rather than the process itself, which stays in the list until somebody reaps it.
    let server = format!("/proc/{}/cwd", pid.lines().next().expect("the first line is the process"));
    assert!(std::fs::read_link(&server).is_ok());
    child.kill().expect("the child is ours");
    end_of(&mut child);
    within_patience("the server is gone", || std::fs::read_link(&server).err());
    within_patience("the folder is gone", || (!folder.exists()).then_some(()));
}

#[test]
fn a_command_that_does_not_exist_is_an_error_and_leaves_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-postgres"));
    let output = command.args(["--", "/nowhere/at-all"]).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No such file"), "{output:?}");
    let bare = Command::new(env!("CARGO_BIN_EXE_with-postgres")).output().expect("the program starts");
    assert_eq!(bare.status.code(), Some(2));
}
