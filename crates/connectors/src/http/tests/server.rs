//! Servers for tests: one that answers properly, and one that writes whatever bytes it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::testing::{Sink, source};
use crate::{Definition, Source, SourceError};

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> usize {
        self.param(name).map_or(0, |text| text.parse().unwrap())
    }
}

/// A server that lives as long as this.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer in JSON.
pub(super) fn json(body: impl Into<String>) -> Response<Body> {
    answer(200, &[("content-type", "application/json")], body.into())
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

impl Server {
    /// Answers every request by `respond`; the number counts from 0.
    pub(super) async fn start(
        respond: impl Fn(&Seen, usize) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, respond) = (Arc::clone(&seen), Arc::new(respond));
        let app = Router::new().fallback(move |request: Request| {
            let (log, respond) = (Arc::clone(&log), Arc::clone(&respond));
            async move {
                let seen = saw(request).await;
                let count = {
                    let mut log = log.lock().unwrap();
                    log.push(seen.clone());
                    log.len() - 1
                };
                respond(&seen, count)
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen, task }
    }

    /// Writes these bytes to whoever connects, once the request's head has come, and hangs up.
    pub(super) async fn raw(bytes: Vec<u8>) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else { break };
                    head.push(byte);
                }
                // Who hangs up first is part of what is tested.
                drop(socket.write_all(&bytes).await);
                drop(socket.shutdown().await);
            }
        });
        Self { url, seen, task }
    }

    pub(super) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// A definition whose `[http]` section and one stream `rows` have these bodies besides the address.
    pub(super) fn definition(&self, http: &str, stream: &str) -> Definition {
        let text = format!(
            "name = \"people\"\nkind = \"http\"\n[http]\nbase_url = \"{}\"\n{http}\n\
             [[streams]]\nname = \"rows\"\npath = \"rows\"\nkey = [\"id\"]\n{stream}\n",
            self.url
        );
        Definition::parse(&text, "people.toml").unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) async fn source(&self, http: &str, stream: &str) -> (Source, Definition) {
        let definition = self.definition(http, stream);
        let mut source = source(&definition).await;
        source.without_pauses();
        (source, definition)
    }

    /// One run into an empty sink.
    pub(super) async fn run(&self, http: &str, stream: &str) -> (Sink, Result<(), SourceError>) {
        let (source, definition) = self.source(http, stream).await;
        let mut sink = Sink::default();
        let ended = sink.run(&source, &definition.streams()[0], 1000).await;
        (sink, ended)
    }
}

async fn saw(request: Request) -> Seen {
    let (parts, body) = request.into_parts();
    let url = reqwest::Url::parse(&format!("http://test{}", parts.uri)).unwrap();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Seen {
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}
