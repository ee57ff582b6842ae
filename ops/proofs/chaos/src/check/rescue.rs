//! How soon a killed worker's jobs were taken back, against the promise: one lease and one scan after the last renewal.
//!
//! Counted is only the time in which somebody could do it: Postgres up, and at least one other worker undisturbed.

use std::collections::HashMap;

use super::Row;
use crate::ledger::{Ledger, Micros, Move, Trouble};

/// A look for ended leases, and what a loaded machine adds.
const SCAN: Micros = 3_000_000;

pub(super) fn times(ledger: &Ledger) -> Row {
    let mut raw = Vec::new();
    let mut wrong = Vec::new();
    for (job, from, to) in rescues(ledger) {
        let elapsed = able_time(ledger, from, to);
        if elapsed > ledger.lease + SCAN {
            wrong.push(format!("job {job} was taken back after {}", seconds(elapsed)));
        }
        raw.push(to - from);
    }
    raw.sort_unstable();
    let quantile = |percent: usize| raw.get((raw.len().saturating_sub(1)) * percent / 100).copied();
    let told = |percent| quantile(percent).map_or_else(|| "-".to_owned(), seconds);
    let (p50, p95, max) = (told(50), told(95), told(100));
    let bound = seconds(ledger.lease + SCAN);
    Row::new("late rescues", raw.len(), wrong)
        .note(format!("p50 {p50}, p95 {p95}, max {max}; promised within {bound} of undisturbed time"))
}

/// What killed workers held: the job, when its worker died, when it was taken back.
fn rescues(ledger: &Ledger) -> Vec<(i64, Micros, Micros)> {
    let ends: HashMap<(i64, i64), &Move> =
        ledger.moves.iter().map(|one| ((one.job, one.from.fence), one)).collect();
    let claims = ledger.moves.iter().filter_map(|one| {
        let to = one.to.filter(|to| to.running)?;
        Some((one.job, to.fence, to.worker, one.committed))
    });
    let held = claims.filter_map(|(job, fence, worker, committed)| {
        let death =
            ledger.deaths.iter().find(|death| Some(death.worker) == worker && committed <= death.at)?;
        let end = ends.get(&(job, fence)).filter(|end| end.committed > death.at)?;
        Some((job, death.at, end.committed))
    });
    held.collect()
}

/// The part of the time in which no trouble kept everybody from looking.
fn able_time(ledger: &Ledger, from: Micros, to: Micros) -> Micros {
    let mut edges: Vec<Micros> = vec![from, to];
    let inside = |at: &Micros| (from..to).contains(at);
    edges.extend(ledger.troubles.iter().flat_map(|trouble| [trouble.from, trouble.to]).filter(inside));
    edges.sort_unstable();
    let able = |at: Micros| {
        let now = |trouble: &&Trouble| (trouble.from..trouble.to).contains(&at);
        let all = ledger.troubles.iter().filter(now).any(|trouble| trouble.place.is_none());
        let troubled = |place| ledger.troubles.iter().filter(now).any(|trouble| trouble.place == Some(place));
        !all && (0..ledger.workers).any(|place| !troubled(place))
    };
    edges.windows(2).filter(|pair| able(pair[0])).map(|pair| pair[1] - pair[0]).sum()
}

fn seconds(micros: Micros) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000)
}
