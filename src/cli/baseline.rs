//! `tenure baseline run|show`: what the rules would have done tonight, and over the last nights.
//!
//! Nothing is written to any target.

mod chart;
mod file;
mod html;
mod run;
mod show;
mod view;

use clap::Subcommand;

pub(super) use self::run::{enqueue, follow};
use super::{Context, exit::Exit};

const EXAMPLES: &str = "Examples:
  tenure baseline run --tenant acme
  tenure baseline show --days 14
  tenure baseline show --html baseline.html

A run reads every source, decides over every record of every path by the newest policy, tries every candidate, asks the
gate about it, and reports. What failed is named, with its class, and the rest stands; the exit code is then 8. A tenant
has a schedule `nightly_baseline` for it from its first day: `tenure schedule list`.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Do tonight's run now, follow it to its end and show its report
    Run(run::Args),
    /// The reports of the last nights, side by side
    Show(show::Args),
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => run::run(&args, context).await,
        Command::Show(args) => show::run(&args, context).await,
    }
}
