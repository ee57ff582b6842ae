//! `tenure policy check`: a policy on stored records, without effect.

use std::{io, path::PathBuf};

use database::tenant::TenantError;
use governance::{
    decision::{self, Decider, Example, PAGE_RECORDS, Row, Tally, Verdict},
    path::Path,
    policy::Policy,
    reading::Reading,
};
use serde::Serialize;
use sqlx::PgConnection;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page, Table},
        reading,
        tenant::Whose,
    },
    compile, read, surroundings,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy file; it names its path
    file: PathBuf,
    #[command(flatten)]
    whose: Whose,
    /// Try so many records at most
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let text = read(&args.file)?;
    // A file that is wrong by itself needs no database to say so.
    let name = compile(&text, &args.file, &governance::policy::Fields::any(), None)?.path().to_owned();
    args.whose
        .enter(context, async |db| {
            let (path, fields) = surroundings(db, &name).await?;
            let policy = compile(&text, &args.file, &fields, Some(&path.fields))?;
            let mut read = db.read().await?;
            let tally = tried(&mut read, &path, &policy, args.records).await.map_err(TenantError::from)?;
            read.finish().await?;
            let checked = Checked::of(&policy, &tally);
            let records = checked.decided.iter().map(|row| row.examples.len()).sum();
            if records > 0 {
                let shown = Reading::Examples { path: &path.name, policy: policy.digest(), records };
                reading::on_record(context, db, &shown).await?;
            }
            context.output.answer(&checked)?;
            Ok(Exit::Ok)
        })
        .await
}

/// Decides over the path's records, a page at a time.
async fn tried(
    conn: &mut PgConnection,
    path: &Path,
    policy: &Policy,
    max: u64,
) -> Result<Tally, sqlx::Error> {
    let mut tally = Tally::default();
    let decider = Decider::new(path, policy, decision::now(conn).await?);
    let mut after = None;
    while tally.records() < max {
        let limit = PAGE_RECORDS.min(i64::try_from(max - tally.records()).unwrap_or(i64::MAX));
        let page = decision::next_page(conn, path, after.as_deref(), limit).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        decision::decide_page(conn, path, &decider, &page).await?.iter().for_each(|it| tally.add(it));
    }
    Ok(tally)
}

#[derive(Serialize)]
struct Checked<'a> {
    path: &'a str,
    digest: String,
    rules: usize,
    records: u64,
    fix: u64,
    review: u64,
    block: u64,
    none: u64,
    decided: Vec<Row>,
}

impl<'a> Checked<'a> {
    fn of(policy: &'a Policy, tally: &Tally) -> Self {
        let rules: Vec<_> = policy.rules().collect();
        Self {
            path: policy.path(),
            digest: policy.digest().to_string(),
            rules: rules.len(),
            records: tally.records(),
            fix: tally.of(Verdict::Fix),
            review: tally.of(Verdict::Review),
            block: tally.of(Verdict::Block),
            none: tally.of(Verdict::None),
            decided: tally.rows(&rules),
        }
    }
}

impl Answer for Checked<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { path, rules, records, .. } = self;
        page.line(format_args!("the policy of {path} compiles: {rules} rules, tried on {records} records"))?;
        if self.decided.is_empty() {
            return page.line("there are no records of its stream yet: `tenure connector sync` reads them");
        }
        page.blank()?;
        let mut table = Table::new(["RULE", "VERDICT", "RECORDS", "FAILED"]);
        for row in &self.decided {
            let rule = row.rule.clone().unwrap_or_else(|| "(no rule)".to_owned());
            table.row(&[rule, row.verdict.to_string(), row.records.to_string(), row.failed.to_string()]);
        }
        page.table(&table)?;
        for row in self.decided.iter().filter(|row| row.verdict != Verdict::None) {
            page.blank()?;
            page.line(format_args!("{} → {}", row.rule.as_deref().unwrap_or("(no rule)"), row.verdict))?;
            row.examples.iter().try_for_each(|example| page.line(format_args!("  {}", one_line(example))))?;
        }
        Ok(())
    }
}

fn one_line(example: &Example) -> String {
    let Example { key, proposed, reason } = example;
    match proposed {
        Some(proposed) => {
            let values: Vec<_> = proposed.iter().map(|(field, value)| format!("{field} = {value}")).collect();
            format!("{key}: {} ({reason})", values.join(", "))
        }
        None => format!("{key}: {reason}"),
    }
}
