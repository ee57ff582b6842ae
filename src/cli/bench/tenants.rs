//! `tenure bench tenants`.

use std::io;

use anyhow::Context as _;
use jobs::measure::{self, Measured, Options};
use serde::Serialize;

use super::super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table},
};

const EXAMPLES: &str = "Examples:
  tenure bench tenants
  tenure bench tenants --tenants 60 --slots 1 --json

It works in a control database of its own on the configured server, and drops that and every tenant it has made. A
deletion is a whole one, from its approval to its certificate; only nobody waits for the yes and the cooling-off.
Databases are dropped one at a time on a server, since a drop forces a checkpoint.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Tenants that come and go
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    tenants: u64,
    /// Jobs at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    slots: u64,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let options =
                Options { tenants: usize::try_from(args.tenants)?, slots: usize::try_from(args.slots)? };
            let folder = std::env::temp_dir().join(format!("tenure-bench-tenants-{}", std::process::id()));
            std::fs::create_dir(&folder).with_context(|| format!("while making {}", folder.display()))?;
            let say = |text: &str| context.output.say(text);
            let server = control.server().admin();
            let measured = measure::tenants(server, control.passwords()?, &folder, options, say).await;
            let removed = std::fs::remove_dir_all(&folder);
            context.output.answer(&Benchmark { tenants: measured? })?;
            removed.with_context(|| format!("while removing {}", folder.display()))?;
            Ok(Exit::Ok)
        })
        .await
}

#[derive(Serialize)]
struct Benchmark {
    tenants: Measured,
}

impl Answer for Benchmark {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let m = &self.tenants;
        let mut table = Table::new(["measured", "figure"]);
        let mut row = |name: &str, figure: f64| table.row(&[name.to_owned(), format!("{figure:.0}/min")]);
        row("tenants provisioned", m.provisioned_per_min);
        row("tenants deleted, with certificate", m.deleted_per_min);
        page.table(&table)?;
        page.line(format_args!("{} tenants, {} jobs at a time", m.tenants, m.slots))
    }
}
