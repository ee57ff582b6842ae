//! `tenure worker list`.

use std::io;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use queue::WorkerRecord;
use serde::Serialize;

use super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table, age},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Who claims, from which queues, and what they hold
    List {
        /// Show those too that have ended, at most a thousand
        #[arg(long)]
        all: bool,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let Command::List { all } = command;
    let listed = context.with_control(async |control| {
        let now = database::health::now(&mut *control.connection().await?).await?;
        let workers = control.queue().workers(all).await?;
        Ok(Listed { workers: workers.iter().map(|worker| Listing::of(worker, now)).collect() })
    });
    context.output.answer(&context.interruptible(listed).await?)?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed {
    workers: Vec<Listing>,
}

#[derive(Serialize)]
struct Listing {
    id: String,
    name: String,
    host: String,
    pid: i32,
    version: String,
    queues: Vec<String>,
    slots: i32,
    running: i64,
    state: &'static str,
    started_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    last_seen_secs: f64,
    ended_at: Option<DateTime<Utc>>,
}

impl Listing {
    fn of(worker: &WorkerRecord, now: DateTime<Utc>) -> Self {
        let state = match (worker.ended_at, worker.stopping) {
            (Some(_), _) => "ended",
            (None, true) => "stopping",
            (None, false) => "working",
        };
        Self {
            id: worker.id.to_string(),
            name: worker.name.clone(),
            host: worker.host.clone(),
            pid: worker.pid,
            version: worker.version.clone(),
            queues: worker.queues.clone(),
            slots: worker.slots,
            running: worker.running,
            state,
            started_at: worker.started_at,
            last_seen_at: worker.last_seen_at,
            last_seen_secs: (now - worker.last_seen_at).as_seconds_f64(),
            ended_at: worker.ended_at,
        }
    }
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.workers.is_empty() {
            return page.line("no worker lives: start one with `tenure work`");
        }
        let mut table = Table::new(["NAME", "STATE", "QUEUES", "RUNNING", "SLOTS", "SEEN", "VERSION"]);
        for worker in &self.workers {
            table.row(&[
                worker.name.clone(),
                worker.state.to_owned(),
                worker.queues.join(","),
                worker.running.to_string(),
                worker.slots.to_string(),
                format!("{} ago", age(worker.last_seen_secs)),
                worker.version.clone(),
            ]);
        }
        page.table(&table)
    }
}
