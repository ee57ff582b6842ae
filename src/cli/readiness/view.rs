//! What a scan found, for people and for programs.

use std::io;

use chrono::{DateTime, Utc};
use connectors::{Precision, Volume};
use database::control::Tenant;
use jobs::readiness_scan::{Finding, Issues, Report, Severity, Stored, StreamReport};
use queue::JobId;
use serde::Serialize;

use super::super::output::{Answer, Page, Table, Tone};

#[derive(Serialize)]
pub(super) struct WouldScan {
    pub(super) tenant: String,
    pub(super) connectors: Vec<String>,
    pub(super) dry_run: bool,
}

impl Answer for WouldScan {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { tenant, connectors, .. } = self;
        page.line(format_args!("would scan {tenant}: connectors {}", connectors.join(", ")))
    }
}

#[derive(Serialize)]
pub(super) struct Readiness<'a> {
    tenant: String,
    job: JobId,
    scanned_at: DateTime<Utc>,
    blocks: usize,
    warns: usize,
    /// Every source and target that was looked at shows that nothing was written.
    proven: bool,
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a> Readiness<'a> {
    pub(super) fn of(tenant: &Tenant, stored: &'a Stored) -> Self {
        let report = &stored.report;
        Self {
            tenant: tenant.name.to_string(),
            job: JobId(stored.job),
            scanned_at: stored.scanned_at,
            blocks: report.count(Severity::Blocks),
            warns: report.count(Severity::Warns),
            proven: report.is_proven(),
            report,
        }
    }
}

impl Answer for Readiness<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { tenant, scanned_at, blocks, warns, .. } = self;
        let at = scanned_at.format("%Y-%m-%d %H:%M UTC");
        page.line(format_args!(
            "readiness of {tenant}, {at}: {blocks} in the way, {warns} to be careful about"
        ))?;
        self.streams(page)?;
        self.paths(page)?;
        page.blank()?;
        let mut findings: Vec<&Finding> = self.report.findings.iter().collect();
        // What stands in the way first, else as it was found.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        for Finding { severity, about, what, help } in findings {
            let (tone, word) = match severity {
                Severity::Ok => (Tone::Good, "ok    "),
                Severity::Warns => (Tone::Doubtful, "warns "),
                Severity::Blocks => (Tone::Bad, "blocks"),
            };
            page.toned_line(tone, word, format_args!("  {about}: {what}"))?;
            if let Some(help) = help {
                page.line(format_args!("          {help}"))?;
            }
        }
        Ok(())
    }
}

impl Readiness<'_> {
    fn streams(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(["STREAM", "RECORDS", "FIELDS", "READER MAY WRITE", "TARGET"]);
        let mut is_empty = true;
        for connector in &self.report.connectors {
            for stream in &connector.streams {
                is_empty = false;
                table.row(&[
                    format!("{}/{}", connector.name, stream.name),
                    stream.volume.map_or_else(|| "unknown".to_owned(), volume),
                    stream.fields.len().to_string(),
                    yes_or_no(stream.may_write).to_owned(),
                    target(stream),
                ]);
            }
        }
        if is_empty {
            return Ok(());
        }
        page.blank()?;
        page.table(&table)
    }

    fn paths(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.report.paths.is_empty() {
            return Ok(());
        }
        page.blank()?;
        let mut table = Table::new(["PATH", "STATE", "POLICY", "FIELDS WITH RULES", "ISSUES IN A SAMPLE"]);
        for path in &self.report.paths {
            let fields = format!("{} of {}", path.ruled.len(), path.ruled.len() + path.unruled.len());
            let policy = path.policy.map_or_else(|| "-".to_owned(), |version| version.to_string());
            let issues = path.issues.as_ref().map_or_else(|| "-".to_owned(), rate);
            table.row(&[path.name.clone(), path.state.clone(), policy, fields, issues]);
        }
        page.table(&table)
    }
}

fn volume(volume: Volume) -> String {
    match volume.precision {
        Precision::Exact => volume.records.to_string(),
        Precision::Estimated => format!("~{}", volume.records),
        Precision::AtLeast => format!("> {}", volume.records),
    }
}

const fn yes_or_no(known: Option<bool>) -> &'static str {
    match known {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

fn target(stream: &StreamReport) -> String {
    match &stream.target {
        None => "none".to_owned(),
        Some(target) => target.capability.clone().unwrap_or_else(|| "not probed".to_owned()),
    }
}

/// In tenths of a per cent, rounded down.
fn rate(issues: &Issues) -> String {
    let found = issues.fix + issues.review + issues.block;
    let tenths = found * 1_000 / issues.records.max(1);
    format!("{found} of {} ({}.{} %)", issues.records, tenths / 10, tenths % 10)
}
