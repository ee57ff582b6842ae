//! `tenure tenant import`.

use std::{io, path::PathBuf};

use anyhow::Context as _;
use database::control::{self, TenantName};
use jobs::tenant_bundle::{self, Imported};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page},
    },
    bundle::Witnesses,
    named,
};
use crate::wiring::Control;

pub(super) const EXAMPLES: &str = "Examples:
  tenure tenant create acme --wait
  tenure tenant import acme-0198c5d2-3.zip --into acme --dry-run
  tenure tenant import acme-0198c5d2-3.zip --into acme

The bundle is checked as by `verify-bundle` before a row is written, and what was restored is read back and held against it
before it is kept. The tenant keeps its id and carries on the bundle's audit chain. Not restored: jobs, schedules and
limits, which belonged to another installation, and credentials, which are in no bundle: register the connectors again.
Exit codes: 4 the tenant is not empty, of another region or of another schema, or the bundle's own tenant is still here; 7 the bundle is not what was exported.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bundle
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// The tenant, which is in service and holds nothing yet
    #[arg(long, value_name = "NAME")]
    into: TenantName,
    #[command(flatten)]
    witnesses: Witnesses,
    /// Check the bundle and the tenant, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let tenant = named(control, &args.into).await?;
    let kept = args.witnesses.checkpoints()?;
    let key = args.witnesses.key.as_ref();
    let mut owner = control.owner_of(&tenant).await?;
    let planned = tenant_bundle::plan_import(&mut owner, &args.bundle, &tenant, &kept, key).await?;
    refuse_second(&planned.verified.manifest.audit.origin, control).await?;
    let imported = if args.dry_run {
        planned
    } else {
        let (digest, origin) = (&planned.verified.digest, &planned.verified.manifest.audit.origin);
        control.operator().begin_import(tenant.id, digest, origin).await?;
        let restored = tenant_bundle::import(&mut owner, &args.bundle, &tenant, &kept, key).await;
        restored.with_context(|| format!("while restoring into tenant {}", tenant.name))?
    };
    context.output.answer(&Restored::of(&args.into, &imported, args.dry_run))?;
    Ok(Exit::Ok)
}

/// A chain goes on in one place: in two, the checkpoints of the one would contradict those of the other.
async fn refuse_second(origin: &str, control: &Control) -> anyhow::Result<()> {
    let tenants = control::list(&mut *control.connection().await?).await?;
    let lives = |tenant: &control::Tenant| {
        origin == format!("tenant/{}", tenant.id) && tenant.state != control::TenantState::Deleted
    };
    match tenants.into_iter().find(lives) {
        None => Ok(()),
        Some(tenant) => {
            let what = format!(
                "the bundle is of the tenant {}, which is here and carries its audit chain on",
                tenant.name
            );
            Err(Failure::refused(what, "restore it in another installation, or once that tenant is deleted")
                .into())
        }
    }
}

#[derive(Serialize)]
struct Restored<'a> {
    tenant: &'a TenantName,
    sha256: &'a str,
    tables: usize,
    rows: u64,
    /// Sealed values that are in no bundle.
    sealed: u64,
    origin: &'a str,
    size: u64,
    dry_run: bool,
}

impl<'a> Restored<'a> {
    fn of(tenant: &'a TenantName, imported: &'a Imported, dry_run: bool) -> Self {
        Self {
            tenant,
            sha256: &imported.verified.digest,
            tables: imported.tables,
            rows: imported.rows,
            sealed: imported.sealed,
            origin: &imported.verified.chain.origin,
            size: imported.verified.chain.size,
            dry_run,
        }
    }
}

impl Answer for Restored<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { tenant, tables, rows, .. } = self;
        let (did, what) = if self.dry_run {
            ("would restore", "")
        } else {
            ("restored", ", read back as they are in the bundle")
        };
        page.line(format_args!("{did} {rows} rows of {tables} tables into {tenant}{what}"))?;
        page.line(format_args!("the audit chain of {} goes on after {} entries", self.origin, self.size))?;
        if self.sealed > 0 {
            page.line(format_args!("{} sealed values are in no bundle and are empty", self.sealed))?;
        }
        Ok(())
    }
}
