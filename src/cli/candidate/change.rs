//! `tenure candidate create|promote|demote`.

use std::io;

use database::{control::TenantName, tenant::TenantDb};
use governance::{
    approval::ApprovalId,
    candidate::{self, Approvals, CandidateError, Definition, Moved, Phase, Promotion, SnapshotRecord},
    digest::Digest,
    path, policy,
};
use serde::Serialize;

use super::{
    super::{
        Context,
        output::{Answer, Page},
    },
    Whose, no_snapshot, whoever_types, with_database,
};

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What to call it: a-z, 0-9, - and _, a letter first
    name: String,
    /// The path whose rules it is
    #[arg(long)]
    path: String,
    /// Which version of them [default: the newest]
    #[arg(long, value_name = "VERSION")]
    policy: Option<i32>,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PromoteArgs {
    /// The candidate's name
    name: String,
    /// The evidence [default: what was frozen last]
    #[arg(long, value_name = "DIGEST")]
    snapshot: Option<Digest>,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoteArgs {
    /// The candidate's name
    name: String,
    /// How far down: off or assist
    #[arg(long, value_name = "PHASE", default_value = "off")]
    to: Phase,
    /// Why; stays with the tenant
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn create(args: CreateArgs, context: &Context) -> anyhow::Result<()> {
    let made = async |db: TenantDb| {
        let mut write = db.write().await?;
        let path = path::by_name(&mut write, &args.path).await?;
        let (stored, _) = policy::load(&mut write, &path, args.policy).await?;
        let definition = Definition::of_rules(&path, &stored);
        let by = whoever_types(&mut write, context).await?;
        let created = candidate::create(&mut write, &args.name, &definition, by).await?;
        if !args.dry_run {
            write.commit().await?;
        }
        Ok(Created {
            name: created.name,
            path: definition.path,
            policy: stored.version,
            digest: created.digest,
            dry_run: args.dry_run,
        })
    };
    let created = with_database(&args.whose, context, made).await?;
    Ok(context.output.answer(&created)?)
}

#[derive(Serialize)]
struct Created {
    name: String,
    path: String,
    policy: i32,
    digest: Digest,
    dry_run: bool,
}

impl Answer for Created {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { name, path, policy, digest, dry_run } = self;
        let would = if *dry_run { "would be" } else { "is" };
        page.line(format_args!(
            "{name} {would} version {policy} of the rules of {path}, in phase off ({digest})"
        ))
    }
}

pub(super) async fn promote(args: PromoteArgs, context: &Context) -> anyhow::Result<()> {
    let promoted = async |db: TenantDb| {
        let mut write = db.write().await?;
        let found = candidate::by_name(&mut write, &args.name).await?;
        let record = candidate::snapshot(&mut write, &found, args.snapshot).await?;
        let record = record.ok_or_else(|| no_snapshot(&args.name))?;
        let promotion = Promotion::of(found.digest, &record);
        let tenant = db.tenant().name.clone();
        let told = |done: &Done| Promoted::of(&args.name, &tenant, &promotion, &record, done);
        if args.dry_run {
            return Ok(told(&Done::Nothing));
        }
        let by = whoever_types(&mut write, context).await?;
        let approvals = Approvals(&args.name);
        match candidate::promote(&mut write, &args.name, record.digest, by, &approvals).await {
            Ok(_) => {
                write.commit().await?;
                Ok(told(&Done::Moved))
            }
            Err(CandidateError::Consent(_)) => {
                drop(write);
                Ok(told(&Done::Asked(ask(&db, approvals, &promotion, context).await?)))
            }
            Err(error) => Err(error.into()),
        }
    };
    let promoted = with_database(&args.whose, context, promoted).await?;
    Ok(context.output.answer(&promoted)?)
}

async fn ask(
    db: &TenantDb,
    approvals: Approvals<'_>,
    promotion: &Promotion,
    context: &Context,
) -> anyhow::Result<ApprovalId> {
    let mut write = db.write().await?;
    let by = whoever_types(&mut write, context).await?;
    let requested = approvals.ask(&mut write, promotion, by).await?;
    write.commit().await?;
    Ok(requested.id)
}

/// What became of it.
enum Done {
    Nothing,
    Asked(ApprovalId),
    Moved,
}

#[derive(Serialize)]
struct Promoted {
    name: String,
    from: Phase,
    to: Phase,
    answer: &'static str,
    moved: bool,
    /// The approval that it waits for.
    approval: Option<String>,
    /// Whose approval that is.
    #[serde(skip)]
    tenant: TenantName,
}

impl Promoted {
    fn of(
        name: &str,
        tenant: &TenantName,
        promotion: &Promotion,
        record: &SnapshotRecord,
        done: &Done,
    ) -> Self {
        let (moved, approval) = match done {
            Done::Nothing => (false, None),
            Done::Asked(id) => (false, Some(id.to_string())),
            Done::Moved => (true, None),
        };
        let Promotion { from, to, .. } = *promotion;
        Self {
            name: name.to_owned(),
            from,
            to,
            answer: record.evaluation.answer.name(),
            moved,
            approval,
            tenant: tenant.clone(),
        }
    }
}

impl Answer for Promoted {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { name, from, to, answer, moved, approval, tenant } = self;
        if *moved {
            return page.line(format_args!("moved {name} from {from} to {to}"));
        }
        match approval {
            None => page.line(format_args!("would move {name} from {from} to {to}; the gate says {answer}")),
            Some(id) => {
                page.line(format_args!(
                    "{name} is {answer}, and waits for approval {id} to move from {from} to {to}"
                ))?;
                page.line(format_args!(
                    "look with `tenure approval show {id} --tenant {tenant}`; once it is given, type this again"
                ))
            }
        }
    }
}

pub(super) async fn demote(args: DemoteArgs, context: &Context) -> anyhow::Result<()> {
    let demoted = async |db: TenantDb| {
        let mut write = db.write().await?;
        let by = whoever_types(&mut write, context).await?;
        let moved = candidate::demote(&mut write, &args.name, args.to, by, args.reason.as_deref()).await?;
        if !args.dry_run {
            write.commit().await?;
        }
        Ok(Demoted::of(args.name.clone(), moved, args.dry_run))
    };
    let demoted = with_database(&args.whose, context, demoted).await?;
    Ok(context.output.answer(&demoted)?)
}

#[derive(Serialize)]
struct Demoted {
    name: String,
    from: Phase,
    to: Phase,
    dry_run: bool,
}

impl Demoted {
    fn of(name: String, moved: Moved, dry_run: bool) -> Self {
        Self { name, from: moved.from, to: moved.to, dry_run }
    }
}

impl Answer for Demoted {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { name, from, to, dry_run } = self;
        let (took, left) = if *dry_run { ("would take", "would leave") } else { ("took", "left") };
        if from == to {
            return page.line(format_args!(
                "{left} {name} in phase {to}; evidence that was frozen before no longer moves it up"
            ));
        }
        page.line(format_args!("{took} {name} from {from} down to {to}"))
    }
}
