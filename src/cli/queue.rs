//! `tenure queue list|pause|resume|limit`.

mod limit;

use std::io;

use clap::Subcommand;
use queue::QueueRecord;
use serde::Serialize;

use super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table, age},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What stands in each queue
    List,
    /// Close a queue: it takes jobs in and gives none out; what runs goes on
    Pause {
        /// The queue
        name: String,
        /// Why, for those who find it closed
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Open a queue again
    Resume {
        /// The queue
        name: String,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Caps on what runs at once, rates of starting, turns between tenants
    #[command(subcommand)]
    Limit(limit::Command),
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    context
        .interruptible(context.with_control(async |control| {
            let queue = control.queue();
            match &command {
                Command::List => context.output.answer(&Listed { queues: queue.queues().await? })?,
                Command::Pause { name, reason, dry_run } => {
                    let was_paused = is_paused(&queue.queues().await?, name);
                    if !dry_run {
                        control.operator().pause(name, reason.as_deref()).await?;
                    }
                    context.output.answer(&Moved {
                        queue: name,
                        paused: true,
                        was_paused,
                        dry_run: *dry_run,
                    })?;
                }
                Command::Resume { name, dry_run } => {
                    let was_paused = if *dry_run {
                        is_paused(&queue.queues().await?, name)
                    } else {
                        control.operator().resume(name).await?
                    };
                    context.output.answer(&Moved {
                        queue: name,
                        paused: false,
                        was_paused,
                        dry_run: *dry_run,
                    })?;
                }
                Command::Limit(command) => return limit::run(command, context, control).await,
            }
            Ok(Exit::Ok)
        }))
        .await
}

fn is_paused(queues: &[QueueRecord], name: &str) -> bool {
    queues.iter().any(|queue| queue.name == name && queue.paused_at.is_some())
}

#[derive(Serialize)]
struct Listed {
    queues: Vec<QueueRecord>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.queues.is_empty() {
            return page.line("no queue holds a job");
        }
        let header =
            ["QUEUE", "READY", "OLDEST", "SCHEDULED", "RUNNING", "CAP", "WAITING", "QUARANTINED", "PAUSED"];
        let mut table = Table::new(header);
        for queue in &self.queues {
            let counts =
                [queue.scheduled, queue.running, queue.waiting, queue.quarantined].map(|n| n.to_string());
            let [scheduled, running, waiting, quarantined] = counts;
            let paused = queue.paused_at.map(|at| {
                let by = queue.paused_by.as_deref().unwrap_or("somebody");
                let reason =
                    queue.pause_reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("since {} by {by}{reason}", at.format("%Y-%m-%d %H:%M UTC"))
            });
            table.row(&[
                queue.name.clone(),
                queue.ready.to_string(),
                queue.oldest_ready_secs.map_or_else(|| "-".to_owned(), age),
                scheduled,
                running,
                queue.running_max.map_or_else(|| "-".to_owned(), |max| max.to_string()),
                waiting,
                quarantined,
                paused.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        page.table(&table)
    }
}

#[derive(Serialize)]
struct Moved<'a> {
    queue: &'a str,
    paused: bool,
    was_paused: bool,
    dry_run: bool,
}

impl Answer for Moved<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let state = if self.paused { "paused" } else { "open" };
        let how = match (self.dry_run, self.paused == self.was_paused) {
            (true, true) => "would stay",
            (true, false) => "would be",
            (false, true) => "was already",
            (false, false) => "is now",
        };
        page.line(format_args!("the queue {} {how} {state}", self.queue))
    }
}
