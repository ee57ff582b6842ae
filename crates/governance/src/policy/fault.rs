//! Faults of a policy file, told the way a compiler tells them: what, where, what was expected.

use std::{fmt, ops::Range};

/// Everything that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyFaults {
    /// The file, as given by the caller.
    pub file_name: String,
    /// The faults, by place.
    pub faults: Vec<PolicyFault>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// The rule it is in, if it is in one.
    pub rule: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What was expected, or what to do.
    pub help: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "rule {rule}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl fmt::Display for PolicyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            let PolicyFault { line, column, help, .. } = fault;
            write!(f, "{gap}error: {fault}\n  --> {}:{line}:{column}\n  = help: {help}", self.file_name)?;
        }
        Ok(())
    }
}

/// Gathers faults while a file is read.
pub(super) struct Gathered<'a> {
    text: &'a str,
    /// The rule that is being read.
    pub(super) rule: Option<String>,
    faults: Vec<(usize, PolicyFault)>,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, rule: None, faults: Vec::new() }
    }

    /// Notes a fault at a byte of the file.
    pub(super) fn add(&mut self, at: usize, what: impl Into<String>, help: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let fault = PolicyFault {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            rule: self.rule.clone(),
            what: what.into(),
            help: help.into(),
        };
        self.faults.push((at, fault));
    }

    /// The byte of the file at which a character of a string's value stands. A string with escapes does not stand in
    /// the file as it is: then it is the string's beginning.
    pub(super) fn inside(&self, span: &Range<usize>, value: &str, character: usize) -> usize {
        let literal = self.text.get(span.clone()).unwrap_or_default();
        let Some(start) = literal.find(value).filter(|_| !value.is_empty()) else { return span.start };
        let offset = value.char_indices().nth(character).map_or(value.len(), |(at, _)| at);
        span.start + start + offset
    }

    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn into_faults(mut self, file_name: &str) -> PolicyFaults {
        self.faults.sort_by_key(|(at, _)| *at);
        let faults = self.faults.into_iter().map(|(_, fault)| fault).collect();
        PolicyFaults { file_name: file_name.to_owned(), faults }
    }
}
