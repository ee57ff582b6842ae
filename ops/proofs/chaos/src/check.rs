//! The history checker: counts what must never be in a history, from the rows alone.
//!
//! It shares no code with the engine, knows none of its statements, and believes nothing that it can count itself. Each
//! check is a pure function of the [`Ledger`] and answers with a [`Row`]: what was looked at, what was wrong, examples.

mod caps;
mod fires;
mod rescue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::ledger::{Charged, FIRE, Fate, Job, Ledger, Move, Promise, Rest};

/// One line of the verdict.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) check: &'static str,
    pub(crate) looked_at: usize,
    pub(crate) violations: usize,
    /// The first few of them.
    pub(crate) examples: Vec<String>,
    /// What a reader should know beside the counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

const EXAMPLES_MAX: usize = 5;

impl Row {
    fn new(check: &'static str, looked_at: usize, wrong: Vec<String>) -> Self {
        let violations = wrong.len();
        let examples = wrong.into_iter().take(EXAMPLES_MAX).collect();
        Self { check, looked_at, violations, examples, note: None }
    }

    fn note(self, note: String) -> Self {
        Self { note: Some(note), ..self }
    }
}

/// All checks, in the order of the table.
pub(crate) fn check(ledger: &Ledger) -> Vec<Row> {
    let history = History::of(ledger);
    vec![
        history.lost(),
        history.ran_though_rolled_back(),
        history.enqueued_twice(),
        history.duplicated_effects(),
        history.effects_by_a_stale_fence(),
        history.overlapping_executions(),
        history.gaps(),
        history.ends_that_contradict(),
        history.failed_or_cancelled_innocents(),
        history.quarantined_innocents(),
        history.wrong_charges(),
        history.broken_chains(),
        caps::over_cap(ledger),
        fires::fires(ledger),
        rescue::times(ledger),
        coverage(ledger),
    ]
}

/// The ledger with its indexes.
struct History<'a> {
    ledger: &'a Ledger,
    promises: HashMap<&'a str, &'a Promise>,
    jobs: HashMap<i64, &'a Job>,
    by_label: HashMap<&'a str, Vec<&'a Job>>,
    moves: BTreeMap<i64, Vec<&'a Move>>,
}

impl<'a> History<'a> {
    fn of(ledger: &'a Ledger) -> Self {
        let mut by_label: HashMap<&str, Vec<&Job>> = HashMap::new();
        for job in &ledger.jobs {
            by_label.entry(&job.label).or_default().push(job);
        }
        let mut moves: BTreeMap<i64, Vec<&Move>> = BTreeMap::new();
        for one in &ledger.moves {
            moves.entry(one.job).or_default().push(one);
        }
        for moves in moves.values_mut() {
            moves.sort_by_key(|one| one.number);
        }
        Self {
            ledger,
            promises: ledger.promises.iter().map(|promise| (&*promise.label, promise)).collect(),
            jobs: ledger.jobs.iter().map(|job| (job.id, job)).collect(),
            by_label,
            moves,
        }
    }

    fn of_fate(&self, fate: Fate) -> impl Iterator<Item = &'a Promise> {
        self.ledger.promises.iter().filter(move |promise| promise.fate == fate)
    }

    fn resting(&self, rest: Rest) -> impl Iterator<Item = &'a Job> {
        self.ledger.jobs.iter().filter(move |job| job.rest == rest)
    }

    fn promise_of(&self, job: &Job) -> Option<&'a Promise> {
        self.promises.get(&*job.label).copied()
    }

    /// A committed enqueue that is nowhere, or never came to its end.
    fn lost(&self) -> Row {
        let wrong = self.of_fate(Fate::Committed).filter_map(|promise| {
            match self.by_label.get(&*promise.label).and_then(|jobs| jobs.first()) {
                None => Some(format!("probe {} is neither live nor in history", promise.label)),
                Some(job) if job.rest == Rest::Live => {
                    Some(format!("job {} never ended: {}", job.id, job.note))
                }
                Some(_) => None,
            }
        });
        Row::new("lost jobs", self.of_fate(Fate::Committed).count(), wrong.collect())
    }

    fn ran_though_rolled_back(&self) -> Row {
        let wrong = self.of_fate(Fate::RolledBack).filter_map(|promise| {
            let job = self.by_label.get(&*promise.label)?.first()?;
            Some(format!("job {} was rolled back and is there", job.id))
        });
        Row::new("jobs of a rollback", self.of_fate(Fate::RolledBack).count(), wrong.collect())
    }

    /// One request, two jobs; one job, two ends; a job that nobody asked for.
    fn enqueued_twice(&self) -> Row {
        // Those of schedules share a label; their fires tell them apart.
        let requested = self.by_label.iter().filter(|(label, _)| **label != FIRE);
        let twice = requested.filter(|(_, jobs)| jobs.len() > 1).map(|(label, jobs)| {
            let ids: Vec<_> = jobs.iter().map(|job| job.id.to_string()).collect();
            format!("probe {label} is there as {}", ids.join(", "))
        });
        let foreign = self.by_label.keys().filter(|label| !self.promises.contains_key(*label));
        let foreign = foreign.map(|label| format!("nobody asked for probe {label:?}"));
        Row::new("doubled jobs", self.by_label.len(), twice.chain(foreign).collect())
    }

    fn duplicated_effects(&self) -> Row {
        let mut times: BTreeMap<(i64, &str), usize> = BTreeMap::new();
        for effect in &self.ledger.effects {
            *times.entry((effect.job, &effect.step)).or_default() += 1;
        }
        let wrong = times.iter().filter(|(_, times)| **times > 1);
        let wrong =
            wrong.map(|((job, step), times)| format!("{step} of job {job} was applied {times} times"));
        Row::new("duplicated effects", times.len(), wrong.collect())
    }

    /// An effect that was committed after a newer fence was in place.
    fn effects_by_a_stale_fence(&self) -> Row {
        let mut raises: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
        for raise in &self.ledger.raises {
            raises.entry(raise.job).or_default().push((raise.fence, raise.committed));
        }
        let wrong = self.ledger.effects.iter().filter_map(|effect| {
            let of_job = raises.get(&effect.job).map_or(&[][..], Vec::as_slice);
            let newer = of_job.iter().find(|(fence, at)| *fence > effect.fence && *at < effect.committed);
            if let Some((fence, at)) = newer {
                let late = (effect.committed - at) / 1_000;
                return Some(format!(
                    "{} of job {} under fence {}, {late} ms after fence {fence}",
                    effect.step, effect.job, effect.fence
                ));
            }
            let was_raised =
                of_job.iter().any(|(fence, at)| *fence == effect.fence && *at <= effect.committed);
            let (step, job, fence) = (&effect.step, effect.job, effect.fence);
            (!was_raised).then(|| format!("{step} of job {job} under fence {fence}, which was never raised"))
        });
        Row::new("effects by a stale fence", self.ledger.effects.len(), wrong.collect())
            .note(format!("{} attempts ran on after a newer one had begun to write", self.zombies(&raises)))
    }

    /// Attempts that were seen to do something after a newer fence was in place: what the fence is for.
    fn zombies(&self, raises: &HashMap<i64, Vec<(i64, i64)>>) -> usize {
        let late = self.ledger.sightings.iter().filter(|seen| {
            raises
                .get(&seen.job)
                .is_some_and(|of_job| of_job.iter().any(|(f, at)| *f > seen.fence && *at < seen.at))
        });
        late.map(|seen| (seen.job, seen.fence)).collect::<HashSet<_>>().len()
    }

    /// Two attempts of a job whose effects alternate: both could write at once.
    fn overlapping_executions(&self) -> Row {
        let mut effects: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
        for effect in &self.ledger.effects {
            effects.entry(effect.job).or_default().push((effect.committed, effect.fence));
        }
        let wrong = effects.iter_mut().filter_map(|(job, effects)| {
            // Of two at the same microsecond the order is not known: the older is taken to be first.
            effects.sort_unstable();
            let fell = effects.windows(2).find(|pair| pair[1].1 < pair[0].1)?;
            Some(format!("job {job}: fence {} wrote after fence {} had", fell[1].1, fell[0].1))
        });
        let wrong = wrong.collect();
        Row::new("overlapping executions", self.executions(), wrong)
    }

    /// Attempts that were seen to begin.
    fn executions(&self) -> usize {
        self.ledger.sightings.iter().filter(|seen| seen.began).count()
    }

    /// Steps that a succeeded job has not done, or did without being told to.
    fn gaps(&self) -> Row {
        let mut done: HashMap<i64, BTreeSet<&str>> = HashMap::new();
        for effect in &self.ledger.effects {
            done.entry(effect.job).or_default().insert(&effect.step);
        }
        let wrong = self.resting(Rest::Succeeded).filter_map(|job| {
            let told = steps_of(self.promise_of(job)?);
            let told: BTreeSet<&str> = told.iter().map(String::as_str).collect();
            let done = done.get(&job.id).cloned().unwrap_or_default();
            let differ: Vec<_> = told.symmetric_difference(&done).copied().collect();
            (!differ.is_empty()).then(|| format!("job {}: {}", job.id, differ.join(", ")))
        });
        Row::new("gaps in succeeded jobs", self.resting(Rest::Succeeded).count(), wrong.collect())
    }

    /// Effects of nobody's job, under a fence that no claim drew, or after the job had succeeded.
    fn ends_that_contradict(&self) -> Row {
        let wrong = self.ledger.effects.iter().filter_map(|effect| {
            let what = format!("{} of job {}", effect.step, effect.job);
            let Some(job) = self.jobs.get(&effect.job) else {
                return Some(format!("{what}, which is not there"));
            };
            let moves = self.moves.get(&effect.job).map_or(&[][..], Vec::as_slice);
            let claimed =
                moves.iter().any(|one| one.to.is_some_and(|to| to.running && to.fence == effect.fence));
            if !claimed {
                return Some(format!("{what} under fence {}, which no claim drew", effect.fence));
            }
            let end = moves.iter().find(|one| one.to.is_none()).map(|one| one.committed);
            let late = job.rest == Rest::Succeeded && end.is_some_and(|end| end < effect.committed);
            late.then(|| format!("{what} after the job had succeeded"))
        });
        Row::new("effects against the queue", self.ledger.effects.len(), wrong.collect())
    }

    /// Ended badly without having been told to, or well though it could not.
    fn failed_or_cancelled_innocents(&self) -> Row {
        let wrong = self.ledger.jobs.iter().filter_map(|job| {
            let promise = self.promise_of(job)?;
            match job.rest {
                Rest::Cancelled => Some(format!("job {} was cancelled by nobody: {}", job.id, job.note)),
                Rest::Failed if !promise.is_doomed() => Some(format!("job {} failed: {}", job.id, job.note)),
                Rest::Succeeded if promise.is_doomed() => Some(format!("job {} could not succeed", job.id)),
                _ => None,
            }
        });
        Row::new("ends that should not be", self.ledger.jobs.len(), wrong.collect())
    }

    /// Set aside though it never killed a worker. A worker that we killed twice while the job was alone on it looks the
    /// same from the engine's side, so such a one is told and not counted.
    fn quarantined_innocents(&self) -> Row {
        let killed: HashSet<i64> = self.ledger.deaths.iter().map(|death| death.worker).collect();
        let (explained, wrong): (Vec<_>, Vec<_>) = self.resting(Rest::Quarantined).partition(|job| {
            let mut crashes = self.charges_of(job.id, Charged::Crashed).peekable();
            crashes.peek().is_some() && crashes.all(|worker| worker.is_some_and(|id| killed.contains(&id)))
        });
        let crashes = || self.ledger.charges.iter().filter(|charge| charge.how == Charged::Crashed);
        let by_us = crashes().filter(|charge| charge.worker.is_some_and(|id| killed.contains(&id))).count();
        let wrong: Vec<_> = wrong.iter().map(|job| format!("job {}: {}", job.id, job.note)).collect();
        let blamed = crashes().count() - by_us;
        let blamed_jobs = crashes().filter(|charge| !charge.worker.is_some_and(|id| killed.contains(&id)));
        let blamed_jobs = blamed_jobs
            .map(|charge| format!("job {} was charged with a crash; its worker lived", charge.job));
        let wrong = wrong.into_iter().chain(blamed_jobs).collect();
        Row::new("quarantined or blamed innocents", self.ledger.jobs.len(), wrong).note(format!(
            "{} crashes charged for workers that the run killed, {blamed} for others; {} quarantined after two such kills",
            by_us,
            explained.len()
        ))
    }

    fn charges_of(&self, job: i64, how: Charged) -> impl Iterator<Item = Option<i64>> {
        let of_job = self.ledger.charges.iter().filter(move |charge| charge.job == job && charge.how == how);
        of_job.map(|charge| charge.worker)
    }

    /// Failures and executions that are counted otherwise than they were recorded and seen.
    fn wrong_charges(&self) -> Row {
        let mut failures: HashMap<i64, i64> = HashMap::new();
        for charge in self.ledger.charges.iter().filter(|charge| charge.how == Charged::Failed) {
            *failures.entry(charge.job).or_default() += 1;
        }
        let wrong = self.ledger.jobs.iter().filter_map(|job| {
            let recorded = failures.get(&job.id).copied().unwrap_or_default();
            if i64::from(job.failures) != recorded {
                return Some(format!(
                    "job {}: {} failures charged, {recorded} recorded",
                    job.id, job.failures
                ));
            }
            let moves = self.moves.get(&job.id).map_or(&[][..], Vec::as_slice);
            let claims = moves.iter().filter(|one| one.to.is_some_and(|to| to.running)).count();
            if usize::try_from(job.attempt) != Ok(claims) {
                return Some(format!("job {}: attempt {} after {claims} claims", job.id, job.attempt));
            }
            let spent = job.failures == job.attempts_max;
            (job.rest == Rest::Failed && !spent).then(|| {
                format!("job {} failed after {} of {} failures", job.id, job.failures, job.attempts_max)
            })
        });
        let count = |how| self.ledger.charges.iter().filter(|charge| charge.how == how).count();
        let (failed, lost, crashed) = (count(Charged::Failed), count(Charged::Lost), count(Charged::Crashed));
        Row::new("attempts charged wrongly", self.ledger.jobs.len(), wrong.collect())
            .note(format!("{failed} failed, {lost} lost, {crashed} crashed"))
    }

    /// A move that does not begin where the last one ended, a fence that did not rise, a claim of what is running.
    fn broken_chains(&self) -> Row {
        let wrong = self.moves.iter().filter_map(|(job, moves)| {
            let from_running_to_running =
                moves.iter().find(|one| one.from.running && one.to.is_some_and(|to| to.running));
            if let Some(one) = from_running_to_running {
                return Some(format!("job {job} was claimed while fence {} ran", one.from.fence));
            }
            let fell = moves.iter().find(|one| one.to.is_some_and(|to| to.fence <= one.from.fence));
            if let Some(one) = fell {
                return Some(format!("job {job} moved from fence {} without a newer one", one.from.fence));
            }
            let broken = moves.windows(2).find(|pair| pair[0].to != Some(pair[1].from))?;
            Some(format!("job {job}: after fence {:?} comes {}", broken[0].to, broken[1].from.fence))
        });
        Row::new("moves without a new fence", self.ledger.moves.len(), wrong.collect())
    }
}

/// The steps that a job which succeeds has done.
fn steps_of(promise: &Promise) -> Vec<String> {
    let steps = (1..=promise.steps).map(|number| format!("step {number}"));
    let failures = (1..=promise.failures).map(|number| format!("failure {number}"));
    let hang = promise.hang.then(|| "hang".to_owned());
    steps.chain(failures).chain(hang).collect()
}

/// A fault that was asked for and never struck proves nothing: that too is wrong, unless it could not be had here.
fn coverage(ledger: &Ledger) -> Row {
    let told = ledger.struck.iter().map(|struck| match &struck.absent {
        Some(why) => format!("{} not run: {why}", struck.fault),
        None => format!("{} {}", struck.fault, struck.times),
    });
    let told: Vec<_> = told.collect();
    let never = ledger.struck.iter().filter(|struck| struck.times == 0 && struck.absent.is_none());
    let never = never.map(|struck| format!("{} never struck", struck.fault)).collect();
    let times = ledger.struck.iter().map(|struck| struck.times).sum();
    Row::new("fault coverage", times, never).note(told.join(", "))
}
