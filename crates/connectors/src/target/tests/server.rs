//! A server of one record that can be told to lie. Each answer is written to the socket by hand, so that it
//! can stop, break off or say anything.

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Target, target};

/// What the server does with a write, or with what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::target) enum Lie {
    None,
    /// Stores, then answers with this status.
    StoresAndSays(u16),
    /// Stores nothing and answers with this status, showing the record as if it had stored it.
    OnlySays(u16),
    /// Stores, and never answers.
    Hangs,
    /// Stores, and closes the connection.
    Cuts,
    /// Stores, and answers with a body without end.
    Floods,
    /// Stores; so many reads still show the record before.
    ShowsOld(usize),
    /// Stores whatever the precondition says.
    IgnoresPrecondition,
    /// Stores what somebody else writes just before a write is judged.
    IsEdited,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(in crate::target) struct Request {
    pub(in crate::target) method: String,
    pub(in crate::target) path: String,
    pub(in crate::target) head: String,
    pub(in crate::target) body: String,
}

#[derive(Debug)]
pub(in crate::target) struct State {
    pub(in crate::target) record: Option<String>,
    pub(in crate::target) version: u64,
    pub(in crate::target) requests: Vec<Request>,
    pub(in crate::target) connections: usize,
    pub(in crate::target) lie: Lie,
    /// Whether answers carry an ETag.
    pub(in crate::target) has_etag: bool,
    /// The idempotency keys it knows; `None` if it takes no notice of them.
    pub(in crate::target) keys: Option<Vec<String>>,
    /// Headers of every answer to a write.
    pub(in crate::target) headers: String,
    old: Option<(String, u64)>,
}

#[derive(Debug)]
pub(in crate::target) struct Server {
    pub(in crate::target) url: String,
    pub(in crate::target) state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// With this record.
    pub(in crate::target) async fn start(record: &str, lie: Lie) -> Self {
        let state = State {
            record: Some(record.to_owned()),
            version: 7,
            requests: Vec::new(),
            connections: 0,
            lie,
            has_etag: true,
            keys: None,
            headers: String::new(),
            old: None,
        };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { url, state, task }
    }

    /// The target with these keys in its two sections.
    pub(in crate::target) async fn target(&self, connection: &str, stream: &str) -> Target {
        target(&self.text(connection, stream)).await
    }

    pub(in crate::target) fn text(&self, connection: &str, stream: &str) -> String {
        let auth = if connection.contains("auth") { "" } else { "auth = { type = \"none\" }" };
        let owned = if stream.contains("owned") { "" } else { "owned = [\"email\"]" };
        format!(
            "name = \"crm\"\nkind = \"http\"\n[http]\nbase_url = {url:?}\n[target]\nbase_url = {url:?}\n{auth}\n\
             {connection}\n[[streams]]\nname = \"rows\"\npath = \"rows\"\nkey = [\"id\"]\n\
             pagination = {{ type = \"none\" }}\n[streams.target]\npath = \"rows/{{key}}\"\n{owned}\n{stream}\n",
            url = self.url,
        )
    }

    pub(in crate::target) fn now<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// The requests that were no reads.
    pub(in crate::target) fn writes(&self) -> Vec<Request> {
        self.now(|state| state.requests.iter().filter(|request| request.method != "GET").cloned().collect())
    }

    pub(in crate::target) fn record(&self) -> Value {
        self.now(|state| serde_json::from_str(state.record.as_ref().unwrap()).unwrap())
    }

    /// Somebody else's edit.
    pub(in crate::target) fn edit(&self, name: &str, value: Value) {
        self.now(|state| state.edit(name, value));
    }
}

async fn serve(socket: TcpStream, state: Arc<Mutex<State>>) {
    let mut socket = BufStream::new(socket);
    while let Some(request) = receive(&mut socket).await {
        let (lie, answer) = {
            let mut state = state.lock().unwrap();
            state.requests.push(request.clone());
            (state.lie, state.answer(&request))
        };
        let writes = request.method != "GET";
        match lie {
            Lie::Hangs if writes => return std::future::pending().await,
            Lie::Cuts if writes => return,
            Lie::Floods if writes => {
                drop(socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
                while socket.write_all(&[b'x'; 4096]).await.is_ok() {}
                return;
            }
            _ => {}
        }
        if socket.write_all(answer.as_bytes()).await.is_err() || socket.flush().await.is_err() {
            return;
        }
    }
}

async fn receive(socket: &mut BufStream<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let mut first = head.split(' ').map(str::to_owned);
    let (method, path) = (first.next()?, first.next()?);
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Request { method, path, head, body: String::from_utf8(body).unwrap() })
}

pub(in crate::target) fn header(head: &str, wanted: &str) -> Option<String> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned()))
}

impl State {
    fn answer(&mut self, request: &Request) -> String {
        if request.method == "GET" {
            return self.show();
        }
        if self.lie == Lie::IsEdited {
            self.edit("email", json!("a person's"));
            self.lie = Lie::None;
        }
        let etag = self.record.as_ref().map(|_| format!("\"{}\"", self.version));
        let matches = header(&request.head, "if-match").is_none_or(|wanted| Some(wanted) == etag)
            && header(&request.head, "if-none-match").is_none_or(|_| etag.is_none());
        if !matches && self.lie != Lie::IgnoresPrecondition {
            return self.say(412, "{\"said\":\"precondition\"}");
        }
        let stored = merged(self.record.as_deref(), request);
        if let (Some(keys), Some(key)) = (&mut self.keys, header(&request.head, "idempotency-key")) {
            if keys.contains(&key) {
                return self.say(200, "{}");
            }
            keys.push(key);
        }
        if let Lie::OnlySays(status) = self.lie {
            return self.say(status, &stored);
        }
        if let (Lie::ShowsOld(_), Some(record)) = (self.lie, self.record.clone()) {
            self.old = Some((record, self.version));
        }
        self.version += 1;
        self.record = Some(stored.clone());
        let status = if let Lie::StoresAndSays(status) = self.lie { status } else { 200 };
        self.say(status, &stored)
    }

    fn show(&mut self) -> String {
        if let (Lie::ShowsOld(reads), Some((record, version))) = (self.lie, self.old.clone()) {
            self.lie = Lie::ShowsOld(reads.saturating_sub(1));
            if reads > 0 {
                return reply(200, &format!("etag: \"{version}\"\r\n"), &record);
            }
        }
        match self.record.clone() {
            Some(record) => self.say_with_etag(&record),
            None => reply(404, "", "{}"),
        }
    }

    fn say_with_etag(&self, body: &str) -> String {
        let etag = if self.has_etag { format!("etag: \"{}\"\r\n", self.version) } else { String::new() };
        reply(200, &etag, body)
    }

    fn say(&self, status: u16, body: &str) -> String {
        reply(status, &self.headers, body)
    }

    fn edit(&mut self, name: &str, value: Value) {
        let mut record: Map<String, Value> = serde_json::from_str(self.record.as_ref().unwrap()).unwrap();
        record.insert(name.to_owned(), value);
        self.record = Some(Value::Object(record).to_string());
        self.version += 1;
    }
}

fn reply(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} said\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// What a write makes of the record; a PUT is kept byte by byte.
fn merged(record: Option<&str>, request: &Request) -> String {
    if request.method == "PUT" {
        return request.body.clone();
    }
    let mut record: Value = serde_json::from_str(record.unwrap()).unwrap();
    merge(&mut record, serde_json::from_str(&request.body).unwrap());
    record.to_string()
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}
