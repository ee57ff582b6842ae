//! How many records each rule decided on, with examples.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Decision, Verdict};

/// Examples kept of each row.
const EXAMPLES_MAX: usize = 3;

/// A record as an example. It holds the proposed values: for the eyes of whoever may read records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The record's key.
    pub key: String,
    /// What the fix proposes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposed: Option<Map<String, Value>>,
    /// Why.
    pub reason: String,
}

/// Decisions of one rule with one verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The rule; none where no rule applied.
    pub rule: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// How many records.
    pub records: u64,
    /// Of them, those on which the rule failed.
    pub failed: u64,
    /// The first ones.
    pub examples: Vec<Example>,
}

/// Counts decisions; its size is that of the policy.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    records: u64,
    rows: BTreeMap<(Option<String>, Verdict), Row>,
}

impl Tally {
    /// Counts a decision.
    pub fn add(&mut self, decision: &Decision) {
        self.records += 1;
        let judged = &decision.judged;
        let row = self.rows.entry((judged.rule.clone(), judged.verdict)).or_insert_with(|| Row {
            rule: judged.rule.clone(),
            verdict: judged.verdict,
            records: 0,
            failed: 0,
            examples: Vec::new(),
        });
        row.records += 1;
        row.failed += u64::from(decision.failed.is_some());
        if row.examples.len() < EXAMPLES_MAX {
            let (key, reason) = (decision.key.clone(), judged.reason.clone());
            row.examples.push(Example { key, proposed: judged.proposed.clone(), reason });
        }
    }

    /// How many decisions were counted.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many of them had this verdict.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.rows.values().filter(|row| row.verdict == verdict).map(|row| row.records).sum()
    }

    /// The rows, in the order of the policy's rules; what no rule decided comes last.
    #[must_use]
    pub fn rows(&self, rules: &[&str]) -> Vec<Row> {
        let mut rows: Vec<_> = self.rows.values().cloned().collect();
        let place = |row: &Row| {
            let rule = row.rule.as_deref();
            rules.iter().position(|it| Some(*it) == rule).unwrap_or(usize::MAX)
        };
        rows.sort_by_key(|row| (place(row), row.verdict));
        rows
    }
}
