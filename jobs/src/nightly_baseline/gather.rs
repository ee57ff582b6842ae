//! From what the jobs of a run left behind to its report.

use std::collections::HashMap;

use governance::{
    candidate::{self, Candidate, SnapshotRecord},
    decision, path,
    promotion::Figures,
    wish,
};
use queue::{Job, JobError, JobFilter, JobId, JobRecord, State};
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use super::{
    Night, judge,
    report::{
        CandidateResult, Evaluated, Outcome, PathCounts, PathResult, Report, StreamResult, basis_points,
    },
    store::{self, Planned, Run},
};
use crate::{
    connector_sync::{self, ConnectorSync},
    environment::into_job_error,
    policy_wish::PolicyWish,
    promotion_evaluation::PromotionEvaluation,
    shadow_run::ShadowRun,
};

/// Jobs of a kind that ended badly in one night and are looked at.
const BAD_MAX: u32 = 1_000;

/// A job that ended badly.
struct Bad {
    job: JobId,
    /// The class of its last error.
    class: Option<String>,
    why: String,
}

impl Night<'_> {
    /// The run's report, as of now.
    pub(super) async fn gather(&self, run: &Run) -> Result<Report, JobError> {
        let syncs = self.bad::<ConnectorSync, _>(run, |it| (it.connector, it.stream)).await?;
        let shadows = self.bad::<ShadowRun, _>(run, |it| it.candidate).await?;
        let wishes = self.bad::<PolicyWish, _>(run, |it| it.path).await?;
        let evaluations = self.bad::<PromotionEvaluation, _>(run, |it| it.candidate).await?;

        let mut read = self.db.read().await.map_err(into_job_error)?;
        let finished_at = decision::now(&mut read).await.map_err(judge)?;
        let synced = store::synced(&mut read, run.started_at).await.map_err(judge)?;
        let streams: Vec<_> = run.streams.iter().map(|planned| stream(planned, &synced, &syncs)).collect();
        let paths = paths(&mut read, run, &wishes).await?;
        let mut candidates = Vec::new();
        let ran = store::ran(&mut read, run.started_at).await.map_err(judge)?;
        for one in candidate::list(&mut read, None).await.map_err(judge)? {
            let ran =
                ran.iter().find(|(id, ..)| *id == one.id).map_or((0, 0), |(_, ran, errors)| (*ran, *errors));
            let snapshot = candidate::snapshot(&mut read, &one, None).await.map_err(judge)?;
            let snapshot = snapshot.filter(|it| it.frozen_at >= run.started_at);
            let bad = [("shadow runs", shadows.get(&one.name)), ("evaluation", evaluations.get(&one.name))];
            candidates.push(result(&one, ran, snapshot.as_ref(), &bad));
        }
        read.finish().await.map_err(into_job_error)?;

        let mut report = Report {
            run: run.job,
            night: run.night,
            started_at: run.started_at,
            finished_at,
            outcome: Outcome::Complete,
            streams,
            paths,
            candidates,
        };
        if !report.failures().is_empty() {
            report.outcome = Outcome::Incomplete;
        }
        Ok(report)
    }

    /// Jobs of a kind that ended badly while the run went on, the newest of each name.
    async fn bad<J, K>(&self, run: &Run, name: impl Fn(J) -> K) -> Result<HashMap<K, Bad>, JobError>
    where
        J: Job + DeserializeOwned,
        K: std::hash::Hash + Eq,
    {
        let mut found = HashMap::new();
        for state in [State::Failed, State::Cancelled] {
            let filter = JobFilter {
                state: Some(state),
                kind: Some(J::KIND.to_owned()),
                tenant: self.attempt.tenant(),
                ..JobFilter::default()
            };
            let jobs = self.environment.queue().list(&filter, BAD_MAX).await.map_err(JobError::retry)?;
            for job in jobs.into_iter().filter(|job| job.finished_at >= Some(run.started_at)) {
                let Ok(payload) = serde_json::from_value::<J>(job.payload.clone()) else { continue };
                let told = self.told(&job).await?;
                found.entry(name(payload)).or_insert(told);
            }
        }
        Ok(found)
    }

    async fn told(&self, job: &JobRecord) -> Result<Bad, JobError> {
        let attempts = self.environment.queue().attempts(job.id).await.map_err(JobError::retry)?;
        let note = job.note.clone().unwrap_or_default();
        let (class, why) = match attempts.last() {
            Some(last) if job.state == State::Failed => (Some(last.class.clone()), last.error.clone()),
            _ => (None, note),
        };
        Ok(Bad { job: job.id, class, why: format!("job {} is {}: {why}", job.id, job.state) })
    }
}

fn stream(
    planned: &Planned,
    synced: &[(JobId, connector_sync::Report)],
    bad: &HashMap<(String, String), Bad>,
) -> StreamResult {
    let Planned { connector, stream, refused } = planned.clone();
    let failed = |class: Option<String>, why: String| StreamResult {
        connector: connector.clone(),
        stream: stream.clone(),
        outcome: "failed".to_owned(),
        class,
        why: Some(why),
        counts: None,
    };
    let Some(name) = &stream else {
        let why = refused.unwrap_or_else(|| "its definition is none".to_owned());
        return failed(Some("configuration".to_owned()), why);
    };
    let report = synced.iter().find(|(_, it)| it.connector == connector && it.stream == *name);
    let bad = bad.get(&(connector.clone(), name.clone()));
    match (bad, report) {
        // Of two syncs that ended meanwhile the later one tells how the stream stands.
        (Some(bad), report) if report.is_none_or(|(job, _)| *job < bad.job) => {
            failed(bad.class.clone(), bad.why.clone())
        }
        (_, Some((_, report))) => StreamResult {
            outcome: report.outcome.clone(),
            class: report.class.clone(),
            why: report.why.clone(),
            counts: Some(report.counts.clone()),
            connector: connector.clone(),
            stream: stream.clone(),
        },
        (_, None) => failed(None, "its sync left no word: `tenure job list` shows it".to_owned()),
    }
}

async fn paths(
    conn: &mut PgConnection,
    run: &Run,
    bad: &HashMap<String, Bad>,
) -> Result<Vec<PathResult>, JobError> {
    let mut results = Vec::new();
    let wanted = wish::taken_up(conn, run.started_at).await.map_err(judge)?;
    for path in path::list(conn).await.map_err(judge)? {
        let reached = store::reached(conn, run.job, &path).await.map_err(judge)?;
        // One that was made after the run had decided is tomorrow's.
        if !reached.is_done {
            continue;
        }
        let counts: PathCounts = reached.counted.counts;
        let untaken = bad.get(&path.name).map(|bad| failed("taking up", bad));
        let why: Vec<_> = reached.counted.why.into_iter().chain(untaken).collect();
        results.push(PathResult {
            wanted: wanted.get(&path.name).copied().unwrap_or_default(),
            path: path.name,
            policy: reached.policy,
            why: (!why.is_empty()).then(|| why.join("; ")),
            issue_rate_bp: basis_points(counts.issues(), counts.records),
            counts,
        });
    }
    Ok(results)
}

fn result(
    one: &Candidate,
    (ran, errors): (u64, u64),
    snapshot: Option<&SnapshotRecord>,
    bad: &[(&str, Option<&Bad>)],
) -> CandidateResult {
    let why: Vec<_> = bad.iter().filter_map(|(what, bad)| Some(failed(what, (*bad)?))).collect();
    CandidateResult {
        candidate: one.name.clone(),
        path: one.definition.path.clone(),
        phase: one.phase,
        ran,
        errors,
        evaluation: snapshot.map(evaluated),
        why: (!why.is_empty()).then(|| why.join("; ")),
    }
}

fn failed(what: &str, Bad { class, why, .. }: &Bad) -> String {
    let class = class.as_deref().map(|class| format!(" ({class})")).unwrap_or_default();
    format!("{what} failed{class}: {why}")
}

fn evaluated(snapshot: &SnapshotRecord) -> Evaluated {
    let Figures { runs, agree, scored, .. } = snapshot.evaluation.figures;
    Evaluated {
        to: snapshot.to,
        answer: snapshot.evaluation.answer,
        snapshot: snapshot.digest,
        runs,
        agree,
        scored,
        agreement_bp: basis_points(agree.max(0).cast_unsigned(), runs.max(0).cast_unsigned()),
        findings: snapshot.evaluation.findings.clone(),
    }
}
