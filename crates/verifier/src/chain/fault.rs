//! What is wrong with an export, and where.

use std::{
    fmt,
    io::{self, BufRead},
};

use super::Entry;
use crate::line::{self, Next};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An entry is not what was chained.
    Altered,
    /// An entry is not there.
    Missing,
    /// An entry is there, but not in its place.
    Reordered,
    /// An entry is there twice.
    Doubled,
    /// Two chains: two entries follow one, or the chain is not that of the checkpoint.
    Forked,
    /// The end is not there.
    Truncated,
    /// A line is not of the format.
    Malformed,
}

impl Kind {
    /// Its name, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
            Self::Doubled => "doubled",
            Self::Forked => "forked",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
        }
    }
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub kind: Kind,
    /// The line, counted from 1; one past the last when it is a line that is not there.
    pub line: u64,
    /// The number of the entry that is altered, missing, out of place or there twice, where one is.
    pub seq: Option<u64>,
    /// In words.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}", self.kind.name(), self.line)?;
        if let Some(seq) = self.seq {
            write!(f, " (entry {seq})")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The lines of an export, counted.
pub(super) struct Lines<'a, R> {
    reader: &'a mut R,
    buffer: Vec<u8>,
    number: u64,
}

impl<'a, R> Lines<'a, R> {
    pub(super) fn new(reader: &'a mut R) -> Self {
        Self { reader, buffer: Vec::new(), number: 0 }
    }

    /// The line read last.
    pub(super) fn text(&self) -> &[u8] {
        &self.buffer
    }

    /// A fault in the line read last.
    pub(super) fn fault(&self, kind: Kind, seq: Option<u64>, what: impl Into<String>) -> Fault {
        Fault { kind, line: self.number, seq, what: what.into() }
    }
}

impl<R: BufRead> Lines<'_, R> {
    pub(super) fn read(&mut self) -> io::Result<Next> {
        self.number += 1;
        line::read(self.reader, &mut self.buffer)
    }

    /// A number too high: the expected entry is missing, unless it comes later.
    pub(super) fn gap(&mut self, expected: u64, found: u64) -> io::Result<Fault> {
        let mut fault = self.fault(
            Kind::Missing,
            Some(expected),
            format!("entry {found} stands where entry {expected} should"),
        );
        loop {
            match self.read()? {
                Next::Line if Entry::parse(&self.buffer).is_some_and(|entry| entry.seq == expected) => {
                    fault.kind = Kind::Reordered;
                    return Ok(fault);
                }
                Next::Line => {}
                Next::Bad(_) | Next::End => return Ok(fault),
            }
        }
    }
}
