//! Waiting for jobs to end, with a worker of our own where no other would run them.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use queue::{JobId, JobRecord, State, WaitReason};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    exit::{Exit, Failure},
    output::Progress,
};
use crate::wiring::Control;

/// The pauses between two looks at a job.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// How often it is asked whether another worker has come or gone.
const LOOK_FOR_WORKERS_EVERY: Duration = Duration::from_secs(3);

/// A worker that was not seen for this long is taken for dead. Its heartbeat may be any, so this is generous.
const WORKER_SILENCE_MAX: TimeDelta = TimeDelta::seconds(30);

/// Whether a job has come to where only a person moves it.
pub(super) fn is_at_rest(state: State) -> bool {
    state.is_final() || state == State::Quarantined
}

/// Waits until all of the jobs are at rest and gives them in the order asked.
pub(super) async fn jobs(
    context: &Context,
    control: &Control,
    ids: &[JobId],
    timeout: Option<Duration>,
) -> anyhow::Result<Vec<JobRecord>> {
    let began = Instant::now();
    let mut progress = Progress::start("waiting");
    let mut pause = PAUSE_MIN;
    loop {
        let found = look(control, ids).await?;
        let open: Vec<_> = found.iter().filter(|job| !is_at_rest(job.state)).collect();
        if open.is_empty() {
            return Ok(found);
        }
        if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            return Err(late(&open, began.elapsed()).into());
        }
        show(&mut progress, &open);
        tokio::select! {
            () = sleep(pause) => pause = (pause * 3 / 2).min(PAUSE_MAX),
            () = context.shutdown.cancelled() => return Err(Failure::interrupted().into()),
        }
    }
}

async fn look(control: &Control, ids: &[JobId]) -> anyhow::Result<Vec<JobRecord>> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.push(control.queue().get(*id).await?.ok_or_else(|| missing(*id))?);
    }
    Ok(found)
}

/// For a job that is not there.
pub(super) fn missing(id: JobId) -> Failure {
    Failure::not_found(format!("there is no job {id}"), "`tenure job list` shows the newest jobs")
}

fn late(open: &[&JobRecord], waited: Duration) -> Failure {
    let ids: Vec<_> = open.iter().map(|job| job.id.to_string()).collect();
    let what = format!("job {} is not done after {}s", ids.join(", "), waited.as_secs());
    let help = format!("it goes on; wait again with `tenure job wait {}`", ids[0]);
    Failure::new(Exit::Timeout, what, help)
}

fn show(progress: &mut Progress, open: &[&JobRecord]) {
    let job = open.iter().find(|job| job.state == State::Running).unwrap_or(&open[0]);
    let number = |name| job.progress.as_ref().and_then(|progress| progress.get(name)?.as_u64());
    let message = job.progress.as_ref().and_then(|progress| progress.get("message")?.as_str());
    let doing = match (job.state, job.reason, message) {
        (State::Running, _, Some(message)) => message.to_owned(),
        (State::Ready, WaitReason::None, _) => "waiting for a worker".to_owned(),
        (State::Ready, _, _) => {
            let why = job.note.as_deref().unwrap_or("an earlier attempt ended");
            format!("goes on at {} ({why})", job.run_at.format("%H:%M:%S UTC"))
        }
        (state, _, _) => state.to_string(),
    };
    let message = format!("job {} {}: {doing}", job.id, job.kind);
    progress.update(number("done").unwrap_or(0), number("total"), &message);
}

/// Does the work, with a worker of this process on `queue` as soon and as long as no other claims from it.
pub(super) async fn with_worker<T>(
    context: &Context,
    control: &Control,
    queue: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut work = pin!(work);
    let mut looks = interval(LOOK_FOR_WORKERS_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = looks.tick() => if !is_claimed(control, queue).await? { break },
        }
    }
    let stop = CancellationToken::new();
    let worker = control.worker(vec![queue.to_owned()]).await?;
    context
        .output
        .say(&format!("no worker claims from the queue {queue}: running one here until this is done"));
    let running = tokio::spawn(worker.run(stop.clone()));
    let done = work.await;
    stop.cancel();
    running.await?;
    done
}

/// Whether a living worker claims from the queue.
pub(super) async fn is_claimed(control: &Control, queue: &str) -> anyhow::Result<bool> {
    let now = database::health::now(&mut *control.connection().await?).await?;
    let workers = control.queue().workers(false).await?;
    Ok(workers.iter().any(|worker| {
        !worker.stopping
            && now - worker.last_seen_at < WORKER_SILENCE_MAX
            && worker.queues.iter().any(|name| name == queue)
    }))
}
