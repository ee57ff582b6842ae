//! `tenure review assign|accept|correct|reject|redecide`.

use std::io;

use database::tenant::{TenantDb, Write};
use governance::{
    actor::ActorId,
    review::{self, Case, Refreshed, ReviewError, ReviewId, Word},
    wish::{self, State as Standing, Wish, WishId},
};
use jobs::writeback_plan;
use queue::JobId;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page},
        tenant::Whose,
    },
    refused,
    view::{Shown, fate_of_wish},
};
use crate::{operator, telemetry, wiring::Control};

#[derive(Debug, clap::Args)]
pub(crate) struct What {
    /// Its number
    id: ReviewId,
    /// The version that `review show` printed
    #[arg(long, value_name = "VERSION")]
    seen: i32,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AssignArgs {
    #[command(flatten)]
    what: What,
    /// To whom [default: whoever acts]
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// To nobody
    #[arg(long, conflicts_with = "to")]
    nobody: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WordArgs {
    #[command(flatten)]
    what: What,
    /// Why; stays with the tenant
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CorrectArgs {
    #[command(flatten)]
    word: WordArgs,
    /// What is right, once for each field; JSON, or a text as it is
    #[arg(long = "set", value_name = "FIELD=VALUE", required = true, value_parser = parse_set)]
    set: Vec<(String, Value)>,
}

pub(super) fn parse_set(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((field, value)) if !field.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            Ok((field.to_owned(), value))
        }
        _ => Err("write FIELD=VALUE, e.g. email=ada@example.com".to_owned()),
    }
}

pub(super) async fn accept(args: &WordArgs, context: &Context) -> anyhow::Result<Exit> {
    decide(args, Word::Accept, context).await
}

pub(super) async fn reject(args: &WordArgs, context: &Context) -> anyhow::Result<Exit> {
    decide(args, Word::Reject, context).await
}

pub(super) async fn correct(args: &CorrectArgs, context: &Context) -> anyhow::Result<Exit> {
    let value: Map<_, _> = args.set.iter().cloned().collect();
    decide(&args.word, Word::Correct(value), context).await
}

async fn decide(args: &WordArgs, word: Word, context: &Context) -> anyhow::Result<Exit> {
    let What { id, seen, dry_run, whose } = &args.what;
    let word = &word;
    whose
        .enter_with_queue(context, async |control, db| {
            tries(&args.what, db, context).await?;
            let mut write = db.write().await?;
            let by = person(&mut write, context.actor()).await?;
            match review::decide(&mut write, *id, *seen, word.clone(), &args.reason, by).await {
                Ok(case) => decided(write, control, db, case, *dry_run, context).await,
                Err(ReviewError::Stale(_)) if !dry_run => {
                    drop(write);
                    Err(anew(db, *id).await?)
                }
                Err(error) => Err(refused(error)),
            }
        })
        .await
}

/// Whoever only tries is shown the case all the same, as it was while it was open, and nothing else of it is kept.
async fn tries(what: &What, db: &TenantDb, context: &Context) -> anyhow::Result<()> {
    if !what.dry_run {
        return Ok(());
    }
    let mut write = db.write().await?;
    let by = person(&mut write, context.actor()).await?;
    let seen = review::view_blind(&mut write, what.id, by).await.map_err(refused)?;
    seen.ok_or_else(|| refused(ReviewError::NotFound(what.id)))?;
    Ok(write.commit().await?)
}

/// Commits the word, and then enqueues the job that plans what it wants; should that be lost, the nightly check of
/// writebacks finds the wish.
async fn decided(
    mut write: Write,
    control: &Control,
    db: &TenantDb,
    case: Case,
    dry_run: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let wish = match case.value {
        Some(_) => wish::find(&mut write, WishId(case.decision)).await?,
        None => None,
    };
    let mut job = None;
    if !dry_run {
        write.commit().await?;
        if let Some(due) = wish.as_ref().filter(|wish| wish.state == Standing::Due) {
            let planning =
                writeback_plan::job(db.tenant(), due.decision)?.traceparent(telemetry::traceparent());
            job = Some(control.operator().enqueue(&[planning]).await?[0].id);
        }
    }
    context.output.answer(&Decided { case, wish, job, dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Decided {
    case: Case,
    /// What is written because of it.
    wish: Option<Wish>,
    /// The job that plans that.
    job: Option<JobId>,
    dry_run: bool,
}

impl Answer for Decided {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.dry_run {
            page.line("nothing was done; this would be:")?;
        }
        Shown { case: &self.case }.text(page)?;
        match &self.wish {
            Some(wish) => page.line(fate_of_wish(self.case.state.as_str(), &self.case.path, wish)),
            None => Ok(()),
        }
    }
}

/// A case found stale is decided anew at once; the word was about something else all the same.
async fn anew(db: &TenantDb, id: ReviewId) -> anyhow::Result<anyhow::Error> {
    let mut write = db.write().await?;
    let refreshed = review::refresh(&mut write, id).await.map_err(refused)?;
    write.commit().await?;
    let help = match refreshed.by {
        Some(next) => format!("it was decided anew: `tenure review show {next}`"),
        None => "it was decided anew, and nobody needs to be asked any more".to_owned(),
    };
    Ok(Failure::refused(ReviewError::Stale(id).to_string(), help).into())
}

pub(super) async fn assign(args: &AssignArgs, context: &Context) -> anyhow::Result<Exit> {
    let What { id, seen, dry_run, whose } = &args.what;
    whose
        .enter(context, async |db| {
            tries(&args.what, db, context).await?;
            let mut write = db.write().await?;
            let by = person(&mut write, context.actor()).await?;
            let to = match &args.to {
                _ if args.nobody => None,
                Some(name) => Some(person(&mut write, name).await?),
                None => Some(by),
            };
            let case = review::assign(&mut write, *id, *seen, to, by).await.map_err(refused)?;
            end(write, case, *dry_run, context).await
        })
        .await
}

/// The person of this name, entered at first sight.
pub(super) async fn person(write: &mut Write, name: &str) -> anyhow::Result<ActorId> {
    Ok(operator::named(write, name).await?.id)
}

async fn end(write: Write, case: Case, dry_run: bool, context: &Context) -> anyhow::Result<Exit> {
    if !dry_run {
        write.commit().await?;
    }
    context.output.answer(&Changed { case, dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Changed {
    case: Case,
    dry_run: bool,
}

impl Answer for Changed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.dry_run {
            page.line("nothing was done; this would be:")?;
        }
        Shown { case: &self.case }.text(page)
    }
}

pub(super) async fn redecide(
    id: ReviewId,
    dry_run: bool,
    whose: &Whose,
    context: &Context,
) -> anyhow::Result<Exit> {
    whose
        .enter(context, async |db| {
            let mut write = db.write().await?;
            let Refreshed { by } = review::refresh(&mut write, id).await.map_err(refused)?;
            if !dry_run {
                write.commit().await?;
            }
            context.output.answer(&Redecided { id, replaced_by: by, dry_run })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Redecided {
    id: ReviewId,
    replaced_by: Option<ReviewId>,
    dry_run: bool,
}

impl Answer for Redecided {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let would = if self.dry_run { "would be" } else { "is" };
        match self.replaced_by {
            Some(next) if !self.dry_run => {
                page.line(format_args!("case {} is closed as stale; case {next} took its place", self.id))
            }
            Some(_) => page.line(format_args!("case {} {would} closed as stale for another", self.id)),
            None => {
                page.line(format_args!("case {} {would} closed as stale; nothing is left to ask", self.id))
            }
        }
    }
}
