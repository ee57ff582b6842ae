//! What a bulk operation would be about, and what it did.

use std::{collections::BTreeMap, io};

use queue::{BulkOutcome, BulkPlan, BulkPreview, BulkProgress, JobId, State};
use serde::Serialize;

use super::super::{
    super::output::{Answer, Page},
    view::{Listed, Names},
};

/// A preview, with the command that confirms it.
#[derive(Serialize)]
pub(super) struct Previewed<'a> {
    plan: &'a BulkPlan,
    matched: u64,
    admitted: u64,
    is_exact: bool,
    states: BTreeMap<&'static str, u64>,
    sample: Listed,
    /// None: there is nothing to do.
    confirm: Option<String>,
}

impl<'a> Previewed<'a> {
    pub(super) fn of(preview: &'a BulkPreview, names: &Names, confirm: String) -> Self {
        let BulkPreview { plan, matched, admitted, is_exact, .. } = preview;
        Self {
            plan,
            matched: *matched,
            admitted: *admitted,
            is_exact: *is_exact,
            states: preview.states.iter().map(|(state, jobs)| (state.name(), *jobs)).collect(),
            sample: Listed::of(&preview.sample, names, None),
            // What was not counted to the end may still hold some.
            confirm: (*admitted > 0 || !is_exact).then_some(confirm),
        }
    }
}

impl Answer for Previewed<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let verb = self.plan.action().verb();
        let at_least = if self.is_exact { "" } else { "at least " };
        let states: Vec<_> = self.states.iter().map(|(state, jobs)| format!("{jobs} {state}")).collect();
        let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
        page.line(format_args!("the filter admits {at_least}{} jobs{states}", self.matched))?;
        if self.admitted < self.matched {
            let skipped = self.matched - self.admitted;
            page.line(format_args!("{verb} does not apply to {skipped} of them, which would be skipped"))?;
        }
        if self.matched > 0 {
            page.blank()?;
            self.sample.text(page)?;
        }
        page.blank()?;
        match &self.confirm {
            Some(command) => page.line(format_args!("nothing was done; this confirms it:\n  {command}")),
            None => page.line(format_args!("there is nothing to {verb}")),
        }
    }
}

/// An operation that was left to go on.
#[derive(Serialize)]
pub(super) struct Confirmed {
    pub(super) operation: JobId,
    pub(super) verb: &'static str,
    pub(super) existing: bool,
}

impl Answer for Confirmed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { operation, verb, existing } = self;
        let already = if *existing { " already" } else { "" };
        page.line(format_args!("operation {operation} does this {verb}{already}"))?;
        page.line(format_args!(
            "follow it with `tenure job wait {operation}`, abort it with `tenure job cancel {operation}`"
        ))
    }
}

/// An operation that is at rest.
#[derive(Serialize)]
pub(super) struct Ended {
    pub(super) operation: JobId,
    pub(super) verb: &'static str,
    pub(super) state: State,
    pub(super) note: Option<String>,
    #[serde(flatten)]
    pub(super) progress: BulkProgress,
    #[serde(rename = "skipped_because")]
    pub(super) skipped: Vec<BulkOutcome>,
}

impl Answer for Ended {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { operation, verb, state, progress: BulkProgress { chosen, acted, skipped, .. }, .. } = self;
        page.line(format_args!(
            "{verb}: {acted} of {chosen} jobs, {skipped} skipped (operation {operation}, {state})"
        ))?;
        for BulkOutcome { reason, jobs } in &self.skipped {
            page.line(format_args!("  {jobs} skipped: {reason}"))?;
        }
        self.note.as_ref().map_or(Ok(()), |note| page.line(format_args!("  {note}")))
    }
}
