//! What a night has come to: plain data, kept with its run in the tenant's database.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use governance::{
    candidate::Phase,
    decision::{Decision, Verdict},
    digest::Digest,
    promotion::{Answer, Finding},
};
use queue::JobId;
use serde::{Deserialize, Serialize};

use crate::connector_sync::Counts;

/// A run's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The job that began the run.
    pub run: JobId,
    /// The day in UTC on which it began. The last run of a night stands for it.
    pub night: NaiveDate,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When everything was gathered.
    pub finished_at: DateTime<Utc>,
    /// Whether everything was there to be counted.
    pub outcome: Outcome,
    /// What was read, by connector and stream.
    pub streams: Vec<StreamResult>,
    /// What the rules would have done, by path.
    pub paths: Vec<PathResult>,
    /// What the candidates said, and what the gate says of them.
    pub candidates: Vec<CandidateResult>,
}

/// Whether a report tells everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It does.
    Complete,
    /// A part failed, and is named; the rest stands.
    Incomplete,
}

impl Outcome {
    /// Its name in JSON and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
        }
    }
}

/// What became of a stream's sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamResult {
    /// The connector.
    pub connector: String,
    /// The stream; none where the connector's definition is none.
    pub stream: Option<String>,
    /// `complete`, `incomplete` or `failed`.
    pub outcome: String,
    /// The class of what stopped it.
    pub class: Option<String>,
    /// What stopped it, and what to do.
    pub why: Option<String>,
    /// What was read; none if the sync left no word.
    pub counts: Option<Counts>,
}

/// What a path's rules said of its records, as they stand tonight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathResult {
    /// The path.
    pub path: String,
    /// The version of its policy; none if it has none that could be applied.
    pub policy: Option<i32>,
    /// Why its policy could not be applied, or what it may write alone not be taken up.
    pub why: Option<String>,
    /// Changes that policy alone has wanted tonight: what an autonomous candidate may write without a person.
    #[serde(default)]
    pub wanted: u64,
    /// Records with an issue, of ten thousand; none without records.
    pub issue_rate_bp: Option<u64>,
    /// What was counted.
    #[serde(flatten)]
    pub counts: PathCounts,
}

/// Decisions, counted. A record has an issue if the rules would fix, review or block it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCounts {
    /// Records looked at: all that the stream has.
    pub records: u64,
    /// Of these, what was decided for the first time: the record changed, or its evidence, or the policy.
    pub changed: u64,
    /// What would have been fixed.
    pub fix: u64,
    /// What goes to people.
    pub review: u64,
    /// What must not be written to.
    pub block: u64,
    /// Of what goes to people, what a rule could not be evaluated on.
    pub failed: u64,
    /// Cases opened for people.
    pub opened: u64,
    /// Cases closed because their record changed, or what the policy asks about it.
    pub stale: u64,
    /// Issues by rule, class and verdict.
    pub rules: Vec<RuleCount>,
}

/// Issues that one rule found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleCount {
    /// The rule; none where a record could not be judged at all.
    pub rule: Option<String>,
    /// Its action class.
    pub class: Option<String>,
    /// What it would have done.
    pub verdict: Verdict,
    /// On how many records.
    pub records: u64,
}

impl PathCounts {
    /// Counts a page of decisions.
    pub(super) fn add(&mut self, decisions: &[Decision]) {
        let key = |rule: &RuleCount| (rule.rule.clone(), rule.class.clone(), rule.verdict);
        let mut rules: BTreeMap<_, u64> = self.rules.iter().map(|rule| (key(rule), rule.records)).collect();
        for Decision { judged, failed, .. } in decisions {
            self.records += 1;
            self.failed += u64::from(failed.is_some());
            match judged.verdict {
                Verdict::Fix => self.fix += 1,
                Verdict::Review => self.review += 1,
                Verdict::Block => self.block += 1,
                Verdict::None => continue,
            }
            *rules.entry((judged.rule.clone(), judged.class.clone(), judged.verdict)).or_default() += 1;
        }
        let count = |((rule, class, verdict), records)| RuleCount { rule, class, verdict, records };
        self.rules = rules.into_iter().map(count).collect();
    }

    /// Records that the rules found something to do about.
    #[must_use]
    pub fn issues(&self) -> u64 {
        self.fix + self.review + self.block
    }
}

/// How a candidate stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateResult {
    /// The candidate.
    pub candidate: String,
    /// The path that it decides on.
    pub path: String,
    /// Its phase when the night was over.
    pub phase: Phase,
    /// Shadow runs of tonight.
    pub ran: u64,
    /// Of these, the ones that failed.
    pub errors: u64,
    /// What the gate said tonight; none above which there is nothing, or where it could not be asked.
    pub evaluation: Option<Evaluated>,
    /// What failed tonight.
    pub why: Option<String>,
}

/// What the gate said of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// The phase it was evaluated for.
    pub to: Phase,
    /// The answer.
    pub answer: Answer,
    /// The frozen evidence.
    pub snapshot: Digest,
    /// Runs on distinct inputs, of all nights.
    pub runs: i64,
    /// Of these, the ones that agree.
    pub agree: i64,
    /// Of these, the ones scored against ground truth.
    pub scored: i64,
    /// Agreement, of ten thousand runs; none without runs.
    pub agreement_bp: Option<u64>,
    /// Each rule with its figure.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether everything was there to be counted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outcome == Outcome::Complete
    }

    /// What failed, each in a sentence that names it.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let streams = self.streams.iter().filter(|stream| !stream.is_complete()).map(StreamResult::told);
        let paths =
            self.paths.iter().filter_map(|it| Some(format!("path {}: {}", it.path, it.why.as_ref()?)));
        let candidates = self
            .candidates
            .iter()
            .filter_map(|it| Some(format!("candidate {}: {}", it.candidate, it.why.as_ref()?)));
        streams.chain(paths).chain(candidates).collect()
    }
}

impl StreamResult {
    /// Whether it was read to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outcome == "complete"
    }

    /// Its connector and its name.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.stream {
            Some(stream) => format!("{}/{stream}", self.connector),
            None => self.connector.clone(),
        }
    }

    fn told(&self) -> String {
        let class = self.class.as_deref().map(|class| format!(" ({class})")).unwrap_or_default();
        let why = self.why.as_deref().unwrap_or("it left no word");
        format!("stream {}: {}{class}: {why}", self.name(), self.outcome)
    }
}

/// A share in ten-thousandths, rounded to the nearest, halves up; none of nothing.
#[must_use]
pub fn basis_points(part: u64, whole: u64) -> Option<u64> {
    let (part, whole) = (u128::from(part), u128::from(whole));
    let rounded = (part * 10_000 + whole / 2).checked_div(whole)?;
    u64::try_from(rounded).ok()
}

#[cfg(test)]
mod tests {
    use governance::policy::Judged;

    use super::*;

    fn decision(verdict: Verdict, rule: &str) -> Decision {
        let digest = Digest::of(b"");
        let judged = Judged {
            verdict,
            rule: Some(rule.to_owned()),
            class: Some("c".to_owned()),
            confidence: 100,
            proposed: None,
            reason: String::new(),
        };
        Decision {
            key: String::new(),
            record_digest: String::new(),
            input_digest: digest,
            evidence_digest: digest,
            judged,
            failed: None,
        }
    }

    #[test]
    fn a_share_is_rounded_to_the_nearest_and_nothing_has_none() {
        let shares = [(0, 0), (0, 7), (1, 3), (2, 3), (1, 20_000), (1, 20_001), (7, 7)];
        let rounded = shares.map(|(part, whole)| basis_points(part, whole));
        assert_eq!(rounded, [None, Some(0), Some(3_333), Some(6_667), Some(1), Some(0), Some(10_000)]);
        assert_eq!(basis_points(u64::MAX, u64::MAX), Some(10_000));
    }

    #[test]
    fn pages_add_up_in_any_cut_and_what_needs_nothing_is_no_issue() {
        let all = [
            decision(Verdict::Fix, "b"),
            decision(Verdict::None, "b"),
            decision(Verdict::Review, "a"),
            decision(Verdict::Fix, "b"),
            decision(Verdict::Block, "c"),
        ];
        let mut whole = PathCounts::default();
        whole.add(&all);
        for cut in 0..all.len() {
            let mut parts = PathCounts::default();
            parts.add(&all[..cut]);
            parts.add(&all[cut..]);
            assert_eq!(parts, whole, "cut at {cut}");
        }
        assert_eq!((whole.records, whole.issues(), whole.fix), (5, 4, 2));
        let rules: Vec<_> = whole.rules.iter().map(|it| (it.rule.as_deref().unwrap(), it.records)).collect();
        assert_eq!(rules, [("a", 1), ("b", 2), ("c", 1)]);
    }
}
