//! What a bulk says of itself: whether its positions exist, whether it is small enough and has no circle.

use std::collections::HashMap;

use super::{DEPENDENCIES_IN_BULK_MAX, DEPENDENCIES_MAX, DependencyError, Edge, Parent};
use crate::{Enqueued, JobId, NewJob};

/// Refuses a bulk that can never be right, before anything is written.
pub(super) fn check(jobs: &[NewJob]) -> Result<(), DependencyError> {
    let all: usize = jobs.iter().map(|job| job.after.len()).sum();
    let most = jobs.iter().map(|job| job.after.len()).max().unwrap_or(0);
    if most > DEPENDENCIES_MAX || all > DEPENDENCIES_IN_BULK_MAX {
        return Err(DependencyError::TooMany(if most > DEPENDENCIES_MAX { most } else { all }));
    }
    let named = jobs.iter().flat_map(positions);
    match named.max() {
        Some(position) if position >= jobs.len() => {
            Err(DependencyError::NoSuchPosition { position, jobs: jobs.len() })
        }
        _ => find_circle(jobs).map_or(Ok(()), |circle| Err(DependencyError::Circle(circle))),
    }
}

fn positions(job: &NewJob) -> impl Iterator<Item = usize> {
    job.after.iter().filter_map(|(parent, _)| match parent {
        Parent::Position(position) => Some(*position),
        Parent::Job(_) => None,
    })
}

/// A circle among the jobs, if there is one: each member waits for the next, the last for the first.
pub(super) fn find_circle(jobs: &[NewJob]) -> Option<Vec<usize>> {
    let parents = parents(jobs);
    let mut open: Vec<usize> = parents.iter().map(Vec::len).collect();
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); jobs.len()];
    for (waiter, parents) in parents.iter().enumerate() {
        for &parent in parents {
            waiters[parent].push(waiter);
        }
    }
    // Whoever waits for nobody that is left is no part of a circle.
    let mut free: Vec<usize> = (0..jobs.len()).filter(|&i| open[i] == 0).collect();
    while let Some(parent) = free.pop() {
        for &waiter in &waiters[parent] {
            open[waiter] -= 1;
            if open[waiter] == 0 {
                free.push(waiter);
            }
        }
    }
    let start = open.iter().position(|&open| open > 0)?;
    // Each that is left waits for one that is left: walking along ends up in a circle.
    let mut walk: Vec<usize> = Vec::new();
    let mut place: HashMap<usize, usize> = HashMap::new();
    let mut here = start;
    while !place.contains_key(&here) {
        place.insert(here, walk.len());
        walk.push(here);
        here = *parents[here]
            .iter()
            .find(|&&next| open[next] > 0)
            .expect("a job that is left waits for another that is left");
    }
    Some(walk.split_off(place[&here]))
}

/// For whom each position waits within the bulk. Jobs with the same unique key are one job: the first of them.
fn parents(jobs: &[NewJob]) -> Vec<Vec<usize>> {
    let mut firsts = HashMap::new();
    let is_one_with: Vec<usize> = jobs
        .iter()
        .enumerate()
        .map(|(i, job)| match &job.unique_key {
            Some(key) => *firsts.entry((&job.kind, key)).or_insert(i),
            None => i,
        })
        .collect();
    let of = |i: usize, job| -> Vec<usize> {
        let firsts = positions(job).map(|parent| is_one_with[parent]);
        if is_one_with[i] == i { firsts.collect() } else { Vec::new() }
    };
    jobs.iter().enumerate().map(|(i, job)| of(i, job)).collect()
}

/// The rows of a bulk's dependencies in the order of their key; of two on the same pair the stricter one counts.
pub(super) fn edges(jobs: &[NewJob], enqueued: &[Enqueued]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (job, answer) in jobs.iter().zip(enqueued) {
        // A job that was there before waits for what it was enqueued to wait for.
        if answer.existing {
            continue;
        }
        for &(parent, until) in &job.after {
            let (JobId(parent), is_new) = match parent {
                Parent::Job(id) => (id, false),
                // Another tenant's is looked up like any other, so as not to be found.
                Parent::Position(i) => {
                    let is_seen = job.tenant.is_none() || job.tenant == jobs[i].tenant;
                    (enqueued[i].id, !enqueued[i].existing && is_seen)
                }
            };
            let policy = until as i16;
            edges.push(Edge {
                waiter: answer.id.0,
                parent,
                policy,
                outcome: None,
                tenant: job.tenant,
                is_new,
            });
        }
    }
    edges.sort_unstable();
    edges.dedup_by_key(|edge| (edge.waiter, edge.parent));
    edges
}
