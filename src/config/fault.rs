//! Everything that is wrong with a configuration, told at once: what, where, what to do.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// The file with its line, or the variable.
    pub(crate) place: String,
    /// What is wrong; never a secret's value.
    pub(crate) what: String,
    /// What to do.
    pub(crate) help: String,
}

/// All that is wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) struct ConfigError {
    pub(crate) faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => f.write_str("the configuration has a fault"),
            count => write!(f, "the configuration has {count} faults"),
        }
    }
}

/// Gathers faults while the layers are read.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, place: impl fmt::Display, what: impl Into<String>, help: impl Into<String>) {
        self.0.push(Fault { place: place.to_string(), what: what.into(), help: help.into() });
    }
}
