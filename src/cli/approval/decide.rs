//! `tenure approval approve|deny|withdraw`.

use std::io;

use governance::approval::{self, Approval, ApprovalId, DecideError, State, WithdrawError};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page},
        place::Place,
    },
    not_found, notice,
    view::{Shown, time},
};
use crate::wiring::Control;

/// A digest's first digits must be so many at least: nobody types them by mistake.
const PREFIX_MIN: usize = 12;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its number
    id: ApprovalId,
    #[command(flatten)]
    place: Place,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    what: Args,
    /// The digest that `approval show` printed beside the plan: its first 12 digits or more
    #[arg(long, value_name = "HEX", value_parser = parse_prefix)]
    digest: String,
    /// The name of the thing, where the approval asks for it
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let is_hex = text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    if is_hex && (PREFIX_MIN..=64).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(format!("write {PREFIX_MIN} to 64 digits of what `tenure approval show` printed"))
}

pub(super) async fn approve(
    args: &ApproveArgs,
    context: &Context,
    control: &Control,
) -> anyhow::Result<Exit> {
    let Args { id, place, dry_run } = &args.what;
    notice(context, control, place).await?;
    tries(&args.what, context, control).await?;
    let mut tx = place.begin(context, control).await?;
    let by = tx.actor(context).await?.id;
    let seen = approval::get(&mut tx, *id).await?.ok_or_else(|| not_found(*id, place))?;
    if !seen.digest.to_string().starts_with(&args.digest) {
        return Err(refused(DecideError::OtherDigest { id: *id, digest: seen.digest }, place));
    }
    let decided = approval::approve(&mut tx, *id, &seen.digest, by, args.confirm.as_deref()).await;
    let decided = decided.map_err(|error| refused(error, place))?;
    tx.end(*dry_run).await?;
    context.output.answer(&Decided { approval: decided, change: "approved", dry_run: *dry_run })?;
    Ok(Exit::Ok)
}

pub(super) async fn deny(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let Args { id, place, dry_run } = args;
    notice(context, control, place).await?;
    tries(args, context, control).await?;
    let mut tx = place.begin(context, control).await?;
    let by = tx.actor(context).await?.id;
    let decided = approval::deny(&mut tx, *id, by).await.map_err(|error| refused(error, place))?;
    tx.end(*dry_run).await?;
    context.output.answer(&Decided { approval: decided, change: "denied", dry_run: *dry_run })?;
    Ok(Exit::Ok)
}

pub(super) async fn withdraw(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let Args { id, place, dry_run } = args;
    notice(context, control, place).await?;
    tries(args, context, control).await?;
    let mut tx = place.begin(context, control).await?;
    let by = tx.actor(context).await?.id;
    approval::withdraw(&mut tx, *id, by).await.map_err(|error| not_withdrawn(error, place))?;
    let approval = approval::get(&mut tx, *id).await?.ok_or_else(|| not_found(*id, place))?;
    tx.end(*dry_run).await?;
    context.output.answer(&Decided { approval, change: "withdrawn", dry_run: *dry_run })?;
    Ok(Exit::Ok)
}

/// Whoever only tries is shown the plan all the same, and nothing else of it is kept.
async fn tries(args: &Args, context: &Context, control: &Control) -> anyhow::Result<()> {
    if !args.dry_run {
        return Ok(());
    }
    let mut tx = args.place.begin(context, control).await?;
    let by = tx.actor(context).await?.id;
    approval::view(&mut tx, args.id, by).await?.ok_or_else(|| not_found(args.id, &args.place))?;
    tx.end(false).await
}

/// The error with what to do about it.
fn refused(error: DecideError, place: &Place) -> anyhow::Error {
    let flag = place.flag();
    let (exit, help) = match &error {
        DecideError::NotFound(id) => return not_found(*id, place).into(),
        DecideError::OwnRequest(id) => (
            Exit::NotPermitted,
            format!("ask a second person to decide; to take it back: `tenure approval withdraw {id} {flag}`"),
        ),
        DecideError::NotAPerson => (Exit::NotPermitted, "decide as a person: `--as NAME`".to_owned()),
        DecideError::NotAnApprover(_) => {
            (Exit::NotPermitted, format!("`tenure gate list {flag}` shows who may decide"))
        }
        DecideError::Ended { id, .. } => {
            (Exit::Refused, format!("`tenure approval show {id} {flag}` tells what became of it"))
        }
        DecideError::Lapsed { .. } => {
            (Exit::Refused, "ask for it anew: run again what asked for it".to_owned())
        }
        DecideError::OtherDigest { id, .. } => (
            Exit::Refused,
            format!("read the plan again with `tenure approval show {id} {flag}`, then give its digest"),
        ),
        DecideError::Repeated(_) => (Exit::Refused, "other persons must decide now".to_owned()),
        DecideError::CoolingOff { from, .. } => {
            (Exit::Refused, format!("wait until {}, or ask a second person", time(*from)))
        }
        DecideError::NotConfirmed { name, .. } => (Exit::Usage, format!("add `--confirm {name}`")),
        _ => return error.into(),
    };
    Failure::new(exit, error.to_string(), help).into()
}

fn not_withdrawn(error: WithdrawError, place: &Place) -> anyhow::Error {
    match &error {
        WithdrawError::NotFound(id) => not_found(*id, place).into(),
        WithdrawError::Ended { state: State::Consumed, job: Some(job), .. } => {
            let help = format!("what it allowed has begun: `tenure job get {job}`");
            Failure::refused(error.to_string(), help).into()
        }
        WithdrawError::Ended { .. } => {
            Failure::refused(error.to_string(), "there is nothing left to stop").into()
        }
        WithdrawError::Approval(_) => error.into(),
    }
}

#[derive(Serialize)]
struct Decided {
    approval: Approval,
    change: &'static str,
    dry_run: bool,
}

impl Answer for Decided {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let how = if self.dry_run { "would be " } else { "" };
        page.line(format_args!("{how}{}:", self.change))?;
        Shown { approval: &self.approval }.text(page)
    }
}
