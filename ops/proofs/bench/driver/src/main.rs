//! Measures Tenure beside other Postgres queues, and how Tenure's own figures grow.
//!
//! One program measures all: it starts a Postgres for itself, gives every system a new database, runs the system's
//! producer and worker as processes of their own, and reads processor time, write-ahead log and table sizes from
//! outside. A job counts as finished when its system's database says so.

mod adapter;
mod compare;
mod cpu;
mod figure;
mod growth;
mod plot;
mod report;
mod server;
mod system;
mod trial;

use std::{env, fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::{
    server::{SETTINGS, Server},
    system::System,
    trial::{Mode, Sizes},
};

/// The exit code of growth that is too fast.
const TOO_FAST: u8 = 1;

/// Measures Tenure beside graphile-worker, riverqueue, awa and apalis-postgres.
#[derive(Parser)]
#[command(name = "ops/bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: CompareArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Measures Tenure alone at growing numbers of finished jobs and of tenants, and draws the result
    Growth(GrowthArgs),
}

#[derive(Args)]
struct CommonArgs {
    /// Measured rounds; medians and spread are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Jobs that are measured in each trial [default: 100,000; of growth 50,000]
    #[arg(long)]
    jobs: Option<u64>,
    /// Lone jobs whose pick-up is timed
    #[arg(long, default_value_t = 200)]
    lone: u64,
    /// The longest that one step of a trial may take before the system counts as stuck
    #[arg(long, default_value_t = 900)]
    step_max_secs: u64,
    /// Few jobs and one round: proves that everything runs, measures nothing
    #[arg(long)]
    quick: bool,
    /// Writes the figures here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Postgres's data, made and removed; the user `postgres` must be able to enter it when this runs as root
    /// [default: beside this program]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

#[derive(Args)]
struct CompareArgs {
    /// Who is compared
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = System::ALL)]
    systems: Vec<System>,
    /// Under which conditions
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Mode::Clean, Mode::Backlog, Mode::Held])]
    modes: Vec<Mode>,
    /// Jobs that wait behind the measured ones in the mode `backlog`
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    /// How long a snapshot is held, while jobs pass, before the mode `held` is measured
    #[arg(long, default_value_t = 300)]
    held_secs: u64,
    /// Worker processes of graphile-worker: Node.js runs on one processor
    #[arg(long, default_value_t = 1)]
    graphile_processes: usize,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
struct GrowthArgs {
    /// How many finished jobs are kept
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000, 10_000_000])]
    finished: Vec<u64>,
    /// How many tenants have ready work
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    tenants: Vec<u64>,
    /// Where the picture is written
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../growth.svg"))]
    svg: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

/// What is written as JSON: the result and how it came about.
#[derive(Serialize)]
struct Run<'a, T> {
    description: &'a str,
    sizes: &'a Sizes,
    rounds: usize,
    result: T,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let common = match &cli.command {
        Some(Command::Growth(growth)) => &growth.common,
        None => &cli.compare.common,
    };
    let folder = match &common.data {
        Some(folder) => folder.clone(),
        None => env::current_exe()?.with_file_name("postgres"),
    };
    let server = tokio::task::spawn_blocking(move || Server::start(&folder)).await??;
    let code = match &cli.command {
        Some(Command::Growth(growth)) => run_growth(&server, growth).await,
        None => run_compare(&server, &cli.compare).await,
    };
    tokio::task::spawn_blocking(|| server.stop()).await??;
    code
}

async fn run_compare(server: &Server, arguments: &CompareArgs) -> Result<ExitCode> {
    let (rounds, mut sizes) = sizes(&arguments.common, 100_000);
    sizes.graphile_processes = arguments.graphile_processes;
    sizes.backlog = if arguments.common.quick { 10_000 } else { arguments.backlog };
    sizes.held = Duration::from_secs(if arguments.common.quick { 2 } else { arguments.held_secs });
    let comparison = compare::compare(server, &arguments.systems, &arguments.modes, rounds, &sizes).await?;
    let held = format!(
        "Backlog: {} jobs wait behind the measured ones. Held: a snapshot was held for {} s of work before, and is \
         still held.",
        sizes.backlog,
        sizes.held.as_secs()
    );
    let description = format!("{} {held}", describe(server, rounds, &sizes).await?);
    print!("{}", report::markdown(&comparison, &arguments.systems, &description));
    write_json(
        &arguments.common,
        &Run { description: &description, sizes: &sizes, rounds, result: &comparison },
    )?;
    Ok(ExitCode::SUCCESS)
}

async fn run_growth(server: &Server, arguments: &GrowthArgs) -> Result<ExitCode> {
    let (rounds, sizes) = sizes(&arguments.common, 50_000);
    let (finished, tenants): (&[u64], &[u64]) = if arguments.common.quick {
        (&[1_000, 10_000], &[1, 100])
    } else {
        (&arguments.finished, &arguments.tenants)
    };
    let growth = growth::measure(server, finished, tenants, rounds, &sizes).await?;
    let found = growth::too_fast(&growth);
    let description = format!(
        "{} Finished jobs are put into today's history with one insert before the trial; each trial is in a new \
         database.",
        describe(server, rounds, &sizes).await?
    );
    print!("{}", growth::markdown(&growth, &found, &description));
    plot::draw(&growth, &arguments.svg)?;
    let run = Run { description: &description, sizes: &sizes, rounds, result: (&growth, &found) };
    write_json(&arguments.common, &run)?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(TOO_FAST) })
}

/// The rounds and the sizes that both commands share.
fn sizes(common: &CommonArgs, jobs: u64) -> (usize, Sizes) {
    let sizes = Sizes {
        jobs: common.jobs.unwrap_or(jobs),
        backlog: 0,
        held: Duration::ZERO,
        lone: common.lone,
        warm_up: 5_000,
        tenants: 0,
        graphile_processes: 1,
        step_max: Duration::from_secs(common.step_max_secs),
    };
    if common.quick {
        return (1, Sizes { jobs: 5_000, lone: 20, warm_up: 1_000, ..sizes });
    }
    (common.rounds, sizes)
}

async fn describe(server: &Server, rounds: usize, sizes: &Sizes) -> Result<String> {
    let processors = std::thread::available_parallelism()?;
    let settings = SETTINGS.map(|(name, value)| format!("{name} {value}")).join(", ");
    Ok(format!(
        "{processors} processors shared by Postgres {} (fsync on; {settings}) and the workers; {} jobs a trial, \
         {rounds} rounds.",
        server.version().await?,
        sizes.jobs
    ))
}

fn write_json(common: &CommonArgs, run: &impl Serialize) -> Result<()> {
    let Some(path) = &common.json else { return Ok(()) };
    fs::write(path, serde_json::to_string_pretty(run)? + "\n")
        .with_context(|| format!("while {} was written", path.display()))
}
