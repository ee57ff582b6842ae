//! `tenure review open|next|list|show|assign|accept|correct|reject|confirm|redecide`.
//!
//! Whoever changes a case names the version that they have seen. A dry run does the same and takes it back.

mod change;
mod confirm;
mod open;
mod view;

pub(super) use self::open::cases;

use clap::Subcommand;
use governance::review::{ReviewError, ReviewId, State};

use super::{
    Context,
    exit::{Exit, Failure},
    tenant::Whose,
};

const EXAMPLES: &str = "Examples:
  tenure review open --path crm-email --fixes
  tenure review list --as ben
  tenure review show 7 --as ben
  tenure review accept 7 --seen 1 --reason 'matches the contract' --as ben
  tenure review correct 7 --seen 1 --set email=ada@example.com --reason 'she called' --as ben
  tenure review next --confirm --as eve
  tenure review confirm 7 accept --reason 'as on the website' --as eve

`show` prints the version; a case that somebody changed since is refused, and one whose record changed is stale: it is
closed and decided anew. What was accepted or corrected is planned as a writeback, unless the path is off. That a person
looked is put on record.

One person's word is no truth: `confirm` gives a second one. It is blind: `next --confirm` and `show --blind` show the
case as it was, and whoever was shown the first word, by `show` or `list --all`, is refused. Two who say the same settle
the case; while they differ, another person may confirm it.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Decide over a path's stored records and open a case for each that needs a person
    Open(open::Args),
    /// The oldest case that waits for you
    Next(view::NextArgs),
    /// What waits for a person, the oldest first
    List(view::ListArgs),
    /// A case with its values, what is proposed and why, and what has come of it
    Show {
        /// Its number
        id: ReviewId,
        /// As it was before anybody decided it, so that you can still confirm it
        #[arg(long)]
        blind: bool,
        #[command(flatten)]
        whose: Whose,
    },
    /// Give a case to a person; to yourself unless another is named
    Assign(change::AssignArgs),
    /// The proposed values are right
    Accept(change::WordArgs),
    /// Other values are right
    #[command(after_help = EXAMPLES)]
    Correct(change::CorrectArgs),
    /// The record is right as it is
    Reject(change::WordArgs),
    /// Say, without knowing the first word, what is right on a case that another person has decided
    #[command(after_help = EXAMPLES)]
    Confirm(confirm::Args),
    /// Close a stale case and decide its record anew
    Redecide {
        /// Its number
        id: ReviewId,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        whose: Whose,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Open(args) => open::run(&args, context).await,
        Command::Next(args) => view::next(&args, context).await,
        Command::List(args) => view::list(&args, context).await,
        Command::Show { id, blind, whose } => view::show(id, blind, &whose, context).await,
        Command::Assign(args) => change::assign(&args, context).await,
        Command::Accept(args) => change::accept(&args, context).await,
        Command::Correct(args) => change::correct(&args, context).await,
        Command::Reject(args) => change::reject(&args, context).await,
        Command::Confirm(args) => confirm::run(&args, context).await,
        Command::Redecide { id, dry_run, whose } => change::redecide(id, dry_run, &whose, context).await,
    }
}

/// The error with what to do about it.
fn refused(error: ReviewError) -> anyhow::Error {
    let (exit, help) = match &error {
        ReviewError::NotFound(_) => (Exit::NotFound, "`tenure review list` shows what there is".to_owned()),
        ReviewError::Ended { id, state: State::Stale, .. } => (
            Exit::Refused,
            format!("`tenure review show {id}` names the case that took its place, if one did"),
        ),
        ReviewError::Ended { id, .. } => {
            (Exit::Refused, format!("`tenure review show {id}` shows the word on it"))
        }
        ReviewError::Changed { id, .. } => {
            (Exit::Refused, format!("look at it again: `tenure review show {id}`"))
        }
        ReviewError::NotYours { id, .. } => {
            (Exit::Refused, format!("to take it over: `tenure review assign {id} --seen VERSION`"))
        }
        ReviewError::Stale(id) => (Exit::Refused, format!("`tenure review redecide {id}` decides it anew")),
        ReviewError::NotStale(id) => (Exit::Refused, format!("it can be decided: `tenure review show {id}`")),
        ReviewError::NothingProposed(id) => (
            Exit::Refused,
            format!(
                "`tenure review correct {id} --set FIELD=VALUE` gives a value, `reject` leaves the record"
            ),
        ),
        ReviewError::ChangesNothing(id) => {
            (Exit::Refused, format!("that the record is right as it is says `tenure review reject {id}`"))
        }
        ReviewError::NoWord(id) => {
            (Exit::Refused, format!("the first word is given by `tenure review accept|correct|reject {id}`"))
        }
        ReviewError::SamePerson(_) | ReviewError::NotBlind(_) => {
            (Exit::NotPermitted, "somebody else must confirm it: `tenure review next --confirm`".to_owned())
        }
        ReviewError::Settled(_) | ReviewError::NotMeasured(_) => (
            Exit::Refused,
            "`tenure review next --confirm` shows what still waits for a second word".to_owned(),
        ),
        ReviewError::WantedAlready(_) => {
            (Exit::Refused, "`tenure writeback list` shows it; withdraw its approval to stop it".to_owned())
        }
        ReviewError::BadValue(_) => {
            (Exit::Usage, "write `--set FIELD=VALUE`, once for each field".to_owned())
        }
        ReviewError::BadReason => (Exit::Usage, "say why in a sentence: `--reason TEXT`".to_owned()),
        ReviewError::NotAPerson(_) => (Exit::NotPermitted, "act as a person: `--as NAME`".to_owned()),
        _ => return error.into(),
    };
    Failure::new(exit, error.to_string(), help).into()
}
