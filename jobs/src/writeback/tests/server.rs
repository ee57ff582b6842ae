//! An HTTP API of a few records with ETag and If-Match, which can be told to lie.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// What the server does with writes, or with what follows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    #[default]
    None,
    /// Stores, and answers with this status.
    StoresAndSays(u16),
    /// Stores nothing, and answers with this status.
    OnlySays(u16),
    /// Stores; so many reads still show what was before.
    ShowsOld(u32),
    /// A person edits just before a write is judged.
    IsEdited,
}

#[derive(Debug, Default)]
struct Shelf {
    records: BTreeMap<String, Value>,
    version: u64,
    /// What a lagging read shows.
    old: Option<(Value, u64)>,
    lie: Lie,
    /// The idempotency keys of the writes that came.
    writes: Vec<String>,
    stored: usize,
}

pub(crate) struct Server {
    url: String,
    shelf: Arc<Mutex<Shelf>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(lie: Lie) -> Self {
        let record = |n: u8| (n.to_string(), json!({"id": n.to_string(), "email": "OLD@x.org", "n": 1}));
        let shelf = Shelf { records: (1..=9).map(record).collect(), version: 7, lie, ..Shelf::default() };
        let shelf = Arc::new(Mutex::new(shelf));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().route("/rows/{key}", get(show).patch(store)).with_state(shelf.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shelf, task }
    }

    pub(crate) fn definition(&self) -> String {
        format!(
            "name = \"crm\"\nkind = \"http\"\n[http]\nbase_url = {url:?}\n[target]\nbase_url = {url:?}\n\
             auth = {{ type = \"none\" }}\n[[streams]]\nname = \"rows\"\npath = \"rows\"\nkey = [\"id\"]\n\
             pagination = {{ type = \"none\" }}\n[streams.target]\npath = \"rows/{{key}}\"\nowned = [\"email\"]\n\
             idempotency_header = \"Idempotency-Key\"\nconvergence = {{ reads = 12, pause = \"1ms\" }}\n",
            url = self.url
        )
    }

    pub(crate) fn lies(&self, lie: Lie) {
        self.shelf.lock().unwrap().lie = lie;
    }

    pub(crate) fn record(&self, key: &str) -> Value {
        self.shelf.lock().unwrap().records[key].clone()
    }

    /// How many writes changed something.
    pub(crate) fn stored(&self) -> usize {
        self.shelf.lock().unwrap().stored
    }

    /// The keys of the writes that came; what probes sent has none.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.shelf.lock().unwrap().writes.clone()
    }
}

async fn show(State(shelf): State<Arc<Mutex<Shelf>>>, Path(key): Path<String>) -> Response {
    let mut shelf = shelf.lock().unwrap();
    if let (Lie::ShowsOld(left), Some((record, version))) = (shelf.lie, shelf.old.clone())
        && left > 0
    {
        shelf.lie = Lie::ShowsOld(left - 1);
        return tagged(version, &record);
    }
    match shelf.records.get(&key) {
        Some(record) => tagged(shelf.version, record),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn tagged(version: u64, record: &Value) -> Response {
    ([(header::ETAG, format!("\"{version}\""))], record.to_string()).into_response()
}

async fn store(
    State(shelf): State<Arc<Mutex<Shelf>>>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    if shelf.lie == Lie::IsEdited {
        shelf.lie = Lie::None;
        shelf.version += 1;
        shelf.records.get_mut(&key).unwrap()["email"] = json!("a person's");
    }
    let matches = text("if-match").is_none_or(|wanted| wanted == format!("\"{}\"", shelf.version));
    if matches {
        // Probes come with an outdated version.
        shelf.writes.push(text("idempotency-key").unwrap_or_default());
    } else {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    if let Lie::OnlySays(status) = shelf.lie {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let before = (shelf.records[&key].clone(), shelf.version);
    shelf.old = Some(before);
    let patch: Value = serde_json::from_str(&body).unwrap();
    shelf.records.get_mut(&key).unwrap()["email"] = patch["email"].clone();
    shelf.version += 1;
    shelf.stored += 1;
    let status = if let Lie::StoresAndSays(status) = shelf.lie { status } else { 200 };
    StatusCode::from_u16(status).unwrap().into_response()
}
