//! `tenure tenant create|list|show|freeze|thaw|hold|release|export|import|verify-bundle|delete|certificate`.

mod bundle;
mod certificate;
mod delete;
mod export;
mod find;
mod freeze;
mod hold;
mod import;
mod whose;

use std::io;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use database::control::{
    self, Region, Tenant, TenantName, TenantState,
    deletion::{self, Deletion},
};
use queue::{JobId, JobRecord, State};
use serde::Serialize;

pub(super) use self::{
    find::{named, or_default},
    whose::Whose,
};
use super::{
    Context,
    exit::{Exit, Failure},
    follow,
    output::{Answer, Page, Table, bytes},
};
use crate::wiring::Control;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Enter a tenant with its nightly schedules and enqueue the job that makes its database; harmless to repeat
    Create {
        /// Its name: a letter a-z, then a-z, 0-9 and -, at most 40 in all
        name: TenantName,
        /// Where its data lies [default: the configured region]
        #[arg(long)]
        region: Option<Region>,
        /// Wait until its database is there, with a worker of our own if there is no other
        #[arg(long)]
        wait: bool,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// All tenants
    List,
    /// One tenant: its state, its database, its size
    Show {
        /// Its name
        name: TenantName,
    },
    /// Hold back all jobs of a tenant until it is thawed; what runs goes on
    Freeze {
        /// Its name
        name: TenantName,
        /// Why, for those who find its jobs waiting
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a frozen tenant's jobs run again
    Thaw {
        /// Its name
        name: TenantName,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Place a legal hold: as long as it is in force the tenant cannot be deleted
    Hold {
        /// Its name
        name: TenantName,
        /// Why; stays with the tenant, for those who want to delete it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Until when, such as 2027-01-01T00:00:00Z [default: until it is released]
        #[arg(long, value_name = "TIME")]
        until: Option<DateTime<Utc>>,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Release a legal hold
    Release {
        /// Its name
        name: TenantName,
        /// Which hold, by its number [default: the only one]
        #[arg(long, value_name = "N")]
        hold: Option<i64>,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete a tenant for good: needs a second person's yes, and can be called off until it has cooled off
    Delete(delete::Args),
    /// Verify and show what the deletion of a tenant has removed, and what remains
    Certificate(Box<certificate::Args>),
    /// Everything held on a tenant, as one zip, once those whom its gate asks have agreed
    #[command(after_help = export::EXAMPLES)]
    Export(export::Args),
    /// Check a bundle: each of its files, its audit chain, and that no byte was changed; needs no database
    #[command(after_help = bundle::EXAMPLES)]
    VerifyBundle(bundle::Args),
    /// Restore a bundle into an empty tenant, whole or not at all
    #[command(after_help = import::EXAMPLES)]
    Import(import::Args),
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    if let Command::Certificate(args) = &command
        && args.is_offline()
    {
        return certificate::offline(args, context);
    }
    if let Command::VerifyBundle(args) = &command {
        return bundle::run(args, context);
    }
    context
        .with_control(async |control| match &command {
            Command::Create { name, region, wait, dry_run } => {
                let region = region.as_ref().unwrap_or(control.region());
                if *dry_run {
                    return would_create(context, control, name, region).await;
                }
                create(context, control, name, region, *wait).await
            }
            Command::List => context.interruptible(list(context, control)).await,
            Command::Show { name } => context.interruptible(show(context, control, name)).await,
            Command::Freeze { name, reason, dry_run } => {
                freeze::freeze(context, control, name, reason, *dry_run).await
            }
            Command::Thaw { name, dry_run } => freeze::thaw(context, control, name, *dry_run).await,
            Command::Hold { name, reason, until, dry_run } => {
                hold::place(context, control, name, (reason, *until), *dry_run).await
            }
            Command::Release { name, hold, dry_run } => {
                hold::release(context, control, name, *hold, *dry_run).await
            }
            Command::Delete(args) => delete::run(args, context, control).await,
            Command::Certificate(args) => certificate::run(args, context, control).await,
            Command::Export(args) => Box::pin(export::run(args, context, control)).await,
            Command::Import(args) => Box::pin(import::run(args, context, control)).await,
            Command::VerifyBundle(args) => bundle::run(args, context),
        })
        .await
}

async fn create(
    context: &Context,
    control: &Control,
    name: &TenantName,
    region: &Region,
    wait: bool,
) -> anyhow::Result<Exit> {
    let (tenant, job) = enter(control, name, region).await?;
    if !wait {
        context.output.answer(&Created::of(&tenant, Some(job), false))?;
        return Ok(Exit::Ok);
    }
    let tenant = provisioned(context, control, &tenant, job).await?;
    context.output.answer(&Created::of(&tenant, Some(job), false))?;
    Ok(Exit::Ok)
}

/// Enters the tenant and enqueues its provisioning, both or neither. A tenant that is new is given its standing
/// schedules with that, and never again: whoever changes or deletes one has the last word.
pub(super) async fn enter(
    control: &Control,
    name: &TenantName,
    region: &Region,
) -> anyhow::Result<(Tenant, JobId)> {
    control.operator().enter_tenant(name, region).await.context("while entering the tenant")
}

/// Waits until the job has provisioned the tenant.
pub(super) async fn provisioned(
    context: &Context,
    control: &Control,
    tenant: &Tenant,
    job: JobId,
) -> anyhow::Result<Tenant> {
    let queue = jobs::queue_of(&tenant.region);
    let ids = [job];
    let waiting = follow::jobs(context, control, &ids, None);
    let ended = follow::with_worker(context, control, &queue, waiting).await?;
    must_have_succeeded(control, &ended[0], &format!("tenant {} was not provisioned", tenant.name)).await?;
    named(control, &tenant.name).await
}

/// Refuses a job that ended badly, with the last error it left.
pub(super) async fn must_have_succeeded(
    control: &Control,
    job: &JobRecord,
    what: &str,
) -> anyhow::Result<()> {
    if job.state == State::Succeeded {
        return Ok(());
    }
    let attempts = control.queue().attempts(job.id).await?;
    let why = attempts.last().map_or_else(|| job.note.clone().unwrap_or_default(), |last| last.error.clone());
    let help = format!("remove the cause, then `tenure job retry {}`", job.id);
    Err(Failure::new(Exit::EndedBadly, format!("{what}: job {} is {}: {why}", job.id, job.state), help)
        .into())
}

async fn would_create(
    context: &Context,
    control: &Control,
    name: &TenantName,
    region: &Region,
) -> anyhow::Result<Exit> {
    let existing = control::by_name(&mut *control.connection().await?, name).await?;
    let created = match &existing {
        Some(tenant) if tenant.region != *region => {
            let what = format!("the tenant {name} exists already, in region {}", tenant.region);
            return Err(Failure::refused(what, "choose another name, or name its region").into());
        }
        Some(tenant) => Created::of(tenant, None, true),
        None => Created {
            name: name.to_string(),
            region: region.to_string(),
            id: None,
            state: None,
            job: None,
            dry_run: true,
        },
    };
    context.output.answer(&created)?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Created {
    name: String,
    region: String,
    id: Option<String>,
    state: Option<TenantState>,
    job: Option<JobId>,
    dry_run: bool,
}

impl Created {
    fn of(tenant: &Tenant, job: Option<JobId>, dry_run: bool) -> Self {
        Self {
            name: tenant.name.to_string(),
            region: tenant.region.to_string(),
            id: Some(tenant.id.to_string()),
            state: Some(tenant.state),
            job,
            dry_run,
        }
    }
}

impl Answer for Created {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { name, region, .. } = self;
        match (self.state, self.job) {
            (None, _) => page.line(format_args!("would create the tenant {name} in region {region}")),
            (Some(state), None) => page.line(format_args!("the tenant {name} exists already and is {state}")),
            (Some(TenantState::Provisioning), Some(job)) => {
                page.line(format_args!("tenant {name} in region {region}: job {job} makes its database"))?;
                page.line(format_args!("follow it with `tenure job wait {job}`"))
            }
            (Some(state), Some(_)) => page.line(format_args!("tenant {name} in region {region} is {state}")),
        }
    }
}

async fn list(context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let tenants = control::list(&mut *control.connection().await?).await?;
    context.output.answer(&Listed { tenants })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed {
    tenants: Vec<Tenant>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.tenants.is_empty() {
            return page.line("there are no tenants: make one with `tenure tenant create NAME --wait`");
        }
        let mut table = Table::new(["NAME", "REGION", "STATE", "SCHEMA", "CREATED"]);
        for tenant in &self.tenants {
            table.row(&[
                tenant.name.to_string(),
                tenant.region.to_string(),
                tenant.state.to_string(),
                tenant.schema_version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
                tenant.created_at.format("%Y-%m-%d %H:%M UTC").to_string(),
            ]);
        }
        page.table(&table)
    }
}

async fn show(context: &Context, control: &Control, name: &TenantName) -> anyhow::Result<Exit> {
    let tenant = named(control, name).await?;
    let mut conn = control.connection().await?;
    // Not every role may ask for the size of a database that it cannot enter.
    let size = database::health::database_size(&mut conn, &tenant.database_name).await.ok().flatten();
    let connectors = match tenant.state {
        TenantState::Active if tenant.region == *control.region() => {
            jobs::connector_registry::list(&control.tenant(&tenant).await?).await?
        }
        _ => Vec::new(),
    };
    let newest_schema_version = database::migrate::newest_of_tenant();
    let holds = control::hold::in_force(&mut conn, tenant.id).await?;
    let holds = hold::shown(&mut conn, holds).await?;
    let deletion = deletion::newest_of(&mut conn, tenant.id).await?;
    context.output.answer(&Shown {
        tenant,
        newest_schema_version,
        size_bytes: size,
        connectors,
        holds,
        deletion,
    })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    tenant: Tenant,
    newest_schema_version: i64,
    size_bytes: Option<i64>,
    connectors: Vec<String>,
    /// Legal holds in force.
    holds: Vec<hold::Shown>,
    /// The newest deletion that was asked for.
    deletion: Option<Deletion>,
}

impl Answer for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 10;
        let tenant = &self.tenant;
        let size = self.size_bytes.and_then(|size| u64::try_from(size).ok());
        let schema = tenant.schema_version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let connectors = if self.connectors.is_empty() { "-".to_owned() } else { self.connectors.join(", ") };
        page.entry(WIDTH, "tenant", &tenant.name)?;
        page.entry(WIDTH, "id", tenant.id)?;
        page.entry(WIDTH, "region", &tenant.region)?;
        page.entry(WIDTH, "state", tenant.state)?;
        page.entry(WIDTH, "database", &tenant.database_name)?;
        page.entry(WIDTH, "schema", format_args!("{schema} of {}", self.newest_schema_version))?;
        page.entry(WIDTH, "size", size.map_or_else(|| "unknown".to_owned(), bytes))?;
        page.entry(WIDTH, "connectors", connectors)?;
        hold::lines(page, WIDTH, &self.holds)?;
        match &self.deletion {
            Some(deletion) => page.entry(WIDTH, "deletion", delete::standing(deletion)),
            None => Ok(()),
        }
    }
}
