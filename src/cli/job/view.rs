//! Jobs as they are shown. 64-bit numbers are text in JSON: a reader with 53 bits would round them.

use std::{collections::HashMap, io};

use chrono::{DateTime, Utc};
use queue::{AttemptRecord, Dependencies, JobId, JobRecord, Parents, Related, State, WaitReason};
use serde::Serialize;
use uuid::Uuid;

use super::super::output::{Answer, Page, Table};

/// The tenants' names by their ids.
pub(crate) type Names = HashMap<Uuid, String>;

#[derive(Serialize)]
pub(super) struct Shown {
    id: JobId,
    kind: String,
    queue: String,
    state: State,
    tenant: Option<String>,
    priority: i16,
    attempt: i16,
    attempts_max: i16,
    failures: i16,
    losses: i16,
    crashes: i16,
    fence: String,
    reason: WaitReason,
    note: Option<String>,
    cancel_requested: bool,
    created_at: DateTime<Utc>,
    run_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    lease_expires_at: Option<DateTime<Utc>>,
    worker: Option<String>,
    unique_key: Option<String>,
    progress: Option<serde_json::Value>,
    payload: serde_json::Value,
    output: Option<serde_json::Value>,
}

impl Shown {
    pub(super) fn of(job: &JobRecord, names: &Names) -> Self {
        let JobRecord { id, state, priority, attempt, attempts_max, failures, losses, crashes, .. } = *job;
        Self {
            id,
            kind: job.kind.clone(),
            queue: job.queue.clone(),
            state,
            tenant: job.tenant.map(|id| names.get(&id).cloned().unwrap_or_else(|| id.to_string())),
            priority,
            attempt,
            attempts_max,
            failures,
            losses,
            crashes,
            fence: job.fence.to_string(),
            reason: job.reason,
            note: job.note.clone(),
            cancel_requested: job.cancel_requested,
            created_at: job.created_at,
            run_at: job.run_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            lease_expires_at: job.lease_expires_at,
            worker: job.worker.map(|worker| worker.to_string()),
            unique_key: job.unique_key.clone(),
            progress: job.progress.clone(),
            payload: job.payload.clone(),
            output: job.output.clone(),
        }
    }

    fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or("-")
    }

    /// Its note, or how far that has come for which it waits.
    fn told(&self) -> String {
        match (&self.note, &self.progress, self.reason) {
            (Some(note), ..) => note.clone(),
            (None, Some(progress), WaitReason::Dependency) => {
                format!("{} of {} jobs that it waits for have ended", progress["done"], progress["total"])
            }
            _ => String::new(),
        }
    }

    fn when(&self) -> String {
        let at = |verb: &str, at: DateTime<Utc>| format!("{verb} {}", at.format("%Y-%m-%d %H:%M:%S UTC"));
        match (self.state, self.started_at, self.finished_at) {
            (_, _, Some(finished)) => at("ended", finished),
            (State::Running, Some(started), None) => at("since", started),
            _ => at("due", self.run_at),
        }
    }
}

/// A page of jobs.
#[derive(Serialize)]
pub(super) struct Listed {
    jobs: Vec<Shown>,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<JobId>,
}

impl Listed {
    pub(super) fn of(jobs: &[JobRecord], names: &Names, next_before: Option<JobId>) -> Self {
        Self { jobs: jobs.iter().map(|job| Shown::of(job, names)).collect(), next_before }
    }
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.jobs.is_empty() {
            return page.line("no such jobs");
        }
        let mut table = Table::new(["ID", "STATE", "KIND", "TENANT", "QUEUE", "ATTEMPT", "WHEN", "NOTE"]);
        for job in &self.jobs {
            table.row(&[
                job.id.to_string(),
                job.state.to_string(),
                job.kind.clone(),
                job.tenant().to_owned(),
                job.queue.clone(),
                job.attempt.to_string(),
                job.when(),
                job.told(),
            ]);
        }
        page.table(&table)?;
        self.next_before.map_or(Ok(()), |before| page.line(format_args!("older ones: --before {before}")))
    }
}

#[derive(Serialize)]
struct ShownAttempt {
    number: i16,
    fence: String,
    worker: Option<String>,
    started_at: Option<DateTime<Utc>>,
    finished_at: DateTime<Utc>,
    outcome: &'static str,
    class: String,
    error: String,
}

/// One job, with the attempts that did not succeed, and who waits for whom.
#[derive(Serialize)]
pub(super) struct Detail {
    job: Shown,
    dependencies: Dependencies,
    attempts: Vec<ShownAttempt>,
}

impl Detail {
    pub(super) fn of(
        job: &JobRecord,
        dependencies: Dependencies,
        attempts: &[AttemptRecord],
        names: &Names,
    ) -> Self {
        let attempt = |attempt: &AttemptRecord| ShownAttempt {
            number: attempt.number,
            fence: attempt.fence.to_string(),
            worker: attempt.worker.map(|worker| worker.to_string()),
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            outcome: attempt.outcome,
            class: attempt.class.clone(),
            error: attempt.error.clone(),
        };
        let attempts = attempts.iter().map(attempt).collect();
        Self { job: Shown::of(job, names), dependencies, attempts }
    }

    /// What there is to say of who waits for whom, with the words before it.
    fn related(&self) -> Vec<(&'static str, String)> {
        let Dependencies { waits_for, waited_for_by, waiters, fanned_out_by, fanned_out_into } =
            &self.dependencies;
        let mut lines = Vec::new();
        if waits_for.total > 0 {
            let Parents { total, done, succeeded, failed, cancelled, .. } = waits_for;
            let named = some_of([&waits_for.bad[..], &waits_for.open].concat());
            let what =
                format!("{done} of {total} ended ({succeeded} well, {failed} failed, {cancelled} cancelled)");
            lines.push(("after", what + &named));
        }
        if *waited_for_by > 0 {
            let plural = if *waited_for_by == 1 { "job waits" } else { "jobs wait" };
            lines.push(("before", format!("{waited_for_by} {plural} for it{}", some_of(waiters.clone()))));
        }
        if let Some(origin) = fanned_out_by {
            lines.push(("origin", format!("job {origin} fanned out into what it waits for")));
        }
        if !fanned_out_into.is_empty() {
            lines.push(("fan-out", format!("at its end{}", some_of(fanned_out_into.clone()))));
        }
        lines
    }
}

/// Some jobs by name, such as `: 12 ready, 14 failed`; the count beside it says whether they are all.
fn some_of(related: Vec<Related>) -> String {
    let name = |job: Related| match job.state {
        Some(state) => format!("{} {state}", job.id),
        None => format!("{} gone", job.id),
    };
    let names: Vec<String> = related.into_iter().map(name).collect();
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

impl Answer for Detail {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 8;
        let job = &self.job;
        let ran =
            format!("{} of {} failures allowed, attempt {}", job.failures, job.attempts_max, job.attempt);
        page.entry(WIDTH, "job", format_args!("{} {}", job.id, job.kind))?;
        page.entry(WIDTH, "state", format_args!("{}, {}", job.state, job.when()))?;
        page.entry(WIDTH, "tenant", job.tenant())?;
        page.entry(WIDTH, "queue", &job.queue)?;
        page.entry(WIDTH, "attempts", ran)?;
        page.entry(WIDTH, "payload", &job.payload)?;
        for (name, value) in [("progress", &job.progress), ("output", &job.output)] {
            if let Some(value) = value {
                page.entry(WIDTH, name, value)?;
            }
        }
        if let Some(note) = job.note.as_deref().filter(|note| !note.is_empty()) {
            page.entry(WIDTH, "note", note)?;
        }
        for (name, value) in self.related() {
            page.entry(WIDTH, name, value)?;
        }
        if self.attempts.is_empty() {
            return Ok(());
        }
        page.blank()?;
        let mut table = Table::new(["ATTEMPT", "ENDED", "HOW", "CLASS", "ERROR"]);
        for attempt in &self.attempts {
            table.row(&[
                attempt.number.to_string(),
                attempt.finished_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
                attempt.outcome.to_owned(),
                attempt.class.clone(),
                attempt.error.clone(),
            ]);
        }
        page.table(&table)
    }
}
