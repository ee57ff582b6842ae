//! The worker process: probes, metrics, the end.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use crate::support::Bench;

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_worker_answers_probes_counts_its_work_and_stops_in_order() {
    let bench = Bench::with_database().await;
    bench.file("tenure.toml", "[telemetry]\nmetrics_bind = \"127.0.0.1:0\"\n");
    let mut worker = bench.start(&["work"]);
    let line = worker.says("metrics and probes answer on");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
    let ready = get(address, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"ready\":true"), "{ready}");

    let created = bench.run(&["tenant", "create", "acme", "--wait"]);
    assert_eq!(created.code, Some(0), "{created:#?}");
    assert!(!created.stderr.contains("running one here"), "the worker was seen: {}", created.stderr);
    bench.ok(&["queue", "pause", "idle"]);
    let metrics = get(address, "/metrics");
    for expected in [
        "tenure_jobs_finished_total{queue=\"local\",kind=\"tenant_provision\",outcome=\"succeeded\"} 1",
        "tenure_queue_ready{queue=\"idle\"} 0",
        "tenure_job_wait_seconds_bucket",
        "tenure_database_up 1",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in {metrics}");
    }
    let tenant = bench.json(&["tenant", "show", "acme"])["id"].as_str().unwrap().to_owned();
    assert!(!metrics.contains(&tenant) && !metrics.contains("acme"), "no tenant is a label");

    worker.signal("TERM");
    assert_eq!(worker.ends(), Some(0));
    let workers = bench.json(&["worker", "list", "--all"]);
    assert_eq!(workers["workers"][0]["state"], "ended", "{workers}");
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_that_still_drains() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    // A source that takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = bench.file(
        "api.toml",
        &format!(
            "name = \"api\"\nkind = \"http\"\n[http]\nbase_url = \"http://{}/\"\n[[streams]]\nname = \"people\"\n\
             path = \"people\"\nkey = [\"id\"]\nrecords = \"data\"\npagination = {{ type = \"none\" }}\n",
            silent.local_addr().unwrap()
        ),
    );
    let detached = bench.json(&["connector", "sync", &file, "--detach"]);
    let job = detached["jobs"][0].as_str().unwrap();
    let mut worker = bench.start(&["work"]);
    let _connected = silent.accept().unwrap();
    worker.signal("TERM");
    worker.says("asked to stop");
    worker.signal("TERM");
    assert_eq!(worker.ends(), Some(130));
    assert_eq!(
        bench.json(&["job", "get", job])["job"]["state"],
        "running",
        "it is for another worker to take over"
    );
}

#[tokio::test]
async fn logs_are_json_off_a_terminal_with_the_job_and_its_fence() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme"]);
    let worked = bench.run(&["work", "--until-empty"]);
    assert_eq!(worked.code, Some(0), "{worked:#?}");
    let lines = worked.stderr.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let step =
        lines.into_iter().find(|line| line["message"] == "provisioning").expect("the job logs its steps");
    assert_eq!(step["span"]["job.kind"], "tenant_provision", "{step}");
    assert!(step["span"]["job.fence"].is_string() && step["span"]["tenant"].is_string(), "{step}");
}

#[cfg(feature = "otlp")]
#[tokio::test]
async fn a_job_remembers_the_trace_in_which_it_was_enqueued_and_its_attempt_joins_it() {
    let bench = Bench::with_database().await;
    let (endpoint, collector) = collector(2);
    let traced = |arguments: &[&str]| {
        let ran = crate::support::ran(bench.command(arguments).env("TENURE_OTLP_ENDPOINT", &endpoint));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    };
    traced(&["tenant", "create", "acme"]);
    let asked = "select traceparent from queue.job";
    let traceparent: String = sqlx::query_scalar(asked).fetch_one(&mut bench.connect().await).await.unwrap();
    traced(&["work", "--until-empty"]);
    let sent = collector.join().unwrap();
    let trace = traceparent.split('-').nth(1).unwrap();
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[2 * at..2 * at + 2], 16).unwrap()).collect();
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(sent.iter().all(|body| has(body, &id)), "both processes sent spans of the trace {trace}");
    assert!(has(&sent[1], b"tenant_provision"));
}

/// Takes this many requests of a collector's and gives their bodies.
#[cfg(feature = "otlp")]
fn collector(requests: usize) -> (String, std::thread::JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let taking = std::thread::spawn(move || {
        let take = |_| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let end = loop {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
                if request.ends_with(b"\r\n\r\n") {
                    break String::from_utf8(std::mem::take(&mut request)).unwrap().to_lowercase();
                }
            };
            let length = end.split("content-length: ").nth(1).unwrap().split_whitespace().next().unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            body
        };
        (0..requests).map(take).collect()
    });
    (endpoint, taking)
}
