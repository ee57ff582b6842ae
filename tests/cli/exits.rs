//! Each exit code, provoked.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
};

use sqlx::{AssertSqlSafe, Row};

use crate::support::{Bench, object, ran};

/// The error object of a run that must end with this code.
fn error(bench: &Bench, arguments: &[&str], code: i32) -> serde_json::Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    let ran = bench.run(&arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
    object(&ran.stdout)["error"].clone()
}

#[test]
fn a_wrong_command_line_is_2() {
    let bench = Bench::without_database();
    assert_eq!(bench.run(&["jobs"]).code, Some(2));
    assert_eq!(bench.run(&["job", "get", "first"]).code, Some(2));
    let error = error(&bench, &["job", "list", "--state", "asleep"], 2);
    assert_eq!(error["code"], "usage");
    assert!(error["message"].as_str().unwrap().contains("write ready, running"), "{error}");
}

#[tokio::test]
async fn what_does_not_exist_is_3() {
    let bench = Bench::with_database().await;
    assert_eq!(error(&bench, &["job", "get", "99"], 3)["code"], "not_found");
    error(&bench, &["job", "wait", "99"], 3);
    error(&bench, &["job", "retry", "99"], 3);
    error(&bench, &["job", "cancel", "99"], 3);
    error(&bench, &["tenant", "show", "nobody"], 3);
}

#[tokio::test]
async fn what_a_state_does_not_admit_is_4_and_a_job_that_ended_badly_8() {
    let bench = Bench::with_database().await;
    let created = bench.json(&["tenant", "create", "acme"]);
    let job = created["job"].as_str().expect("ids are text");
    bench.ok(&["job", "cancel", job]);
    let refused = error(&bench, &["job", "cancel", job], 4);
    assert!(refused["message"].as_str().unwrap().contains("is cancelled"), "{refused}");
    let waited = bench.run(&["job", "wait", job, "--json"]);
    assert_eq!(waited.code, Some(8), "{waited:#?}");
    assert_eq!(object(&waited.stdout)["job"]["state"], "cancelled");
    bench.ok(&["job", "retry", job]);
    let region = error(&bench, &["tenant", "create", "acme", "--region", "elsewhere"], 4);
    assert!(region["message"].as_str().unwrap().contains("exists already, in region local"), "{region}");
}

#[tokio::test]
async fn a_role_that_may_not_connect_is_5() {
    let bench = Bench::with_database().await;
    let mut conn = bench.connect().await;
    let database: String =
        sqlx::query("select current_database()").fetch_one(&mut conn).await.unwrap().get(0);
    let role = format!("outsider_{database}");
    let make = format!("create role {role} login; revoke connect on database {database} from public");
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut conn).await.unwrap();
    let url = bench.database().url().replace("user=postgres", &format!("user={role}"));
    let ran = ran(bench.command(&["job", "list", "--json"]).env("DATABASE_URL", url));
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert_eq!(object(&ran.stdout)["error"]["code"], "not_permitted");
}

#[test]
fn a_server_that_does_not_answer_is_6() {
    let bench = Bench::without_database();
    // Bound and dropped: nobody listens there now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://ada:s3cret@127.0.0.1:{port}/app");
    let ran = ran(bench.command(&["job", "list"]).env("DATABASE_URL", url));
    assert_eq!(ran.code, Some(6), "{ran:#?}");
    assert!(ran.stderr.contains("postgres://ada:…@127.0.0.1"), "{}", ran.stderr);
    assert!(ran.stderr.contains("variable DATABASE_URL"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
}

#[test]
fn a_wrong_password_is_78_and_is_not_repeated() {
    let bench = Bench::without_database();
    let (port, server) = server_that_refuses_passwords();
    let url = format!("postgres://ada:s3cret@127.0.0.1:{port}/app?sslmode=disable");
    let ran = ran(bench.command(&["job", "list"]).env("DATABASE_URL", url));
    server.join().unwrap();
    assert_eq!(ran.code, Some(78), "{ran:#?}");
    assert!(ran.stderr.contains("refused the role or its password"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
}

/// Speaks just enough of Postgres's protocol: asks for a password, then answers SQLSTATE 28P01.
fn server_that_refuses_passwords() -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut message = |prefix: usize| {
            let mut head = vec![0; prefix + 4];
            client.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes(head[prefix..].try_into().unwrap());
            let mut body = vec![0; length as usize - 4];
            client.read_exact(&mut body).unwrap();
            client.try_clone().unwrap()
        };
        // The startup message has no type byte; the password's has one.
        message(0).write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).unwrap();
        let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"ada\"\0\0";
        let mut answer = vec![b'E'];
        answer.extend(u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
        answer.extend(fields);
        message(1).write_all(&answer).unwrap();
    });
    (port, serving)
}

#[tokio::test]
async fn a_configuration_fault_and_an_old_schema_are_78_and_a_failed_check_1() {
    let bench = Bench::with_empty_database().await;
    let old = error(&bench, &["job", "list"], 78);
    assert_eq!(old["help"], "run `tenure db migrate`");
    let doctor = bench.run(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:#?}");
    assert!(doctor.stdout.contains("failed   schema: control lacks 2 migrations"), "{}", doctor.stdout);
    bench.ok(&["db", "migrate"]);
    bench.ok(&["job", "list"]);
    // The server of the tests runs without fsync, which is a failure of its own.
    let doctor = bench.run(&["doctor"]).stdout;
    assert!(
        doctor.contains("ok       schema: control") && doctor.contains("failed   durability: fsync"),
        "{doctor}"
    );
}

#[tokio::test]
async fn waiting_too_long_is_124() {
    let bench = Bench::with_database().await;
    let created = bench.json(&["tenant", "create", "acme"]);
    let late = error(&bench, &["job", "wait", created["job"].as_str().unwrap(), "--timeout", "1ms"], 124);
    assert_eq!(late["code"], "timeout");
}

#[tokio::test]
async fn a_signal_while_waiting_is_130() {
    let bench = Bench::with_database().await;
    let created = bench.json(&["tenant", "create", "acme"]);
    let waiting = bench.start(&["job", "wait", created["job"].as_str().unwrap()]);
    let mut conn = bench.connect().await;
    // It listens for signals before it asks the database anything.
    let asks = "select exists (select from pg_stat_activity where datname = current_database()
                and application_name = 'tenure' and query like '-- queue.%')";
    while !sqlx::query_scalar::<_, bool>(asks).fetch_one(&mut conn).await.unwrap() {}
    waiting.signal("INT");
    assert_eq!(waiting.ends(), Some(130));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let bench = Bench::without_database();
    let mut command = bench.command(&["completions", "bash"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
}
