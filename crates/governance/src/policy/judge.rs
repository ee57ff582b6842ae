//! What a policy says of one record.

use serde_json::{Map, Value};

use super::{
    EvaluationError, Evaluator, Policy, Variables,
    expression::OnRecord,
    rule::{Confidence, Rule},
};
use crate::decision::Verdict;

/// What a policy says.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What should happen.
    pub verdict: Verdict,
    /// The rule that said so; none if no rule applied.
    pub rule: Option<String>,
    /// The action class of that rule.
    pub class: Option<String>,
    /// How sure it is, in per cent.
    pub confidence: u8,
    /// The values that a fix proposes. A fix that goes to people keeps them.
    pub proposed: Option<Map<String, Value>>,
    /// Why, for a person. Never holds a value of the record.
    pub reason: String,
}

/// How the judgement came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What it says.
    pub judged: Judged,
    /// The rule's failure, if that is why.
    pub failed: Option<EvaluationError>,
}

impl Policy {
    /// Asks the rules in order; the first that applies decides. A rule that cannot be evaluated on this record ends
    /// the search too: what comes after it was written for records that it had passed over.
    #[must_use]
    pub fn judge(&self, evaluator: &Evaluator, variables: &Variables<'_>) -> Judgement {
        let record = match evaluator.on(variables) {
            Ok(record) => record,
            Err(error) => return failed(None, "the record", error),
        };
        for rule in &self.rules {
            let applies = rule.when.as_ref().map_or(Ok(true), |when| record.boolean(when));
            match applies {
                Ok(false) => {}
                Ok(true) => return self.apply(rule, &record, variables.record),
                Err(error) => return failed(Some(rule), "`when`", error),
            }
        }
        let reason = "no rule applies".to_owned();
        let judged = Judged {
            verdict: Verdict::None,
            rule: None,
            class: None,
            confidence: 100,
            proposed: None,
            reason,
        };
        Judgement { judged, failed: None }
    }

    fn apply(&self, rule: &Rule, record: &OnRecord<'_>, data: &Map<String, Value>) -> Judgement {
        let confidence = match percent(rule, record) {
            Ok(confidence) => confidence,
            Err(error) => return failed(Some(rule), "`confidence`", error),
        };
        let mut proposed = Map::new();
        for (field, expression) in &rule.values {
            match record.value(expression) {
                Ok(value) => proposed.insert(field.clone(), value),
                Err(error) => return failed(Some(rule), &format!("the value of {field}"), error),
            };
        }
        let mut judged = Judged {
            verdict: rule.verdict,
            rule: Some(rule.name.clone()),
            class: rule.class.clone(),
            confidence,
            proposed: (rule.verdict == Verdict::Fix).then_some(proposed),
            reason: rule.reason.clone(),
        };
        self.hold_back(&mut judged, data);
        Judgement { judged, failed: None }
    }

    /// A fix that changes nothing is none; an unsure or risky one is for people.
    fn hold_back(&self, judged: &mut Judged, data: &Map<String, Value>) {
        let Some(proposed) = &judged.proposed else { return };
        if proposed.iter().all(|(field, value)| data.get(field) == Some(value)) {
            judged.verdict = Verdict::None;
            judged.proposed = None;
            judged.reason = String::from("the fix changes nothing");
        } else if judged.confidence < self.review_below {
            judged.verdict = Verdict::Review;
            judged.reason.push_str(" (not sure enough to be done without a person)");
        } else if judged.class.as_ref().is_some_and(|class| self.risky.contains(class)) {
            judged.verdict = Verdict::Review;
            judged.reason.push_str(" (its class always goes to a person)");
        }
    }
}

fn percent(rule: &Rule, record: &OnRecord<'_>) -> Result<u8, EvaluationError> {
    match &rule.confidence {
        Confidence::Fixed(percent) => Ok(*percent),
        Confidence::Computed(expression) => {
            let percent = u8::try_from(record.integer(expression)?).ok().filter(|percent| *percent <= 100);
            percent.ok_or(EvaluationError::Unfit("is not between 0 and 100"))
        }
    }
}

fn failed(rule: Option<&Rule>, what: &str, error: EvaluationError) -> Judgement {
    let reason = match rule {
        Some(rule) => format!("rule {}: {what} {error}", rule.name),
        None => error.to_string(),
    };
    let judged = Judged {
        verdict: Verdict::Review,
        rule: rule.map(|rule| rule.name.clone()),
        class: rule.and_then(|rule| rule.class.clone()),
        confidence: 0,
        proposed: None,
        reason,
    };
    Judgement { judged, failed: Some(error) }
}
