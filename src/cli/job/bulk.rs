//! `tenure job bulk retry|cancel|reprioritise|snooze`: a preview first; what it prints confirms it.

mod filter;
mod report;

use clap::Subcommand;
use queue::{BulkAction, BulkFilter, BulkPlan, BulkRefused, State};

use self::{
    filter::FilterArgs,
    report::{Confirmed, Ended, Previewed},
};
use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        follow,
    },
    change::UntilArgs,
    enqueue::PriorityName,
    names,
};
use crate::{telemetry, wiring::Control};

const EXAMPLES: &str = "Examples:
  tenure job bulk retry --state failed --kind connector_sync --note 'connection refused'
  tenure job bulk cancel --tenant acme --state ready --older-than 2d
  tenure job bulk snooze --queue eu --state ready --for 2h

Each prints what it would be about and the command that confirms it. A filter that admits every job is refused.
Jobs made after the preview are left alone, and a job that moves before its turn is skipped.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    /// Make the jobs run again that failed, were cancelled or wait for their time
    #[command(after_help = EXAMPLES)]
    Retry(Args),
    /// Call the jobs off: at once if they wait, within a heartbeat if they run
    #[command(after_help = EXAMPLES)]
    Cancel(Args),
    /// Give the jobs that are ready or wait another priority
    #[command(after_help = EXAMPLES)]
    Reprioritise {
        /// The priority
        #[arg(long, value_name = "LEVEL")]
        to: PriorityName,
        #[command(flatten)]
        args: Args,
    },
    /// Let the jobs that are ready run later
    #[command(after_help = EXAMPLES)]
    Snooze {
        #[command(flatten)]
        until: UntilArgs,
        #[command(flatten)]
        args: Args,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Carry out what was previewed with this token
    #[arg(long, value_name = "TOKEN")]
    confirm: Option<String>,
    /// Do not wait until the operation has ended
    #[arg(long)]
    no_wait: bool,
    /// Only the preview, also with a token
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(command: Command, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let (action, args) = match command {
        Command::Retry(args) => (BulkAction::Retry, args),
        Command::Cancel(args) => (BulkAction::Cancel, args),
        Command::Reprioritise { to, args } => (BulkAction::Reprioritise { to: to.into() }, args),
        Command::Snooze { until, args } => (BulkAction::Snooze { until: until.time(control).await? }, args),
    };
    let filter = args.filter.resolve(control).await?;
    let plan = args.confirm.as_deref().map(|token| confirmed(filter.clone(), action, token)).transpose()?;
    match plan {
        Some(plan) if !args.dry_run => carry_out(plan, args.no_wait, context, control).await,
        _ => context.interruptible(preview(filter, action, &args.filter, context, control)).await,
    }
}

/// The plan that the token was printed for.
fn confirmed(filter: BulkFilter, action: BulkAction, token: &str) -> anyhow::Result<BulkPlan> {
    BulkPlan::confirmed(filter, action, token).map_err(|refused| help(&refused))
}

/// What to type instead.
fn help(refused: &BulkRefused) -> anyhow::Error {
    let what = refused.to_string();
    match refused {
        BulkRefused::Changed => Failure::refused(
            what,
            "run it without `--confirm`, look at the preview, and confirm with the command that it prints",
        ),
        BulkRefused::Empty => Failure::usage(
            what,
            "add `--state`, `--queue`, `--kind`, `--tenant`, `--priority`, `--note` or a time such as `--older-than 1h`",
        ),
        _ => Failure::usage(what, "let each `--…-from` be earlier than its `--…-before`"),
    }
    .into()
}

async fn preview(
    filter: BulkFilter,
    action: BulkAction,
    args: &FilterArgs,
    context: &Context,
    control: &Control,
) -> anyhow::Result<Exit> {
    let preview = control.queue().bulk_preview(filter, action).await.map_err(|error| match error {
        queue::BulkError::Refused(refused) => help(&refused),
        error => error.into(),
    })?;
    let command = filter::command(&preview.plan, args);
    context.output.answer(&Previewed::of(&preview, &names(control).await?, command))?;
    Ok(Exit::Ok)
}

async fn carry_out(
    plan: BulkPlan,
    no_wait: bool,
    context: &Context,
    control: &Control,
) -> anyhow::Result<Exit> {
    let verb = plan.action().verb();
    let queue = jobs::OPERATIONS;
    let operator = control.operator();
    let job = jobs::bulk_operation::job(plan.clone(), operator.signature())?
        .queue(queue)
        .traceparent(telemetry::traceparent());
    let operation = operator.confirm(&plan, job).await?;
    if no_wait {
        let existing = operation.existing;
        context.output.answer(&Confirmed { operation: operation.id, verb, existing })?;
        return Ok(Exit::Ok);
    }
    context.output.say(&format!("operation {0} does this; `tenure job cancel {0}` aborts it", operation.id));
    let ids = [operation.id];
    let waiting = follow::jobs(context, control, &ids, None);
    let ended = follow::with_worker(context, control, queue, waiting).await?.remove(0);
    let progress = control.queue().bulk_progress(operation.id).await?.unwrap_or_default();
    let skipped = control.queue().bulk_skipped(operation.id).await?;
    context.output.answer(&Ended {
        operation: operation.id,
        verb,
        state: ended.state,
        note: ended.note,
        progress,
        skipped,
    })?;
    Ok(if ended.state == State::Succeeded { Exit::Ok } else { Exit::EndedBadly })
}
