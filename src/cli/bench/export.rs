//! `tenure bench export`.

use std::{io, path::PathBuf};

use anyhow::Context as _;
use jobs::tenant_bundle::measure::{self, Measured, Options};
use serde::Serialize;

use super::super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table, bytes},
};

const EXAMPLES: &str = "Examples:
  tenure bench export
  tenure bench export --records 1000000 --json

It works in two databases of its own, which it drops: it fills one, exports it and dumps it in turn, checks the bundle and
restores it into the other, where it is read back. A bundle holds every row twice, as JSON and as CSV, with digests; a dump
once. Compare ratios, not figures of different machines or days.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Records of the tenant
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Rounds of each side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
    /// The program to compare with
    #[arg(long, value_name = "FILE", default_value = "pg_dump")]
    pg_dump: PathBuf,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let folder = std::env::temp_dir().join(format!("tenure-bench-export-{}", std::process::id()));
            std::fs::create_dir(&folder).with_context(|| format!("while making {}", folder.display()))?;
            let options = Options {
                records: args.records,
                rounds: usize::try_from(args.rounds)?,
                folder: folder.clone(),
                pg_dump: args.pg_dump.clone(),
            };
            let say = |text: &str| context.output.say(text);
            let url = |database: &str| control.server().url_of(database);
            let measured = measure::measure(control.server().admin(), url, &options, say).await;
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("while removing {}", folder.display()))?;
            context.output.answer(&Benchmark { export: measured? })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Benchmark {
    export: Measured,
}

impl Answer for Benchmark {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let m = &self.export;
        let mut table = Table::new(["measured", "figure"]);
        let mut row = |name: &str, figure: String| table.row(&[name.to_owned(), figure]);
        row("tenant", format!("{} records, {} in Postgres", m.records, bytes(m.tenant_bytes)));
        row("bundle", bytes(m.bundle_bytes));
        row("export", format!("{:.1} MB/s", m.export_mb_per_sec));
        row("pg_dump, custom", format!("{:.1} MB/s, export {:.2} times that", m.dump_mb_per_sec, m.of_dump));
        row(
            "pg_dump, plain",
            format!("{:.1} MB/s, export {:.2} times that", m.plain_dump_mb_per_sec, m.of_plain_dump),
        );
        row("verify", format!("{:.1} MB/s", m.verify_mb_per_sec));
        row("import, checked and read back", format!("{:.1} MB/s", m.import_mb_per_sec));
        if let Some(peak) = m.memory_peak_bytes {
            row("memory of this process, at most", bytes(peak));
        }
        page.table(&table)
    }
}
