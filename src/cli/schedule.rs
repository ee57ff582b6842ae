//! `tenure schedule create|list|next|run|pause|resume|backfill|delete`.

mod create;
mod view;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use database::control::TenantName;
use queue::{NewJob, NewSchedule, ScheduleName};
use serde_json::value::RawValue;

use self::view::{Acted, Backfilling, Listed, Next};
use super::{
    Context,
    exit::{Exit, Failure},
    job, tenant,
};
use crate::wiring::Control;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a schedule, or replace the one of this name
    Create(create::Args),
    /// All schedules, in plain words, with their next fire
    List {
        /// Only those of this tenant
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// The next fires: UTC, local time with its offset, and when the job may run
    Next(NextArgs),
    /// Enqueue a schedule's job at once, beside its fire times, also when it is paused
    Run(Named),
    /// Stop a schedule from firing; fire times in the pause are given nothing
    Pause {
        #[command(flatten)]
        schedule: Named,
        /// Why, for those who find it paused
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a schedule fire again, from now on
    Resume(Named),
    /// Enqueue a job for each past fire time that was given none
    Backfill {
        #[command(flatten)]
        schedule: Named,
        /// The first instant, such as 2026-05-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        from: DateTime<Utc>,
        /// The first instant that is too late [default: now]
        #[arg(long, value_name = "TIME")]
        to: Option<DateTime<Utc>>,
    },
    /// Delete a schedule and the record of its fires; jobs that it enqueued stay
    Delete(Named),
}

/// Which schedule.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// Its name
    name: String,
    /// Whose it is [default: the only one of that name]
    #[arg(long)]
    tenant: Option<TenantName>,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct NextArgs {
    /// The schedule's name
    #[arg(required_unless_present = "cron", conflicts_with = "cron")]
    name: Option<String>,
    /// Whose it is [default: the only one of that name]
    #[arg(long, conflicts_with = "cron")]
    tenant: Option<TenantName>,
    /// A cron line instead, to try it
    #[arg(long, value_name = "LINE")]
    cron: Option<String>,
    /// The cron line's time zone
    #[arg(long, default_value = "UTC", value_name = "ZONE", conflicts_with = "name")]
    zone: String,
    /// How many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    count: u16,
    /// After this instant [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "cron")]
    after: Option<DateTime<Utc>>,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| match command {
            Command::Create(args) => Box::pin(create::run(args, context, control)).await,
            command => context.interruptible(act(command, context, control)).await,
        })
        .await
}

async fn act(command: Command, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let (queue, operator) = (control.queue(), control.operator());
    match command {
        Command::Create(_) => unreachable!("creation has its own way"),
        Command::List { tenant } => list(tenant.as_ref(), context, control).await?,
        Command::Next(args) => next(args, context, control).await?,
        Command::Run(named) => {
            let schedule = named.find(control).await?;
            let job = if named.dry_run { None } else { Some(operator.run_schedule(&schedule).await?) };
            context.output.answer(&Acted::run(&schedule.name, job))?;
        }
        Command::Pause { schedule: named, reason } => {
            let schedule = named.find(control).await?;
            let moved = if named.dry_run {
                queue.schedule(&schedule).await?.paused_at.is_none()
            } else {
                operator.pause_schedule(&schedule, reason.as_deref()).await?
            };
            context.output.answer(&Acted::moved(&schedule.name, "paused", moved, named.dry_run))?;
        }
        Command::Resume(named) => {
            let schedule = named.find(control).await?;
            let moved = if named.dry_run {
                queue.schedule(&schedule).await?.paused_at.is_some()
            } else {
                operator.resume_schedule(&schedule).await?
            };
            context.output.answer(&Acted::moved(&schedule.name, "active", moved, named.dry_run))?;
        }
        Command::Backfill { schedule: named, from, to } => {
            let schedule = named.find(control).await?;
            let now = database::health::now(&mut *control.connection().await?).await?;
            let to = to.unwrap_or(now);
            let done = if named.dry_run {
                queue.backfill(&schedule, from, to, true).await?
            } else {
                operator.backfill(&schedule, from, to).await?
            };
            context.output.answer(&Backfilling::of(&schedule.name, &done, named.dry_run))?;
        }
        Command::Delete(named) => {
            let schedule = named.find(control).await?;
            if !named.dry_run {
                operator.delete_schedule(&schedule).await?;
            }
            context.output.answer(&Acted::moved(&schedule.name, "deleted", true, named.dry_run))?;
        }
    }
    Ok(Exit::Ok)
}

async fn list(tenant: Option<&TenantName>, context: &Context, control: &Control) -> anyhow::Result<()> {
    let tenant = match tenant {
        Some(name) => Some(tenant::named(control, name).await?.id.0),
        None => None,
    };
    let schedules = control.queue().schedules(tenant).await?;
    let names = job::names(control).await?;
    Ok(context.output.answer(&Listed::of(schedules, &names))?)
}

async fn next(args: NextArgs, context: &Context, control: &Control) -> anyhow::Result<()> {
    let (queue, count) = (control.queue(), usize::from(args.count));
    let next = match (args.name, args.cron) {
        (Some(name), _) => {
            let schedule = find(control, &name, args.tenant.as_ref()).await?;
            let record = queue.schedule(&schedule).await?;
            let fires = queue.next_fires(&schedule, args.after, count).await?;
            Next { cron: record.cron, cron_in_words: record.cron_in_words, zone: record.zone, fires }
        }
        (None, cron) => {
            let timetable = create::timetable(&cron.unwrap_or_default(), &args.zone)?;
            let nothing = NewJob::raw("preview", RawValue::NULL.to_owned());
            let schedule = NewSchedule::new("preview", timetable.clone(), nothing);
            Next {
                cron: timetable.cron().to_owned(),
                cron_in_words: timetable.describe(),
                zone: timetable.zone().to_owned(),
                fires: queue.preview(&schedule, count).await?,
            }
        }
    };
    Ok(context.output.answer(&next)?)
}

impl Named {
    async fn find(&self, control: &Control) -> anyhow::Result<ScheduleName> {
        find(control, &self.name, self.tenant.as_ref()).await
    }
}

/// The schedule of this name and tenant; without a tenant the only one of the name.
async fn find(control: &Control, name: &str, tenant: Option<&TenantName>) -> anyhow::Result<ScheduleName> {
    let owner = match tenant {
        Some(tenant) => Some(tenant::named(control, tenant).await?.id.0),
        None => None,
    };
    let mut found = control.queue().schedules(owner).await?;
    found.retain(|schedule| schedule.name == name);
    match &*found {
        [schedule] => Ok(ScheduleName { tenant: schedule.tenant, name: name.to_owned() }),
        [] => Err(Failure::not_found(
            format!(
                "there is no schedule {name}{}",
                tenant.map(|t| format!(" of tenant {t}")).unwrap_or_default()
            ),
            "`tenure schedule list` shows all of them",
        )
        .into()),
        several => Err(Failure::usage(
            format!("{} owners have a schedule {name}", several.len()),
            "say whose it is with `--tenant`",
        )
        .into()),
    }
}
