//! `tenure path probe|certify|lower`.

use std::io;

use database::{
    control::TenantName,
    tenant::{TenantDb, Write},
};
use governance::{
    actor::{self, Actor},
    approval::ApprovalId,
    path::{self, Certifying, PathState, StepError},
};
use jobs::target_capability;
use serde::Serialize;

use super::super::{
    Context,
    exit::{Exit, Failure},
    output::{Answer, Page, with_spinner},
    tenant::Whose,
};

pub(super) const CERTIFY_EXAMPLES: &str = "Examples:
  tenure path certify crm-contacts               asks for an approval, and prints its number
  tenure approval show 7 --tenant acme           what exactly is approved, to be read by somebody else
  tenure path certify crm-contacts               typed again once they said yes: takes the step

The approval is bound to what speaks for the path now: what its target was seen to do, the version of its policy and
the figures of its baseline. Whatever of that changes has to be approved anew.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    name: String,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LowerArgs {
    #[command(flatten)]
    args: Args,
    /// How far down: catalogued, probed or certified
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    to: PathState,
}

fn parse_state(text: &str) -> Result<PathState, String> {
    let lower = |state: &PathState| *state < PathState::Live;
    text.parse().ok().filter(lower).ok_or_else(|| "write catalogued, probed or certified".to_owned())
}

/// A path that is further up stays there: what its target does is kept all the same.
pub(super) async fn probe(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    args.whose
        .enter_with_queue(context, async |control, db| {
            let mut read = db.read().await?;
            let path = path::by_name(&mut read, &args.name).await?;
            read.finish().await?;
            let mut moved = Moved::from(path.name, path.state, args.dry_run);
            let is_next = path.state == PathState::Catalogued;
            if args.dry_run {
                moved.to = if is_next { PathState::Probed } else { path.state };
            } else {
                let vault = control.vault()?;
                let probe = target_capability::find_out(db, &vault, &path.connector, &path.stream);
                with_spinner("trying the target", probe).await?;
            }
            if is_next && !args.dry_run {
                let (mut write, by) = begin(context, db).await?;
                moved.to = path::probed(&mut write, &args.name, &by)
                    .await
                    .map_err(|error| refused(error, &args.name))?
                    .state;
                write.commit().await?;
            }
            context.output.answer(&moved)?;
            Ok(Exit::Ok)
        })
        .await
}

pub(super) async fn certify(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    args.whose
        .enter(context, async |db| {
            let (mut write, by) = begin(context, db).await?;
            let mut moved = Moved::from(args.name.clone(), PathState::Probed, args.dry_run);
            moved.tenant = Some(db.tenant().name.clone());
            match path::certify(&mut write, &args.name, &by)
                .await
                .map_err(|error| refused(error, &args.name))?
            {
                Certifying::Certified(path) => moved.to = path.state,
                Certifying::Asked(asked) if args.dry_run && asked.is_new => moved.asks = true,
                Certifying::Asked(asked) => (moved.asks, moved.approval) = (true, Some(asked.id)),
            }
            end(write, args.dry_run).await?;
            context.output.answer(&moved)?;
            Ok(Exit::Ok)
        })
        .await
}

pub(super) async fn lower(args: &LowerArgs, context: &Context) -> anyhow::Result<Exit> {
    let LowerArgs { args, to } = args;
    args.whose
        .enter(context, async |db| {
            let (mut write, by) = begin(context, db).await?;
            let from = path::by_name(&mut write, &args.name).await?.state;
            let mut moved = Moved::from(args.name.clone(), from, args.dry_run);
            moved.to = path::lower(&mut write, &args.name, *to, &by)
                .await
                .map_err(|error| refused(error, &args.name))?
                .state;
            end(write, args.dry_run).await?;
            context.output.answer(&moved)?;
            Ok(Exit::Ok)
        })
        .await
}

async fn begin(context: &Context, db: &TenantDb) -> anyhow::Result<(Write, Actor)> {
    let mut write = db.write().await?;
    let by = actor::named(&mut write, context.actor()).await?;
    Ok((write, by))
}

/// A dry run does everything but the end.
async fn end(write: Write, dry_run: bool) -> anyhow::Result<()> {
    if !dry_run {
        write.commit().await?;
    }
    Ok(())
}

/// The error with what to do about it.
fn refused(error: StepError, name: &str) -> anyhow::Error {
    let help = match &error {
        StepError::Lacking { missing, .. } => {
            missing.iter().map(|it| it.help.as_str()).collect::<Vec<_>>().join("; ")
        }
        StepError::NotNext { .. } | StepError::NotDown { .. } => {
            format!("`tenure path show {name}` tells where it is, and what it lacks for the next step")
        }
        _ => return error.into(),
    };
    Failure::refused(error.to_string(), help).into()
}

#[derive(Serialize)]
struct Moved {
    path: String,
    from: PathState,
    to: PathState,
    /// Somebody has to say yes first.
    asks: bool,
    approval: Option<ApprovalId>,
    /// Whose approval that is.
    #[serde(skip)]
    tenant: Option<TenantName>,
    dry_run: bool,
}

impl Moved {
    /// Nowhere, as yet.
    fn from(path: String, from: PathState, dry_run: bool) -> Self {
        Self { path, from, to: from, asks: false, approval: None, tenant: None, dry_run }
    }
}

impl Answer for Moved {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { path, from, to, asks, approval, tenant, dry_run } = self;
        if let (Some(id), Some(tenant)) = (approval, tenant) {
            page.line(format_args!("{path} waits for approval {id} to be certified"))?;
            return page.line(format_args!(
                "look with `tenure approval show {id} --tenant {tenant}`; once it is given, type this again"
            ));
        }
        match (from == to, asks, dry_run) {
            (_, true, _) => page.line(format_args!("would ask for an approval to certify {path}")),
            (true, _, false) => page.line(format_args!("probed the target of {path}, which is {to} already")),
            (true, _, true) => {
                page.line(format_args!("would probe the target of {path}, which is {to} already"))
            }
            (false, _, false) => page.line(format_args!("took {path} from {from} to {to}")),
            (false, _, true) => page.line(format_args!("would take {path} from {from} to {to}")),
        }
    }
}
