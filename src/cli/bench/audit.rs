//! `tenure bench audit`.

use std::{io, time::Duration};

use governance::measure::{self, Measured, Options, Verification};
use serde::Serialize;

use super::super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table, bytes},
};

const EXAMPLES: &str = "Examples:
  tenure bench audit
  tenure bench audit --entries 100000 --seconds 2 --json

It works in a database of its own, which it drops. Appends and plain inserts alternate in the same run, each write a
transaction of its own. Sessions that insert share a flush of the disk; a chain is written by one transaction after the
other, each until it is on disk. \"In turn\" are plain inserts that wait for each other like that: no chain can be faster.
Compare ratios, not figures of different machines or days.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Sessions that write at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    sessions: u64,
    /// How long each side writes in each round
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds of each side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
    /// Chains of the side that spreads over tenants
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1000))]
    tenants: u64,
    /// Entries to verify
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    entries: u64,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let options = Options {
                sessions: usize::try_from(args.sessions)?,
                time: Duration::from_secs(args.seconds),
                rounds: usize::try_from(args.rounds)?,
                chains: usize::try_from(args.tenants)?,
            };
            let set = database::migrate::governance();
            let schema: String = set.iter().map(|migration| migration.sql.as_str()).collect();
            let say = |text: &str| context.output.say(text);
            let appends = measure::appends(control.direct(), &schema, &options, say).await?;
            say(&format!("verifying {} entries", args.entries));
            let file = std::env::temp_dir().join(format!("tenure-bench-audit-{}", std::process::id()));
            let entries = args.entries;
            let verification =
                tokio::task::spawn_blocking(move || measure::verification(&file, entries)).await??;
            context.output.answer(&Benchmark { audit: appends, verification })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Benchmark {
    audit: Measured,
    verification: Verification,
}

impl Answer for Benchmark {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (a, v) = (&self.audit, &self.verification);
        let mut table = Table::new(["measured", "figure"]);
        let mut row = |name: &str, figure: String| table.row(&[name.to_owned(), figure]);
        row("plain inserts", format!("{:.0}/s", a.plain_per_sec));
        row(
            "plain inserts in turn",
            format!("{:.0}/s, all that a flush per commit lets through", a.in_turn_per_sec),
        );
        row(
            "appends to one chain",
            format!(
                "{:.0}/s, {:.0} % of plain, {:.0} % of plain in turn",
                a.one_chain_per_sec,
                a.one_of_plain * 100.0,
                a.one_of_in_turn * 100.0
            ),
        );
        row(
            "appends over the tenants",
            format!("{:.0}/s, {:.0} % of plain", a.spread_per_sec, a.spread_of_plain * 100.0),
        );
        row("verification", format!("{} entries, {}, in {:.2} s", v.entries, bytes(v.export_bytes), v.secs));
        if let Some(peak) = v.memory_peak_bytes {
            row("memory of this process, at most", bytes(peak));
        }
        page.table(&table)
    }
}
