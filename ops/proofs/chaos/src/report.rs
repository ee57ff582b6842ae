//! The verdict: one table for people, one object for scripts.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::check::Row;

/// What a run has shown.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) workers: usize,
    pub(crate) tenants: usize,
    pub(crate) faults: Vec<&'static str>,
    pub(crate) violations: usize,
    pub(crate) checks: Vec<Row>,
    /// How to run it again.
    pub(crate) again: String,
}

/// The version of the JSON.
pub(crate) const SCHEMA: &str = "chaos/v1";

impl Report {
    /// The table, a line of violations below each check that has some, and how to repeat the run.
    pub(crate) fn text(&self) -> String {
        let span = Duration::from_secs(self.seconds);
        let mut text = format!(
            "seed {}: {} workers, {} tenants, {span:?} under faults\n\n{:<32} {:>9} {:>11}\n",
            self.seed, self.workers, self.tenants, "check", "looked at", "violations"
        );
        for row in &self.checks {
            let note = row.note.as_deref().map(|note| format!("  {note}")).unwrap_or_default();
            let line = format!("{:<32} {:>9} {:>11}{note}", row.check, row.looked_at, row.violations);
            writeln!(text, "{}", line.trim_end()).expect("memory takes everything");
            for example in &row.examples {
                writeln!(text, "    {example}").expect("memory takes everything");
            }
        }
        let verdict = match self.violations {
            0 => "no violation".to_owned(),
            1 => "1 violation".to_owned(),
            count => format!("{count} violations"),
        };
        writeln!(text, "\n{verdict}; again with: {}", self.again).expect("memory takes everything");
        text
    }
}
