//! `tenure bench keys`.

use std::io;

use serde::Serialize;
use vault::measure::{self, Measured, Options};

use super::super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table, bytes},
};

const EXAMPLES: &str = "Examples:
  tenure bench keys
  tenure bench keys --values 200000 --rounds 5 --json

It works in a database of its own, which it drops, with a keyring of its own. Both sides read the same rows in the same
pages, write as many bytes back, and alternate in the same run; the one without cryptography is what the database itself
takes. Compare ratios, not figures of different machines or days.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Sealed values
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    values: u32,
    /// Bytes of each text
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    bytes: u32,
    /// Keys of tables
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keys: u32,
    /// Rows of a transaction
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    page_rows: u16,
    /// Rounds of each side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let options = Options {
                values: args.values,
                bytes: args.bytes,
                keys: args.keys,
                page_rows: args.page_rows,
                rounds: args.rounds,
            };
            let set = database::migrate::governance();
            let schema: String = set.iter().map(|migration| migration.sql.as_str()).collect();
            let say = |text: &str| context.output.say(text);
            let measured = measure::rotations(control.direct(), &schema, &options, say).await?;
            context.output.answer(&Benchmark { keys: measured })?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Benchmark {
    keys: Measured,
}

impl Answer for Benchmark {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let m = &self.keys;
        let mut table = Table::new(["measured", "figure"]);
        let mut row = |name: &str, figure: String| table.row(&[name.to_owned(), figure]);
        let of = |part: f64| format!("{:.0} %", part * 100.0);
        row("values read and written, without cryptography", format!("{:.0}/s", m.plain_values_per_sec));
        row("values resealed", format!("{:.0}/s, {} of plain", m.reseal_per_sec, of(m.reseal_of_plain)));
        row("values in a dry run", format!("{:.0}/s", m.dry_run_per_sec));
        row("values in a second run, which changes none", format!("{:.0}/s", m.again_per_sec));
        row("keys read and written, without cryptography", format!("{:.0}/s", m.plain_keys_per_sec));
        row(
            "keys rewrapped by a keyring",
            format!("{:.0}/s, {} of plain", m.rewrap_per_sec, of(m.rewrap_of_plain)),
        );
        row("a sealed value takes", bytes(m.value_bytes));
        page.table(&table)
    }
}
