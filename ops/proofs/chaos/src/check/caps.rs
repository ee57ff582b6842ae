//! Whether the leases in force ever were more than a cap allows, by the order of the commits.

use std::collections::HashMap;

use uuid::Uuid;

use super::Row;
use crate::ledger::{Cap, Ledger, Micros};

/// Claims that went over a cap.
pub(super) fn over_cap(ledger: &Ledger) -> Row {
    let (mut looked_at, mut wrong, mut told) = (0, Vec::new(), Vec::new());
    for cap in &ledger.caps {
        let (claims, highest, over) = sweep(ledger, cap);
        looked_at += claims;
        wrong.extend(over);
        let whose = if cap.each_tenant { " for each tenant" } else { "" };
        told.push(format!("{}{whose} at most {highest} of {}", cap.queue, cap.running_max));
    }
    Row::new("leases over a cap", looked_at, wrong).note(told.join(", "))
}

/// Counts the leases through time: the claims, the most at once, and what was too many.
fn sweep(ledger: &Ledger, cap: &Cap) -> (usize, usize, Vec<String>) {
    let mut steps: Vec<(Micros, bool, Option<Uuid>, i64)> = Vec::new();
    for one in ledger.moves.iter().filter(|one| one.queue == cap.queue) {
        let who = one.tenant.filter(|_| cap.each_tenant);
        let begins = one.to.is_some_and(|to| to.running);
        if begins != one.from.running {
            steps.push((one.committed, begins, who, one.job));
        }
    }
    // Of two at the same microsecond the end comes first: a claim can only have counted what was over.
    steps.sort_unstable_by_key(|(at, begins, ..)| (*at, *begins));
    let mut held: HashMap<Option<Uuid>, usize> = HashMap::new();
    let (mut claims, mut highest, mut over) = (0, 0, Vec::new());
    for (_, begins, who, job) in steps {
        let held = held.entry(who).or_default();
        if !begins {
            *held = held.saturating_sub(1);
            continue;
        }
        (claims, *held) = (claims + 1, *held + 1);
        highest = highest.max(*held);
        if *held > cap.running_max {
            over.push(format!(
                "job {job} was claimed as the {held}. of {} in {}",
                cap.running_max, cap.queue
            ));
        }
    }
    (claims, highest, over)
}
