//! The command line: what may be typed, and the way from there to the code that does it.
//!
//! A command is a file of the same name. Data goes to stdout, talk to stderr, and the exit code says what a script needs
//! to know ([`exit`]).

pub(crate) mod exit;
mod follow;
pub(crate) mod output;

mod actor;
mod approval;
mod audit;
mod baseline;
mod bench;
mod candidate;
mod completions;
mod config;
mod connector;
mod db;
mod dev;
mod doctor;
mod gate;
mod job;
mod key;
mod path;
mod place;
mod policy;
mod queue;
mod readiness;
mod reading;
mod receipt;
mod review;
mod schedule;
mod tenant;
mod work;
mod worker;
mod writeback;

use std::{future::Future, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use self::{
    exit::{Exit, Failure},
    output::Output,
};
use crate::{
    config::Config,
    lifecycle,
    telemetry::Telemetry,
    wiring::{Control, Schema},
};

const EXAMPLES: &str = "Examples:
  tenure dev                              try it: a private Postgres, a sample source, a sync
  tenure db migrate                       prepare the database that DATABASE_URL names
  tenure work                             run a worker until SIGTERM
  tenure connector sync ./crm.toml        read a source, as its file defines it
  tenure job list --state failed --json   what needs attention, for a script

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused by state, 5 not permitted,
6 unreachable, 7 verification failed, 8 an awaited job ended badly, 9 no checkpoint vouches for
the entries, 78 configuration, 124 timeout, 130 interrupted.";

/// Durable background work on Postgres, accounted for.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, after_help = EXAMPLES, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    /// The configuration file [default: $TENURE_CONFIG, else ./tenure.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Who acts, by name, for the record [default: $TENURE_ACTOR, else the login name]
    #[arg(long = "as", global = true, value_name = "NAME")]
    actor: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try everything on this machine: databases, a sample source, a worker, a sync
    Dev(dev::Args),
    /// Run a worker until it is told to stop
    Work(work::Args),
    /// Prepare the control database
    #[command(subcommand)]
    Db(db::Command),
    /// Enqueue jobs and look after them
    #[command(subcommand)]
    Job(job::Command),
    /// Look at queues, close and open them
    #[command(subcommand)]
    Queue(queue::Command),
    /// Enqueue jobs at the times of a cron line
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Look at workers
    #[command(subcommand)]
    Worker(worker::Command),
    /// Create tenants, look at them, hold and delete them
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Check sources, see what they have, read them
    #[command(subcommand)]
    Connector(connector::Command),
    /// Who has acted, and the erasure of names
    #[command(subcommand)]
    Actor(actor::Command),
    /// See what stands in a tenant's way before anything is written
    #[command(subcommand)]
    Readiness(readiness::Command),
    /// Look at what waits for a yes, and give or refuse it
    #[command(subcommand)]
    Approval(approval::Command),
    /// What each class of action asks for before it may happen
    #[command(subcommand)]
    Gate(gate::Command),
    /// Keys that seal secrets: count what is under each, rotate them, take them out of use
    #[command(subcommand)]
    Key(key::Command),
    /// Show and verify the records of decisions
    #[command(subcommand)]
    Receipt(receipt::Command),
    /// Look at audit chains: export, sign and verify them
    #[command(subcommand)]
    Audit(audit::Command),
    /// Govern fields of a stream, and see how far each has come
    #[command(subcommand)]
    Path(path::Command),
    /// Check policies, store their versions, look at them
    #[command(subcommand)]
    Policy(policy::Command),
    /// Cases for people: look at them, assign them, say what is right
    #[command(subcommand)]
    Review(review::Command),
    /// What the rules would have done tonight and over the last nights, without a write
    #[command(subcommand)]
    Baseline(baseline::Command),
    /// Try automations beside people, move them up with evidence and down at once
    #[command(subcommand)]
    Candidate(candidate::Command),
    /// Plan changes of customers' records, see what became of them, undo them
    #[command(subcommand)]
    Writeback(writeback::Command),
    /// Examine the set-up and say what to do about each finding
    Doctor,
    /// Measure the engine on the configured database
    #[command(subcommand)]
    Bench(bench::Command),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print a shell's completion script
    Completions(completions::Args),
}

/// What a command is given.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    config: Arc<Config>,
    output: Output,
    /// Who acts, by name.
    actor: Arc<str>,
    /// Cancelled by the first signal.
    shutdown: CancellationToken,
}

impl Context {
    /// Opens the control database; its schema must be current.
    async fn control(&self) -> anyhow::Result<Control> {
        let opening = Box::pin(Control::open(self.config.clone(), self.output, Schema::Current));
        Ok(opening.await?.acting_as(self.actor()))
    }

    /// The name of whoever acts.
    fn actor(&self) -> &str {
        &self.actor
    }

    /// Opens the control database, does the work, and closes it whatever came of that.
    async fn with_control<T>(
        &self,
        work: impl AsyncFnOnce(&Control) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let control = self.interruptible(self.control()).await?;
        let done = Box::pin(work(&control)).await;
        close(control, done).await
    }

    /// Ends the work with the first signal. Only for work that may be dropped anywhere.
    async fn interruptible<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            biased;
            done = Box::pin(work) => done,
            () = self.shutdown.cancelled() => Err(Failure::interrupted().into()),
        }
    }
}

/// Closes the database; the work's own error is worth more than one of closing.
async fn close<T>(control: Control, done: anyhow::Result<T>) -> anyhow::Result<T> {
    let closed = control.close().await.context("while closing the database");
    let done = done?;
    closed.map(|()| done)
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output { json: cli.json };
    match start(cli, output) {
        Ok(exit) => exit.into(),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let (exit, help) = exit::judge(&error);
            output.error(&error, exit, help.as_deref());
            exit.into()
        }
    }
}

/// How long tasks that are left over may take to end.
const LEFT_OVER_MAX: Duration = Duration::from_secs(2);

/// What commands log other than `work`: slow statements are for those who look after the server.
const QUIET: &str = "warn,sqlx::query=error";

fn start(cli: Cli, output: Output) -> anyhow::Result<Exit> {
    if let Command::Completions(args) = &cli.command {
        return completions::run(args);
    }
    let config = Arc::new(Config::load(cli.config.as_deref())?);
    // A worker's log is what it has to say; elsewhere the answer is, and only warnings belong beside it.
    let log_filter =
        if matches!(cli.command, Command::Work(_)) { &config.telemetry.log_filter } else { QUIET };
    let telemetry = Telemetry::start(&config, log_filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        let context =
            Context { config, output, actor: actor(cli.actor).into(), shutdown: lifecycle::listen()? };
        Box::pin(run(cli.command, context).instrument(info_span!("command"))).await
    });
    runtime.shutdown_timeout(LEFT_OVER_MAX);
    telemetry.end();
    exit
}

async fn run(command: Command, context: Context) -> anyhow::Result<Exit> {
    match command {
        Command::Dev(args) => dev::run(args, &context).await,
        Command::Work(args) => work::run(args, &context).await,
        Command::Db(command) => db::run(command, &context).await,
        Command::Job(command) => job::run(command, &context).await,
        Command::Queue(command) => queue::run(command, &context).await,
        Command::Schedule(command) => schedule::run(command, &context).await,
        Command::Worker(command) => worker::run(command, &context).await,
        Command::Tenant(command) => tenant::run(command, &context).await,
        Command::Connector(command) => connector::run(command, &context).await,
        Command::Actor(command) => actor::run(command, &context).await,
        Command::Readiness(command) => readiness::run(command, &context).await,
        Command::Approval(command) => approval::run(command, &context).await,
        Command::Gate(command) => gate::run(command, &context).await,
        Command::Key(command) => key::run(command, &context).await,
        Command::Receipt(command) => receipt::run(command, &context).await,
        Command::Audit(command) => audit::run(command, &context).await,
        Command::Path(command) => path::run(command, &context).await,
        Command::Policy(command) => policy::run(command, &context).await,
        Command::Review(command) => review::run(command, &context).await,
        Command::Baseline(command) => baseline::run(command, &context).await,
        Command::Candidate(command) => candidate::run(command, &context).await,
        Command::Writeback(command) => writeback::run(command, &context).await,
        Command::Doctor => doctor::run(&context).await,
        Command::Bench(command) => bench::run(command, &context).await,
        Command::Config(command) => config::run(&command, &context),
        Command::Completions(args) => completions::run(&args),
    }
}

/// A wrong command line, or a question for help, which is no error.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let message = text.trim_start_matches("error: ").trim_end();
        Output { json: true }.plain_error(message, Exit::Usage, None, &[]);
    } else if error.print().is_err() {
        // Nobody is left to read it.
        return ExitCode::SUCCESS;
    }
    if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS }
}

/// The name of whoever acts: as the command line says, else the environment, else the login.
fn actor(named: Option<String>) -> String {
    let variable = |name: &&str| std::env::var(name).ok();
    let named = named.or_else(|| {
        ["TENURE_ACTOR", "USER", "LOGNAME"]
            .iter()
            .find_map(|name| variable(name).filter(|name| !name.is_empty()))
    });
    named.unwrap_or_else(|| "somebody".to_owned())
}
