//! `tenure dev`: everything on one machine, from an empty folder to a change in a CRM that is proved.
//!
//! Makes the databases, two tenants and a sample source, runs a worker, syncs the source through the queue, plays the
//! story of one governed field on it ([`story`]), tells what happened and what to type next. Stays up with the worker
//! unless told to run once. Repeating it is harmless: what is there is kept, and only what changed in the source is read
//! again.

mod report;
mod source;
mod story;

use connectors::Definition;
use database::control::{Tenant, TenantName};
use queue::JobId;
use tokio_util::sync::CancellationToken;

use self::{report::Report, story::Stage};
use super::{
    Context, close,
    connector::sync,
    exit::{Exit, Failure},
    follow, tenant, work,
};
use crate::{
    config::Environment,
    wiring::{Control, Schema},
};

/// The sample tenants; the source belongs to the first.
const TENANTS: [&str; 2] = ["acme", "globex"];

const EXAMPLES: &str = "Examples:
  tenure dev                 stays up with a worker until Ctrl-C
  tenure dev --once --json   plays the whole story once, prints one object, exits

Uses the database that DATABASE_URL names; without it, a private Postgres in the data folder, which needs an
installed PostgreSQL 14 or newer and nothing else.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Exit after the story
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    if context.config.environment == Environment::Production {
        let what = "`tenure dev` makes sample data, which production refuses";
        return Err(
            Failure::refused(what, "set `environment = \"development\"`, or use `tenure work`").into()
        );
    }
    let opening = Control::open(context.config.clone(), context.output, Schema::Migrated);
    let control = context.interruptible(opening).await?.acting_as(context.actor());
    let done = run_with_worker(&args, context, &control).await;
    close(control, done).await
}

async fn run_with_worker(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    let worker = tokio::spawn(control.worker(Vec::new()).await?.run(stop.clone()));
    let done = try_it(args, context, control).await;
    stop.cancel();
    worker.await?;
    done
}

async fn try_it(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let listener = work::listener(context, control).await?;
    let tenant = tenants(context, control).await?;
    let definition = context.interruptible(source::prepare(control)).await?;
    let report = play(context, control, &tenant, &definition).await?;
    context.output.answer(&report)?;
    if !args.once {
        context.output.say("a worker is up; Ctrl-C stops it and what it started");
        context.shutdown.cancelled().await;
    }
    if let Some(listener) = listener {
        listener.end().await;
    }
    Ok(if report.is_complete() { Exit::Ok } else { Exit::EndedBadly })
}

/// Provisions the sample tenants, or brings their databases up to date, and gives the first.
async fn tenants(context: &Context, control: &Control) -> anyhow::Result<Tenant> {
    let mut entered: Vec<(Tenant, JobId)> = Vec::with_capacity(TENANTS.len());
    for name in TENANTS {
        let name: TenantName = name.parse().expect("the sample tenants have valid names");
        entered.push(tenant::enter(control, &name, control.region()).await?);
    }
    let ids: Vec<_> = entered.iter().map(|(_, job)| *job).collect();
    for (job, (tenant, _)) in follow::jobs(context, control, &ids, None).await?.iter().zip(&entered) {
        let what = format!("tenant {} was not provisioned", tenant.name);
        tenant::must_have_succeeded(control, job, &what).await?;
    }
    tenant::named(control, &entered[0].0.name).await
}

async fn play(
    context: &Context,
    control: &Control,
    tenant: &Tenant,
    definition: &Definition,
) -> anyhow::Result<Report> {
    let db = control.tenant(tenant).await?;
    sync::register(context, &db, definition).await?;
    let ids = sync::enqueue(control, tenant, definition, definition.streams(), false).await?;
    let ended = follow::jobs(context, control, &ids, None).await?;
    let results = sync::results(control, &ended).await?;
    let report = Report::of(control, tenant, &db, definition, results).await?;
    if !report.is_complete() {
        return Ok(report);
    }
    let stage = Stage { context, control, tenant, db: &db, definition };
    // The future is large.
    Ok(report.with(Box::pin(stage.play()).await?))
}
