//! Metrics: what the engine counts while it works, and what stands in the queues at the moment of a scrape.
//!
//! Ready excludes what a paused queue holds: an autoscaler must not start workers for jobs that may not run.

use std::{collections::BTreeSet, sync::Mutex};

use anyhow::Context;
use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use queue::{QueueRecord, ScheduleFigures};

/// Seconds; from a fast claim to a long job.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0];

/// The process's metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    handle: PrometheusHandle,
    /// Queues that were seen: one that is gone must fall to zero rather than keep its last figure.
    seen: Mutex<BTreeSet<String>>,
}

impl Metrics {
    /// Begins to count. Once per process.
    pub(super) fn install() -> anyhow::Result<Self> {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let recorder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS)?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).context("while installing the metrics recorder")?;
        describe();
        gauge!("tenure_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle, seen: Mutex::default() })
    }

    /// Everything as Prometheus reads it; without queues and schedules when the database did not answer.
    pub(super) fn render(
        &self,
        queues: Option<&[QueueRecord]>,
        schedules: Option<ScheduleFigures>,
    ) -> String {
        gauge!("tenure_database_up").set(if queues.is_some() { 1.0 } else { 0.0 });
        if let Some(queues) = queues {
            self.take_in(queues);
        }
        if let Some(ScheduleFigures { lag_secs, faulty }) = schedules {
            gauge!("tenure_schedule_lag_seconds").set(lag_secs);
            #[expect(
                clippy::cast_precision_loss,
                reason = "a gauge is a float; 2^53 schedules are out of reach"
            )]
            gauge!("tenure_schedules_faulty").set(faulty as f64);
        }
        self.handle.run_upkeep();
        self.handle.render()
    }

    fn take_in(&self, queues: &[QueueRecord]) {
        let mut seen = self.seen.lock().expect("no holder of this lock can panic");
        let gone = seen.iter().filter(|name| queues.iter().all(|queue| queue.name != **name));
        gone.for_each(|name| set(name, &Figures::default()));
        for queue in queues {
            set(&queue.name, &Figures::of(queue));
            seen.insert(queue.name.clone());
        }
    }
}

/// What a queue's gauges show.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    ready: i64,
    blocked: i64,
    scheduled: i64,
    running: i64,
    waiting: i64,
    quarantined: i64,
    oldest_ready_secs: f64,
}

impl Figures {
    fn of(queue: &QueueRecord) -> Self {
        let paused = queue.paused_at.is_some();
        Self {
            ready: if paused { 0 } else { queue.ready },
            blocked: if paused { queue.ready } else { 0 },
            scheduled: queue.scheduled,
            running: queue.running,
            waiting: queue.waiting,
            quarantined: queue.quarantined,
            oldest_ready_secs: queue.oldest_ready_secs.filter(|_| !paused).unwrap_or(0.0),
        }
    }
}

fn set(queue: &str, figures: &Figures) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 jobs are out of reach")]
    let count = |name: &'static str, value: i64| gauge!(name, "queue" => queue.to_owned()).set(value as f64);
    count("tenure_queue_ready", figures.ready);
    count("tenure_queue_blocked", figures.blocked);
    count("tenure_queue_scheduled", figures.scheduled);
    count("tenure_queue_running", figures.running);
    count("tenure_queue_waiting", figures.waiting);
    count("tenure_queue_quarantined", figures.quarantined);
    gauge!("tenure_queue_oldest_ready_seconds", "queue" => queue.to_owned()).set(figures.oldest_ready_secs);
}

fn describe() {
    describe_gauge!("tenure_build_info", "1, with the program's version");
    describe_gauge!("tenure_database_up", "1 if the control database answered this scrape");
    describe_gauge!("tenure_queue_ready", "Jobs that are due and may be claimed");
    describe_gauge!("tenure_queue_blocked", "Jobs that are due in a paused queue");
    describe_gauge!("tenure_queue_scheduled", "Jobs that become due later");
    describe_gauge!("tenure_queue_running", "Jobs under a lease");
    describe_gauge!("tenure_queue_waiting", "Jobs that wait for something named");
    describe_gauge!("tenure_queue_quarantined", "Jobs that kept killing their worker");
    describe_gauge!("tenure_queue_oldest_ready_seconds", "How long the job that is due longest has been so");
    describe_gauge!("tenure_schedule_lag_seconds", "How long the schedule that is due longest has not fired");
    describe_gauge!("tenure_schedules_faulty", "Schedules that could not fire when they were last tried");
    describe_counter!(
        "tenure_schedule_fires_total",
        "Fires that this worker inserted, by whether they were missed"
    );
    describe_counter!(
        "tenure_schedule_missed_total",
        "Fire times that this worker found more than a minute late"
    );
    describe_histogram!(
        "tenure_schedule_fire_delay_seconds",
        "Time from a fire time to its job's enqueueing"
    );
    describe_counter!("tenure_jobs_finished_total", "Attempts that ended, by queue, kind and outcome");
    describe_counter!("tenure_lease_expiries_total", "Leases that ran out and were taken back");
    describe_counter!("tenure_leases_lost_total", "Leases that this worker found taken away");
    describe_histogram!("tenure_lease_renew_seconds", "Time to renew all leases of a worker");
    describe_histogram!("tenure_job_wait_seconds", "Time from due to claimed");
    describe_histogram!("tenure_job_run_seconds", "Time from claimed to ended");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str, ready: i64) -> QueueRecord {
        QueueRecord {
            name: name.to_owned(),
            paused_at: None,
            paused_by: None,
            pause_reason: None,
            governed: false,
            running_max: None,
            ready,
            scheduled: 0,
            running: 2,
            waiting: 0,
            quarantined: 0,
            oldest_ready_secs: Some(7.5),
        }
    }

    #[test]
    fn a_paused_queue_asks_for_no_workers() {
        let paused = QueueRecord { paused_at: Some(chrono::DateTime::UNIX_EPOCH), ..queue("a", 5) };
        let figures = Figures::of(&paused);
        assert_eq!((figures.ready, figures.blocked, figures.running), (0, 5, 2));
        assert!(figures.oldest_ready_secs.abs() < f64::EPSILON);
    }

    #[test]
    fn a_scrape_shows_the_queues_and_a_queue_that_is_gone_falls_to_zero() {
        let metrics = Metrics::install().unwrap();
        let text = metrics.render(
            Some(&[queue("a", 5), queue("b", 1)]),
            Some(ScheduleFigures { lag_secs: 3.5, faulty: 2 }),
        );
        assert!(text.contains("tenure_schedule_lag_seconds 3.5"), "{text}");
        assert!(text.contains("tenure_queue_ready{queue=\"a\"} 5"), "{text}");
        assert!(text.contains("tenure_queue_oldest_ready_seconds{queue=\"b\"} 7.5"), "{text}");
        let text = metrics.render(Some(&[queue("a", 4)]), None);
        assert!(text.contains("tenure_queue_ready{queue=\"a\"} 4"), "{text}");
        assert!(text.contains("tenure_queue_ready{queue=\"b\"} 0"), "{text}");
        assert!(metrics.render(None, None).contains("tenure_database_up 0"));
    }
}
