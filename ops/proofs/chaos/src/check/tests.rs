//! Synthetic histories: a good one in which no check finds anything, and for each kind of violation one change that its
//! check, and no other, must see.

use super::*;
use crate::ledger::{Beat, Cap, Charge, Death, Effect, Fire, Raise, Side, Sighting, Struck, Trouble};

const SECOND: i64 = 1_000_000;

/// Job 1 ran through: claimed under fence 10 and killed, rescued, claimed under 12, done. Job 2 failed as it was told
/// to. A third was rolled back.
fn good() -> Ledger {
    let promise = |label: &str, fate, failures| Promise {
        label: label.to_owned(),
        fate,
        steps: 2,
        failures,
        hang: false,
        attempts_max: 1,
    };
    let job = |id, label: &str, rest, attempt, failures| Job {
        id,
        label: label.to_owned(),
        rest,
        attempt,
        failures,
        attempts_max: 1,
        note: String::new(),
    };
    let effect = |job, fence, step: &str, at| Effect { job, fence, step: step.to_owned(), committed: at };
    Ledger {
        promises: vec![
            promise("a", Fate::Committed, 0),
            promise("b", Fate::Committed, 9),
            promise("c", Fate::RolledBack, 0),
            promise("d", Fate::Unknown, 0),
            Promise { attempts_max: 2, ..promise(FIRE, Fate::Unknown, 0) },
        ],
        jobs: vec![
            job(1, "a", Rest::Succeeded, 2, 0),
            job(2, "b", Rest::Failed, 1, 1),
            quarantined_fire(5),
            quarantined_fire(6),
        ],
        charges: vec![
            Charge { job: 1, how: Charged::Lost, worker: Some(7) },
            Charge { job: 2, how: Charged::Failed, worker: Some(8) },
            Charge { job: 5, how: Charged::Crashed, worker: Some(7) },
            Charge { job: 6, how: Charged::Crashed, worker: Some(7) },
        ],
        moves: vec![
            one_move(1, 1, ready(0), Some(running(10, 7)), SECOND),
            one_move(2, 1, running(10, 7), Some(ready(11)), 4 * SECOND),
            one_move(3, 1, ready(11), Some(running(12, 8)), 5 * SECOND),
            one_move(4, 1, running(12, 8), None, 9 * SECOND),
            one_move(5, 2, ready(0), Some(running(13, 8)), 6 * SECOND),
            one_move(6, 2, running(13, 8), None, 8 * SECOND),
        ],
        raises: vec![raise(1, 10, 2 * SECOND), raise(1, 12, 6 * SECOND), raise(2, 13, 6 * SECOND)],
        effects: vec![
            effect(1, 10, "step 1", 2 * SECOND + 1),
            effect(1, 12, "step 2", 7 * SECOND),
            effect(2, 13, "step 1", 7 * SECOND),
            effect(2, 13, "failure 1", 7 * SECOND + 1),
        ],
        caps: vec![Cap { queue: "local", each_tenant: false, running_max: 3 }],
        beats: vec![Beat { schedule: 1, every: 2 * SECOND, from: SECOND, to: 5 * SECOND }],
        fires: vec![fire(2, 5), fire(4, 6)],
        sightings: vec![Sighting { job: 1, fence: 10, began: true, at: SECOND }],
        deaths: vec![Death { worker: 7, at: 3 * SECOND }],
        troubles: vec![Trouble { place: Some(0), from: 3 * SECOND, to: 5 * SECOND }],
        struck: vec![Struck { fault: "kill", times: 1, absent: None }],
        workers: 2,
        lease: 4 * SECOND,
    }
}

/// A schedule's job, set aside for two kills of ours: the shortest end there is.
fn quarantined_fire(id: i64) -> Job {
    let (label, note) = (FIRE.to_owned(), String::new());
    Job { id, label, rest: Rest::Quarantined, attempt: 0, failures: 0, attempts_max: 2, note }
}

fn fire(second: i64, job: i64) -> Fire {
    Fire { schedule: 1, at: second * SECOND, job: Some(job) }
}

fn ready(fence: i64) -> Side {
    Side { running: false, fence, worker: None }
}

fn running(fence: i64, worker: i64) -> Side {
    Side { running: true, fence, worker: Some(worker) }
}

fn one_move(number: i64, job: i64, from: Side, to: Option<Side>, committed: i64) -> Move {
    Move { number, job, from, to, committed, queue: "local".to_owned(), tenant: None }
}

fn raise(job: i64, fence: i64, committed: i64) -> Raise {
    Raise { job, fence, committed }
}

/// The checks that find something after the change.
fn found(change: impl FnOnce(&mut Ledger)) -> Vec<&'static str> {
    let mut ledger = good();
    change(&mut ledger);
    check(&ledger).iter().filter(|row| row.violations > 0).map(|row| row.check).collect()
}

#[test]
fn a_good_history_has_no_violation_and_every_check_looked_at_it() {
    let rows = check(&good());
    assert!(rows.iter().all(|row| row.violations == 0), "{rows:#?}");
    assert!(rows.iter().all(|row| row.looked_at > 0), "{rows:#?}");
}

#[test]
fn a_committed_job_that_is_nowhere_is_lost() {
    assert_eq!(found(|ledger| ledger.promises[3].fate = Fate::Committed), ["lost jobs"]);
}

#[test]
fn a_job_that_never_ends_is_lost() {
    assert_eq!(found(|ledger| ledger.jobs[1].rest = Rest::Live), ["lost jobs"]);
}

#[test]
fn a_job_of_a_rolled_back_enqueue_is_seen() {
    let changed = found(|ledger| ledger.promises[0].fate = Fate::RolledBack);
    assert_eq!(changed, ["jobs of a rollback"]);
}

#[test]
fn two_jobs_of_one_request_are_seen() {
    let twice = found(|ledger| {
        let again = Job { id: 3, rest: Rest::Quarantined, attempt: 0, ..ledger.jobs[0].clone() };
        ledger.jobs.push(again);
    });
    assert!(twice.contains(&"doubled jobs"), "{twice:?}");
}

#[test]
fn a_job_that_nobody_asked_for_is_seen() {
    assert!(found(|ledger| ledger.jobs[1].label = "x".into()).contains(&"doubled jobs"));
}

#[test]
fn an_effect_applied_twice_is_seen() {
    let twice = found(|ledger| {
        let again = Effect { committed: 7 * SECOND + 1, ..ledger.effects[1].clone() };
        ledger.effects.push(again);
    });
    assert_eq!(twice, ["duplicated effects"]);
}

#[test]
fn an_effect_after_a_newer_fence_is_in_place_is_stale() {
    let stale = found(|ledger| ledger.effects[0].committed = 6 * SECOND + 1);
    assert_eq!(stale, ["effects by a stale fence"]);
}

#[test]
fn an_effect_under_a_fence_that_was_never_raised_is_stale() {
    assert_eq!(found(|ledger| ledger.raises.retain(|raise| raise.job != 2)), ["effects by a stale fence"]);
}

#[test]
fn alternating_effects_of_two_attempts_overlap() {
    let overlap = found(|ledger| ledger.effects[0].committed = 7 * SECOND + 1);
    assert_eq!(overlap, ["effects by a stale fence", "overlapping executions"]);
}

#[test]
fn a_missing_step_and_one_too_many_are_gaps() {
    let gap = ["gaps in succeeded jobs"];
    assert_eq!(found(|ledger| drop(ledger.effects.remove(1))), gap);
    assert_eq!(found(|ledger| ledger.effects[0].step = "step 9".into()), gap);
}

#[test]
fn an_effect_that_the_queue_knows_nothing_of_is_seen() {
    let foreign = found(|ledger| {
        ledger.effects.push(Effect { job: 9, fence: 9, step: "step 1".into(), committed: SECOND });
        ledger.raises.push(raise(9, 9, SECOND));
    });
    assert_eq!(foreign, ["effects against the queue"]);
    let unclaimed = found(|ledger| {
        ledger.effects[1].fence = 14;
        ledger.raises.push(raise(1, 14, 6 * SECOND + 1));
    });
    assert_eq!(unclaimed, ["effects against the queue"]);
    let late = found(|ledger| ledger.effects[1].committed = 10 * SECOND);
    assert_eq!(late, ["effects against the queue"]);
}

#[test]
fn ends_that_nobody_asked_for_are_seen() {
    let end = ["ends that should not be"];
    assert_eq!(found(|ledger| ledger.promises[1].failures = 0), end);
    assert_eq!(found(|ledger| ledger.jobs[1].rest = Rest::Cancelled), end);
    assert!(found(|ledger| ledger.promises[0].failures = 9).contains(&end[0]));
}

#[test]
fn a_quarantined_innocent_is_seen_and_one_that_the_run_killed_twice_is_told() {
    let seen = ["quarantined or blamed innocents"];
    assert_eq!(found(|ledger| ledger.jobs[1].rest = Rest::Quarantined), seen);
    let crash = |worker| {
        move |ledger: &mut Ledger| {
            ledger.jobs[1].rest = Rest::Quarantined;
            ledger.charges.push(Charge { job: 2, how: Charged::Crashed, worker: Some(worker) });
        }
    };
    assert!(found(crash(7)).is_empty(), "worker 7 was killed by the run");
    assert_eq!(found(crash(8)), seen, "worker 8 lived");
}

#[test]
fn charges_that_do_not_add_up_are_seen() {
    let charged = ["attempts charged wrongly"];
    assert_eq!(found(|ledger| ledger.jobs[0].failures = 1), charged);
    assert_eq!(found(|ledger| ledger.jobs[0].attempt = 1), charged);
    assert_eq!(found(|ledger| ledger.jobs[1].attempts_max = 2), charged);
}

#[test]
fn a_move_without_a_new_fence_is_seen() {
    let moved = ["moves without a new fence"];
    assert!(found(|ledger| ledger.moves[1].to = Some(running(11, 8))).contains(&moved[0]));
    assert_eq!(found(|ledger| ledger.moves[1].to = Some(ready(10))), moved);
    assert_eq!(found(|ledger| ledger.moves[2].from = ready(12)), moved);
}

#[test]
fn one_lease_more_than_a_cap_allows_is_seen() {
    assert_eq!(found(|ledger| ledger.caps[0].running_max = 1), ["leases over a cap"]);
    let of_others = found(|ledger| {
        ledger.caps = vec![Cap { queue: "local", each_tenant: true, running_max: 1 }];
        ledger.moves[4].tenant = Some(uuid::Uuid::nil());
        ledger.moves[5].tenant = Some(uuid::Uuid::nil());
    });
    assert!(of_others.is_empty(), "they are two tenants' jobs: {of_others:?}");
}

#[test]
fn fires_that_are_missed_doubled_or_without_their_job_are_seen() {
    let fires = ["missed or doubled fires"];
    assert_eq!(found(|ledger| ledger.beats[0].to = 6 * SECOND), fires, "nothing was given to second 6");
    assert_eq!(found(|ledger| ledger.beats[0].from = 2 * SECOND), [""; 0], "second 2 was before it began");
    assert_eq!(found(|ledger| ledger.fires.push(fire(4, 5))), fires);
    assert_eq!(found(|ledger| ledger.fires[1].job = None), fires);
    assert_eq!(found(|ledger| ledger.fires[1].at += SECOND), fires);
    assert_eq!(
        found(|ledger| ledger.jobs.push(quarantined_fire(7))),
        ["quarantined or blamed innocents", fires[0]]
    );
}

#[test]
fn a_rescue_after_the_promise_is_late_unless_nobody_could_have_made_it() {
    let late = |ledger: &mut Ledger| ledger.moves[1].committed = 30 * SECOND;
    assert_eq!(found(late), ["late rescues"]);
    let excused = found(|ledger| {
        late(ledger);
        ledger.troubles.push(Trouble { place: None, from: 4 * SECOND, to: 29 * SECOND });
    });
    assert!(excused.is_empty(), "{excused:?}");
    let another_could = found(|ledger| {
        late(ledger);
        ledger.troubles.push(Trouble { place: Some(0), from: 4 * SECOND, to: 29 * SECOND });
    });
    assert_eq!(another_could, ["late rescues"]);
}

#[test]
fn a_fault_that_never_struck_is_seen_unless_it_could_not_be_had() {
    let never =
        |absent| move |ledger: &mut Ledger| ledger.struck.push(Struck { fault: "clock", times: 0, absent });
    assert_eq!(found(never(None)), ["fault coverage"]);
    assert!(found(never(Some("not installed".to_owned()))).is_empty());
}
