//! `tenure config check|show`.

use std::io;

use clap::Subcommand;
use serde::Serialize;

use super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table},
};
use crate::config::{Config, KEYS, Setting, Value, redacted};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Report every fault of the configuration at once; exit 78 if there is one
    Check,
    /// Show each value and where it comes from; passwords are left out
    Show,
}

pub(super) fn run(command: &Command, context: &Context) -> anyhow::Result<Exit> {
    // With faults the program has not come this far.
    match command {
        Command::Check => context
            .output
            .answer(&Checked { ok: true, environment: context.config.environment.to_string() })?,
        Command::Show => context.output.answer(&Shown::of(&context.config))?,
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    environment: String,
}

impl Answer for Checked {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(format_args!("the configuration is valid ({})", self.environment))
    }
}

#[derive(Serialize)]
struct Shown {
    settings: Vec<ShownSetting>,
}

#[derive(Serialize)]
struct ShownSetting {
    key: &'static str,
    value: Option<String>,
    origin: Option<String>,
    variable: &'static str,
}

impl Shown {
    fn of(config: &Config) -> Self {
        let shown = |key: &crate::config::Key| {
            let setting = config.settings.get(key.path);
            ShownSetting {
                key: key.path,
                value: setting.map(|setting| shown_value(setting, key.is_secret)),
                origin: setting.map(|setting| setting.origin.to_string()),
                variable: key.variable,
            }
        };
        Self { settings: KEYS.iter().map(shown).collect() }
    }
}

fn shown_value(setting: &Setting, is_secret: bool) -> String {
    match &setting.value {
        Value::Text(text) if is_secret => redacted(text),
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::List(items) => format!("[{}]", items.join(", ")),
    }
}

impl Answer for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(["KEY", "VALUE", "FROM"]);
        for ShownSetting { key, value, origin, .. } in &self.settings {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            table.row(&[(*key).to_owned(), or_none(value), or_none(origin)]);
        }
        page.table(&table)
    }
}
