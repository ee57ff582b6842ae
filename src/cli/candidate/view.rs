//! What candidates look like.

use std::io;

use chrono::{DateTime, Utc};
use governance::{
    actor::ActorId,
    candidate::{Candidate, Gate, Move, Phase, SnapshotLine},
    digest::Digest,
    promotion::{Answer as Word, Evaluation, Finding, Outcome, Rule},
};
use serde::Serialize;

use super::super::output::{Answer, Page, Table, Tone};

#[derive(Serialize)]
pub(super) struct Listed {
    candidates: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    path: String,
    policy: i64,
    phase: Phase,
    digest: Digest,
    created_at: DateTime<Utc>,
}

impl Line {
    fn of(candidate: &Candidate) -> Self {
        Self {
            name: candidate.name.clone(),
            path: candidate.definition.path.clone(),
            policy: candidate.definition.policy.version,
            phase: candidate.phase,
            digest: candidate.digest,
            created_at: candidate.created_at,
        }
    }
}

impl Listed {
    pub(super) fn of(candidates: &[Candidate]) -> Self {
        Self { candidates: candidates.iter().map(Line::of).collect() }
    }
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.candidates.is_empty() {
            return page
                .line("no candidates: `tenure candidate create` enters a version of a path's rules as one");
        }
        let mut table = Table::new(["NAME", "PATH", "POLICY", "PHASE", "DIGEST"]);
        for line in &self.candidates {
            let digest = short(line.digest);
            let policy = line.policy.to_string();
            table.row(&[line.name.clone(), line.path.clone(), policy, line.phase.to_string(), digest]);
        }
        page.table(&table)
    }
}

#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    line: Line,
    generation: i64,
    /// What the gate says now; nothing once there is no phase above.
    gate: Option<Now>,
    moves: Vec<Step>,
    snapshots: Vec<Evidence>,
}

#[derive(Serialize)]
struct Now {
    to: Phase,
    #[serde(flatten)]
    evaluation: Evaluation,
}

#[derive(Serialize)]
struct Step {
    generation: i64,
    from: Phase,
    to: Phase,
    actor: ActorId,
    snapshot: Option<Digest>,
    approval: Option<String>,
    reason: Option<String>,
    moved_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct Evidence {
    digest: Digest,
    answer: Word,
    frozen_at: DateTime<Utc>,
}

impl Shown {
    pub(super) fn of(
        candidate: &Candidate,
        gate: Option<&Gate>,
        moves: &[Move],
        snapshots: &[SnapshotLine],
    ) -> Self {
        let now = |gate: &Gate| Now { to: gate.snapshot.header().to, evaluation: gate.evaluation.clone() };
        let step = |one: &Move| Step {
            generation: one.generation,
            from: one.from,
            to: one.to,
            actor: one.actor,
            snapshot: one.snapshot,
            approval: one.approval.clone(),
            reason: one.reason.clone(),
            moved_at: one.moved_at,
        };
        let frozen = |one: &SnapshotLine| Evidence {
            digest: one.digest,
            answer: one.answer,
            frozen_at: one.frozen_at,
        };
        Self {
            line: Line::of(candidate),
            generation: candidate.generation,
            gate: gate.map(now),
            moves: moves.iter().map(step).collect(),
            snapshots: snapshots.iter().map(frozen).collect(),
        }
    }
}

impl Answer for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Line { name, path, policy, phase, digest, .. } = &self.line;
        page.entry(9, "candidate", format_args!("{name}, in phase {phase}"))?;
        page.entry(9, "rules", format_args!("version {policy} of {path}"))?;
        page.entry(9, "digest", digest)?;
        page.blank()?;
        match &self.gate {
            Some(now) => print_evaluation(page, &now.evaluation, now.to, "as things stand")?,
            None => page.line("there is no phase above autonomous")?,
        }
        self.history(page)
    }
}

impl Shown {
    fn history(&self, page: &mut Page<'_>) -> io::Result<()> {
        for one in &self.snapshots {
            let (answer, at) = (one.answer.name(), one.frozen_at.format("%F %T UTC"));
            page.line(format_args!("frozen {at}: {answer}, {}", one.digest))?;
        }
        for one in &self.moves {
            let because = one.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let (at, from, to) = (one.moved_at.format("%F %T UTC"), one.from, one.to);
            page.line(format_args!("moved {at} from {from} to {to} by {}{because}", one.actor))?;
        }
        Ok(())
    }
}

/// The gate's answer, and each rule with its figure and verdict.
pub(in crate::cli) fn print_evaluation(
    page: &mut Page<'_>,
    evaluation: &Evaluation,
    to: Phase,
    when: &str,
) -> io::Result<()> {
    let Evaluation { answer, findings, figures } = evaluation;
    let tone = match answer {
        Word::Eligible => Tone::Good,
        Word::Insufficient => Tone::Doubtful,
        Word::Disagree | Word::Vetoed => Tone::Bad,
    };
    page.toned_line(tone, answer.name(), format_args!(" for {to}, {when}"))?;
    let mut table = Table::new(["RULE", "HAS", "NEEDS", "VERDICT"]);
    for finding in findings {
        let (has, needs) = figure(finding);
        table.row(&[label(finding.rule).to_owned(), has, needs, word(finding)]);
    }
    page.table(&table)?;
    if figures.refuted > 0 {
        page.line(format_args!(
            "{} runs agreed with a person whom truth refutes: they do not count",
            figures.refuted
        ))?;
    }
    if figures.errors > 0 {
        page.line(format_args!("{} runs failed and count as disagreement", figures.errors))?;
    }
    let (twice, same) = (figures.twice, figures.twice_same);
    if twice == 0 {
        return page.line("no case was judged twice: how far people agree among themselves is unknown");
    }
    page.line(format_args!(
        "people agreed among themselves in {same} of {twice} cases that were judged twice"
    ))
}

fn label(rule: Rule) -> &'static str {
    match rule {
        Rule::Runs => "runs on distinct inputs",
        Rule::Agreement => "agreement with people",
        Rule::Truth => "scored against truth",
        Rule::Bound => "agreement is at least, however often one looks",
        Rule::Kappa => "agreement beyond chance (kappa)",
        Rule::Accuracy => "right, of the scored",
        Rule::Veto => "runs of a class that vetoes",
    }
}

/// What there is and what there must be, in the rule's unit.
fn figure(finding: &Finding) -> (String, String) {
    let Finding { rule, have, of, need, .. } = *finding;
    let need = |tell: &dyn Fn(i64) -> String| need.map_or_else(|| "-".to_owned(), tell);
    match rule {
        Rule::Runs => (have.to_string(), need(&|need| need.to_string())),
        Rule::Veto => (have.to_string(), "0".to_owned()),
        Rule::Agreement | Rule::Truth | Rule::Accuracy => {
            (format!("{have} of {of}{}", percent(have, of)), need(&|need| need.to_string()))
        }
        Rule::Bound => (mille(have), need(&mille)),
        Rule::Kappa => (hundredths(have), need(&hundredths)),
    }
}

fn percent(have: i64, of: i64) -> String {
    if of == 0 { String::new() } else { format!(" ({})", mille(have * 1_000 / of)) }
}

fn mille(per_mille: i64) -> String {
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

fn hundredths(per_mille: i64) -> String {
    let sign = if per_mille < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", per_mille.abs() / 1_000, per_mille.abs() % 1_000)
}

fn word(finding: &Finding) -> String {
    let missing = match finding.rule {
        Rule::Bound => mille(finding.by),
        Rule::Kappa => hundredths(finding.by),
        _ => finding.by.to_string(),
    };
    match finding.outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Shown => "not asked for".to_owned(),
        Outcome::Short => format!("not enough yet: {missing} missing"),
        Outcome::Failed => format!("failed by {missing}"),
        Outcome::Vetoed => "vetoes".to_owned(),
    }
}

fn short(digest: Digest) -> String {
    digest.to_string().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_in_the_units_of_their_rules() {
        let finding = |rule, have, of, need, by, outcome| Finding { rule, have, of, need, by, outcome };
        let short = finding(Rule::Truth, 14, 30, Some(15), 1, Outcome::Short);
        assert_eq!(figure(&short), ("14 of 30 (46.6 %)".to_owned(), "15".to_owned()));
        assert_eq!(word(&short), "not enough yet: 1 missing");
        let bound = finding(Rule::Bound, 807, 1_000, Some(850), 43, Outcome::Short);
        assert_eq!(
            (figure(&bound).0, word(&bound)),
            ("80.7 %".to_owned(), "not enough yet: 4.3 % missing".to_owned())
        );
        let kappa = finding(Rule::Kappa, -52, 1_000, None, 0, Outcome::Shown);
        assert_eq!(figure(&kappa), ("-0.052".to_owned(), "-".to_owned()));
        assert_eq!(figure(&finding(Rule::Agreement, 0, 0, Some(1), 1, Outcome::Short)).0, "0 of 0");
    }
}
