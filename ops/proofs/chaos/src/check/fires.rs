//! Whether each fire time had its one job: the times are counted from the cron line's meaning, not asked of the engine.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Row;
use crate::ledger::{FIRE, Fire, Ledger, Micros};

/// Missed and doubled fires of all schedules.
pub(super) fn fires(ledger: &Ledger) -> Row {
    let mut given: BTreeMap<(i64, Micros), Vec<&Fire>> = BTreeMap::new();
    for fire in &ledger.fires {
        given.entry((fire.schedule, fire.at)).or_default().push(fire);
    }
    let expected = expected(ledger);
    let missed = expected.iter().filter(|time| !given.contains_key(*time));
    let missed = missed.map(|(schedule, at)| format!("schedule {schedule} gave {} nothing", clock(*at)));
    let doubled = given.iter().filter(|(_, fires)| fires.len() > 1);
    let doubled =
        doubled.map(|((schedule, at), _)| format!("schedule {schedule} fired twice at {}", clock(*at)));
    let off = ledger.fires.iter().filter(|fire| {
        !ledger.beats.iter().any(|beat| beat.schedule == fire.schedule && fire.at % beat.every == 0)
    });
    let off = off.map(|fire| {
        format!("schedule {} fired at {}, which it does not name", fire.schedule, clock(fire.at))
    });
    let wrong = missed.chain(doubled).chain(off).chain(wrong_jobs(ledger)).collect();
    Row::new("missed or doubled fires", expected.len(), wrong)
}

/// The fire times that must have had their fire.
fn expected(ledger: &Ledger) -> BTreeSet<(i64, Micros)> {
    let times = ledger.beats.iter().flat_map(|beat| {
        let first = beat.from - beat.from.rem_euclid(beat.every) + beat.every;
        let count = usize::try_from((beat.to - first).div_euclid(beat.every) + 1).unwrap_or(0);
        (first..)
            .step_by(usize::try_from(beat.every).expect("a beat is some seconds"))
            .take(count)
            .map(|at| (beat.schedule, at))
    });
    times.collect()
}

/// Fires without a job, jobs without a fire, and jobs of two.
fn wrong_jobs(ledger: &Ledger) -> Vec<String> {
    let there: HashSet<i64> = ledger.jobs.iter().filter(|job| job.label == FIRE).map(|job| job.id).collect();
    let mut named = HashSet::new();
    let mut wrong = Vec::new();
    for fire in &ledger.fires {
        match fire.job.filter(|job| there.contains(job)) {
            None => wrong.push(format!("the fire of {} has no job", clock(fire.at))),
            Some(job) if !named.insert(job) => wrong.push(format!("job {job} is that of two fires")),
            Some(_) => {}
        }
    }
    let stray = there.difference(&named).map(|job| format!("job {job} has a schedule's label and no fire"));
    wrong.extend(stray);
    wrong
}

/// The time of day in UTC.
fn clock(at: Micros) -> String {
    let seconds = at.div_euclid(1_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
