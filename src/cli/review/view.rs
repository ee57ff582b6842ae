//! `tenure review list|show`.

use std::{collections::BTreeSet, io};

use governance::{
    actor::ActorId,
    review::{self, Case, Filter, ReviewError, ReviewId, State, Task, View},
    wish::{State as Standing, Wish},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page, Table, Tone},
        tenant::Whose,
    },
    change::person,
    refused,
};

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only those of this path
    #[arg(long)]
    path: Option<String>,
    /// In which state: open, accepted, corrected, rejected or stale
    #[arg(long, default_value = "open")]
    state: State,
    /// In any state
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Only those assigned to whoever acts
    #[arg(long)]
    mine: bool,
    /// At most so many, the oldest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn list(args: &ListArgs, context: &Context) -> anyhow::Result<Exit> {
    args.whose
        .enter(context, async |db| {
            let mut write = db.write().await?;
            let by: ActorId = person(&mut write, context.actor()).await?;
            let filter = Filter {
                path: args.path.as_deref(),
                state: (!args.all).then_some(args.state),
                assignee: args.mine.then_some(by),
            };
            let cases = review::list(&mut write, filter, args.limit.into(), by).await.map_err(refused)?;
            // That somebody looked is kept before it is shown.
            write.commit().await?;
            context.output.answer(&Listed { cases: cases.into_iter().map(Line::of).collect() })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Listed {
    cases: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    id: ReviewId,
    state: State,
    is_stale: bool,
    version: i32,
    path: String,
    key: String,
    verdict: governance::decision::Verdict,
    rule: Option<String>,
    class: Option<String>,
    confidence: i16,
    assignee: Option<review::Person>,
    opened_at: chrono::DateTime<chrono::Utc>,
}

impl Line {
    fn of(case: Case) -> Self {
        let Case { id, state, is_stale, version, path, key, verdict, rule, .. } = case;
        let Case { class, confidence, assignee, opened_at, .. } = case;
        Self {
            id,
            state,
            is_stale,
            version,
            path,
            key,
            verdict,
            rule,
            class,
            confidence,
            assignee,
            opened_at,
        }
    }
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.cases.is_empty() {
            return page.line("nothing waits for a person");
        }
        let mut table = Table::new([
            "ID", "VERSION", "STATE", "PATH", "KEY", "VERDICT", "RULE", "SURE", "ASSIGNED", "OPENED",
        ]);
        for line in &self.cases {
            table.row(&[
                line.id.to_string(),
                line.version.to_string(),
                standing(line.state, line.is_stale).to_owned(),
                line.path.clone(),
                line.key.clone(),
                line.verdict.to_string(),
                line.rule.clone().unwrap_or_else(|| "-".to_owned()),
                format!("{} %", line.confidence),
                line.assignee.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                line.opened_at.format("%Y-%m-%d %H:%M UTC").to_string(),
            ]);
        }
        page.table(&table)
    }
}

fn standing(state: State, is_stale: bool) -> &'static str {
    if is_stale { "stale" } else { state.as_str() }
}

pub(super) async fn show(
    id: ReviewId,
    blind: bool,
    whose: &Whose,
    context: &Context,
) -> anyhow::Result<Exit> {
    whose
        .enter(context, async |db| {
            let mut write = db.write().await?;
            let by = person(&mut write, context.actor()).await?;
            let none = || refused(ReviewError::NotFound(id));
            if blind {
                let case = review::view_blind(&mut write, id, by).await.map_err(refused)?.ok_or_else(none)?;
                write.commit().await?;
                context.output.answer(&Shown { case: &case })?;
            } else {
                let view = review::view(&mut write, id, by).await.map_err(refused)?.ok_or_else(none)?;
                write.commit().await?;
                context.output.answer(&Whole(view))?;
            }
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Debug, clap::Args)]
pub(crate) struct NextArgs {
    /// Only of this path
    #[arg(long)]
    path: Option<String>,
    /// One that another person has decided, for your own word on it
    #[arg(long)]
    confirm: bool,
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn next(args: &NextArgs, context: &Context) -> anyhow::Result<Exit> {
    let task = if args.confirm { Task::Confirm } else { Task::Decide };
    args.whose
        .enter(context, async |db| {
            let mut write = db.write().await?;
            let by = person(&mut write, context.actor()).await?;
            let case = review::next(&mut write, args.path.as_deref(), task, by).await.map_err(refused)?;
            write.commit().await?;
            context.output.answer(&Next { case, confirm: args.confirm })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Next {
    /// As it was while it was open; none if nothing waits.
    case: Option<Case>,
    confirm: bool,
}

impl Answer for Next {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Some(case) = &self.case else { return page.line("nothing waits for you") };
        Shown { case }.text(page)?;
        if self.confirm {
            let id = case.id;
            page.line(format_args!(
                "somebody has decided it; `tenure review confirm {id} accept|correct|reject` says your word"
            ))?;
        }
        Ok(())
    }
}

/// A case with all that has come of it.
#[derive(Serialize)]
struct Whole(View);

impl Answer for Whole {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let View { case, confirmations, wish, receipts } = &self.0;
        Shown { case }.text(page)?;
        for later in confirmations {
            let at = later.at.format("%Y-%m-%d %H:%M:%S UTC");
            page.line(format_args!(
                "{} by {}, {at}, not knowing the first word: {}",
                later.word, later.by, later.reason
            ))?;
        }
        if let Some(wish) = wish {
            page.line(fate_of_wish(case.state.as_str(), &case.path, wish))?;
        }
        receipts.iter().try_for_each(|receipt| page.line(format_args!("receipt {receipt}")))
    }
}

/// What becomes of a word at the target.
pub(super) fn fate_of_wish(word: &str, path: &str, wish: &Wish) -> String {
    match (wish.state, wish.writeback, wish.writeback_state) {
        (Standing::Planned, Some(id), Some(state)) => match &wish.approval {
            Some(approval) => format!("{word}; writeback {id} is {state}, under approval {approval}"),
            None => format!("{word}; writeback {id} is {state}"),
        },
        (Standing::Refused, ..) => {
            format!("{word}; nothing is written: {}", wish.detail.as_deref().unwrap_or("it was refused"))
        }
        (Standing::Off, ..) => format!("{word}; the path {path} is off: nothing will be written"),
        (Standing::Due | Standing::Planned, ..) => format!("{word}; a writeback is being planned"),
    }
}

/// One case in full.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    pub(super) case: &'a Case,
}

impl Answer for Shown<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 10;
        let case = self.case;
        let tone = match case.state {
            State::Open if !case.is_stale => Tone::Doubtful,
            State::Accepted | State::Corrected | State::Rejected => Tone::Good,
            State::Open | State::Stale => Tone::Bad,
        };
        page.toned_line(tone, standing(case.state, case.is_stale), format_args!(": {}", fate(case)))?;
        page.entry(WIDTH, "case", format_args!("{}, version {}", case.id, case.version))?;
        page.entry(WIDTH, "path", &case.path)?;
        page.entry(WIDTH, "record", format_args!("{}/{} {}", case.connector, case.stream, case.key))?;
        let rule = case.rule.as_deref().unwrap_or("no rule");
        let Case { verdict, policy_version, confidence, .. } = case;
        page.entry(
            WIDTH,
            "policy",
            format_args!(
                "{verdict} by {rule} of version {policy_version}, {confidence} % sure: {}",
                case.why
            ),
        )?;
        if let Some(assignee) = &case.assignee {
            page.entry(WIDTH, "assigned", assignee)?;
        }
        if let Some(reason) = &case.reason {
            page.entry(WIDTH, "reason", reason)?;
        }
        for (name, known) in case.evidence.iter().filter_map(Value::as_object).flatten() {
            if known.as_array().is_some_and(|it| !it.is_empty()) {
                page.entry(WIDTH, name, known)?;
            }
        }
        page.blank()?;
        page.table(&values(case))
    }
}

/// What is to be done, or what became of it.
fn fate(case: &Case) -> String {
    let at = case.closed_at.map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default();
    match (case.state, &case.closed_by, case.replaced_by) {
        (State::Open, ..) if case.is_stale => {
            format!("the record has changed; `tenure review redecide {}` decides it anew", case.id)
        }
        (State::Open, ..) => format!("to be decided with --seen {}", case.version),
        (_, Some(by), _) => format!("by {by}, {at}"),
        (_, None, Some(next)) => format!("{at}; case {next} took its place"),
        (_, None, None) => format!("{at}; nothing is left to ask"),
    }
}

/// A line for each field of the path.
fn values(case: &Case) -> Table {
    let of = |values: &Option<Map<String, Value>>, field: &str| {
        values.as_ref().and_then(|it| it.get(field)).map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    let all = [&case.original, &case.proposed, &case.value];
    let fields: BTreeSet<_> = all.into_iter().flatten().flat_map(Map::keys).collect();
    let mut table = Table::new(["FIELD", "RECORD", "PROPOSED", "WANTED"]);
    for field in fields {
        table.row(&[
            field.clone(),
            of(&case.original, field),
            of(&case.proposed, field),
            of(&case.value, field),
        ]);
    }
    table
}
