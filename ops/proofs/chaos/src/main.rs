//! `ops/chaos`: a fleet of workers under a seeded schedule of faults, and a checker of its history.
//!
//! Owns everything of a run: a Postgres, the workers, the relays between them, the producers. Drives the service by its
//! command line and by SQL only, and shares no code with it. What is left of a run is the verdict: exit code 0 without a
//! violation, 7 with one, 1 if the run itself failed, 130 if it was interrupted.

mod beat;
mod check;
mod fleet;
mod ledger;
mod load;
mod plan;
mod postgres;
mod proxy;
mod report;
mod run;
mod strike;
mod witness;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

use crate::plan::Fault;

const EXAMPLES: &str = "Examples:
  ops/chaos                             about a minute under all faults
  ops/chaos --seed 42                   the same faults again
  ops/chaos --minutes 30                before a release
  ops/chaos --faults kill,freeze,crash  only these
  ops/chaos --prove                     break the engine on purpose; the checker must see it

Exit codes: 0 no violation, 1 the run failed, 2 usage, 7 violations, 130 interrupted.";

/// Run a fleet of workers under faults and check what it did.
#[derive(Debug, Clone, Parser)]
#[command(name = "ops/chaos", after_help = EXAMPLES, max_term_width = 110)]
struct Args {
    /// What the schedule of faults and the load are made from [default: a new one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// How long the faults go on, such as 30 or 0.5
    #[arg(long, default_value_t = 0.8, value_parser = minutes)]
    minutes: f64,
    /// Worker processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=64))]
    workers: u8,
    /// Tenants, each with a database of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    tenants: u8,
    /// The faults to strike with [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
    /// Put the run's files here, and leave them: logs, data, clocks
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// The program under test
    #[arg(long, value_name = "FILE", default_value = "target/debug/tenure")]
    tenure: PathBuf,
    /// SQL that breaks the control database on purpose, to prove that the checker sees it
    #[arg(long, value_name = "FILE")]
    sabotage: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.05..=1_440.0).contains(&minutes) { Ok(minutes) } else { Err("give 0.05 to 1440".to_owned()) }
}

impl Args {
    fn faults(&self) -> Vec<Fault> {
        if self.faults.is_empty() { Fault::value_variants().to_vec() } else { self.faults.clone() }
    }

    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

/// Something was found that must never be.
const VIOLATIONS: u8 = 7;
const INTERRUPTED: u8 = 130;

// One thread: the kernel's signal for our end would come with the end of the thread that started a child.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let local = LocalSet::new();
    let ran = local.run_until(async {
        tokio::select! {
            ran = run::run(&args, seed) => Some(ran),
            () = interrupted() => None,
        }
    });
    match ran.await {
        None => {
            eprintln!("chaos: interrupted; seed {seed}");
            ExitCode::from(INTERRUPTED)
        }
        Some(Err(error)) => {
            eprintln!("chaos: the run failed: {error:#}; seed {seed}");
            ExitCode::FAILURE
        }
        Some(Ok(report)) => {
            if args.json {
                println!("{}", serde_json::to_string_pretty(&report).expect("texts and numbers serialize"));
            } else {
                print!("{}", report.text());
            }
            if report.violations == 0 { ExitCode::SUCCESS } else { ExitCode::from(VIOLATIONS) }
        }
    }
}

/// Ctrl-C, or whoever asks us to end.
async fn interrupted() {
    let mut terminate = signal(SignalKind::terminate()).expect("the runtime takes signals");
    tokio::select! {
        _ = terminate.recv() => {}
        heard = tokio::signal::ctrl_c() => heard.expect("the runtime takes signals"),
    }
}
