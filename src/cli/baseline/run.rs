//! `tenure baseline run`: a run's jobs, from the first to the report.

use std::{
    io,
    time::{Duration, Instant},
};

use database::control::{Tenant, TenantName};
use jobs::nightly_baseline::{self, Report};
use queue::JobId;
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        follow,
        output::{Answer, Page},
        tenant,
    },
    view,
};
use crate::{config::units::parse_duration, telemetry, wiring::Control};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose [default: the only tenant in service]
    #[arg(long)]
    tenant: Option<TenantName>,
    /// Print the job and leave the run to the workers
    #[arg(long)]
    detach: bool,
    /// How long to wait, such as 5m [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "detach")]
    timeout: Option<Duration>,
    /// Say what would be done and do nothing
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let tenant = tenant::or_default(context, control, args.tenant.as_ref()).await?;
            if args.dry_run {
                context.output.answer(&WouldRun::of(control, &tenant).await?)?;
                return Ok(Exit::Ok);
            }
            let job = enqueue(control, &tenant).await?;
            if args.detach {
                context.output.answer(&Detached { job })?;
                return Ok(Exit::Ok);
            }
            let following = Box::pin(follow(context, control, &tenant, job, args.timeout));
            let queue = jobs::queue_of(&tenant.region);
            let report = follow::with_worker(context, control, &queue, following).await?;
            let exit = if report.is_complete() { Exit::Ok } else { Exit::EndedBadly };
            context.output.answer(&Ran { tenant: tenant.name.to_string(), report })?;
            Ok(exit)
        })
        .await
}

/// Begins a run; while one is under way, the answer is a job of that one.
pub(crate) async fn enqueue(control: &Control, tenant: &Tenant) -> anyhow::Result<JobId> {
    let job = nightly_baseline::job(tenant)?.traceparent(telemetry::traceparent());
    Ok(control.operator().enqueue(&[job]).await?[0].id)
}

/// Follows a run from any of its jobs to its end, and gives its report.
pub(crate) async fn follow(
    context: &Context,
    control: &Control,
    tenant: &Tenant,
    job: JobId,
    timeout: Option<Duration>,
) -> anyhow::Result<Report> {
    let began = Instant::now();
    let mut job = job;
    let last = loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        let ended = follow::jobs(context, control, &[job], left).await?.remove(0);
        tenant::must_have_succeeded(control, &ended, "the baseline ended without a report").await?;
        match control.queue().dependencies(job).await?.fanned_out_into.first() {
            Some(next) => job = next.id,
            None => break ended,
        }
    };
    let run = last.output.as_ref().and_then(|output| output["run"].as_str()?.parse().ok());
    let report = match run {
        Some(run) => nightly_baseline::report(&control.tenant(tenant).await?, run).await?,
        None => None,
    };
    Ok(report.ok_or_else(|| no_report(last.id))?)
}

fn no_report(job: JobId) -> Failure {
    let help = format!("`tenure job get {job}` shows what it left");
    Failure::new(Exit::Failed, format!("job {job} ended well and left no report"), help)
}

#[derive(Serialize)]
struct Ran {
    tenant: String,
    report: Report,
}

impl Answer for Ran {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        view::report(page, &self.tenant, &self.report)?;
        let tenant = &self.tenant;
        page.blank()?;
        page.line(format_args!("over the last nights: `tenure baseline show --tenant {tenant}`"))
    }
}

#[derive(Serialize)]
struct Detached {
    job: JobId,
}

impl Answer for Detached {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let job = self.job;
        page.line(format_args!("job {job} begins it: `tenure job get {job}` leads to what follows"))
    }
}

#[derive(Serialize)]
struct WouldRun {
    tenant: String,
    connectors: Vec<String>,
    dry_run: bool,
}

impl WouldRun {
    async fn of(control: &Control, tenant: &Tenant) -> anyhow::Result<Self> {
        let connectors = jobs::connector_registry::list(&control.tenant(tenant).await?).await?;
        Ok(Self { tenant: tenant.name.to_string(), connectors, dry_run: true })
    }
}

impl Answer for WouldRun {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let connectors = match &*self.connectors {
            [] => "no connector".to_owned(),
            names => names.join(", "),
        };
        page.line(format_args!(
            "would read {connectors}, decide over every path of {}, try every candidate, and report",
            self.tenant
        ))
    }
}
