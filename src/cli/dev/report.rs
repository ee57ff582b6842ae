//! What `tenure dev` tells: what was done, what was set aside, what to type next.

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
};

use connectors::Definition;
use database::{control::Tenant, tenant::TenantDb};
use jobs::connector_registry;
use serde::Serialize;

use super::super::{
    connector::sync::{self, SyncResult},
    output::{Answer, Page, Tone},
};
use super::story::Story;
use crate::{
    config::{DatabaseUrl, Origin, Value},
    wiring::Control,
};

/// How many rejected records are looked at to count their reasons.
const REJECTED_MAX: i64 = 10_000;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    database: String,
    tenant: String,
    connector: String,
    results: Vec<SyncResult>,
    /// How many records are set aside, by stream and reason, over all runs.
    rejected: Vec<SetAside>,
    /// What was done with the records; nothing if not all were read.
    story: Option<Story>,
    /// What to type next.
    next: Vec<Next>,
}

#[derive(Debug, Serialize)]
struct SetAside {
    stream: String,
    reason: String,
    records: usize,
    /// One of them, as an example.
    detail: String,
}

#[derive(Debug, Serialize)]
struct Next {
    command: String,
    what: &'static str,
}

impl Report {
    pub(super) async fn of(
        control: &Control,
        tenant: &Tenant,
        db: &TenantDb,
        definition: &Definition,
        results: Vec<SyncResult>,
    ) -> anyhow::Result<Self> {
        let connector = definition.name().to_owned();
        let rejected = connector_registry::rejected(db, &connector, None, REJECTED_MAX).await?;
        let mut reasons: BTreeMap<(String, String), SetAside> = BTreeMap::new();
        for record in rejected {
            let key = (record.stream.clone(), record.reason.clone());
            let reason = reasons.entry(key).or_insert_with(|| SetAside {
                stream: record.stream,
                reason: record.reason,
                records: 0,
                detail: record.detail,
            });
            reason.records += 1;
        }
        Ok(Self {
            database: control.server().name(),
            tenant: tenant.name.to_string(),
            next: next(control, &tenant.name.to_string(), &connector, &results),
            connector,
            results,
            rejected: reasons.into_values().collect(),
            story: None,
        })
    }

    pub(super) fn with(self, story: Story) -> Self {
        Self { story: Some(story), ..self }
    }

    /// Whether all was read, and the story, where it was told, ended as it should.
    pub(super) fn is_complete(&self) -> bool {
        self.results.iter().all(SyncResult::is_complete) && self.story.as_ref().is_none_or(Story::is_as_told)
    }
}

/// Commands that work as they stand, in another terminal, while this one is up and after.
fn next(control: &Control, tenant: &str, connector: &str, results: &[SyncResult]) -> Vec<Next> {
    let program = program(control);
    let next = |arguments: String, what| Next { command: format!("{program} {arguments}"), what };
    let mut commands = vec![next(
        format!("connector sync {connector} --tenant {tenant}"),
        "again: only what changed is read",
    )];
    if let Some(result) = results.iter().find(|result| result.rejected() > 0) {
        let stream = result.stream();
        let arguments = format!("connector rejected {connector} --tenant {tenant} --stream {stream}");
        commands.push(next(arguments, "what was set aside, and why"));
    }
    for (arguments, what) in [
        (format!("baseline show --tenant {tenant}"), "the nights: what would have been done"),
        (format!("writeback list --all --tenant {tenant}"), "what was written, and what became of it"),
        (format!("audit verify --tenant {tenant}"), "the chain, against its signed checkpoints"),
        ("job list".to_owned(), "what ran"),
    ] {
        commands.push(next(arguments, what));
    }
    commands.push(next("doctor".to_owned(), "is everything well?"));
    commands
}

/// How to call this program again so that it finds the same database.
fn program(control: &Control) -> String {
    let path = env::current_exe().unwrap_or_else(|_| PathBuf::from("tenure"));
    let here = env::current_dir().ok();
    let near = here.and_then(|here| path.strip_prefix(here).ok().map(|path| Path::new(".").join(path)));
    let program = quoted(&near.unwrap_or(path).display().to_string());
    let config = control.config();
    // Another command has these variables only if they were exported, so they are repeated; never one with a password.
    let variables = config.settings.values().filter_map(|setting| match (&setting.origin, &setting.value) {
        (Origin::Variable(name), Value::Text(value)) if !holds_password(value) => {
            Some(format!("{name}={} ", quoted(value)))
        }
        _ => None,
    });
    let file = config.file.as_ref().map(|file| format!(" --config {}", quoted(&file.display().to_string())));
    format!("{}{program}{}", variables.collect::<String>(), file.unwrap_or_default())
}

fn holds_password(value: &str) -> bool {
    DatabaseUrl::parse(value).is_ok_and(|url| url.password().is_some())
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Answer for Report {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.toned_line(Tone::Strong, "Tenure", format_args!(" on {}", self.database))?;
        let Self { connector, tenant, .. } = self;
        page.line(format_args!("read the connector {connector} into the records of the tenant {tenant}"))?;
        page.blank()?;
        sync::print(&self.results, page)?;
        if !self.rejected.is_empty() {
            page.blank()?;
            page.toned_line(Tone::Strong, "set aside", ", with the reason and one example")?;
        }
        for reason in &self.rejected {
            let SetAside { stream, reason, records, detail } = reason;
            page.line(format_args!("  {records:>5} {stream}: {reason} ({detail})"))?;
        }
        if let Some(story) = &self.story {
            page.blank()?;
            story.text(page)?;
        }
        page.blank()?;
        page.toned_line(Tone::Strong, "next", "")?;
        for next in &self.next {
            page.line(format_args!("  {}", next.command))?;
            page.toned_line(Tone::Faint, "      ", next.what)?;
        }
        Ok(())
    }
}
