//! `tenure actor list|erase`: the names behind the pseudonyms of a chain.

use std::io;

use clap::Subcommand;
use governance::actor::{self, Actor, ActorError};
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    output::{Answer, Page, Table},
    place::Place,
};

const EXAMPLES: &str = "Examples:
  tenure actor list --tenant acme
  tenure actor erase ada --confirm ada --tenant acme

A chain and its receipts know pseudonyms only; the names stand in one table beside it. An erased name is gone from that
table: what its owner did stays on record, verifies as before, and leads to nobody any more. Each tenant has a table of
its own, and so has the platform.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Everybody who has acted
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Erase a name for good
    Erase {
        /// The name
        name: String,
        /// The name once more
        #[arg(long, value_name = "NAME", required_unless_present = "dry_run")]
        confirm: Option<String>,
        #[command(flatten)]
        place: Place,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| match &command {
            Command::List { place } => {
                let mut tx = place.begin(context, control).await?;
                let actors = actor::list(&mut tx).await?;
                tx.end(true).await?;
                context.output.answer(&Listed { actors: actors.iter().map(Line::of).collect() })?;
                Ok(Exit::Ok)
            }
            Command::Erase { name, confirm, place, dry_run } => {
                if confirm.as_ref().is_some_and(|confirmed| confirmed != name) {
                    let what = "the name in `--confirm` is another one";
                    return Err(Failure::usage(what, "write the name that is to be erased twice").into());
                }
                let erased = if place.is_platform() {
                    control.operator().erase(name, *dry_run).await?
                } else {
                    let mut tx = place.begin(context, control).await?;
                    let by = tx.actor(context).await?.id;
                    let erased = actor::erase(&mut tx, name, by).await;
                    // What was refused is taken back.
                    tx.end(*dry_run || erased.is_err()).await?;
                    erased
                };
                let actor = erased.map_err(|error| unknown(error, place))?.to_string();
                context.output.answer(&Erased { actor, name, dry_run: *dry_run })?;
                Ok(Exit::Ok)
            }
        })
        .await
}

fn unknown(error: ActorError, place: &Place) -> anyhow::Error {
    match error {
        ActorError::Unknown(_) => {
            let help = format!("`tenure actor list {}` shows everybody", place.flag());
            Failure::not_found(error.to_string(), help).into()
        }
        error => error.into(),
    }
}

#[derive(Serialize)]
struct Line {
    id: String,
    /// None once erased.
    name: Option<String>,
    /// The person behind it; its own id for a person.
    person: String,
}

impl Line {
    fn of(actor: &Actor) -> Self {
        Self { id: actor.id.to_string(), name: actor.name.clone(), person: actor.person.to_string() }
    }
}

#[derive(Serialize)]
struct Listed {
    actors: Vec<Line>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.actors.is_empty() {
            return page.line("nobody has acted yet");
        }
        let mut table = Table::new(["NAME", "ID", "ACTS FOR"]);
        for Line { id, name, person } in &self.actors {
            let name = name.clone().unwrap_or_else(|| "(erased)".to_owned());
            let behind = if id == person { "themselves".to_owned() } else { person.clone() };
            table.row(&[name, id.clone(), behind]);
        }
        page.table(&table)
    }
}

#[derive(Serialize)]
struct Erased<'a> {
    actor: String,
    name: &'a str,
    dry_run: bool,
}

impl Answer for Erased<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let how = if self.dry_run { "would be" } else { "is" };
        page.line(format_args!("the name {} {how} erased; its pseudonym {} stays", self.name, self.actor))
    }
}
