//! `tenure bench`: how fast the engine is on the configured database, beside what that database could do at most; what
//! the audit chain, sealed values and an export cost, and how fast tenants come and go.

mod audit;
mod export;
mod keys;
mod tenants;

use std::io;

use clap::Subcommand;
use governance::decision;
use queue::{MeasureOptions, Measured};
use serde::Serialize;

use super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table, bytes},
};

const EXAMPLES: &str = "Examples:
  tenure bench queue --jobs 100000 --json
  tenure bench queue --jobs 100000 --held-snapshot 1000000

It works in a queue of its own and deletes what it made. Rates are medians over the rounds; both sides of a
comparison alternate in the same run. Compare ratios, not figures of different machines or days.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure how many records a second a policy of six rules decides on, on one core, without a database
    Policy {
        /// Records to make and decide on
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        records: u64,
    },
    /// Measure enqueue, claim to finish, write-ahead log and pick-up beside the same statements run bare
    Queue(Args),
    /// Measure appends to audit chains beside plain inserts, and the verifier
    Audit(audit::Args),
    /// Measure how many tenants a minute are provisioned, and deleted with everything
    Tenants(tenants::Args),
    /// Measure rotations of sealed values and of keys beside the same reads and writes without cryptography
    Keys(keys::Args),
    /// Measure the export of a tenant beside `pg_dump`, its check and its restore
    Export(export::Args),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Jobs of a round
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Workers that drain, all in this process
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
    /// Jobs that a worker runs at a time
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    slots: u64,
    /// Rounds of each side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
    /// Also measure after this many jobs under a held snapshot
    #[arg(long, value_name = "JOBS", num_args = 0..=1, default_missing_value = "1000000")]
    held_snapshot: Option<u64>,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Queue(args) => queue(args, context).await,
        Command::Policy { records } => {
            context.output.answer(&Decided { policy: decision::measure(records)? })?;
            Ok(Exit::Ok)
        }
        Command::Audit(args) => audit::run(args, context).await,
        Command::Tenants(args) => tenants::run(args, context).await,
        Command::Keys(args) => keys::run(args, context).await,
        Command::Export(args) => Box::pin(export::run(args, context)).await,
    }
}

async fn queue(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let options = MeasureOptions {
                jobs: args.jobs,
                workers: usize::try_from(args.workers)?,
                slots: usize::try_from(args.slots)?,
                rounds: usize::try_from(args.rounds)?,
                held_snapshot: args.held_snapshot,
                ..MeasureOptions::default()
            };
            let say = |text: &str| context.output.say(text);
            let measured = ::queue::measure(control.direct().clone(), &options, say).await?;
            context.output.answer(&Benchmark { queue: measured })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Benchmark {
    queue: Measured,
}

impl Answer for Benchmark {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let m = &self.queue;
        let mut table = Table::new(["measured", "figure"]);
        let mut row = |name: &str, figure: String| table.row(&[name.to_owned(), figure]);
        row("enqueue", format!("{:.0} jobs/s", m.enqueue_per_sec));
        row("claim to finish", format!("{:.0} jobs/s", m.claim_to_finish_per_sec));
        row("the same statements bare", format!("{:.0} jobs/s", m.bare_per_sec));
        row("of bare", format!("{:.0} %", m.of_bare * 100.0));
        row("write-ahead log", format!("{:.0} bytes/job", m.wal_bytes_per_job));
        let lone = m.lone_pick_up_ms;
        row(
            "lone job picked up",
            format!("p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", lone.p50, lone.p95, lone.p99),
        );
        if let Some(held) = m.held_snapshot {
            let after = format!("after {} jobs under a held snapshot", held.after_jobs);
            row(
                &after,
                format!(
                    "{:.0} jobs/s, {:.0} % of clean",
                    held.claim_to_finish_per_sec,
                    held.of_clean * 100.0
                ),
            );
        }
        if let Some(peak) = m.memory_peak_bytes {
            row("memory of this process, at most", bytes(peak));
        }
        page.table(&table)
    }
}

#[derive(Serialize)]
struct Decided {
    policy: decision::Measured,
}

impl Answer for Decided {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let m = &self.policy;
        let mut table = Table::new(["measured", "figure"]);
        let mut row = |name: &str, figure: String| table.row(&[name.to_owned(), figure]);
        row("decisions", format!("{:.0}/s on one core", m.per_sec));
        row("records", format!("{} by {} rules", m.records, m.rules));
        row("fixes, reviews", format!("{}, {}", m.fixes, m.reviews));
        if let Some([early, end]) = m.memory_peak_bytes {
            row("memory of this process, at most", format!("{}, after a tenth {}", bytes(end), bytes(early)));
        }
        page.table(&table)
    }
}
