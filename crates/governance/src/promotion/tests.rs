//! The truth table of the gate, and what must not change its answer.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use proptest::prelude::*;

use super::*;
use crate::{candidate::Phase, decision::Verdict, digest::Digest};

const FROZEN_AT: i64 = 1_000;

fn header(rules: Rules) -> Header {
    let candidate = Digest::of(b"candidate");
    Header { candidate, from: Phase::Off, to: Phase::Assist, generation: 0, frozen_at: FROZEN_AT, rules }
}

fn opinion(verdict: Verdict) -> Opinion {
    Opinion { verdict, value: (verdict == Verdict::Fix).then(|| Digest::of(b"value")) }
}

fn truth(verdict: Verdict) -> Truth {
    Truth { opinion: opinion(verdict), source: Source::Reviewer, at: FROZEN_AT - 1 }
}

/// A run on the case of this number that agrees; half of them on a fix, the others on nothing.
fn agreeing(number: usize) -> Run {
    let said = opinion(if number.is_multiple_of(2) { Verdict::Fix } else { Verdict::None });
    Run {
        input: Digest::of(&number.to_be_bytes()),
        at: 1,
        candidate: Some(said),
        class: Some("email_format".to_owned()),
        error: None,
        baseline: Some(said),
        again: None,
        truth: None,
    }
}

/// So many runs, of which the first agree; of those the first are scored and right.
fn runs(all: usize, agree: usize, scored: usize) -> Vec<Run> {
    let run = |number| {
        let mut run = agreeing(number);
        if number >= agree {
            run.candidate = Some(opinion(Verdict::Review));
        }
        if number < scored {
            run.truth = run.baseline.map(|opinion| Truth { opinion, source: Source::Observed, at: 1 });
        }
        run
    };
    (0..all).map(run).collect()
}

fn answer_with(rules: Rules, runs: Vec<Run>) -> Evaluation {
    evaluate(&Snapshot::new(header(rules), runs).unwrap())
}

fn answer(runs: Vec<Run>) -> Evaluation {
    answer_with(Rules::default(), runs)
}

fn finding(evaluation: &Evaluation, rule: Rule) -> Finding {
    *evaluation.findings.iter().find(|finding| finding.rule == rule).unwrap()
}

#[test]
fn g2_the_truth_table() {
    let cases = [
        ((30, 25, 30), Answer::Disagree),
        ((30, 26, 15), Answer::Eligible),
        ((30, 26, 14), Answer::Insufficient),
        ((29, 29, 29), Answer::Insufficient),
        ((30, 30, 30), Answer::Eligible),
        ((31, 26, 31), Answer::Disagree),
        ((31, 27, 15), Answer::Insufficient),
        ((31, 27, 16), Answer::Eligible),
        ((100, 84, 100), Answer::Disagree),
        ((100, 85, 50), Answer::Eligible),
        ((100, 85, 49), Answer::Insufficient),
        ((20, 0, 20), Answer::Insufficient),
    ];
    for ((all, agree, scored), expected) in cases {
        // Truth for a run that does not agree counts as scored all the same.
        let evaluation = answer(runs(all, agree, scored));
        assert_eq!(evaluation.answer, expected, "{agree}/{all} with {scored} scored: {evaluation:?}");
    }
}

#[test]
fn g2_what_is_missing_is_said_with_its_number() {
    let short = answer(runs(25, 25, 10));
    assert_eq!((short.answer, finding(&short, Rule::Runs).by), (Answer::Insufficient, 5));
    assert_eq!(finding(&short, Rule::Truth).by, 3, "13 of 25");
    let differing = answer(runs(30, 24, 15));
    assert_eq!((differing.answer, finding(&differing, Rule::Agreement).by), (Answer::Disagree, 2));
}

#[test]
fn g3_nothing_at_all_is_not_eligible() {
    let evaluation = answer(Vec::new());
    assert_eq!(evaluation.answer, Answer::Insufficient);
    for rule in [Rule::Runs, Rule::Agreement, Rule::Truth] {
        assert_eq!(finding(&evaluation, rule).outcome, Outcome::Short, "{rule:?}");
    }
}

#[test]
fn g3_errors_and_missing_verdicts_are_disagreements() {
    let spoil: [fn(&mut Run); 4] = [
        |run| run.error = Some("timeout".to_owned()),
        |run| run.candidate = None,
        |run| run.baseline = None,
        // Two that both say nothing have not agreed.
        |run| (run.candidate, run.baseline) = (None, None),
    ];
    for spoil in spoil {
        let mut runs = runs(40, 40, 40);
        runs.iter_mut().take(7).for_each(spoil);
        let evaluation = answer(runs.clone());
        assert_eq!((evaluation.answer, evaluation.figures.agree), (Answer::Disagree, 33));
        runs.iter_mut().for_each(spoil);
        let evaluation = answer(runs);
        assert_eq!((evaluation.answer, evaluation.figures.agree), (Answer::Disagree, 0));
    }
}

#[test]
fn g3_truth_that_came_after_the_freeze_scores_nothing() {
    let mut runs = runs(30, 30, 30);
    for run in runs.iter_mut().take(16) {
        run.truth.as_mut().unwrap().at = FROZEN_AT + 1;
    }
    let evaluation = answer(runs);
    assert_eq!((evaluation.answer, evaluation.figures.scored), (Answer::Insufficient, 14));
}

#[test]
fn g3_what_truth_refutes_is_no_agreement() {
    let mut runs = runs(30, 30, 30);
    for run in runs.iter_mut().take(5) {
        run.truth = Some(truth(Verdict::Block));
    }
    let evaluation = answer(runs);
    assert_eq!((evaluation.answer, evaluation.figures.agree), (Answer::Disagree, 25));
    assert_eq!((evaluation.figures.refuted, evaluation.figures.right), (5, 25));
}

#[test]
fn g3_truth_adds_no_agreement_where_the_person_was_wrong() {
    let mut runs = runs(30, 25, 0);
    for run in &mut runs {
        // The candidate was right each time, also the five times when the person was not.
        run.truth = run.candidate.map(|opinion| Truth { opinion, source: Source::Reviewer, at: 1 });
    }
    let evaluation = answer(runs);
    assert_eq!((evaluation.figures.right, evaluation.figures.agree), (30, 25));
    assert_eq!(evaluation.answer, Answer::Disagree);
}

#[test]
fn a_fix_to_another_value_is_no_agreement() {
    let mut runs = runs(30, 30, 0);
    runs[0].candidate = Some(Opinion { verdict: Verdict::Fix, value: Some(Digest::of(b"other")) });
    assert_eq!(answer(runs).figures.agree, 29);
}

#[test]
fn a_class_that_vetoes_stops_even_the_best() {
    let rules = Rules { veto_classes: BTreeSet::from(["phi".to_owned()]), ..Rules::default() };
    let mut runs = runs(200, 200, 200);
    assert_eq!(answer_with(rules.clone(), runs.clone()).answer, Answer::Eligible);
    runs[100].class = Some("phi".to_owned());
    let evaluation = answer_with(rules, runs);
    assert_eq!((evaluation.answer, evaluation.figures.vetoed), (Answer::Vetoed, 1));
}

#[test]
fn always_saying_the_usual_thing_has_no_kappa() {
    let rules = Rules { kappa_percent_min: Some(1), ..Rules::default() };
    let mut runs = runs(100, 100, 100);
    for (number, run) in runs.iter_mut().enumerate() {
        let person = opinion(if number < 95 { Verdict::None } else { Verdict::Block });
        run.baseline = Some(person);
        run.truth = Some(Truth { opinion: person, source: Source::Reviewer, at: 1 });
        run.candidate = Some(opinion(Verdict::None));
    }
    let evaluation = answer_with(rules.clone(), runs.clone());
    assert_eq!((evaluation.figures.agree, evaluation.figures.kappa_per_mille), (95, 0));
    assert_eq!(evaluation.answer, Answer::Disagree);
    assert_eq!(answer(runs.clone()).answer, Answer::Eligible, "the floors alone do not see it");
    // Both said one thing throughout: chance explains it all.
    for run in &mut runs {
        run.baseline = run.candidate;
    }
    assert_eq!(answer_with(rules, runs).figures.kappa_per_mille, 0);
}

#[test]
fn kappa_is_cohens() {
    // The example of his paper's kind: 20 + 15 on the diagonal of 50, 5 and 10 beside it; κ = 0.4.
    let mut runs = runs(50, 50, 0);
    let table = [
        (Verdict::Fix, Verdict::Fix, 20),
        (Verdict::Fix, Verdict::None, 5),
        (Verdict::None, Verdict::Fix, 10),
    ];
    let mut said: Vec<_> = table.iter().flat_map(|&(one, other, times)| vec![(one, other); times]).collect();
    said.resize(50, (Verdict::None, Verdict::None));
    for (run, (person, candidate)) in runs.iter_mut().zip(said) {
        (run.baseline, run.candidate) = (Some(opinion(person)), Some(opinion(candidate)));
    }
    assert_eq!(answer(runs).figures.kappa_per_mille, 400);
}

#[test]
fn accuracy_is_of_the_scored_ones() {
    let rules = Rules { right_percent_min: Some(95), ..Rules::default() };
    let mut runs = runs(40, 40, 20);
    assert_eq!(answer_with(rules.clone(), runs.clone()).answer, Answer::Eligible);
    runs[0].truth = Some(truth(Verdict::Block));
    assert_eq!(answer_with(rules.clone(), runs.clone()).answer, Answer::Eligible, "19 of 20");
    runs[1].truth = Some(truth(Verdict::Block));
    assert_eq!(answer_with(rules, runs).answer, Answer::Disagree, "18 of 20");
}

#[test]
fn human_noise_is_counted() {
    let mut runs = runs(30, 30, 15);
    for run in runs.iter_mut().take(10) {
        run.again = run.baseline;
    }
    runs[0].again = Some(opinion(Verdict::Block));
    let figures = answer(runs).figures;
    assert_eq!((figures.twice, figures.twice_same), (10, 9));
}

#[test]
fn the_bound_is_that_of_the_mixture() {
    // (n+1) · p^n ≤ α for 30 of 30: p = (0.05/31)^(1/30) = 0.8070…
    assert_eq!(bound::per_mille(30, 30, 50), 807);
    // (0.001/31)^(1/30) = 0.7084…
    assert_eq!(bound::per_mille(30, 30, 1), 708);
    assert_eq!([bound::per_mille(0, 0, 50), bound::per_mille(30, 0, 50)], [0, 0]);
    assert!(
        bound::per_mille(30, 26, 50) < 703,
        "wider than a fixed-size 95 % interval, whose lower end is 0.703"
    );
    let wide = bound::per_mille(20_000, 18_000, 50);
    assert!((885..900).contains(&wide), "{wide} ‰ of 20,000 runs that agree nine times in ten");
}

#[test]
fn the_bound_can_be_asked_for() {
    let rules = Rules { bound_percent_min: Some(85), ..Rules::default() };
    let short = answer_with(rules.clone(), runs(30, 30, 15));
    assert_eq!((short.answer, finding(&short, Rule::Bound).by), (Answer::Insufficient, 850 - 807));
    assert_eq!(answer_with(rules, runs(60, 60, 30)).answer, Answer::Eligible);
}

/// A generator that gives the same numbers everywhere (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn looking_after_every_run_fools_the_floors_and_not_the_bound() {
    const CANDIDATES: usize = 400;
    let mut dice = Dice(20_261_121);
    let (mut by_floors, mut by_bound) = (0, 0);
    for _ in 0..CANDIDATES {
        let (mut agree, mut floors, mut bounds) = (0, false, false);
        for run in 1..=200 {
            agree += i64::from(dice.below(100) < 80);
            floors |= run >= RUNS_FLOOR && 100 * agree >= AGREE_PERCENT_FLOOR * run;
            bounds |= bound::per_mille(run, agree, 50) >= 810;
        }
        by_floors += usize::from(floors);
        by_bound += usize::from(bounds);
    }
    // A candidate that is wrong one time in five.
    assert!(by_floors > CANDIDATES * 35 / 100, "{by_floors} of {CANDIDATES} pass the floors at some look");
    assert!(by_bound <= CANDIDATES * 5 / 100, "{by_bound} of {CANDIDATES} exceed the bound at some look");
}

#[test]
fn rules_laxer_than_the_floors_are_refused() {
    let lax: [fn(&mut Rules); 7] = [
        |rules| rules.runs_min = 29,
        |rules| rules.agree_percent_min = 84,
        |rules| rules.scored_percent_min = 49,
        |rules| rules.error_per_mille = 51,
        |rules| rules.error_per_mille = 0,
        |rules| rules.bound_percent_min = Some(100),
        |rules| rules.kappa_percent_min = Some(0),
    ];
    for make_lax in lax {
        let mut rules = Rules::default();
        make_lax(&mut rules);
        assert!(rules.check().is_err(), "{rules:?}");
        assert!(matches!(Snapshot::new(header(rules), Vec::new()), Err(SnapshotError::Rules(_))));
    }
    Rules::default().check().unwrap();
}

#[test]
fn asking_for_less_is_seen() {
    let strict = Rules {
        runs_min: 60,
        bound_percent_min: Some(80),
        veto_classes: BTreeSet::from(["phi".to_owned()]),
        ..Rules::default()
    };
    assert!(Rules::default().loosen(&strict));
    assert!(!strict.loosen(&Rules::default()));
    assert!(Rules { bound_percent_min: None, ..strict.clone() }.loosen(&strict));
    assert!(
        Rules { error_per_mille: 50, ..strict.clone() }
            .loosen(&Rules { error_per_mille: 10, ..strict.clone() })
    );
    assert!(Rules { veto_classes: BTreeSet::new(), ..strict.clone() }.loosen(&strict));
}

#[test]
fn g7_no_snapshot_leads_past_a_phase_or_down() {
    for (from, to) in [
        (Phase::Off, Phase::Autonomous),
        (Phase::Off, Phase::Off),
        (Phase::Assist, Phase::Off),
        (Phase::Autonomous, Phase::Assist),
    ] {
        let header = Header { from, to, ..header(Rules::default()) };
        assert!(matches!(Snapshot::new(header, Vec::new()), Err(SnapshotError::NotOneUp { .. })));
    }
}

#[test]
fn only_the_very_bytes_are_a_snapshot() {
    let frozen = Snapshot::new(header(Rules::default()), runs(30, 26, 15)).unwrap().freeze().unwrap();
    let text = String::from_utf8(frozen.bytes.clone()).unwrap();
    assert_eq!(Snapshot::read(&frozen.bytes).unwrap().freeze().unwrap(), frozen);
    assert!(matches!(
        Snapshot::read(text.replacen(',', ", ", 1).as_bytes()),
        Err(SnapshotError::NotCanonical)
    ));
    assert!(matches!(
        Snapshot::read(text.replace("snapshot.v1", "snapshot.v2").as_bytes()),
        Err(SnapshotError::Malformed(_))
    ));
    assert!(matches!(
        Snapshot::read(text.replace("\"runs_min\":30", "\"runs_min\":3").as_bytes()),
        Err(SnapshotError::Rules(_))
    ));
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Fix), Just(Verdict::Review), Just(Verdict::Block), Just(Verdict::None)]
}

prop_compose! {
    fn any_run()(
        input in 0_usize..60, at in 0_i64..3, candidate in proptest::option::weighted(0.9, any_verdict()),
        baseline in proptest::option::weighted(0.95, any_verdict()), known in proptest::option::of(any_verdict()),
        late in 0_i64..5, fails in proptest::bool::weighted(0.05), class in proptest::option::of("[a-c]"),
        again in proptest::option::of(any_verdict()),
    ) -> Run {
        let known = known.map(|verdict| Truth { at: FROZEN_AT - 3 + late, ..truth(verdict) });
        Run {
            input: Digest::of(&input.to_be_bytes()),
            at,
            candidate: candidate.map(opinion),
            class,
            error: fails.then(|| "failed".to_owned()),
            baseline: baseline.map(opinion),
            again: again.map(opinion),
            truth: known,
        }
    }
}

proptest! {
    #[test]
    fn g4_order_and_repetition_change_nothing(
        runs in proptest::collection::vec(any_run(), 0..120), seed in any::<u64>()
    ) {
        let once = Snapshot::new(header(Rules::default()), runs.clone()).unwrap();
        let mut dice = Dice(seed);
        let mut again = runs.clone();
        for _ in 0..runs.len() {
            // A rerun of what had been run, at a later time and with another end.
            let mut rerun = runs[usize::try_from(dice.below(runs.len() as u64)).unwrap()].clone();
            rerun.at += 3;
            rerun.candidate = rerun.baseline;
            rerun.error = None;
            again.push(rerun);
            let (one, other) = (dice.below(again.len() as u64), dice.below(again.len() as u64));
            again.swap(usize::try_from(one).unwrap(), usize::try_from(other).unwrap());
        }
        again.extend(runs);
        let repeated = Snapshot::new(header(Rules::default()), again).unwrap();
        prop_assert_eq!(evaluate(&once), evaluate(&repeated));
        prop_assert_eq!(once.freeze().unwrap(), repeated.freeze().unwrap());
    }

    #[test]
    fn g1_eligible_means_all_three_floors_counted_plainly(
        runs in proptest::collection::vec(any_run(), 0..200), mostly in any::<bool>()
    ) {
        // Left alone almost nothing is eligible; leant upon, about half is.
        let runs: Vec<Run> = runs.into_iter().map(|mut run| {
            if mostly && run.input.0[0] >= 16 {
                run.candidate = run.baseline;
                run.error = None;
                run.truth = run.baseline.map(|opinion| Truth { opinion, source: Source::Reviewer, at: 0 });
            }
            run
        }).collect();
        let snapshot = Snapshot::new(header(Rules::default()), runs).unwrap();
        let rows = snapshot.runs();
        let count = |counts: &dyn Fn(&Run) -> bool| rows.iter().filter(|run| counts(run)).count();
        let agree = count(&|run| run.error.is_none() && run.candidate.is_some() && run.candidate == run.baseline);
        let scored = count(&|run| run.truth.is_some_and(|truth| truth.at <= FROZEN_AT));
        let floors = rows.len() >= 30 && 100 * agree >= 85 * rows.len() && 2 * scored >= rows.len();
        if evaluate(&snapshot).answer == Answer::Eligible {
            prop_assert!(floors);
        }
    }

    #[test]
    fn g3_taking_evidence_away_never_makes_eligible(
        all in 30_usize..80, lost in 0_usize..30, agree in 26_usize..80, scored in 0_usize..80
    ) {
        let full = runs(all, agree, scored);
        let mut poorer = full.clone();
        poorer.iter_mut().take(lost).for_each(|run| run.truth = None);
        poorer.iter_mut().skip(all - lost / 2).for_each(|run| run.candidate = None);
        if answer(poorer).answer == Answer::Eligible {
            prop_assert_eq!(answer(full).answer, Answer::Eligible);
        }
    }
}

/// The independent program on exported lines.
fn gate_py(lines: &[u8]) -> Output {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ops/proofs/gate/gate.py");
    let mut python = Command::new("python3")
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut input = python.stdin.take().unwrap();
    let lines = lines.to_vec();
    // Beside the reading: else two full pipes could wait for each other.
    let writing = std::thread::spawn(move || input.write_all(&lines));
    let output = python.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    output
}

fn exported(snapshot: &Snapshot) -> Vec<u8> {
    export(&snapshot.freeze().unwrap(), &evaluate(snapshot)).unwrap()
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let percent = || proptest::option::of(1_i64..=99);
    (30_i64..40, 85_i64..=100, 50_i64..=100, percent(), 1_i64..=50, percent(), percent(), any::<bool>())
        .prop_map(|(runs, agree, scored, bound, error, kappa, right, vetoes)| Rules {
            runs_min: runs,
            agree_percent_min: agree,
            scored_percent_min: scored,
            bound_percent_min: bound,
            error_per_mille: error,
            kappa_percent_min: kappa,
            right_percent_min: right,
            veto_classes: if vetoes { BTreeSet::from(["a".to_owned()]) } else { BTreeSet::new() },
        })
}

#[test]
fn g1_another_program_comes_to_the_same_answer() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    for number in 0..400_usize {
        let rules = any_rules().new_tree(&mut runner).unwrap().current();
        // Some at random, most near the edges where answers change.
        let evidence = if number.is_multiple_of(4) {
            proptest::collection::vec(any_run(), 0..120).new_tree(&mut runner).unwrap().current()
        } else {
            let all = 25 + number % 40;
            runs(all, all - number % 7, all / 2 + number % 5)
        };
        let rules = if number.is_multiple_of(2) { rules } else { Rules::default() };
        let snapshot = Snapshot::new(header(rules), evidence).unwrap();
        seen.insert(evaluate(&snapshot).answer.name());
        lines.extend(exported(&snapshot));
    }
    lines.extend(exported(&Snapshot::new(header(Rules::default()), runs(3_000, 2_900, 1_600)).unwrap()));
    assert_eq!(seen.len(), 4, "every answer is among them: {seen:?}");
    let output = gate_py(&lines);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 401);
}

#[test]
fn g1_the_other_program_does_not_take_the_answer_on_trust() {
    let text = |agree| {
        String::from_utf8(exported(&Snapshot::new(header(Rules::default()), runs(30, agree, 15)).unwrap()))
    };
    let (good, bad) = (text(26).unwrap(), text(25).unwrap());
    assert_eq!(gate_py(good.as_bytes()).status.code(), Some(0));
    let lie = bad.replacen("\"answer\":\"disagree\"", "\"answer\":\"eligible\"", 1);
    let other_bytes = bad.replacen("\"verdict\":\"review\"", "\"verdict\":\"none\"", 1);
    let other_claim = format!("{}\n{}", good.lines().next().unwrap(), bad.lines().nth(1).unwrap());
    for (wrong, code) in
        [(lie.as_str(), 1), (&other_bytes, 1), (&other_claim, 1), ("{}\n{}", 1), ("", 2), ("{}", 2)]
    {
        let output = gate_py(wrong.as_bytes());
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty());
    }
}
