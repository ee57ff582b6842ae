//! `tenure candidate create|list|show|promote|demote|rules|export`.

mod change;
mod rules;
mod view;

use std::io::{self, Write};

use clap::Subcommand;
use database::tenant::{TenantDb, Write as Writing};
use governance::{
    actor::{self, ActorId},
    candidate::{self, Phase},
    digest::Digest,
    promotion::{Frozen, export},
    reading::Reading,
};

pub(super) use self::view::print_evaluation;
use self::view::{Listed, Shown};
use super::{
    Context,
    exit::{Exit, Failure},
    reading,
    tenant::Whose,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Enter a version of a path's rules as a candidate, in phase off and without evidence
    Create(change::CreateArgs),
    /// All candidates
    List {
        /// Only those of this path
        #[arg(long)]
        path: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// One candidate: what the gate says now, each rule with its figure, and how it came here
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Move a candidate one phase up, on frozen evidence and with an approval of it
    Promote(change::PromoteArgs),
    /// Take a candidate down at once; needs no evidence and no approval
    Demote(change::DemoteArgs),
    /// What a path asks of its candidates; with options, ask for more, or with an approval for less
    Rules(rules::Args),
    /// Print frozen evidence and what the gate said of it, for ops/proofs/gate/gate.py
    Export {
        /// The candidate's name
        name: String,
        /// Which evidence [default: the latest]
        #[arg(long, value_name = "DIGEST")]
        snapshot: Option<Digest>,
        #[command(flatten)]
        whose: Whose,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Create(args) => change::create(args, context).await?,
        Command::Promote(args) => change::promote(args, context).await?,
        Command::Demote(args) => change::demote(args, context).await?,
        Command::Rules(args) => rules::run(args, context).await?,
        Command::List { path, whose } => context.interruptible(list(path, &whose, context)).await?,
        Command::Show { name, whose } => context.interruptible(show(&name, &whose, context)).await?,
        Command::Export { name, snapshot, whose } => {
            context.interruptible(print(&name, snapshot, &whose, context)).await?;
        }
    }
    Ok(Exit::Ok)
}

/// Opens the tenant's database and does the work.
async fn with_database<T>(
    whose: &Whose,
    context: &Context,
    work: impl AsyncFnOnce(TenantDb) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    context.with_control(async |control| work(whose.opened(context, control).await?.1).await).await
}

/// Whoever types, as the tenant's chain knows them.
async fn whoever_types(write: &mut Writing, context: &Context) -> anyhow::Result<ActorId> {
    Ok(actor::named(write, context.actor()).await?.id)
}

async fn list(path: Option<String>, whose: &Whose, context: &Context) -> anyhow::Result<()> {
    let found = async |db: TenantDb| {
        let mut read = db.read().await?;
        let candidates = candidate::list(&mut read, path.as_deref()).await?;
        read.finish().await?;
        Ok(candidates)
    };
    let candidates = with_database(whose, context, found).await?;
    Ok(context.output.answer(&Listed::of(&candidates))?)
}

/// How many moves and snapshots are shown.
const HISTORY: i64 = 10;

async fn show(name: &str, whose: &Whose, context: &Context) -> anyhow::Result<()> {
    let looked = async |db: TenantDb| {
        let mut read = db.read().await?;
        let candidate = candidate::by_name(&mut read, name).await?;
        let gate = if candidate.phase == Phase::Autonomous {
            None
        } else {
            Some(candidate::look(&mut read, name).await?)
        };
        let moves = candidate::moves(&mut read, &candidate, HISTORY).await?;
        let snapshots = candidate::snapshots(&mut read, &candidate, HISTORY).await?;
        read.finish().await?;
        Ok(Shown::of(&candidate, gate.as_ref(), &moves, &snapshots))
    };
    let shown = with_database(whose, context, looked).await?;
    Ok(context.output.answer(&shown)?)
}

/// The lines as they are, with and without `--json`: their bytes are what is checked.
async fn print(name: &str, snapshot: Option<Digest>, whose: &Whose, context: &Context) -> anyhow::Result<()> {
    let found = async |db: TenantDb| {
        let mut read = db.read().await?;
        let candidate = candidate::by_name(&mut read, name).await?;
        let record = candidate::snapshot(&mut read, &candidate, snapshot).await?;
        read.finish().await?;
        if let Some(record) = &record {
            let taken = Reading::Evidence { candidate: name, snapshot: record.digest };
            reading::on_record(context, &db, &taken).await?;
        }
        Ok(record)
    };
    let record = with_database(whose, context, found).await?.ok_or_else(|| no_snapshot(name))?;
    let lines = export(&Frozen { bytes: record.bytes, digest: record.digest }, &record.evaluation)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&lines)?;
    Ok(stdout.flush()?)
}

fn no_snapshot(name: &str) -> Failure {
    let payload = serde_json::json!({ "candidate": name });
    Failure::not_found(
        format!("the evidence of `{name}` was never frozen"),
        format!("`tenure job enqueue promotion_evaluation --payload '{payload}'` does that"),
    )
}
