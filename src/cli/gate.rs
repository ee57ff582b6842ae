//! `tenure gate list|set|single-admin`.

use std::{collections::HashMap, io, time::Duration};

use clap::Subcommand;
use governance::{
    actor::{self, ActorId},
    approval::{self, ApprovalId, ConsumeError, Requested},
    gate::{self, ActionClass, Change, Direction, Gate, GateError},
};
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    output::{Answer, Page, Table},
    place::{Place, Writing},
};
use crate::{config::units::parse_duration, wiring::Control};

const EXAMPLES: &str = "Examples:
  tenure gate list --tenant acme
  tenure gate set promotion --persons 2 --tenant acme
  tenure gate set writeback.email_format --persons 0 --tenant acme --request
  tenure gate set writeback.email_format --persons 0 --tenant acme --approval 12

Raising a gate is immediate. Lowering it (fewer persons, a longer window, more approvers) is itself an action that
another person approves: --request asks for it, --approval does it once it is given.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What each class asks for
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Change what a class asks for
    #[command(after_help = EXAMPLES)]
    Set {
        /// The class, such as promotion or writeback.email_format
        class: ActionClass,
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
    },
    /// Replace the second person by 24 hours and the typed name, where there is none; or go back
    #[command(name = "single-admin")]
    SingleAdmin {
        /// on or off
        #[arg(value_parser = ["on", "off"])]
        to: String,
        #[command(flatten)]
        how: How,
    },
}

/// What changes; the rest stays.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(super) struct What {
    /// How many persons other than the requester must say yes
    #[arg(long, value_name = "N")]
    persons: Option<i16>,
    /// For how long a yes is fresh and a request open, such as 24h; at most 14d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    window: Option<Duration>,
    /// Only these persons may decide; repeat it for each
    #[arg(long = "approver", value_name = "NAME", conflicts_with = "anybody")]
    approvers: Vec<String>,
    /// Everybody may decide
    #[arg(long)]
    anybody: bool,
}

/// How it is brought about.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    #[command(flatten)]
    place: Place,
    /// Ask for the approval that a lowering needs
    #[arg(long, conflicts_with = "approval")]
    request: bool,
    /// The approval that was given for exactly this lowering
    #[arg(long, value_name = "ID")]
    approval: Option<ApprovalId>,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    let work = context.with_control(async |control| match &command {
        Command::List { place } => list(context, control, place).await,
        Command::Set { class, what, how } => {
            let mut tx = how.place.begin(context, control).await?;
            let gate = what.apply(gate::get(&mut tx, class).await?, &mut tx).await?;
            change(context, tx, &Change::Gate(gate), how).await
        }
        Command::SingleAdmin { to, how } => {
            let tx = how.place.begin(context, control).await?;
            change(context, tx, &Change::SingleAdmin(to == "on"), how).await
        }
    });
    work.await
}

impl What {
    async fn apply(&self, mut gate: Gate, tx: &mut Writing) -> anyhow::Result<Gate> {
        gate.persons = self.persons.unwrap_or(gate.persons);
        if let Some(window) = self.window {
            gate.window_secs = window.as_secs().try_into().unwrap_or(i32::MAX);
        }
        if self.anybody {
            gate.approvers = None;
        } else if !self.approvers.is_empty() {
            let mut persons = Vec::with_capacity(self.approvers.len());
            for name in &self.approvers {
                persons.push(tx.named(name).await?.person);
            }
            gate.approvers = Some(persons);
        }
        Ok(gate)
    }
}

async fn change(context: &Context, mut tx: Writing, change: &Change, how: &How) -> anyhow::Result<Exit> {
    let by = tx.actor(context).await?.id;
    let mut changed = Changed {
        target: change.target(),
        direction: None,
        request: None,
        place: how.place.flag(),
        dry_run: how.dry_run,
    };
    if how.request {
        let Some(terms) = gate::terms(&mut tx, change).await.map_err(|error| refused(error, how))? else {
            let help = "leave out `--request`: it can be done at once";
            return Err(Failure::refused("this is no lowering and needs no approval", help).into());
        };
        changed.request = Some(approval::request(&mut tx, &terms, by, None).await?.into());
    } else {
        let direction = gate::set(&mut tx, change, by, how.approval).await;
        changed.direction = Some(direction.map_err(|error| refused(error, how))?);
    }
    tx.end(how.dry_run).await?;
    context.output.answer(&changed)?;
    Ok(Exit::Ok)
}

/// The error with what to do about it.
fn refused(error: GateError, how: &How) -> anyhow::Error {
    let flag = how.place.flag();
    match &error {
        GateError::BadSettings { .. } => {
            Failure::usage(error.to_string(), "`tenure gate set --help` says what a gate can be").into()
        }
        GateError::NeedsApproval(_) => {
            Failure::refused(error.to_string(), "ask for it: the same command with `--request`").into()
        }
        GateError::Approval(refusal) => {
            let help = match refusal {
                ConsumeError::NotFound(_) => format!("`tenure approval list {flag}` shows all of them"),
                ConsumeError::Undecided { id, .. } => {
                    format!("somebody else must say yes: `tenure approval show {id} {flag}`")
                }
                ConsumeError::PlanChanged { .. }
                | ConsumeError::Lapsed { .. }
                | ConsumeError::Ended { .. } => {
                    "ask for exactly this anew: the same command with `--request`".to_owned()
                }
                ConsumeError::Approval(_) => return error.into(),
            };
            let is_unknown = matches!(refusal, ConsumeError::NotFound(_));
            let exit = if is_unknown { Exit::NotFound } else { Exit::Refused };
            Failure::new(exit, refusal.to_string(), help).into()
        }
        _ => error.into(),
    }
}

#[derive(Serialize)]
struct Asked {
    id: ApprovalId,
    digest: String,
    is_new: bool,
}

impl From<Requested> for Asked {
    fn from(asked: Requested) -> Self {
        Self { id: asked.id, digest: asked.digest.to_string(), is_new: asked.is_new }
    }
}

#[derive(Serialize)]
struct Changed<'a> {
    target: &'a str,
    direction: Option<Direction>,
    request: Option<Asked>,
    #[serde(skip)]
    place: String,
    dry_run: bool,
}

impl Answer for Changed<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let would = if self.dry_run { "would be " } else { "" };
        if let Some(asked) = &self.request {
            page.line(format_args!("{would}asked for: approval {} to lower {}", asked.id, self.target))?;
            let (id, place) = (asked.id, &self.place);
            page.line(format_args!("another person decides: `tenure approval show {id} {place}`"))?;
            return page.line(format_args!("then: the same command with `--approval {id}`"));
        }
        match self.direction {
            Some(Direction::Raised) => page.line(format_args!("{would}raised: {}", self.target)),
            Some(Direction::Lowered) => page.line(format_args!("{would}lowered: {}", self.target)),
            _ => page.line(format_args!("{} is so already", self.target)),
        }
    }
}

async fn list(context: &Context, control: &Control, place: &Place) -> anyhow::Result<Exit> {
    let mut tx = place.begin(context, control).await?;
    let gates = gate::list(&mut tx).await?;
    let single_admin = gate::is_single_admin(&mut tx).await?;
    let mut names = HashMap::new();
    for id in gates.iter().flat_map(|gate| gate.approvers.iter().flatten()) {
        if let Some(name) = actor::by_id(&mut tx, *id).await?.and_then(|actor| actor.name) {
            names.insert(*id, name);
        }
    }
    tx.end(true).await?;
    context.output.answer(&Listed { gates, single_admin, names })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed {
    gates: Vec<Gate>,
    single_admin: bool,
    #[serde(skip)]
    names: HashMap<ActorId, String>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(["CLASS", "PERSONS", "WINDOW", "WHO MAY SAY YES"]);
        for gate in &self.gates {
            let called = |id: &ActorId| self.names.get(id).cloned().unwrap_or_else(|| id.to_string());
            let who =
                gate.approvers.as_ref().map(|list| list.iter().map(called).collect::<Vec<_>>().join(", "));
            table.row(&[
                gate.class.to_string(),
                gate.persons.to_string(),
                window(gate.window_secs),
                who.unwrap_or_else(|| "everybody but the requester".to_owned()),
            ]);
        }
        page.table(&table)?;
        page.line("writeback classes that are not listed ask for 1 person and have 24h")?;
        if self.single_admin {
            page.line(
                "single administrator: the requester alone may say yes after 24h, with the name typed",
            )?;
        }
        Ok(())
    }
}

fn window(secs: i32) -> String {
    match secs {
        secs if secs % 3_600 == 0 => format!("{}h", secs / 3_600),
        secs if secs % 60 == 0 => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}
