//! `tenure job enqueue|list|get|explain|wait|retry|release|cancel|snooze|reprioritise|bulk`.

mod bulk;
mod change;
mod enqueue;
mod explain;
mod view;

use std::{io, time::Duration};

use clap::Subcommand;
use database::control::{self, TenantName};
use queue::{Cancelled, JobFilter, JobId, JobRecord, State};
use serde::Serialize;

pub(super) use self::enqueue::{PriorityName, parse_kind, payload};
pub(super) use self::view::Names;
use self::view::{Detail, Listed};
use super::{
    Context,
    exit::{Exit, Failure},
    follow,
    output::{Answer, Page},
    tenant,
};
use crate::{config::units::parse_duration, wiring::Control};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Put a job into its queue
    Enqueue(enqueue::Args),
    /// The newest jobs, live and finished
    List(ListArgs),
    /// One job with its attempts and their errors
    Get {
        /// The job's id
        id: JobId,
    },
    /// Why a job is not running, and what has kept it since it was enqueued
    Explain {
        /// The job's id
        id: JobId,
    },
    /// Wait until a job ends; exit 0 if well, 8 if badly, 124 if the time is over
    Wait {
        /// The job's id
        id: JobId,
        /// How long to wait, such as 30s or 5m [default: as long as it takes]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Make a job that failed, was cancelled or waits for its time run again, with all its attempts
    Retry {
        /// The job's id
        id: JobId,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a quarantined job run again: alone, because it killed its worker before
    Release {
        /// The job's id
        id: JobId,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Call a job off: at once if it waits, within a heartbeat if it runs
    Cancel {
        /// The job's id
        id: JobId,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a job that is ready run later
    Snooze(change::SnoozeArgs),
    /// Give a job that is ready or waits another priority
    Reprioritise(change::ReprioritiseArgs),
    /// Do one thing to every job that a filter admits: preview it, then confirm it
    #[command(subcommand)]
    Bulk(bulk::Command),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only jobs in this state
    #[arg(long, value_parser = parse_state)]
    state: Option<State>,
    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs of this tenant
    #[arg(long)]
    tenant: Option<TenantName>,
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only jobs with smaller ids, for the next page
    #[arg(long, value_name = "ID")]
    before: Option<JobId>,
}

fn parse_state(text: &str) -> Result<State, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "write ready, running, waiting, quarantined, succeeded, failed or cancelled".to_owned())
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| match command {
            Command::Enqueue(args) => Box::pin(enqueue::run(args, context, control)).await,
            Command::List(args) => context.interruptible(list(args, context, control)).await,
            Command::Get { id } => context.interruptible(get(id, context, control)).await,
            Command::Explain { id } => context.interruptible(explain::run(id, context, control)).await,
            Command::Wait { id, timeout } => wait(id, timeout, context, control).await,
            Command::Retry { id, dry_run } => retry(id, dry_run, context, control).await,
            Command::Release { id, dry_run } => release(id, dry_run, context, control).await,
            Command::Cancel { id, dry_run } => cancel(id, dry_run, context, control).await,
            Command::Snooze(args) => change::snooze(args, context, control).await,
            Command::Reprioritise(args) => change::reprioritise(args, context, control).await,
            Command::Bulk(command) => Box::pin(bulk::run(command, context, control)).await,
        })
        .await
}

async fn list(args: ListArgs, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let tenant = match &args.tenant {
        Some(name) => Some(tenant::named(control, name).await?.id.0),
        None => None,
    };
    let filter =
        JobFilter { state: args.state, queue: args.queue, kind: args.kind, tenant, before: args.before };
    let jobs = control.queue().list(&filter, args.limit).await?;
    let names = names(control).await?;
    // A full page has perhaps another behind it.
    let next = jobs.last().filter(|_| jobs.len() == args.limit as usize).map(|job| job.id);
    context.output.answer(&Listed::of(&jobs, &names, next))?;
    Ok(Exit::Ok)
}

async fn get(id: JobId, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let detail = detail(id, control).await?;
    context.output.answer(&detail)?;
    Ok(Exit::Ok)
}

async fn detail(id: JobId, control: &Control) -> anyhow::Result<Detail> {
    let job = existing(id, control).await?;
    let attempts = control.queue().attempts(id).await?;
    let dependencies = control.queue().dependencies(id).await?;
    Ok(Detail::of(&job, dependencies, &attempts, &names(control).await?))
}

async fn existing(id: JobId, control: &Control) -> anyhow::Result<JobRecord> {
    Ok(control.queue().get(id).await?.ok_or_else(|| follow::missing(id))?)
}

pub(super) async fn names(control: &Control) -> anyhow::Result<Names> {
    let tenants = control::list(&mut *control.connection().await?).await?;
    Ok(tenants.into_iter().map(|tenant| (tenant.id.0, tenant.name.to_string())).collect())
}

/// With a worker of our own where the database is private: nobody else would run the job.
async fn wait(
    id: JobId,
    timeout: Option<Duration>,
    context: &Context,
    control: &Control,
) -> anyhow::Result<Exit> {
    let job = existing(id, control).await?;
    let ids = [id];
    let waiting = follow::jobs(context, control, &ids, timeout);
    let ended = if control.is_private() && !follow::is_at_rest(job.state) {
        follow::with_worker(context, control, &job.queue, waiting).await?
    } else {
        waiting.await?
    };
    context.output.answer(&detail(id, control).await?)?;
    Ok(if ended[0].state == State::Succeeded { Exit::Ok } else { Exit::EndedBadly })
}

async fn retry(id: JobId, dry_run: bool, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let job = existing(id, control).await?;
    if dry_run {
        let refused =
            matches!(job.state, State::Running | State::Waiting | State::Quarantined | State::Succeeded);
        let did = if refused { "would not be retried" } else { "would run again" };
        return moved(id, job.state, did, true, context);
    }
    control.operator().retry(id).await?;
    moved(id, job.state, "will run again", false, context)
}

async fn release(id: JobId, dry_run: bool, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let job = existing(id, control).await?;
    if dry_run {
        let quarantined = job.state == State::Quarantined;
        let did = if quarantined { "would run again, alone" } else { "would not be released" };
        return moved(id, job.state, did, true, context);
    }
    control.operator().release(id).await?;
    moved(id, job.state, "will run again, alone", false, context)
}

async fn cancel(id: JobId, dry_run: bool, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let job = existing(id, control).await?;
    if dry_run {
        let did = match job.state {
            state if state.is_final() => "would stay as it is",
            State::Running => "would be asked to stop",
            _ => "would be cancelled",
        };
        return moved(id, job.state, did, true, context);
    }
    match control.operator().cancel(id).await? {
        Cancelled::Never => moved(id, job.state, "is cancelled", false, context),
        Cancelled::Told => moved(id, job.state, "is asked to stop", false, context),
        Cancelled::NotLive => {
            let state = existing(id, control).await?.state;
            let what = format!("job {id} is {state}: only a live job can be cancelled");
            Err(Failure::refused(what, format!("`tenure job get {id}` tells how it ended")).into())
        }
    }
}

fn moved(
    id: JobId,
    was: State,
    did: impl Into<String>,
    dry_run: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    context.output.answer(&Moved { id, was, did: did.into(), dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Moved {
    id: JobId,
    was: State,
    did: String,
    dry_run: bool,
}

impl Answer for Moved {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(format_args!("job {}, which was {}, {}", self.id, self.was, self.did))
    }
}
