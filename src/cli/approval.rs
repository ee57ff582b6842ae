//! `tenure approval list|show|approve|deny|withdraw`.
//!
//! A dry run does the same and takes it back. What is over is noticed first, so that it is on record whatever follows.

mod decide;
mod view;

use clap::Subcommand;
use governance::approval::{self, ApprovalId};

use super::{
    Context,
    exit::{Exit, Failure},
    place::Place,
};
use crate::wiring::Control;

const EXAMPLES: &str = "Examples:
  tenure approval list --tenant acme
  tenure approval show 12 --tenant acme
  tenure approval approve 12 --digest 1f0c9a7be45d --tenant acme --as ben
  tenure approval deny 12 --tenant acme --as ben

What is approved is a digest: `show` prints the exact plan and the digest, and `approve` wants its first 12 digits or
more. A yes is single-use, counts for the gate's window (24 hours), and never comes from whoever asked.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// What waits for a decision or for its use; with --all also what is over
    List {
        #[command(flatten)]
        place: Place,
        /// Also what was used, denied, withdrawn or has lapsed
        #[arg(long)]
        all: bool,
        /// At most so many, the newest first
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
    },
    /// The exact plan, its digest, who asked, who decided, until when; that you looked is put on record
    Show {
        /// Its number
        id: ApprovalId,
        #[command(flatten)]
        place: Place,
    },
    /// Say yes to what has this digest
    #[command(after_help = EXAMPLES)]
    Approve(decide::ApproveArgs),
    /// Say no, which ends it whatever others said
    Deny(decide::Args),
    /// Take a request back; anybody may stop what has not begun
    Withdraw(decide::Args),
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let work = context.with_control(async |control| match &command {
        Command::List { place, all, limit } => view::list(context, control, place, (*all, *limit)).await,
        Command::Show { id, place } => view::show(context, control, place, *id).await,
        Command::Approve(args) => Box::pin(decide::approve(args, context, control)).await,
        Command::Deny(args) => decide::deny(args, context, control).await,
        Command::Withdraw(args) => decide::withdraw(args, context, control).await,
    });
    work.await
}

/// How many overdue approvals are ended on the way.
const SWEEP_MAX: i64 = 1_000;

/// Puts on record what has lapsed meanwhile.
async fn notice(context: &Context, control: &Control, place: &Place) -> anyhow::Result<()> {
    let mut tx = place.begin(context, control).await?;
    approval::sweep(&mut tx, SWEEP_MAX).await?;
    tx.end(false).await
}

fn not_found(id: ApprovalId, place: &Place) -> Failure {
    let help = format!("`tenure approval list --all {}` shows all of them", place.flag());
    Failure::not_found(format!("there is no approval {id}"), help)
}
