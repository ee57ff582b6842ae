//! `tenure tenant export`.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use clap::Subcommand;
use database::control::{Tenant, TenantName};
use governance::approval::{ApprovalId, Requested};
use jobs::{
    tenant_bundle::{self, Plan},
    tenant_export,
};
use queue::{JobId, JobRecord};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        follow,
        output::{Answer, Page, Table, bytes},
    },
    must_have_succeeded, named, or_default,
};
use crate::{operator, telemetry, wiring::Control};

pub(super) const EXAMPLES: &str = "Examples:
  tenure tenant export acme --to /srv/handover --wait
  tenure tenant export acme --dry-run              what it would hold, table by table, and what would stay
  tenure tenant export list --tenant acme          bundles that can be fetched, their size, until when

An export waits for an approval (gate class tenant_export): another person runs `tenure approval approve`. The folder is
that of the machine whose worker runs the job. Without --to the bundle lies in `exports.folder` and is swept in time.";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// The tenant
    name: Option<TenantName>,
    /// The folder that the bundle is put into [default: the worker's own, from which it is swept in time]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Wait until the bundle is there, with a worker of our own if there is no other
    #[arg(long)]
    wait: bool,
    /// Say what the bundle would hold and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// The bundles in the folder for exports, of this machine
    List {
        /// The tenant [default: the only one in service]
        #[arg(long)]
        tenant: Option<TenantName>,
    },
}

pub(super) async fn run(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    if let Some(Other::List { tenant }) = &args.other {
        return list(tenant.as_ref(), context, control).await;
    }
    let Some(name) = &args.name else {
        return Err(Failure::usage("which tenant is not said", "name it: `tenure tenant export NAME`").into());
    };
    let tenant = named(control, name).await?;
    if args.dry_run {
        return would_export(&tenant, context, control).await;
    }
    let to = args.to.as_deref().map(std::path::absolute).transpose()?;
    let asked = asked(&tenant, to.as_deref(), context, control).await?;
    let new =
        tenant_export::job(&tenant, asked.approval, to.as_deref())?.traceparent(telemetry::traceparent());
    let job = control.operator().enqueue(&[new]).await?[0].id;
    let asked = Asked { job: Some(job), ..asked };
    if !args.wait {
        context.output.answer(&asked)?;
        return Ok(Exit::Ok);
    }
    context.output.say(&asked.next());
    let ids = [job];
    let waiting = follow::jobs(context, control, &ids, None);
    let ended = follow::with_worker(context, control, &jobs::queue_of(&tenant.region), waiting).await?;
    must_have_succeeded(control, &ended[0], &format!("tenant {name} was not exported")).await?;
    context.output.answer(&Exported { tenant: name, approval: asked.approval, job: &ended[0] })?;
    Ok(Exit::Ok)
}

/// Asks for the approval, in the name of whoever types.
async fn asked(
    tenant: &Tenant,
    to: Option<&Path>,
    context: &Context,
    control: &Control,
) -> anyhow::Result<Asked> {
    let mut write = control.tenant(tenant).await?.write().await?;
    let by = operator::named(&mut write, context.actor()).await?.id;
    let Requested { id, digest, .. } = tenant_export::ask(&mut write, tenant, to, by).await?;
    write.commit().await?;
    Ok(Asked { tenant: tenant.name.clone(), approval: id, digest: digest.to_string(), job: None })
}

#[derive(Serialize)]
struct Asked {
    tenant: TenantName,
    approval: ApprovalId,
    digest: String,
    job: Option<JobId>,
}

impl Asked {
    fn next(&self) -> String {
        let Self { tenant, approval, digest, .. } = self;
        let digest = &digest[..12];
        format!(
            "another person has to agree: `tenure approval approve {approval} --digest {digest} --tenant {tenant} --as NAME`"
        )
    }
}

impl Answer for Asked {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if let Some(job) = self.job {
            page.line(format_args!(
                "job {job} exports {} once approval {} is given",
                self.tenant, self.approval
            ))?;
        }
        page.line(self.next())
    }
}

#[derive(Serialize)]
struct Exported<'a> {
    tenant: &'a TenantName,
    approval: ApprovalId,
    job: &'a JobRecord,
}

impl Answer for Exported<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let output = self.job.output.clone().unwrap_or_default();
        let number = |name: &str| output[name].as_u64().unwrap_or_default();
        page.line(output["file"].as_str().unwrap_or_default())?;
        page.line(format_args!(
            "{}, {} rows, sha256 {}",
            bytes(number("bytes")),
            number("rows"),
            output["sha256"].as_str().unwrap_or_default()
        ))
    }
}

/// What it would hold, from a snapshot that is only looked at.
async fn would_export(tenant: &Tenant, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let mut inside = control.tenant(tenant).await?.read().await?;
    let mut own = control.connection().await?;
    let plan = tenant_bundle::plan(&mut inside, &mut own).await?;
    inside.finish().await?;
    context.output.answer(&Planned { tenant: &tenant.name, plan, dry_run: true })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Planned<'a> {
    tenant: &'a TenantName,
    #[serde(flatten)]
    plan: Plan,
    dry_run: bool,
}

impl Answer for Planned<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(format_args!("would export {}:", self.tenant))?;
        let mut table = Table::new(["DATABASE", "TABLE", "ROWS, ABOUT"]);
        for planned in &self.plan.tables {
            let rows = planned.rows_about.map_or_else(|| "-".to_owned(), |rows| rows.to_string());
            table.row(&[planned.database.to_owned(), planned.name.clone(), rows]);
        }
        page.table(&table)?;
        page.blank()?;
        page.line("would stay:")?;
        let mut table = Table::new(["DATABASE", "TABLE", "BECAUSE"]);
        for excluded in &self.plan.excluded {
            table.row(&[excluded.database.clone(), excluded.name.clone(), excluded.reason.clone()]);
        }
        page.table(&table)
    }
}

async fn list(name: Option<&TenantName>, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let tenant = or_default(context, control, name).await?;
    let exports = control.exports()?.ok_or_else(|| {
        Failure::configuration(
            "there is no folder for bundles",
            "set `exports.folder`; what was exported with --to lies where that said",
        )
    })?;
    let listed = exports.list(tenant.id)?;
    let bundles = listed
        .into_iter()
        .map(|bundle| Row {
            file: bundle.path,
            bytes: bundle.bytes,
            made_at: bundle.made_at.into(),
            expires_at: bundle.expires_at.into(),
            is_over: bundle.expires_at <= SystemTime::now(),
        })
        .collect();
    context.output.answer(&Listed { tenant: tenant.name, bundles })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed {
    tenant: TenantName,
    bundles: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    file: PathBuf,
    bytes: u64,
    made_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// It is swept at the next occasion.
    is_over: bool,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.bundles.is_empty() {
            return page.line(format_args!("there are no bundles of {} on this machine", self.tenant));
        }
        let mut table = Table::new(["FILE", "SIZE", "MADE", "UNTIL"]);
        let time = |at: &DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC").to_string();
        for bundle in &self.bundles {
            let until = if bundle.is_over { "over".to_owned() } else { time(&bundle.expires_at) };
            table.row(&[
                bundle.file.display().to_string(),
                bytes(bundle.bytes),
                time(&bundle.made_at),
                until,
            ]);
        }
        page.table(&table)
    }
}
