//! `tenure candidate rules`.

use std::io;

use database::{control::TenantName, tenant::TenantDb};
use governance::{
    approval::ApprovalId,
    candidate::{self, CandidateError},
    path,
    promotion::Rules,
};
use serde::Serialize;

use super::{
    super::{
        Context,
        output::{Answer, Page},
    },
    Whose, whoever_types, with_database,
};

/// The floors hold for everybody; a path asks for more, never for less than they do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The path
    #[arg(long)]
    path: String,
    #[command(flatten)]
    what: What,
    /// Say what would be asked and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

/// What changes; the rest stays.
#[derive(Debug, clap::Args)]
struct What {
    /// Runs on distinct inputs, at least; from 30
    #[arg(long, value_name = "N")]
    runs: Option<i64>,
    /// Runs that agree with people, in percent, at least; from 85
    #[arg(long, value_name = "PERCENT")]
    agree: Option<i64>,
    /// Runs scored against the truth, in percent, at least; from 50
    #[arg(long, value_name = "PERCENT")]
    scored: Option<i64>,
    /// The true agreement, in percent, at least, however often one looks
    #[arg(long, value_name = "PERCENT")]
    bound: Option<i64>,
    /// How often that bound may ever be wrong, in thousandths; at most 50
    #[arg(long, value_name = "PER MILLE")]
    error: Option<i64>,
    /// Agreement beyond chance (kappa), in hundredths, at least
    #[arg(long, value_name = "HUNDREDTHS")]
    kappa: Option<i64>,
    /// Of the scored runs, those that were right, in percent, at least
    #[arg(long, value_name = "PERCENT")]
    right: Option<i64>,
    /// An action class of which one run vetoes; may be given several times
    #[arg(long = "veto", value_name = "CLASS")]
    vetoes: Vec<String>,
}

impl What {
    fn applied(&self, mut rules: Rules) -> Rules {
        rules.runs_min = self.runs.unwrap_or(rules.runs_min);
        rules.agree_percent_min = self.agree.unwrap_or(rules.agree_percent_min);
        rules.scored_percent_min = self.scored.unwrap_or(rules.scored_percent_min);
        rules.bound_percent_min = self.bound.or(rules.bound_percent_min);
        rules.error_per_mille = self.error.unwrap_or(rules.error_per_mille);
        rules.kappa_percent_min = self.kappa.or(rules.kappa_percent_min);
        rules.right_percent_min = self.right.or(rules.right_percent_min);
        rules.veto_classes.extend(self.vetoes.iter().cloned());
        rules
    }
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<()> {
    let answer =
        with_database(&args.whose, context, async |db: TenantDb| set(&args, &db, context).await).await?;
    Ok(context.output.answer(&answer)?)
}

async fn set(args: &Args, db: &TenantDb, context: &Context) -> anyhow::Result<Answered> {
    let mut write = db.write().await?;
    let path = path::by_name(&mut write, &args.path).await?.name;
    let before = candidate::rules(&mut write, &path).await?;
    let rules = args.what.applied(before.clone());
    let tenant = db.tenant().name.clone();
    let mut answer = Answered { path, rules, changed: false, approval: None, tenant, dry_run: args.dry_run };
    if answer.rules == before {
        return Ok(answer);
    }
    let by = whoever_types(&mut write, context).await?;
    match candidate::set_rules(&mut write, &answer.path, &answer.rules, by).await {
        Ok(()) => answer.changed = true,
        Err(CandidateError::Laxer) => {
            drop(write);
            write = db.write().await?;
            let by = whoever_types(&mut write, context).await?;
            let asked = candidate::ask_laxer(&mut write, &answer.path, &answer.rules, by).await?;
            answer.approval = Some(asked.id);
        }
        Err(error) => return Err(error.into()),
    }
    // A dry run does everything but the end.
    if !args.dry_run {
        write.commit().await?;
    }
    Ok(answer)
}

#[derive(Serialize)]
struct Answered {
    path: String,
    rules: Rules,
    changed: bool,
    /// The approval that these rules wait for.
    approval: Option<ApprovalId>,
    /// Whose approval that is.
    #[serde(skip)]
    tenant: TenantName,
    dry_run: bool,
}

impl Answer for Answered {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (asks, waits) = if self.dry_run { ("would ask", "would wait") } else { ("asks", "waits") };
        match self.approval {
            Some(id) => {
                page.line(format_args!("{} {waits} for approval {id} to ask of a candidate:", self.path))?;
            }
            None => page.line(format_args!("{} {asks} of a candidate:", self.path))?,
        }
        let Rules { runs_min, agree_percent_min, scored_percent_min, error_per_mille, .. } = &self.rules;
        let percent = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value} %"));
        page.entry(WIDTH, "runs", runs_min)?;
        page.entry(WIDTH, "agreement", percent(Some(*agree_percent_min)))?;
        page.entry(WIDTH, "scored", percent(Some(*scored_percent_min)))?;
        let error =
            format!("{}, wrong in {error_per_mille} of 1000 at most", percent(self.rules.bound_percent_min));
        page.entry(
            WIDTH,
            "bound",
            if self.rules.bound_percent_min.is_some() { error } else { "-".to_owned() },
        )?;
        page.entry(WIDTH, "kappa", percent(self.rules.kappa_percent_min))?;
        page.entry(WIDTH, "right", percent(self.rules.right_percent_min))?;
        let vetoes: Vec<_> = self.rules.veto_classes.iter().map(String::as_str).collect();
        page.entry(WIDTH, "vetoes", if vetoes.is_empty() { "-".to_owned() } else { vetoes.join(", ") })?;
        match self.approval {
            Some(id) if !self.dry_run => page.line(format_args!(
                "look with `tenure approval show {id} --tenant {}`; once it is given, type this again",
                self.tenant
            )),
            _ => Ok(()),
        }
    }
}

const WIDTH: usize = 10;
