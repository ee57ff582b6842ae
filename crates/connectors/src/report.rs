//! What `check` and `discover` say. Both only read.

use std::fmt;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// A sync will run, with a drawback that is named.
    Warning,
    /// A sync would fail.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at, a stable name such as `connect` or `cursor`.
    pub name: &'static str,
    /// The stream, if it concerns one.
    pub stream: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub message: String,
    /// What to do, where there is something to do.
    pub advice: Option<String>,
}

/// The checks of one connector, in the order in which they were made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// Each check.
    pub checks: Vec<Check>,
}

impl CheckReport {
    /// The worst outcome.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let any = |outcome| self.checks.iter().any(|check| check.outcome == outcome);
        match () {
            () if any(Outcome::Failed) => Outcome::Failed,
            () if any(Outcome::Warning) => Outcome::Warning,
            () => Outcome::Ok,
        }
    }

    /// Whether something about this stream has failed.
    pub(crate) fn has_failed(&self, stream: &str) -> bool {
        self.checks.iter().any(|it| it.outcome == Outcome::Failed && it.stream.as_deref() == Some(stream))
    }

    pub(crate) fn ok(&mut self, name: &'static str, stream: Option<&str>, message: impl Into<String>) {
        self.push(name, stream, Outcome::Ok, message.into(), None);
    }

    pub(crate) fn warn(
        &mut self,
        name: &'static str,
        stream: Option<&str>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.push(name, stream, Outcome::Warning, message.into(), Some(advice.into()));
    }

    pub(crate) fn fail(&mut self, name: &'static str, stream: Option<&str>, error: &crate::SourceError) {
        let (message, advice) = match error {
            crate::SourceError::Configuration { what, advice, cause, .. } => {
                (chain(what, cause.as_deref()), Some(advice.clone()))
            }
            crate::SourceError::Poison { what, advice, .. }
            | crate::SourceError::Incomplete { why: what, advice, .. } => {
                (what.clone(), Some(advice.clone()))
            }
            crate::SourceError::Transient { what, cause, .. } => (chain(what, cause.as_deref()), None),
            crate::SourceError::Throttled { .. } => (error.to_string(), None),
        };
        self.push(name, stream, Outcome::Failed, message, advice);
    }

    pub(crate) fn failed(&mut self, name: &'static str, stream: Option<&str>, message: impl Into<String>) {
        self.push(name, stream, Outcome::Failed, message.into(), None);
    }

    fn push(
        &mut self,
        name: &'static str,
        stream: Option<&str>,
        outcome: Outcome,
        message: String,
        advice: Option<String>,
    ) {
        self.checks.push(Check { name, stream: stream.map(str::to_owned), outcome, message, advice });
    }
}

/// A sentence and its cause: a report has no other place for the error below.
fn chain(what: &str, cause: Option<&(dyn std::error::Error + Send + Sync + 'static)>) -> String {
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let outcome = match check.outcome {
                Outcome::Ok => "ok     ",
                Outcome::Warning => "warning",
                Outcome::Failed => "failed ",
            };
            let stream = check.stream.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
            writeln!(f, "{outcome}  {}{stream}: {}", check.name, check.message)?;
            if let Some(advice) = &check.advice {
                writeln!(f, "         {advice}")?;
            }
        }
        Ok(())
    }
}

/// A field found in a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiscoveredField {
    /// Its name, with dots below the top level.
    pub name: String,
    /// Its type in the source's words.
    pub kind: String,
    /// Whether it may be null or missing.
    pub nullable: bool,
}

/// A stream that could be synced.
#[derive(Clone, Debug, Serialize)]
pub struct DiscoveredStream {
    /// The table, view or configured stream.
    pub name: String,
    /// What it has.
    pub fields: Vec<DiscoveredField>,
    /// The fields that identify a row; empty where none are known.
    pub key: Vec<String>,
    /// Fields that would serve as a cursor, the best first.
    pub cursor_candidates: Vec<String>,
    /// About how many rows there are, where the source says.
    pub rows_estimated: Option<u64>,
    /// What stands in the way of a good sync, in sentences.
    pub problems: Vec<String>,
    /// A `[[streams]]` section ready to paste into the definition.
    pub snippet: String,
}
