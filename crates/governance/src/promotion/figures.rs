//! What is counted in a snapshot.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    bound,
    snapshot::{Run, Snapshot},
};
use crate::decision::Verdict;

/// The counts that the rules look at, and those that are only shown. All are integers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Runs on distinct inputs.
    pub runs: i64,
    /// Runs that count as agreement: the person's verdict and value, not refuted by truth.
    pub agree: i64,
    /// Runs that said what the person said, and truth says that both were wrong.
    pub refuted: i64,
    /// Runs that failed.
    pub errors: i64,
    /// Runs whose case has ground truth.
    pub scored: i64,
    /// Of those, the ones that said what turned out right.
    pub right: i64,
    /// What the true rate of agreement is at least, in thousandths: the lower end of a confidence sequence, which
    /// holds at all looks together and not only at this one. Robbins' beta-binomial mixture with a uniform weight
    /// (Robbins 1970, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical
    /// Statistics 41(5); Howard, Ramdas, McAuliffe, Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic
    /// confidence sequences", Annals of Statistics 49(2)), in exact integers.
    pub bound_per_mille: i64,
    /// Cohen's kappa over the verdicts in thousandths, rounded down: agreement beyond what two would have by chance who
    /// each keep their own frequencies (Cohen 1960, "A coefficient of agreement for nominal scales"). 0 if chance alone
    /// explains everything, as when both said one thing throughout.
    pub kappa_per_mille: i64,
    /// Cases that were judged twice by people.
    pub twice: i64,
    /// Of those, the ones where they said the same: more than this nobody can ask of a candidate.
    pub twice_same: i64,
    /// Runs of a class that vetoes.
    pub vetoed: i64,
    /// Those classes.
    pub vetoing: BTreeSet<String>,
}

impl Figures {
    /// Counts.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let header = snapshot.header();
        let mut figures = Self::default();
        let mut table = Table::default();
        for run in snapshot.runs() {
            figures.count(run, header.frozen_at);
            table.count(run);
            if let Some(class) = run.class.as_ref().filter(|class| header.rules.veto_classes.contains(*class))
            {
                figures.vetoed += 1;
                figures.vetoing.insert(class.clone());
            }
        }
        figures.kappa_per_mille = table.kappa_per_mille();
        figures.bound_per_mille = bound::per_mille(figures.runs, figures.agree, header.rules.error_per_mille);
        figures
    }

    fn count(&mut self, run: &Run, frozen_at: i64) {
        let said = run.candidate.filter(|_| run.error.is_none());
        let truth = run.truth.filter(|truth| truth.at <= frozen_at).map(|truth| truth.opinion);
        let is_persons = said.is_some() && said == run.baseline;
        let is_refuted = is_persons && truth.is_some() && truth != said;
        self.runs += 1;
        self.agree += i64::from(is_persons && !is_refuted);
        self.refuted += i64::from(is_refuted);
        self.errors += i64::from(said.is_none());
        self.scored += i64::from(truth.is_some());
        self.right += i64::from(truth.is_some() && truth == said);
        if let (Some(first), Some(second)) = (run.baseline, run.again) {
            self.twice += 1;
            self.twice_same += i64::from(first == second);
        }
    }
}

/// Verdicts, and one place for those that are missing.
const CATEGORIES: usize = 5;

/// How often a person and the candidate said what.
#[derive(Default)]
struct Table {
    both: i64,
    person: [i64; CATEGORIES],
    candidate: [i64; CATEGORIES],
    runs: i64,
}

impl Table {
    fn count(&mut self, run: &Run) {
        let person = category(run.baseline.map(|opinion| opinion.verdict));
        let candidate =
            category(run.candidate.filter(|_| run.error.is_none()).map(|opinion| opinion.verdict));
        self.runs += 1;
        self.person[person] += 1;
        self.candidate[candidate] += 1;
        // Two that are missing did not agree on anything.
        self.both += i64::from(person == candidate && person != MISSING);
    }

    /// (observed − expected) / (1 − expected), each over runs².
    fn kappa_per_mille(&self) -> i64 {
        let square = self.runs * self.runs;
        let expected: i64 = self.person.iter().zip(self.candidate).map(|(one, other)| one * other).sum();
        if square == expected {
            return 0;
        }
        (1_000 * (self.runs * self.both - expected)).div_euclid(square - expected)
    }
}

const MISSING: usize = CATEGORIES - 1;

fn category(verdict: Option<Verdict>) -> usize {
    match verdict {
        Some(Verdict::Fix) => 0,
        Some(Verdict::Review) => 1,
        Some(Verdict::Block) => 2,
        Some(Verdict::None) => 3,
        None => MISSING,
    }
}
