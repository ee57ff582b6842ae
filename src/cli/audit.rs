//! `tenure audit head|export|verify|checkpoint|timeline`.

mod checkpoint;
mod door;
mod export;
mod timeline;
mod verify;

use std::{io, path::PathBuf};

use clap::Subcommand;
use serde::Serialize;

pub(super) use self::{
    checkpoint::{Checkpointed, checkpointed},
    door::{Chain, Door},
    verify::{read as checkpoints, verdict},
};
use super::{
    Context,
    exit::Exit,
    output::{Answer, Page},
};

const VERIFY_EXAMPLES: &str = "Examples:
  tenure audit verify --tenant acme                       the chain as it is, against the folder of checkpoints
  tenure audit verify --file acme.ndjson --checkpoint 0000000000000120.note --key tenure+1a2b3c4d+AbCd…

Exit codes: 0 verified, 7 something does not fit, 9 no checkpoint vouches for the entries. `tenure-verify` does the
same without a database; crates/verifier/FORMAT.md says what it checks.";

const EXPORT_EXAMPLES: &str = "Examples:
  tenure audit export --tenant acme --out acme.ndjson
  tenure audit export --platform | tenure-verify - --checkpoint platform.note";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Where a chain ends: its size and its last hash
    Head(Chain),
    /// Write a chain as lines that a verifier reads
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        #[command(flatten)]
        chain: Chain,
        /// The file [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Say whether a chain is the one that its checkpoints speak of
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Box<verify::Args>),
    /// Sign what a chain is now, and put it into the folder of checkpoints
    Checkpoint {
        #[command(flatten)]
        chain: Chain,
        /// Say what would be signed and sign nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// What happened on account of an approval: who asked, who decided, what followed
    Timeline {
        #[command(flatten)]
        chain: Chain,
        /// The approval's id
        #[arg(long, value_name = "ID")]
        approval: String,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    if let Command::Verify(args) = &command
        && args.is_offline()
    {
        return verify::file(args, context);
    }
    context
        .with_control(async |control| match &command {
            Command::Head(chain) => {
                context.interruptible(head(context, chain.read(context, control).await?)).await
            }
            Command::Export { chain, out } => {
                let exported = Box::pin(export::run(context, control, chain, out.as_deref()));
                context.interruptible(exported).await
            }
            Command::Verify(args) => context.interruptible(verify::live(args, context, control)).await,
            Command::Checkpoint { chain, dry_run } => {
                checkpoint::run(context, control, chain, *dry_run).await
            }
            Command::Timeline { chain, approval } => {
                let door = chain.read(context, control).await?;
                context.interruptible(timeline::run(context, door, approval)).await
            }
        })
        .await
}

async fn head(context: &Context, mut door: Door) -> anyhow::Result<Exit> {
    let head = governance::audit::head(&mut door).await?;
    door.close().await?;
    let head = Head { origin: head.origin, size: head.size, hash: head.hash.to_string() };
    context.output.answer(&head)?;
    Ok(Exit::Ok)
}

/// Where a chain ends.
#[derive(Serialize)]
struct Head {
    origin: String,
    size: i64,
    hash: String,
}

impl Answer for Head {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 6;
        page.entry(WIDTH, "chain", &self.origin)?;
        page.entry(WIDTH, "size", self.size)?;
        page.entry(WIDTH, "head", &self.hash)
    }
}
