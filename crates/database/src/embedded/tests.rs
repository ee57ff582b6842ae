//! The embedded server as a whole. The server's own folder lies where its user can enter it, beside the test
//! databases' one.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::{env, fs, thread};

use sqlx::{Connection, PgConnection};

use super::installation::Installation;
use super::*;

/// Names the folder for [`child_that_keeps_a_server`].
const FOLDER_VARIABLE: &str = "TENURE_TEST_EMBEDDED_FOLDER";

/// A folder that goes with the test.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("the temporary folder takes one more");
    // The server runs as another user when we are root.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    folder
}

fn start(folder: &Path) -> Embedded {
    Embedded::start_or_attach(Options::at(folder.join("server"))).expect("an installed Postgres starts")
}

fn ask<T>(embedded: &Embedded, question: &'static str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let options = embedded.options("postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut conn = PgConnection::connect_with(&options).await.expect("the server takes connections");
        let answer = sqlx::query_scalar(question).fetch_one(&mut conn).await.expect("the server answers");
        conn.close().await.expect("nothing hinders the end");
        answer
    })
}

#[test]
fn the_server_is_durable_private_and_not_root() {
    let folder = folder();
    let embedded = start(folder.path());
    assert!(embedded.is_owner());
    let setting = |name| ask::<String>(&embedded, name);
    assert_eq!(setting("show fsync"), "on");
    assert_eq!(setting("show full_page_writes"), "on");
    assert_eq!(setting("show data_checksums"), "on");
    assert_eq!(setting("show listen_addresses"), "");
    assert_eq!(setting("show server_encoding"), "UTF8");
    for private in ["server/data", "server/socket"] {
        let found = fs::metadata(folder.path().join(private)).expect("the server has made it");
        assert_eq!(found.mode() & 0o777, 0o700, "{private}");
        assert_ne!(found.uid(), 0, "{private}");
    }
    embedded.stop().expect("the server stops");
    assert_eq!(Folder::at(&folder.path().join("server")).pid_file(), None);
}

#[test]
fn its_url_leads_where_its_options_lead() {
    let folder = folder();
    let embedded = start(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let there: String = runtime.block_on(async {
        let mut conn = PgConnection::connect(&embedded.url("template1")).await.expect("sqlx reads the URL");
        sqlx::query_scalar("select current_database()::text").fetch_one(&mut conn).await.unwrap()
    });
    assert_eq!(there, "template1");
    assert_eq!(percent_encoded("/a b/ü?&"), "%2Fa%20b%2F%C3%BC%3F%26");
}

#[test]
fn a_second_start_attaches_and_its_stop_stops_nothing() {
    let folder = folder();
    let owner = start(folder.path());
    let mut second = start(folder.path());
    assert!(!second.is_owner());
    assert!(matches!(second.restart(ShutdownMode::Fast), Err(EmbeddedError::NotOwner)));
    second.stop().expect("there is nothing to do");
    assert_eq!(ask::<i32>(&owner, "select 1"), 1);
}

#[test]
fn data_survives_a_stop_and_a_crash() {
    let folder = folder();
    let mut embedded = start(folder.path());
    let create = "with made as (select pg_create_restore_point('x')) select 1 from made";
    assert_eq!(ask::<i32>(&embedded, create), 1);
    let socket = embedded.socket().to_owned();
    let identity: i64 = ask(&embedded, "select system_identifier from pg_control_system()");
    embedded.restart(ShutdownMode::Immediate).expect("it recovers");
    embedded.restart(ShutdownMode::Fast).expect("it comes back");
    assert_eq!(embedded.socket(), socket);
    embedded.stop().expect("it stops");
    let embedded = start(folder.path());
    assert_eq!(ask::<i64>(&embedded, "select system_identifier from pg_control_system()"), identity);
}

#[test]
fn a_long_path_gets_a_short_socket_that_goes_with_the_server() {
    let folder = folder();
    let long = folder.path().join("x".repeat(100));
    let embedded = start(&long);
    let socket = embedded.socket().to_owned();
    assert!(!socket.starts_with(&long));
    assert_eq!(ask::<i32>(&embedded, "select 1"), 1);
    embedded.stop().expect("it stops");
    assert!(!socket.exists());
}

#[test]
fn a_killed_initdb_leaves_nothing_that_is_taken_for_data() {
    let folder = folder();
    let unfinished = folder.path().join("server/data.unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    assert_eq!(ask::<i32>(&start(folder.path()), "select 1"), 1);
}

#[test]
fn data_of_another_version_is_refused_by_name() {
    let folder = folder();
    let data = folder.path().join("server/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9.6\n").unwrap();
    let refused =
        Embedded::start_or_attach(Options::at(folder.path().join("server"))).expect_err("9.6 is too old");
    assert!(matches!(refused, EmbeddedError::OtherMajor { made_by, .. } if made_by == "9.6"));
}

#[test]
fn a_folder_that_the_servers_user_cannot_enter_is_refused_by_name() {
    // Only root's server runs as another user.
    if !Account::choose().unwrap().is_root() {
        return;
    }
    let private = folder();
    fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let refused = Embedded::start_or_attach(Options::at(private.path().join("server"))).expect_err("0700");
    assert!(matches!(refused, EmbeddedError::NotReachable { .. }), "{refused}");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = folder();
    let mut options = Options::at(folder.path().join("server"));
    options.settings.push(("shared_buffers".to_owned(), "nonsense".to_owned()));
    let refused = Embedded::start_or_attach(options).expect_err("nonsense");
    assert!(
        matches!(&refused, EmbeddedError::NotStarted { said, .. } if said.contains("shared_buffers")),
        "{refused}"
    );
}

/// Not a test: the process that the next test kills.
#[test]
#[ignore = "run by the test of a killed parent"]
fn child_that_keeps_a_server() {
    let Some(folder) = env::var_os(FOLDER_VARIABLE) else { return };
    let embedded = Embedded::start_or_attach(Options::at(folder)).expect("an installed Postgres starts");
    println!("\nready {}", embedded.is_owner());
    // Until the parent kills us, or is gone itself.
    std::io::stdin().lines().for_each(drop);
}

/// A process of its own that has started the folder's server.
fn keeper_of(folder: &Path) -> Child {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::child_that_keeps_a_server", "--ignored", "--nocapture"])
        .env(FOLDER_VARIABLE, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary starts");
    let said = BufReader::new(child.stdout.as_mut().unwrap());
    let ready = said.lines().map_while(Result::ok).find(|line| line.starts_with("ready"));
    assert_eq!(ready.as_deref(), Some("ready true"));
    child
}

#[test]
fn a_killed_parent_leaves_no_server_and_the_next_one_starts_clean() {
    let folder = folder();
    let folder = folder.path().join("server");
    let mut child = keeper_of(&folder);
    let place = Folder::at(&folder);
    let pid = place.live_process().expect("the server runs");
    child.kill().expect("the child is ours");
    child.wait().expect("the child is ours");
    // Waits for the old server's end before it starts a new one.
    let embedded = Embedded::start_or_attach(Options::at(&folder)).expect("the folder is free");
    assert!(embedded.is_owner());
    assert_ne!(place.live_process(), Some(pid));
    let log = fs::read_to_string(place.log()).unwrap();
    assert!(!log.contains("not properly shut down"), "{log}");
}

/// The parent may die before its death has been tied to the server's: the server stays, and nobody has the folder.
#[test]
fn a_server_that_nobody_owns_is_ended_before_another_starts() {
    let folder = folder();
    let first = start(folder.path());
    let socket = first.socket().to_owned();
    first.stop().expect("it stops");
    let place = Folder::at(&folder.path().join("server"));
    let account = Account::choose().unwrap();
    let settings = format!("-c listen_addresses= -c unix_socket_directories={}", socket.display());
    let mut orphan = account.command(Installation::find(&place.data()).unwrap().program("pg_ctl"));
    orphan.args(["start", "-w", "-s", "-o", &settings, "-D"]).arg(place.data()).stdout(Stdio::null());
    assert!(orphan.status().expect("pg_ctl starts").success());
    let orphan = place.live_process().expect("the orphan runs");
    let embedded = start(folder.path());
    assert!(embedded.is_owner());
    assert_ne!(place.live_process(), Some(orphan));
}

#[test]
fn a_killed_parent_takes_its_server_along_though_nobody_starts_another() {
    let folder = folder();
    let folder = folder.path().join("server");
    let mut child = keeper_of(&folder);
    assert!(has_live_server(&folder));
    child.kill().expect("the child is ours");
    child.wait().expect("the child is ours");
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    while has_live_server(&folder) {
        assert!(Instant::now() < deadline, "the server is still there");
        thread::yield_now();
    }
}
