//! The gate's answer: each rule with its figure, and what they come to.

use serde::{Deserialize, Serialize};

use super::{figures::Figures, rules::Rules, snapshot::Snapshot};

/// What is asked for, one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Enough runs.
    Runs,
    /// Enough of them agree.
    Agreement,
    /// Enough of them are scored against ground truth.
    Truth,
    /// The true rate of agreement is high enough, however often one has looked.
    Bound,
    /// Agreement beyond chance.
    Kappa,
    /// Enough of the scored ones were right.
    Accuracy,
    /// Nothing was done that must stay with people.
    Veto,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is met.
    Passed,
    /// It is not met yet: there is too little evidence.
    Short,
    /// It is not met, and there is evidence enough to say so.
    Failed,
    /// It forbids promotion.
    Vetoed,
    /// Nothing is asked; the figure is for people.
    Shown,
}

/// A rule with its figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// What there is: runs, or thousandths for bound and kappa.
    pub have: i64,
    /// Out of how many.
    pub of: i64,
    /// What there must be, in the unit of `have`: at least, and for the veto at most. None if nothing is asked.
    pub need: Option<i64>,
    /// By how much it is missed; 0 if it is met.
    pub by: i64,
    /// What that means.
    pub outcome: Outcome,
}

/// What the gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Everything asked for is there. A proposal: it moves nothing.
    Eligible,
    /// Too little evidence; the findings say of what, and how much is missing.
    Insufficient,
    /// Evidence enough, and it speaks against the candidate.
    Disagree,
    /// The candidate does what must stay with people.
    Vetoed,
}

impl Answer {
    /// Its name in rows and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Eligible => "eligible",
            Self::Insufficient => "insufficient",
            Self::Disagree => "disagree",
            Self::Vetoed => "vetoed",
        }
    }
}

/// The answer, with everything it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What the gate says.
    pub answer: Answer,
    /// Each rule, in a fixed order.
    pub findings: Vec<Finding>,
    /// Everything that was counted.
    pub figures: Figures,
}

/// Judges a snapshot. The same snapshot always gives the same answer.
#[must_use]
pub fn evaluate(snapshot: &Snapshot) -> Evaluation {
    let rules = &snapshot.header().rules;
    let figures = Figures::of(snapshot);
    let findings = findings(rules, &figures);
    let any = |outcome| findings.iter().any(|finding| finding.outcome == outcome);
    let answer = if any(Outcome::Vetoed) {
        Answer::Vetoed
    } else if any(Outcome::Failed) {
        Answer::Disagree
    } else if any(Outcome::Short) {
        Answer::Insufficient
    } else {
        Answer::Eligible
    };
    Evaluation { answer, findings, figures }
}

fn findings(rules: &Rules, figures: &Figures) -> Vec<Finding> {
    let Figures { runs, agree, scored, right, bound_per_mille, kappa_per_mille, vetoed, .. } = *figures;
    let enough_runs = runs >= rules.runs_min;
    let scored_needed = share(rules.scored_percent_min, runs);
    let enough_truth = enough_runs && scored >= scored_needed;
    let against = |is_enough| if is_enough { Outcome::Failed } else { Outcome::Short };
    let mille = |percent: i64| percent * 10;
    vec![
        at_least(Rule::Runs, runs, runs, Some(rules.runs_min), Outcome::Short),
        at_least(
            Rule::Agreement,
            agree,
            runs,
            Some(share(rules.agree_percent_min, runs)),
            against(enough_runs),
        ),
        at_least(Rule::Truth, scored, runs, Some(scored_needed), Outcome::Short),
        // More runs draw the bound closer to the rate, so what is missing is evidence.
        at_least(Rule::Bound, bound_per_mille, 1_000, rules.bound_percent_min.map(mille), Outcome::Short),
        at_least(
            Rule::Kappa,
            kappa_per_mille,
            1_000,
            rules.kappa_percent_min.map(mille),
            against(enough_runs),
        ),
        at_least(
            Rule::Accuracy,
            right,
            scored,
            rules.right_percent_min.map(|percent| share(percent, scored)),
            against(enough_truth),
        ),
        Finding {
            rule: Rule::Veto,
            have: vetoed,
            of: runs,
            need: Some(0),
            by: vetoed,
            outcome: if vetoed > 0 { Outcome::Vetoed } else { Outcome::Passed },
        },
    ]
}

/// The smallest count with `100 · count ≥ percent · all`, and at least 1: a share of nothing is not reached.
fn share(percent: i64, all: i64) -> i64 {
    ((percent * all + 99) / 100).max(1)
}

fn at_least(rule: Rule, have: i64, of: i64, need: Option<i64>, missed: Outcome) -> Finding {
    let by = need.map_or(0, |need| (need - have).max(0));
    let outcome = match need {
        None => Outcome::Shown,
        Some(_) if by > 0 => missed,
        Some(_) => Outcome::Passed,
    };
    Finding { rule, have, of, need, by, outcome }
}
