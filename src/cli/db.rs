//! `tenure db migrate|status|plan`.

use std::io;

use clap::Subcommand;
use database::{control, migrate};
use serde::Serialize;

use super::{
    Context, close,
    exit::Exit,
    output::{Answer, Page, Table},
};
use crate::wiring::{Control, Schema};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Bring the control database up to date, and have tenants' databases follow
    Migrate {
        /// Print what would run and run nothing, as `db plan` does
        #[arg(long)]
        dry_run: bool,
    },
    /// Where the schemas of the control database and of the tenants stand
    Status,
    /// Print the SQL that `db migrate` would run
    Plan,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let opening = Control::open(context.config.clone(), context.output, Schema::Any);
    let control = context.interruptible(opening).await?.acting_as(context.actor());
    let done = match command {
        Command::Migrate { dry_run: false } => migrate_all(context, &control).await,
        Command::Migrate { dry_run: true } | Command::Plan => plan(context, &control).await,
        Command::Status => status(context, &control).await,
    };
    close(control, done).await
}

/// Not interruptible: a migration is whole or not at all, and the next one would only run later.
async fn migrate_all(context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let ran = control.migrate().await?;
    let behind = tenants_behind(control).await?;
    let jobs: Vec<_> = behind.iter().map(jobs::tenant_provision::job).collect::<Result<_, _>>()?;
    control.operator().enqueue(&jobs).await?;
    let ran = ran.into_iter().map(|(schema, applied)| Ran {
        schema,
        version: applied.version,
        name: applied.name,
        elapsed_ms: applied.elapsed.map(|elapsed| elapsed.as_secs_f64() * 1e3),
    });
    let tenants_to_follow = behind.iter().map(|tenant| tenant.name.to_string()).collect();
    context.output.answer(&Migrated { ran: ran.collect(), tenants_to_follow })?;
    Ok(Exit::Ok)
}

/// Tenants in service whose schema is older than this program's.
async fn tenants_behind(control: &Control) -> anyhow::Result<Vec<control::Tenant>> {
    let newest = migrate::newest_of_tenant();
    let tenants = control::list(&mut *control.connection().await?).await?;
    let is_behind = |tenant: &control::Tenant| {
        tenant.state == control::TenantState::Active
            && tenant.schema_version.is_some_and(|version| version < newest)
    };
    Ok(tenants.into_iter().filter(is_behind).collect())
}

#[derive(Serialize)]
struct Ran {
    schema: &'static str,
    version: i64,
    name: String,
    elapsed_ms: Option<f64>,
}

#[derive(Serialize)]
struct Migrated {
    ran: Vec<Ran>,
    /// Each has a job that brings its database up to date.
    tenants_to_follow: Vec<String>,
}

impl Answer for Migrated {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for ran in &self.ran {
            let elapsed = ran.elapsed_ms.map(|elapsed| format!(" ({elapsed:.0} ms)")).unwrap_or_default();
            page.line(format_args!("{} {:04} {}{elapsed}", ran.schema, ran.version, ran.name))?;
        }
        if !self.tenants_to_follow.is_empty() {
            let names = self.tenants_to_follow.join(", ");
            page.line(format_args!(
                "a worker will bring the databases of these tenants up to date: {names}"
            ))?;
        }
        page.line("the control database is up to date")
    }
}

async fn plan(context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let mut conn = control.direct_connection().await?;
    let mut pending = Vec::new();
    for (schema, set) in Control::sets() {
        let steps = migrate::plan(&mut conn, set).await?;
        pending.extend(steps.into_iter().map(|step| Step {
            schema,
            version: step.version,
            name: step.name,
            sql: step.sql,
        }));
    }
    context.output.answer(&Plan { pending })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Step {
    schema: &'static str,
    version: i64,
    name: String,
    sql: String,
}

#[derive(Serialize)]
struct Plan {
    pending: Vec<Step>,
}

impl Answer for Plan {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.pending.is_empty() {
            return page.line("-- nothing is to be done");
        }
        for step in &self.pending {
            page.line(format_args!("-- {} {:04} {}", step.schema, step.version, step.name))?;
            page.line(&step.sql)?;
        }
        Ok(())
    }
}

async fn status(context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let mut conn = control.direct_connection().await?;
    let mut schemas = Vec::new();
    let mut is_migrated = true;
    for (name, set) in Control::sets() {
        let status = migrate::status(&mut conn, set).await?;
        is_migrated &= !status.applied.is_empty();
        schemas.push(SchemaStatus {
            schema: name.to_owned(),
            version: status.applied.last().map_or(0, |applied| applied.version),
            newest: migrate::newest(set),
            pending: status.pending.len(),
        });
    }
    if is_migrated {
        let newest = migrate::newest_of_tenant();
        let tenants = control::list(&mut conn).await?;
        for tenant in tenants.into_iter().filter(|tenant| !control::deletion::is_doomed(tenant.state)) {
            let version = tenant.schema_version.unwrap_or(0);
            schemas.push(SchemaStatus {
                schema: format!("tenant {}", tenant.name),
                version,
                newest,
                pending: usize::try_from(newest - version).unwrap_or(0),
            });
        }
    }
    context.output.answer(&Status { database: control.server().name(), schemas })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct SchemaStatus {
    schema: String,
    version: i64,
    newest: i64,
    pending: usize,
}

#[derive(Serialize)]
struct Status {
    database: String,
    schemas: Vec<SchemaStatus>,
}

impl Answer for Status {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(&self.database)?;
        let mut table = Table::new(["SCHEMA", "VERSION", "NEWEST", "PENDING"]);
        for status in &self.schemas {
            let numbers = [status.version.to_string(), status.newest.to_string(), status.pending.to_string()];
            let [version, newest, pending] = numbers;
            table.row(&[status.schema.clone(), version, newest, pending]);
        }
        page.table(&table)
    }
}
