//! `tenure job snooze|reprioritise ID`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use queue::{BulkAction, JobId, JobRecord};

use super::{
    super::{Context, exit::Exit},
    enqueue::PriorityName,
    existing, moved,
};
use crate::{config::units::parse_duration, wiring::Control};

/// Until when, as a time or from now on.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct UntilArgs {
    /// Not before this time, such as 2026-05-01T04:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// Not before so long from now, such as 30m or 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    span: Option<Duration>,
}

impl UntilArgs {
    /// The time, by the database's clock.
    pub(super) async fn time(&self, control: &Control) -> anyhow::Result<DateTime<Utc>> {
        match (self.until, self.span) {
            (Some(until), _) => Ok(until),
            (None, span) => Ok(now(control).await? + TimeDelta::from_std(span.unwrap_or_default())?),
        }
    }
}

/// The database's time.
pub(super) async fn now(control: &Control) -> anyhow::Result<DateTime<Utc>> {
    Ok(database::health::now(&mut *control.connection().await?).await?)
}

#[derive(Debug, clap::Args)]
pub(crate) struct SnoozeArgs {
    /// The job's id
    id: JobId,
    #[command(flatten)]
    until: UntilArgs,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReprioritiseArgs {
    /// The job's id
    id: JobId,
    /// The priority
    #[arg(value_name = "LEVEL")]
    to: PriorityName,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn snooze(args: SnoozeArgs, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let until = args.until.time(control).await?;
    let job = existing(args.id, control).await?;
    let at = until.format("%Y-%m-%d %H:%M:%S UTC");
    if args.dry_run {
        return would(&job, BulkAction::Snooze { until }, &format!("would wait until {at}"), context);
    }
    control.operator().snooze(args.id, until).await?;
    moved(args.id, job.state, format!("waits until {at}"), false, context)
}

pub(super) async fn reprioritise(
    args: ReprioritiseArgs,
    context: &Context,
    control: &Control,
) -> anyhow::Result<Exit> {
    let to: queue::Priority = args.to.into();
    let job = existing(args.id, control).await?;
    if args.dry_run {
        let did = format!("would have the priority {}", to.name());
        return would(&job, BulkAction::Reprioritise { to }, &did, context);
    }
    control.operator().reprioritise(args.id, to).await?;
    moved(args.id, job.state, format!("has the priority {}", to.name()), false, context)
}

fn would(job: &JobRecord, action: BulkAction, did: &str, context: &Context) -> anyhow::Result<Exit> {
    let did = if action.admits(job.state) { did } else { "would be refused" };
    moved(job.id, job.state, did, true, context)
}
