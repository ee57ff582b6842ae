//! One rule of a policy: when it applies, and what follows.

use std::collections::BTreeMap;

use super::expression::Expression;
use crate::decision::Verdict;

/// A rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    /// None: always.
    pub(super) when: Option<Expression>,
    pub(super) verdict: Verdict,
    /// The proposed value of each field; only of a fix.
    pub(super) values: BTreeMap<String, Expression>,
    pub(super) confidence: Confidence,
    pub(super) class: Option<String>,
    pub(super) reason: String,
}

/// How sure a rule is, in per cent.
#[derive(Clone, Debug)]
pub(super) enum Confidence {
    Fixed(u8),
    Computed(Box<Expression>),
}

impl Rule {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let confidence = match &self.confidence {
            Confidence::Computed(expression) => Some(&**expression),
            Confidence::Fixed(_) => None,
        };
        self.when.iter().chain(self.values.values()).chain(confidence)
    }
}
