//! `tenure candidate create|promote|demote`.

use std::io;

use database::tenant::TenantDb;
use governance::{
    actor::ActorId,
    candidate::{self, Consent, ConsentError, Definition, ENGINE, Moved, Phase, Policy, Promotion},
    digest::Digest,
    path, policy,
};
use serde::Serialize;

use super::{
    super::{
        Context,
        output::{Answer, Page},
    },
    Whose, no_snapshot, whoever_types,
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
    /// The approval of this very promotion
    #[arg(long, value_name = "ID", required_unless_present = "dry_run")]
    approval: Option<String>,
    /// Say what would be done, and what an approval of it is bound to, and do nothing
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
        let definition = Definition {
            path: path.name,
            policy: Policy { version: stored.version.into(), digest: stored.digest },
            model: None,
            prompt: None,
            tools: std::collections::BTreeMap::new(),
            redaction: None,
            engine: ENGINE,
        };
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
    let created = args.whose.with_database(context, made).await?;
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

/// Consumes the approval that was named. There is no store of approvals in this program yet, so none stands, and
/// nothing is promoted: this is where they will be asked.
struct Named;

#[derive(Debug, thiserror::Error)]
#[error("this program keeps no approvals, so none can stand")]
struct NoApprovals;

impl Consent for Named {
    async fn consume(
        &self,
        _: &mut sqlx::PgConnection,
        _: &Promotion,
        _: ActorId,
    ) -> Result<String, ConsentError> {
        Err(ConsentError(Box::new(NoApprovals)))
    }
}

pub(super) async fn promote(args: PromoteArgs, context: &Context) -> anyhow::Result<()> {
    let promoted = async |db: TenantDb| {
        let mut write = db.write().await?;
        let found = candidate::by_name(&mut write, &args.name).await?;
        let record = candidate::snapshot(&mut write, &found, args.snapshot).await?;
        let record = record.ok_or_else(|| no_snapshot(&args.name))?;
        if args.dry_run {
            let promotion = Promotion::of(found.digest, &record);
            let answer = record.evaluation.answer.name();
            return Ok(Promoted::would(args.name.clone(), answer, &promotion)?);
        }
        let by = whoever_types(&mut write, context).await?;
        let moved = candidate::promote(&mut write, &args.name, record.digest, by, &Named).await?;
        write.commit().await?;
        Ok(Promoted { name: args.name.clone(), from: moved.from, to: moved.to, approve: None, answer: None })
    };
    let promoted = args.whose.with_database(context, promoted).await?;
    Ok(context.output.answer(&promoted)?)
}

#[derive(Serialize)]
struct Promoted {
    name: String,
    from: Phase,
    to: Phase,
    /// What an approval is bound to, if nothing was done.
    approve: Option<Digest>,
    answer: Option<&'static str>,
}

impl Promoted {
    fn would(
        name: String,
        answer: &'static str,
        promotion: &Promotion,
    ) -> Result<Self, governance::canonical::CanonicalError> {
        let Promotion { from, to, .. } = *promotion;
        Ok(Self { name, from, to, approve: Some(promotion.digest()?), answer: Some(answer) })
    }
}

impl Answer for Promoted {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { name, from, to, .. } = self;
        match (&self.approve, self.answer) {
            (Some(digest), Some(answer)) => {
                page.line(format_args!("would move {name} from {from} to {to}; the gate says {answer}"))?;
                page.line(format_args!("an approval of it is bound to {digest}"))
            }
            _ => page.line(format_args!("moved {name} from {from} to {to}")),
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
    let demoted = args.whose.with_database(context, demoted).await?;
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
