//! One decision.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Map;

use super::{Evidence, Record, Verdict};
use crate::{
    digest::Digest,
    path::Path,
    policy::{EvaluationError, Evaluator, Judged, Policy, Variables},
};

/// What a policy said of a record in one state, with one set of evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The record's key.
    pub key: String,
    /// The record's digest.
    pub record_digest: String,
    /// The digest of everything the decision was made from.
    pub input_digest: Digest,
    /// The digest of the evidence.
    pub evidence_digest: Digest,
    /// What was said.
    pub judged: Judged,
    /// The rule's failure, if that is why.
    pub failed: Option<EvaluationError>,
}

/// Decides over the records of one path by one policy version, on one thread at a time.
pub struct Decider<'a> {
    path: &'a Path,
    policy: &'a Policy,
    evaluator: Evaluator,
    now: DateTime<Utc>,
    uses_clock: bool,
}

/// What a decision is made from. The day only if the rules look at the clock: else the same record would be decided
/// anew every night.
#[derive(Serialize)]
struct Input<'a> {
    connector: &'a str,
    stream: &'a str,
    key: &'a str,
    record: &'a str,
    evidence: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
}

impl<'a> Decider<'a> {
    /// `now` is the database's time at the beginning of the run; all records of a run are judged at it.
    #[must_use]
    pub fn new(path: &'a Path, policy: &'a Policy, now: DateTime<Utc>) -> Self {
        Self { path, policy, evaluator: policy.evaluator(), now, uses_clock: policy.uses_clock() }
    }

    /// The policy it decides by.
    #[must_use]
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The digest of what a decision on this record would be made from.
    ///
    /// # Panics
    /// Never: texts have a canonical form.
    #[must_use]
    pub fn input_digest(&self, record: &Record, evidence: Digest) -> Digest {
        let input = Input {
            connector: &self.path.connector,
            stream: &self.path.stream,
            key: &record.key,
            record: &record.digest,
            evidence,
            day: self.uses_clock.then(|| self.now.format("%Y-%m-%d").to_string()),
        };
        Digest::of_canonical(&input).expect("texts have a canonical form")
    }

    /// Decides. Never fails: what cannot be judged goes to a person.
    #[must_use]
    pub fn decide(&self, record: &Record, evidence: &Evidence) -> Decision {
        let evidence_digest = evidence.digest();
        let (judged, failed) = match &record.data {
            Some(data) => self.judge(record, data, evidence),
            None => (too_large(), Some(EvaluationError::TooLarge)),
        };
        Decision {
            key: record.key.clone(),
            record_digest: record.digest.clone(),
            input_digest: self.input_digest(record, evidence_digest),
            evidence_digest,
            judged,
            failed,
        }
    }

    fn judge(
        &self,
        record: &Record,
        data: &Map<String, serde_json::Value>,
        evidence: &Evidence,
    ) -> (Judged, Option<EvaluationError>) {
        let variables = Variables {
            key: &record.key,
            record: data,
            evidence: evidence.members(),
            changed_at: record.changed_at,
            now: self.now,
        };
        let judgement = self.policy.judge(&self.evaluator, &variables);
        (judgement.judged, judgement.failed)
    }
}

fn too_large() -> Judged {
    let reason = EvaluationError::TooLarge.to_string();
    Judged { verdict: Verdict::Review, rule: None, class: None, confidence: 0, proposed: None, reason }
}
