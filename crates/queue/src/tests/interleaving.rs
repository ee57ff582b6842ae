//! Random orders of everything that can happen to a few jobs, against a model of what must be true after each step.

use std::{collections::HashMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::support::{Bench, Hand, act, bench, failure};
use crate::{Cancelled, Claimed, Done, JobId, State, WaitReason, outcome::Outcome};

const JOBS: usize = 5;
const STEPS: usize = 100;

/// What must be true of a job.
#[derive(Debug, Clone)]
struct Model {
    state: State,
    fence: i64,
    failures: i16,
    cancel_requested: bool,
    /// Every lease ever held, newest last, with the hand that held it.
    leases: Vec<(usize, Claimed)>,
}

struct World {
    bench: Bench,
    hands: Vec<Hand>,
    jobs: HashMap<JobId, Model>,
    ids: Vec<JobId>,
    random: StdRng,
}

impl World {
    async fn new(seed: u64) -> Self {
        let bench = bench().await;
        let mut hands = Vec::new();
        for _ in 0..3 {
            hands.push(Hand::new(&bench).await);
        }
        let blank =
            Model { state: State::Ready, fence: 0, failures: 0, cancel_requested: false, leases: Vec::new() };
        let mut ids = Vec::new();
        for _ in 0..JOBS {
            ids.push(bench.queue.enqueue(act("x").attempts_max(1000)).await.unwrap().id);
        }
        let jobs = ids.iter().map(|id| (*id, blank.clone())).collect();
        Self { bench, hands, jobs, ids, random: StdRng::seed_from_u64(seed) }
    }

    fn any_job(&mut self) -> JobId {
        self.ids[self.random.random_range(0..JOBS)]
    }

    fn model(&mut self, id: JobId) -> &mut Model {
        self.jobs.get_mut(&id).unwrap()
    }

    async fn step(&mut self) {
        match self.random.random_range(0..8) {
            0..=2 => self.claim().await,
            3..=4 => self.end().await,
            5 => self.cancel().await,
            6 => self.rescue().await,
            _ => self.retry().await,
        }
    }

    async fn claim(&mut self) {
        let hand = self.random.random_range(0..self.hands.len());
        let limit = self.random.random_range(1..=3);
        // Time does not matter here: what waits is due, and it lies before no mark.
        self.bench.sql("update queue.job set run_at = now() where state = 0").await;
        self.hands[hand].lanes.look_from_the_beginning_in(Duration::ZERO);
        let ready = self.jobs.values().filter(|job| job.state == State::Ready).count();
        let claimed = self.hands[hand].claim(limit).await;
        assert_eq!(claimed.len(), ready.min(limit));
        for claimed in claimed {
            let job = self.model(claimed.id);
            assert_eq!(job.state, State::Ready);
            assert!(claimed.fence.0 > job.fence);
            job.state = State::Running;
            job.fence = claimed.fence.0;
            job.leases.push((hand, claimed));
        }
    }

    /// Ends or renews any attempt there ever was: only the newest may count.
    async fn end(&mut self) {
        let id = self.any_job();
        let job = self.jobs[&id].clone();
        if job.leases.is_empty() {
            return;
        }
        let (hand, claimed) = &job.leases[self.random.random_range(0..job.leases.len())];
        let stands = job.state == State::Running && claimed.fence.0 == job.fence;
        let choice = self.random.random_range(0..5);
        let hand = &mut self.hands[*hand];
        if choice == 0 {
            assert_eq!(hand.renew(claimed).await, stands);
            return;
        }
        let outcome = match choice {
            1 => Outcome::Succeeded(Done::new()),
            2 => Outcome::Failed(failure("f")),
            3 => Outcome::Retry { failure: failure("r"), after: Duration::ZERO },
            _ => Outcome::Later {
                after: Duration::from_mins(1),
                reason: WaitReason::Snoozed,
                note: String::new(),
            },
        };
        assert_eq!(hand.end(claimed, outcome).await, stands);
        if !stands {
            return;
        }
        let job = self.model(id);
        job.failures += i16::from(choice == 2 || choice == 3);
        job.state = match choice {
            1 => State::Succeeded,
            2 => State::Failed,
            _ if job.cancel_requested => State::Cancelled,
            _ => State::Ready,
        };
    }

    async fn cancel(&mut self) {
        let id = self.any_job();
        let answer = self.bench.queue.cancel(id, "the test").await.unwrap();
        let job = self.model(id);
        match job.state {
            State::Running => {
                assert_eq!(answer, Cancelled::Told);
                job.cancel_requested = true;
            }
            state if state.is_final() => assert_eq!(answer, Cancelled::NotLive),
            _ => {
                assert_eq!(answer, Cancelled::Never);
                job.state = State::Cancelled;
            }
        }
    }

    async fn rescue(&mut self) {
        let id = self.any_job();
        self.bench.expire(id).await;
        let rescued = self.bench.rescue(&[]).await;
        let job = self.model(id);
        let comes_back = job.state == State::Running && !job.cancel_requested;
        assert_eq!(
            rescued.iter().map(|job| job.id).collect::<Vec<_>>(),
            Vec::from_iter(comes_back.then_some(id))
        );
        if job.state == State::Running {
            job.state = if job.cancel_requested { State::Cancelled } else { State::Ready };
        }
    }

    async fn retry(&mut self) {
        let id = self.any_job();
        let answer = self.bench.queue.retry(id).await;
        let job = self.model(id);
        if matches!(job.state, State::Running | State::Succeeded) {
            assert!(answer.is_err());
            return;
        }
        answer.unwrap();
        job.state = State::Ready;
        job.failures = 0;
        job.cancel_requested = false;
    }

    /// The database agrees with the model, and no fence ever fell.
    async fn check(&mut self) {
        let rows: Vec<(i64, bool, i16, i16, i64)> = sqlx::query_as(
            "select id, true, state, failures, fence from queue.job
             union all select id, false, outcome, failures, fence from queue.job_history",
        )
        .fetch_all(&self.bench.pool)
        .await
        .unwrap();
        assert_eq!(rows.len(), JOBS, "each job is in one place");
        for (id, live, code, failures, fence) in rows {
            let job = self.model(JobId(id));
            let state = if live { State::live(code) } else { State::finished(code) };
            assert_eq!((state, failures), (job.state, job.failures), "{job:?}");
            if state == State::Running {
                assert_eq!(fence, job.fence, "{job:?}");
            } else if !state.is_final() {
                assert!(job.leases.iter().all(|(_, lease)| lease.fence.0 < fence), "{fence} {job:?}");
            }
            assert!(fence >= job.fence, "{fence} {job:?}");
            job.fence = fence;
        }
    }
}

async fn play(seed: u64) {
    println!("seed {seed}");
    let mut world = World::new(seed).await;
    for _ in 0..STEPS {
        world.step().await;
        world.check().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q2_q11_no_order_of_events_breaks_the_fence_or_loses_a_job() {
    for seed in 0..4 {
        play(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q2_q11_an_order_of_events_never_tried_before_breaks_nothing_either() {
    play(rand::random()).await;
}
