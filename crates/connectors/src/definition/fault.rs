//! Faults of a definition file, told the way a compiler tells them: what, where, what to do.
//!
//! The text of a line is never shown: it may hold a secret.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// Everything that is wrong with a definition file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DefinitionError {
    /// The file, as given by the caller.
    pub file_name: String,
    /// The faults, by line.
    pub faults: Vec<DefinitionFault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionFault {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            let DefinitionFault { line, column, what, help } = fault;
            write!(f, "{gap}error: {what}\n  --> {}:{line}:{column}\n  = help: {help}", self.file_name)?;
        }
        Ok(())
    }
}

/// Gathers faults while a file is walked.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<(usize, String, String)>>);

impl Faults {
    /// Notes a fault at a place of the text.
    pub(super) fn add(&self, span: &Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        self.0.borrow_mut().push((span.start, what.into(), help.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The faults of the file `text`, in its order.
    pub(super) fn into_error(self, text: &str, file_name: &str) -> DefinitionError {
        let mut faults: Vec<_> = self.0.into_inner();
        faults.sort_by_key(|(start, ..)| *start);
        let faults = faults
            .into_iter()
            .map(|(start, what, help)| {
                let before = text.get(..start).unwrap_or(text);
                let line_start = before.rfind('\n').map_or(0, |at| at + 1);
                let (line, column) =
                    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
                DefinitionFault { line, column, what, help }
            })
            .collect();
        DefinitionError { file_name: file_name.to_owned(), faults }
    }
}

/// The candidate closest to `word`, if it is close enough to be a slip of the hand.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(3) / 3).max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words (Levenshtein), one row at a time; two swapped neighbours count as two.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
