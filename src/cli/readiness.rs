//! `tenure readiness scan|show`: what stands in a tenant's way. Exit 1 if something does, as `doctor`.

mod view;

use std::time::Duration;

use clap::Subcommand;
use database::{control::Tenant, tenant::TenantDb};
use jobs::readiness_scan::{self, Severity, Stored};
use queue::{JobId, State};

use self::view::{Readiness, WouldScan};
use super::{
    Context,
    exit::{Exit, Failure},
    follow,
    tenant::Whose,
};
use crate::{config::units::parse_duration, telemetry, wiring::Control};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Look at a tenant's sources, targets and paths, by reading alone, and say what stands in the way
    Scan(ScanArgs),
    /// What the latest scan found
    Show {
        #[command(flatten)]
        whose: Whose,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    whose: Whose,
    /// How long to wait, such as 5m [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Say what would be scanned and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Scan(args) => scan(args, context).await,
        Command::Show { whose } => {
            let shown = async |control: &Control| {
                let (tenant, db) = whose.opened(context, control).await?;
                let stored = readiness_scan::load(&db, None).await?.ok_or_else(|| none(&tenant))?;
                answer(&tenant, &stored, context)
            };
            context.with_control(async |control| context.interruptible(shown(control)).await).await
        }
    }
}

async fn scan(args: ScanArgs, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let (tenant, db) = args.whose.opened(context, control).await?;
            if args.dry_run {
                let connectors = jobs::connector_registry::list(&db).await?;
                context.output.answer(&WouldScan {
                    tenant: tenant.name.to_string(),
                    connectors,
                    dry_run: true,
                })?;
                return Ok(Exit::Ok);
            }
            let stored = scanned(context, control, &tenant, &db, args.timeout).await?;
            answer(&tenant, &stored, context)
        })
        .await
}

/// Scans the tenant to the end, with a worker of this process if there is no other.
pub(crate) async fn scanned(
    context: &Context,
    control: &Control,
    tenant: &Tenant,
    db: &TenantDb,
    timeout: Option<Duration>,
) -> anyhow::Result<Stored> {
    let job = readiness_scan::job(tenant)?.traceparent(telemetry::traceparent());
    let id = control.operator().enqueue(&[job]).await?[0].id;
    let ids = [id];
    let waiting = follow::jobs(context, control, &ids, timeout);
    let ended = follow::with_worker(context, control, &jobs::queue_of(&tenant.region), waiting).await?;
    let is_done = ended.iter().all(|job| job.state == State::Succeeded);
    match readiness_scan::load(db, Some(id.0)).await? {
        Some(stored) if is_done => Ok(stored),
        _ => Err(ended_badly(control, id).await?.into()),
    }
}

async fn ended_badly(control: &Control, id: JobId) -> anyhow::Result<Failure> {
    let why = control.queue().attempts(id).await?.pop().map(|attempt| attempt.error);
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let what = format!("the scan ended badly{why}");
    Ok(Failure::new(Exit::EndedBadly, what, format!("`tenure job get {id}` tells what became of it")))
}

/// Prints a report. Exit 1 if something blocks.
pub(crate) fn answer(tenant: &Tenant, stored: &Stored, context: &Context) -> anyhow::Result<Exit> {
    context.output.answer(&Readiness::of(tenant, stored))?;
    let blocks = stored.report.count(Severity::Blocks) > 0;
    Ok(if blocks { Exit::Failed } else { Exit::Ok })
}

fn none(tenant: &Tenant) -> Failure {
    let help = format!("`tenure readiness scan --tenant {}` makes one", tenant.name);
    Failure::not_found("the tenant was never scanned", help)
}
