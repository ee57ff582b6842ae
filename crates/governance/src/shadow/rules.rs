//! A path's rules as a judge: they decide on what was frozen, as they would have then.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{Case, Fault, Hands, Judge, Said};
use crate::{
    decision::{Evidence, Record, Verdict},
    policy::{Policy, Variables},
};

/// What rules are shown of a record; a case's input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown<'a> {
    key: Cow<'a, str>,
    record: Cow<'a, Map<String, Value>>,
    /// Empty in cases of before: earlier states were never kept.
    #[serde(default, skip_serializing, rename = "history")]
    _history: IgnoredAny,
    evidence: Cow<'a, Map<String, Value>>,
    changed_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

/// The input of a case on this record with this evidence, judged at `now`; none if it is too large for rules.
#[must_use]
pub fn shown(record: &Record, evidence: &Evidence, now: DateTime<Utc>) -> Option<Value> {
    let shown = Shown {
        key: Cow::Borrowed(&record.key),
        record: Cow::Borrowed(record.data.as_ref()?),
        _history: IgnoredAny,
        evidence: Cow::Borrowed(evidence.members()),
        changed_at: record.changed_at,
        now,
    };
    serde_json::to_value(shown).ok()
}

/// A version of a path's rules, and nothing beside them.
pub struct Ruled(Policy);

impl Ruled {
    /// By this policy.
    #[must_use]
    pub fn by(policy: Policy) -> Self {
        Self(policy)
    }

    fn decide(&self, case: &Case) -> Result<Said, Fault> {
        let shown = Shown::deserialize(&case.input).map_err(|error| Fault::Failed(error.into()))?;
        let variables = Variables {
            key: &shown.key,
            record: &shown.record,
            evidence: &shown.evidence,
            changed_at: shown.changed_at,
            now: shown.now,
        };
        let judgement = self.0.judge(&self.0.evaluator(), &variables);
        // Where it counts such a record goes to a person; as evidence it is a failure of the rules.
        if let Some(error) = judgement.failed {
            return Err(Fault::Failed(error.into()));
        }
        let judged = judgement.judged;
        let value = judged.proposed.filter(|_| judged.verdict == Verdict::Fix);
        Ok(Said { verdict: judged.verdict, value, class: judged.class })
    }
}

impl Judge for Ruled {
    fn judge<'a, 'b: 'a>(
        &'a self,
        case: &'a Case,
        _: &'a mut Hands<'b>,
    ) -> BoxFuture<'a, Result<Said, Fault>> {
        std::future::ready(self.decide(case)).boxed()
    }
}
