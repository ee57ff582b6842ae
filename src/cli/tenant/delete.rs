//! `tenure tenant delete`: asking for it, looking what would go, calling it off.

use std::{io, time::Duration};

use anyhow::Context as _;
use database::{
    control::{
        Tenant, TenantName, TenantState,
        deletion::{self, Deletion, DeletionState},
        hold,
    },
    tenant::{TenantDb, TenantError},
    tombstone::TombstoneError,
};
use governance::approval::ApprovalId;
use jobs::tenant_delete::{self, Deletions, GateGap, NotSet, RequestError, Survey};
use queue::JobId;
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page, bytes},
    },
    hold::forbids,
    named,
};
use crate::wiring::Control;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    name: TenantName,
    /// The name once more
    #[arg(long, value_name = "NAME", required_unless_present_any = ["dry_run", "call_off"])]
    confirm: Option<TenantName>,
    /// Call its deletion off, which can be done until the cooling-off is over
    #[arg(long, conflicts_with = "confirm")]
    call_off: bool,
    /// Say exactly what would go and what would remain, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    if args.confirm.as_ref().is_some_and(|confirmed| *confirmed != args.name) {
        let what = "the name in `--confirm` is another one";
        return Err(Failure::usage(what, "write the name of the tenant that is to be deleted twice").into());
    }
    let tenant = named(control, &args.name).await?;
    if args.call_off {
        return call_off(context, control, &tenant, args.dry_run).await;
    }
    let deletions = able(control)?;
    if tenant.state == TenantState::Deleted {
        let help = format!("`tenure tenant certificate {}` shows what was removed", tenant.name);
        return Err(Failure::refused(format!("the tenant {} is deleted", tenant.name), help).into());
    }
    let mut conn = control.connection().await?;
    let holds = hold::in_force(&mut conn, tenant.id).await?;
    if !holds.is_empty() {
        return Err(forbids(&mut conn, &tenant.name, holds).await?.into());
    }
    let db = database(control, &tenant).await?;
    if let Some(db) = &db {
        tenant_delete::gates(&mut conn, db).await.map_err(wider)?;
    }
    let cooling_off = control.config().tenants.deletion_cooling_off;
    if args.dry_run {
        let survey = tenant_delete::survey(&mut conn, &tenant, db.as_ref(), &deletions, cooling_off).await?;
        context.output.answer(&Would { survey })?;
        return Ok(Exit::Ok);
    }
    drop(conn);
    request(context, control, &tenant, cooling_off).await
}

/// What a deletion needs of this installation.
fn able(control: &Control) -> anyhow::Result<Deletions> {
    control.checkpoints()?;
    let help = "a folder outside of what is restored with the database; config/default.toml explains it";
    let missing = || Failure::configuration(NotSet::Tombstones.to_string(), help);
    Ok(control.deletions()?.ok_or_else(missing)?)
}

/// The tenant's database, if it is in service and was not restored after its deletion.
async fn database(control: &Control, tenant: &Tenant) -> anyhow::Result<Option<TenantDb>> {
    if tenant.state != TenantState::Active {
        return Ok(None);
    }
    match control.tenant(tenant).await {
        Ok(db) => Ok(Some(db)),
        Err(error) => match error.downcast_ref() {
            Some(TenantError::Tombstone(TombstoneError::Buried { .. })) => Ok(None),
            _ => Err(error),
        },
    }
}

fn wider(gap: GateGap) -> anyhow::Error {
    match gap {
        GateGap::Wider(_) => {
            let help = "a deletion passes the platform's gate: raise that one with `tenure gate set tenant_delete --platform`";
            Failure::refused(gap.to_string(), help).into()
        }
        error => error.into(),
    }
}

async fn request(
    context: &Context,
    control: &Control,
    tenant: &Tenant,
    cooling_off: Duration,
) -> anyhow::Result<Exit> {
    let name = tenant.name.clone();
    let asked = match control.operator().request_deletion(tenant, cooling_off).await {
        Ok(asked) => asked,
        Err(error) => match error.downcast() {
            Ok(RequestError::Held { holds, .. }) => {
                return Err(forbids(&mut *control.connection().await?, &name, holds).await?.into());
            }
            Ok(error @ RequestError::Unclassified(_)) => {
                let help = "a table of another program must move to a database of its own";
                return Err(Failure::refused(error.to_string(), help).into());
            }
            Ok(error) => return Err(error.into()),
            Err(error) => return Err(error),
        },
    };
    let mut conn = control.connection().await?;
    let deletion = deletion::newest_of(&mut conn, tenant.id).await?.context("the deletion is not there")?;
    let answer = Asked { tenant: name, deletion, job: asked.job.id, is_new: asked.is_new };
    context.output.answer(&answer)?;
    Ok(Exit::Ok)
}

async fn call_off(
    context: &Context,
    control: &Control,
    tenant: &Tenant,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let name = &tenant.name;
    let deletion = match control.operator().call_off_deletion(tenant.id, dry_run).await {
        Ok(deletion) => deletion,
        Err(error) => match error.downcast() {
            Ok(error @ RequestError::Nothing) => {
                let help = format!("`tenure tenant show {name}` tells how it stands");
                return Err(Failure::refused(error.to_string(), help).into());
            }
            Ok(error @ RequestError::TooLate(_)) => {
                let help = format!("`tenure tenant show {name}` tells how far it has come");
                return Err(Failure::refused(error.to_string(), help).into());
            }
            Ok(error) => return Err(error.into()),
            Err(error) => return Err(error),
        },
    };
    context.output.answer(&CalledOff { tenant: name, deletion, dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct CalledOff<'a> {
    tenant: &'a TenantName,
    deletion: Deletion,
    dry_run: bool,
}

impl Answer for CalledOff<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let would = if self.dry_run { "would be" } else { "is" };
        page.line(format_args!(
            "deletion {} of the tenant {} {would} called off",
            self.deletion.id, self.tenant
        ))
    }
}

#[derive(Serialize)]
struct Asked {
    tenant: TenantName,
    deletion: Deletion,
    /// The job that carries it out.
    job: JobId,
    is_new: bool,
}

impl Answer for Asked {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { tenant, deletion, job, is_new } = self;
        let id = deletion.id;
        if !is_new {
            page.line(format_args!(
                "deletion {id} of the tenant {tenant} was asked for before: {}",
                standing(deletion)
            ))?;
        }
        if deletion.state == DeletionState::Requested {
            let approval = ApprovalId(deletion.approval);
            let new = if *is_new { "deletion" } else { "it waits: deletion" };
            page.line(format_args!(
                "{new} {id} of the tenant {tenant} needs approval {approval} of the platform"
            ))?;
            page.line(format_args!("another person decides: `tenure approval show {approval} --platform`"))?;
        }
        if deletion.state.may_be_called_off() {
            page.line(format_args!(
                "once approved it can be called off for {}: `tenure tenant delete {tenant} --call-off`; then there is no way back",
                duration(deletion.cooling_off_secs.unsigned_abs())
            ))?;
        }
        page.line(format_args!("follow it with `tenure job wait {job}`"))
    }
}

/// Where a deletion stands, in words.
pub(super) fn standing(deletion: &Deletion) -> String {
    let Deletion { id, state, .. } = deletion;
    let at = |at: Option<chrono::DateTime<chrono::Utc>>| {
        at.map_or_else(String::new, |at| at.format(" %Y-%m-%d %H:%M UTC").to_string())
    };
    let note = deletion.note.as_deref().unwrap_or_default();
    match state {
        DeletionState::Requested => format!("deletion {id} waits for approval {}", deletion.approval),
        DeletionState::Cooling => format!("deletion {id} can be called off until{}", at(deletion.cooled_at)),
        DeletionState::CalledOff => format!("deletion {id} was called off{}", at(deletion.ended_at)),
        DeletionState::Refused => format!("deletion {id} was refused{}: {note}", at(deletion.ended_at)),
        DeletionState::Begun => {
            format!("deletion {id} has begun{}: there is no way back", at(deletion.begun_at))
        }
        DeletionState::Done => format!("deletion {id} was done{}", at(deletion.ended_at)),
    }
}

fn duration(secs: u64) -> String {
    match secs {
        secs if secs % 3_600 == 0 => format!("{}h", secs / 3_600),
        secs if secs % 60 == 0 => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}

#[derive(Serialize)]
struct Would {
    survey: Survey,
}

impl Answer for Would {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let survey = &self.survey;
        page.line(format_args!("the tenant {} ({}) would be deleted for good", survey.name, survey.tenant))?;
        page.line("would go:")?;
        let size = survey.database_bytes.and_then(|size| u64::try_from(size).ok());
        let size = size.map_or_else(|| "of unknown size".to_owned(), bytes);
        page.line(format_args!(
            "  database {}, {size}, with everything in it, and its role",
            survey.database
        ))?;
        for (table, rows) in &survey.rows {
            page.line(format_args!("  {rows} rows of {table}"))?;
        }
        match &survey.files {
            Some(swept) => page.line(format_args!(
                "  {} files, {}, in {} (the worker that does it sweeps its own data folders)",
                swept.files,
                bytes(swept.bytes),
                survey.folders.join(", ")
            ))?,
            None => {
                page.line("  files in the data folders of the worker that does it; this machine has none")?;
            }
        }
        page.line("would remain:")?;
        let entries = survey.chain_size.map_or_else(String::new, |size| format!(" of {size} entries"));
        page.line(format_args!(
            "  its audit chain{entries}, the tombstone and the certificate, in {}",
            survey.tombstone_folder
        ))?;
        page.line("  the platform's chain, and who asked for it and agreed")?;
        match survey.backup_days {
            Some(days) => page.line(format_args!("  backups of the databases, for {days} days: plain records can be read in them"))?,
            None => page.line("  backups of the databases: nobody has set `tenants.backup_days`, so the certificate cannot say until when")?,
        }
        page.line(format_args!(
            "before that: a yes by {} other person(s), then {} in which it can be called off",
            survey.persons,
            duration(survey.cooling_off_secs)
        ))?;
        if !survey.unclassified.is_empty() {
            page.line(format_args!(
                "it would be refused: nobody has said what becomes of {}",
                survey.unclassified.join(", ")
            ))?;
        }
        Ok(())
    }
}
