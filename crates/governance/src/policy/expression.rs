//! One CEL expression of a rule: compiled with all its faults named, and evaluated within bounds.
//!
//! Owns: the parse, the check of names and types, the meter, and the values in between. The grammar and the evaluation
//! are the crate `cel`'s.
//!
//! Promises: an expression that compiles ends, whatever the record: [`BYTES_MAX`] of text, [`NODES_MAX`] nodes,
//! [`DEPTH_MAX`] deep, [`LOOPS_NESTED_MAX`] loops in each other, and a meter that counts what the loops do at run time
//! and how large values grow. What runs out is an error of that expression, never the process's.
//!
//! Refuses: functions and fields it does not know, patterns that are no literals (they are compiled once), and
//! fractional numbers as values to be written.

mod check;
mod evaluate;
mod functions;
mod meter;
mod parse;
#[cfg(test)]
mod tests;
mod types;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use cel::IdedExpr;
use regex::Regex;

pub(crate) use evaluate::OnRecord;
pub use evaluate::{EvaluationError, Evaluator, Variables};
pub use types::{FieldKind, Fields};

/// The text of an expression, in bytes.
pub const BYTES_MAX: usize = 4096;
/// Parts of an expression after its macros are written out.
pub const NODES_MAX: usize = 600;
/// Parts within parts.
pub const DEPTH_MAX: usize = 64;
/// `map`, `filter`, `all`, `exists` inside one another.
pub const LOOPS_NESTED_MAX: usize = 3;

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Boolean,
    Integer,
    /// Something a field can hold.
    Value,
}

/// One fault of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpressionFault {
    /// The character in the expression at which it shows, from 0.
    pub(crate) at: usize,
    pub(crate) what: String,
    /// What was expected, or what to do.
    pub(crate) help: String,
}

/// An expression that may be evaluated.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    metered: IdedExpr,
    patterns: BTreeMap<String, Regex>,
    /// The top-level fields of the record that it reads.
    fields: BTreeSet<String>,
    uses_clock: bool,
}

impl Expression {
    /// Reads an expression. All faults that can be told apart are told at once.
    pub(crate) fn compile(
        source: &str,
        fields: &Fields,
        wanted: Wanted,
    ) -> Result<Self, Vec<ExpressionFault>> {
        let parsed = parse::parse(source)?;
        let found = check::check(&parsed, fields, wanted)?;
        let metered = meter::metered(&parsed.root);
        let check::Found { patterns, fields, uses_clock } = found;
        Ok(Self { metered, patterns, fields, uses_clock })
    }

    /// Whether its value may differ from one day to the next.
    pub(crate) fn uses_clock(&self) -> bool {
        self.uses_clock
    }

    /// The record's fields that it reads.
    pub(crate) fn fields(&self) -> &BTreeSet<String> {
        &self.fields
    }

    /// The patterns that its evaluator must know.
    pub(crate) fn patterns(&self) -> &BTreeMap<String, Regex> {
        &self.patterns
    }
}
