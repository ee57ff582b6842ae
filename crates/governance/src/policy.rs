//! What a person has laid down about a path.
//!
//! Owns: the policy file (TOML with CEL expressions), its compilation and its stored, numbered versions.
//!
//! Promises: a [`Policy`] that compiles decides every record: a rule that fails on a record gives `review` with the
//! rule's name. A stored version never changes.
//!
//! Refuses: a file with a fault anywhere; all of them are told with line and column. A rule never reaches outside of
//! the record and the evidence that was gathered for it; earlier states of a record are not kept, and asking for them is
//! a fault.

mod definition;
mod expression;
mod fault;
mod judge;
mod rule;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::digest::Digest;

pub use definition::{Compare, EvidenceNeeds, OfDuplicates, OfReference, OfSource};
pub use expression::{
    BYTES_MAX, DEPTH_MAX, EvaluationError, Evaluator, FieldKind, Fields, LOOPS_NESTED_MAX, NODES_MAX,
    Variables,
};
pub use fault::{PolicyFault, PolicyFaults};
pub use judge::{Judged, Judgement};
pub use stored::{PolicyError, StoredPolicy, add, list, load};

use rule::Rule;

/// A policy, compiled. What it says of a record: [`Policy::judge`].
#[derive(Clone, Debug)]
pub struct Policy {
    path: String,
    text: String,
    digest: Digest,
    review_below: u8,
    risky: BTreeSet<String>,
    evidence: EvidenceNeeds,
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads a policy file and compiles its rules. `file_name` is what faults name; `governed` are the fields of the
    /// path, the only ones a rule may propose values for (unknown while the path is: then none is refused).
    pub fn compile(
        text: &str,
        file_name: &str,
        fields: &Fields,
        governed: Option<&[String]>,
    ) -> Result<Self, PolicyFaults> {
        definition::compile(text, file_name, fields, governed)
    }

    /// The name of the path it is for.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How sure a fix must be to go on without a person, in per cent.
    #[must_use]
    pub fn review_below(&self) -> u8 {
        self.review_below
    }

    /// What must be gathered before it can decide.
    #[must_use]
    pub fn evidence(&self) -> &EvidenceNeeds {
        &self.evidence
    }

    /// The names of its rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(Rule::name)
    }

    /// The action classes of its fixes.
    #[must_use]
    pub fn classes(&self) -> BTreeSet<&str> {
        self.rules.iter().filter_map(Rule::class).collect()
    }

    /// The fields of the record that its rules read.
    #[must_use]
    pub fn fields_read(&self) -> BTreeSet<&str> {
        let read = self.rules.iter().flat_map(Rule::expressions).flat_map(expression::Expression::fields);
        read.map(String::as_str).collect()
    }

    /// Whether what it says may change with the day alone.
    #[must_use]
    pub fn uses_clock(&self) -> bool {
        self.rules.iter().flat_map(Rule::expressions).any(expression::Expression::uses_clock)
    }

    /// What evaluates its rules; one per thread.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator {
        let patterns = self.rules.iter().flat_map(Rule::expressions).flat_map(|it| it.patterns().clone());
        Evaluator::new(patterns.collect::<BTreeMap<String, Regex>>())
    }
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    known.min_by_key(distance).filter(|known| distance(known) <= (name.chars().count() / 3).max(1))
}
