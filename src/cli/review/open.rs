//! `tenure review open`: from stored records to cases.

use std::io;

use database::tenant::TenantDb;
use governance::{
    decision::{self, PAGE_RECORDS},
    path, policy, review,
};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page},
        tenant::Whose,
    },
    refused,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The path
    #[arg(long)]
    path: String,
    /// Also what the rules are sure to fix: before a candidate runs, people must have judged some
    #[arg(long)]
    fixes: bool,
    /// Decide over so many records at most
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Say what would be done with the first page of records and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    args.whose
        .enter(context, async |db| {
            let answer = cases(db, &args.path, args.fixes, args.records, args.dry_run).await?;
            context.output.answer(&answer)?;
            Ok(Exit::Ok)
        })
        .await
}

/// A transaction per page: what was interrupted goes on with the next call.
pub(in crate::cli) async fn cases(
    db: &TenantDb,
    name: &str,
    fixes: bool,
    records_max: u64,
    dry_run: bool,
) -> anyhow::Result<Pass> {
    let mut sum = Pass { path: name.to_owned(), records: 0, opened: 0, stale: 0, known: 0, dry_run };
    let mut after = None;
    while sum.records < records_max {
        let mut write = db.write().await?;
        let path = path::by_name(&mut write, name).await?;
        let (stored, policy) = policy::load(&mut write, &path, None).await?;
        let limit = PAGE_RECORDS.min(i64::try_from(records_max - sum.records).unwrap_or(i64::MAX));
        let page = decision::next_page(&mut write, &path, after.as_deref(), limit)
            .await
            .map_err(|error| refused(error.into()))?;
        let Some(last) = page.last() else { break };
        let opened = review::open(&mut write, &path, (stored.version, &policy), &page, fixes);
        let opened = opened.await.map_err(refused)?;
        sum.records += page.len() as u64;
        sum.opened += opened.opened.len();
        sum.stale += opened.stale.len();
        sum.known += opened.known;
        if dry_run {
            break;
        }
        write.commit().await?;
        after = Some(last.key.clone());
    }
    Ok(sum)
}

#[derive(Serialize)]
pub(in crate::cli) struct Pass {
    path: String,
    records: u64,
    opened: usize,
    stale: usize,
    known: usize,
    dry_run: bool,
}

impl Answer for Pass {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { path, records, opened, stale, known, dry_run } = self;
        let would = if *dry_run { "would have " } else { "" };
        page.line(format_args!(
            "{path}: decided over {records} records, {would}opened {opened} cases, closed {stale} as stale; {known} \
             were asked before"
        ))
    }
}
