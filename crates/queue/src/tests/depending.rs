//! Jobs that wait for others: who is let go when, what a failure does, and that nobody waits for ever.

use serde_json::json;
use uuid::Uuid;

use super::support::{Bench, Hand, Stage, act, bench, failure, quick, until};
use crate::{
    Cancelled, Claimed, DEPENDENCIES_MAX, DependencyError, Done, EnqueueError, JobError, JobId, NewJob,
    Parent, Retention, RetryRefused, State, Until, WaitReason,
    dependency::{self, Cursor},
    outcome::Outcome,
};

const HALVES: [Until; 3] = [Until::Succeeded, Until::SucceededElseReleased, Until::Ended];

impl Bench {
    /// Enqueues the bulk and answers the ids.
    async fn enqueue_bulk(&self, jobs: &[NewJob]) -> Vec<JobId> {
        self.queue.enqueue_all(jobs).await.unwrap().into_iter().map(|enqueued| enqueued.id).collect()
    }

    async fn states(&self, ids: &[JobId]) -> Vec<State> {
        let mut states = Vec::new();
        for &id in ids {
            states.push(self.state(id).await);
        }
        states
    }

    /// One whole round of the sweep.
    async fn sweep(&self) -> usize {
        let released = dependency::sweep(&mut self.conn().await, &mut Cursor::default()).await.unwrap();
        released.ready + released.failed
    }
}

fn after(name: &str, parents: &[JobId], until: Until) -> NewJob {
    act(name).after(parents.iter().copied(), until)
}

fn behind(name: &str, positions: &[usize], until: Until) -> NewJob {
    act(name).after(positions.iter().copied().map(Parent::Position), until)
}

fn succeeded() -> Outcome {
    Outcome::Succeeded(Done::new())
}

fn failed() -> Outcome {
    Outcome::Failed(failure("it broke"))
}

async fn claim(hand: &mut Hand, id: JobId) -> Claimed {
    let claimed = hand.claim_one().await;
    assert_eq!(claimed.id, id);
    claimed
}

async fn refused(bench: &Bench, jobs: &[NewJob]) -> DependencyError {
    let before = bench.count("select count(*) from queue.job").await;
    let answer = bench.queue.enqueue_all(jobs).await.unwrap_err();
    assert_eq!(bench.count("select count(*) from queue.job").await, before, "nothing was written");
    match answer {
        EnqueueError::Dependency(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn q1_a_waiter_cannot_be_claimed_until_its_last_parent_has_succeeded() {
    let bench = bench().await;
    let (a, b) = (bench.enqueue("a").await, bench.enqueue("b").await);
    let waiter = bench.queue.enqueue(after("waiter", &[a, b], Until::Succeeded)).await.unwrap().id;
    let record = bench.record(waiter).await;
    assert_eq!((record.state, record.reason), (State::Waiting, WaitReason::Dependency));
    let mut hand = Hand::new(&bench).await;
    for (parent, done) in [(a, 0), (b, 1)] {
        let progress = json!({"done": done, "total": 2, "message": "jobs that it waits for"});
        assert_eq!(bench.record(waiter).await.progress, Some(progress));
        let claimed = claim(&mut hand, parent).await;
        assert!(hand.end(&claimed, succeeded()).await);
    }
    claim(&mut hand, waiter).await;
}

#[tokio::test]
async fn q1_a_parent_that_is_retried_or_hands_back_has_not_ended() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let waiter = bench.queue.enqueue(after("waiter", &[parent], Until::Ended)).await.unwrap().id;
    let mut hand = Hand::new(&bench).await;
    let claimed = claim(&mut hand, parent).await;
    let again = Outcome::Retry { failure: failure("x"), after: std::time::Duration::ZERO };
    assert!(hand.end(&claimed, again).await);
    assert_eq!((bench.state(waiter).await, bench.sweep().await), (State::Waiting, 0));
    let claimed = claim(&mut hand, parent).await;
    bench.expire(parent).await;
    bench.rescue(&[]).await;
    assert!(!hand.end(&claimed, succeeded()).await, "a lost lease ends nothing");
    assert_eq!((bench.state(waiter).await, bench.sweep().await), (State::Waiting, 0));
    let claimed = claim(&mut hand, parent).await;
    assert!(hand.end(&claimed, failed()).await);
    assert_eq!(bench.state(waiter).await, State::Ready);
}

#[tokio::test]
async fn q1_a_failed_parent_fails_or_releases_its_waiters_as_they_asked() {
    let bench = bench().await;
    let (bad, other) = (bench.enqueue("bad").await, bench.enqueue("other").await);
    let jobs = HALVES.map(|until| after("waiter", &[bad, other], until));
    let waiters = bench.enqueue_bulk(&jobs).await;
    let mut hand = Hand::new(&bench).await;
    let claimed = claim(&mut hand, bad).await;
    assert!(hand.end(&claimed, failed()).await);
    assert_eq!(bench.states(&waiters).await, [State::Failed, State::Ready, State::Waiting]);
    let note = bench.record(waiters[0]).await.note;
    assert_eq!(note, Some(format!("its dependency, job {bad}, failed")));

    let claimed = claim(&mut hand, other).await;
    assert!(hand.end(&claimed, failed()).await);
    assert_eq!(bench.states(&waiters).await, [State::Failed, State::Ready, State::Ready]);
}

#[tokio::test]
async fn q11_every_way_in_which_a_parent_is_cancelled_lets_its_waiters_go() {
    let bench = bench().await;
    for way in 0..4 {
        let parent = bench.enqueue("parent").await;
        let waiters = bench.enqueue_bulk(&HALVES.map(|until| after("waiter", &[parent], until))).await;
        let mut hand = Hand::new(&bench).await;
        if way == 0 {
            assert_eq!(bench.queue.cancel(parent, "ada").await.unwrap(), Cancelled::Never);
        } else {
            let claimed = claim(&mut hand, parent).await;
            assert_eq!(bench.queue.cancel(parent, "ada").await.unwrap(), Cancelled::Told);
            match way {
                1 => assert!(hand.end(&claimed, Outcome::Cancelled { note: "as asked".to_owned() }).await),
                2 => {
                    let again = Outcome::Retry { failure: failure("x"), after: std::time::Duration::ZERO };
                    assert!(hand.end(&claimed, again).await);
                }
                _ => {
                    bench.expire(parent).await;
                    bench.rescue(&[]).await;
                }
            }
        }
        assert_eq!(bench.state(parent).await, State::Cancelled);
        let states = bench.states(&waiters).await;
        assert_eq!(states, [State::Failed, State::Ready, State::Ready], "way {way}");
        let note = bench.record(waiters[0]).await.note;
        assert_eq!(note, Some(format!("its dependency, job {parent}, was cancelled")));
        bench.sql("delete from queue.job").await;
    }
}

#[tokio::test]
async fn q11_a_cancelled_waiter_never_starts_and_waits_again_when_it_is_retried() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let waiter = bench.queue.enqueue(after("waiter", &[parent], Until::Succeeded)).await.unwrap().id;
    assert_eq!(bench.queue.cancel(waiter, "ada").await.unwrap(), Cancelled::Never);
    bench.queue.retry(waiter).await.unwrap();
    assert_eq!(bench.state(waiter).await, State::Waiting, "a detour does not get around a dependency");
    bench.queue.cancel(waiter, "ada").await.unwrap();
    bench.play(Stage::of_success()).await;
    assert_eq!(bench.states(&[parent, waiter]).await, [State::Succeeded, State::Cancelled]);
    bench.queue.retry(waiter).await.unwrap();
    assert_eq!(bench.state(waiter).await, State::Ready);
}

#[tokio::test]
async fn q1_a_failure_cascades_over_three_levels_and_past_a_released_job() {
    let bench = bench().await;
    let root = bench.enqueue("root").await;
    let ids = bench
        .enqueue_bulk(&[
            after("1", &[root], Until::Succeeded),
            behind("2", &[0], Until::Succeeded),
            behind("3", &[1], Until::Succeeded),
            behind("told", &[2], Until::Ended),
            behind("after told", &[3], Until::Succeeded),
        ])
        .await;
    let mut hand = Hand::new(&bench).await;
    let claimed = claim(&mut hand, root).await;
    assert!(hand.end(&claimed, failed()).await);
    let expected = [State::Failed, State::Failed, State::Failed, State::Ready, State::Waiting];
    assert_eq!(bench.states(&ids).await, expected);
    let note = bench.record(ids[2]).await.note;
    assert_eq!(note, Some(format!("its dependency, job {}, failed", ids[1])));
}

#[tokio::test]
async fn q1_a_diamond_runs_from_top_to_bottom() {
    let bench = bench().await;
    let jobs = [
        behind("bottom", &[1, 2], Until::Succeeded),
        behind("left", &[3], Until::Succeeded),
        behind("right", &[3], Until::Succeeded),
        act("top"),
    ];
    let ids = bench.enqueue_bulk(&jobs).await;
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let ran = order.clone();
    let stage = Stage::new(move |name, _| {
        ran.lock().unwrap().push(name);
        async { Ok(Done::new()) }
    });
    bench.play(stage).await;
    assert!(bench.states(&ids).await.iter().all(|state| *state == State::Succeeded));
    let order = order.lock().unwrap();
    assert_eq!((order.len(), &*order[0], &*order[3]), (4, "top", "bottom"));
}

#[tokio::test]
async fn q1_a_circle_is_refused_with_its_members_and_nothing_is_written() {
    let bench = bench().await;
    let jobs = [
        act("outside"),
        behind("a", &[0, 3], Until::Succeeded),
        behind("b", &[1], Until::Ended),
        behind("c", &[2], Until::Ended),
        behind("behind it", &[3], Until::Ended),
    ];
    let error = refused(&bench, &jobs).await;
    assert!(matches!(&error, DependencyError::Circle(members) if members.len() == 3), "{error}");
    let text = error.to_string();
    assert!(["position 1", "position 2", "position 3"].iter().all(|member| text.contains(member)), "{text}");
    assert!(!text.contains("position 0") && !text.contains("position 4"), "{text}");

    let error = refused(&bench, &[behind("itself", &[0], Until::Succeeded)]).await;
    assert!(matches!(error, DependencyError::Circle(members) if members == [0]));
    // Two jobs with one unique key are one job.
    let twice = [
        behind("a", &[1], Until::Succeeded).unique_key("k"),
        behind("b", &[2], Until::Succeeded),
        act("c").unique_key("k"),
    ];
    assert!(matches!(refused(&bench, &twice).await, DependencyError::Circle(_)));
}

#[tokio::test]
async fn q1_what_cannot_be_waited_for_is_refused_before_anything_is_written() {
    let bench = bench().await;
    let missing = JobId(1_000_000);
    let error = refused(&bench, &[act("x"), after("waiter", &[missing], Until::Ended)]).await;
    assert!(matches!(error, DependencyError::NotFound(id) if id == missing), "{error}");
    let error = refused(&bench, &[behind("waiter", &[1], Until::Ended)]).await;
    assert!(matches!(error, DependencyError::NoSuchPosition { position: 1, jobs: 1 }), "{error}");
    let many: Vec<JobId> = (0..=DEPENDENCIES_MAX).map(|i| JobId(i64::try_from(i).unwrap() + 1)).collect();
    let error = refused(&bench, &[after("waiter", &many, Until::Ended)]).await;
    assert!(matches!(error, DependencyError::TooMany(10_001)), "{error}");
    let wide: Vec<NewJob> = (0..11).map(|_| after("waiter", &many[1..], Until::Ended)).collect();
    assert!(matches!(refused(&bench, &wide).await, DependencyError::TooMany(110_000)));
}

#[tokio::test]
async fn t1_a_job_of_another_tenant_is_not_found_live_finished_or_in_the_same_bulk() {
    let bench = bench().await;
    let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let live = bench.queue.enqueue(act("live").tenant(theirs).unique_key("k")).await.unwrap().id;
    let platform = bench.enqueue("of the platform").await;
    let never = refused(&bench, &[after("x", &[JobId(live.0 + 1000)], Until::Ended).tenant(ours)]).await;
    let never = never.to_string().replace(&(live.0 + 1000).to_string(), "N");
    let told = async |jobs: &[NewJob]| match refused(&bench, jobs).await {
        DependencyError::NotFound(id) => {
            DependencyError::NotFound(id).to_string().replace(&id.to_string(), "N")
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&[after("x", &[live], Until::Ended).tenant(ours)]).await, never);
    assert_eq!(told(&[after("x", &[platform], Until::Ended).tenant(ours)]).await, never);
    let bulk = [act("x").tenant(theirs), behind("y", &[0], Until::Ended).tenant(ours)];
    assert_eq!(told(&bulk).await, never);
    let by_key = [act("x").tenant(ours).unique_key("k"), behind("y", &[0], Until::Ended).tenant(ours)];
    assert_eq!(told(&by_key).await, never, "the key is another tenant's");
    bench.queue.cancel(live, "ada").await.unwrap();
    assert_eq!(told(&[after("x", &[live], Until::Ended).tenant(ours)]).await, never);

    let same = bench.queue.enqueue(after("x", &[live], Until::Ended).tenant(theirs)).await.unwrap();
    assert_eq!(bench.state(same.id).await, State::Ready);
    bench.queue.enqueue(after("x", &[live, platform], Until::Ended)).await.unwrap();
}

#[tokio::test]
async fn q1_a_parent_in_history_counts_at_once() {
    let bench = bench().await;
    let (good, bad) = (bench.enqueue("good").await, bench.enqueue("bad").await);
    bench
        .play(Stage::new(async |name, _| match &*name {
            "good" => Ok(Done::new()),
            _ => Err(JobError::fail("no", crate::FailureClass::Conflict)),
        }))
        .await;
    let mut jobs = vec![after("x", &[good], Until::Succeeded)];
    jobs.extend(HALVES.map(|until| after("x", &[good, bad], until)));
    jobs.push(behind("cascade", &[1], Until::Succeeded));
    jobs.push(behind("told", &[4], Until::Ended));
    let ids = bench.enqueue_bulk(&jobs).await;
    let expected = [State::Ready, State::Failed, State::Ready, State::Ready, State::Failed, State::Ready];
    assert_eq!(bench.states(&ids).await, expected);
}

#[tokio::test]
async fn q1_a_bulk_with_dependencies_rolls_back_with_its_caller_and_commits_with_it() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let jobs = [after("a", &[parent], Until::Ended), behind("b", &[0], Until::Succeeded)];
    for commits in [false, true] {
        let mut tx = bench.pool.begin().await.unwrap();
        let (enqueued, ring) = bench.queue.enqueue_in(&mut tx, &jobs).await.unwrap();
        // A refused bulk does not spoil the caller's transaction.
        bench.queue.enqueue_in(&mut tx, &[after("x", &[JobId(9999)], Until::Ended)]).await.unwrap_err();
        if commits {
            tx.commit().await.unwrap();
            bench.queue.ring(ring).await;
            bench.play(Stage::of_success()).await;
            assert_eq!(bench.state(enqueued[1].id).await, State::Succeeded);
        } else {
            tx.rollback().await.unwrap();
            assert_eq!(bench.count("select count(*) from queue.dependency").await, 0);
            assert_eq!(bench.count("select count(*) from queue.job").await, 1);
        }
    }
}

#[tokio::test]
async fn q1_a_parent_that_ends_before_its_waiter_commits_lets_it_go() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    for rings in [true, false] {
        let parent = bench.enqueue("parent").await;
        let mut tx = bench.pool.begin().await.unwrap();
        let jobs = [after("waiter", &[parent], Until::Succeeded)];
        let (enqueued, ring) = bench.queue.enqueue_in(&mut tx, &jobs).await.unwrap();
        // The caller's transaction holds up nobody: neither the claim nor the renewal nor the end.
        let claimed = claim(&mut hand, parent).await;
        assert!(hand.renew(&claimed).await);
        assert!(hand.end(&claimed, succeeded()).await);
        tx.commit().await.unwrap();
        let waiter = enqueued[0].id;
        assert_eq!(bench.state(waiter).await, State::Waiting, "its parent ended unnoticed");
        if rings {
            bench.queue.ring(ring).await;
        } else {
            assert_eq!(bench.sweep().await, 1);
        }
        let claimed = claim(&mut hand, waiter).await;
        assert!(hand.end(&claimed, succeeded()).await);
    }
}

#[tokio::test]
async fn q1_a_parent_that_ends_after_its_waiter_committed_lets_it_go_without_a_sweep() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    let parent = bench.enqueue("parent").await;
    let claimed = claim(&mut hand, parent).await;
    let waiter = bench.queue.enqueue(after("waiter", &[parent], Until::Succeeded)).await.unwrap().id;
    assert!(hand.end(&claimed, succeeded()).await);
    assert_eq!(bench.state(waiter).await, State::Ready);
}

/// A worker whose sweep never comes would leave somebody waiting if the two looks left a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_parents_that_end_while_their_waiters_are_enqueued_leave_nobody_behind() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    for _ in 0..60 {
        let parents = bench.enqueue_bulk(&[act("a"), act("b")]).await;
        let claimed = hand.claim(2).await;
        let ending = async {
            for job in &claimed {
                assert!(hand.end(job, succeeded()).await);
            }
        };
        let jobs = HALVES.map(|until| after("waiter", &parents, until));
        let ((), waiters) = tokio::join!(ending, bench.enqueue_bulk(&jobs));
        assert_eq!(bench.states(&waiters).await, [State::Ready; 3]);
        bench.sql("delete from queue.job").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_two_last_parents_that_end_at_the_same_time_let_their_waiter_go() {
    let bench = bench().await;
    let (mut one, mut two) = (Hand::new(&bench).await, Hand::new(&bench).await);
    for _ in 0..60 {
        let parents = bench.enqueue_bulk(&[act("a"), act("b")]).await;
        let waiter = bench.queue.enqueue(after("waiter", &parents, Until::Succeeded)).await.unwrap().id;
        let (a, b) = (one.claim_one().await, two.claim_one().await);
        let (a, b) = tokio::join!(one.end(&a, succeeded()), two.end(&b, succeeded()));
        assert!(a && b);
        assert_eq!(bench.state(waiter).await, State::Ready);
        bench.sql("delete from queue.job").await;
    }
}

#[tokio::test]
async fn q1_a_worker_that_dies_between_the_end_and_the_release_leaves_it_to_the_sweep() {
    let bench = bench().await;
    let (good, bad) = (bench.enqueue("good").await, bench.enqueue("bad").await);
    let waiters = bench
        .enqueue_bulk(&[
            after("a", &[good], Until::Succeeded),
            after("b", &[bad], Until::Succeeded),
            behind("c", &[1], Until::Ended),
        ])
        .await;
    let mut hand = Hand::new(&bench).await;
    for (parent, outcome) in [(good, succeeded()), (bad, failed())] {
        let claimed = claim(&mut hand, parent).await;
        let settled = hand.end_and_die(&claimed, outcome).await;
        assert_eq!(settled.dependents.ended.len(), 1);
    }
    assert_eq!(bench.states(&waiters).await, [State::Waiting; 3]);
    // Any other worker's sweep is enough.
    let worker = bench.start(Stage::of_success(), quick()).await;
    until(async || bench.states(&waiters).await == [State::Succeeded, State::Failed, State::Succeeded]).await;
    worker.stop().await;
}

#[tokio::test]
async fn q1_a_parent_that_history_has_forgotten_is_told_from_one_that_succeeded() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let waiters = bench.enqueue_bulk(&HALVES.map(|until| after("x", &[parent], until))).await;
    bench.sql("delete from queue.job where state = 0").await;
    assert_eq!(bench.sweep().await, 3);
    assert_eq!(bench.states(&waiters).await, [State::Failed, State::Ready, State::Ready]);
    let note = bench.record(waiters[0]).await.note.unwrap();
    assert!(note.ends_with("is gone: how it ended is not known"), "{note}");
}

#[tokio::test]
async fn q1_the_sweep_goes_round_in_bounded_steps() {
    let bench = bench().await;
    bench
        .sql(
            "insert into queue.job (id, queue, kind, payload, state, reason)
            select i + 10, 'default', 'act', '{}', 2, 7 from generate_series(1, 12000) as i",
        )
        .await;
    bench
        .sql(
            "insert into queue.dependency (waiter, parent, policy) select i + 10, 1 + i % 2, 2
            from generate_series(1, 12000) as i",
        )
        .await;
    bench.sql("insert into queue.job (id, queue, kind, payload) values (1, 'other', 'act', '{}')").await;
    let mut conn = bench.conn().await;
    let mut cursor = Cursor::default();
    let mut freed = Vec::new();
    for _ in 0..4 {
        freed.push(dependency::sweep(&mut conn, &mut cursor).await.unwrap().ready);
    }
    // Every second of the 12,000 waits for the job that is gone; the fourth look begins anew.
    assert_eq!(freed, [2500, 2500, 1000, 0]);
}

#[tokio::test]
async fn q5_a_waiter_that_failed_by_its_dependency_can_be_retried_once_that_one_is() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let waiter = bench.queue.enqueue(after("waiter", &[parent], Until::Succeeded)).await.unwrap().id;
    let mut hand = Hand::new(&bench).await;
    let claimed = claim(&mut hand, parent).await;
    assert!(hand.end(&claimed, failed()).await);
    let refused = bench.queue.retry(waiter).await.unwrap_err();
    assert!(matches!(refused, RetryRefused::DependencyFailed { parent: culprit, .. } if culprit == parent));
    assert_eq!(bench.state(waiter).await, State::Failed);

    bench.queue.retry(parent).await.unwrap();
    assert_eq!(bench.state(waiter).await, State::Failed, "the retry of a parent moves nobody else");
    bench.queue.retry(waiter).await.unwrap();
    assert_eq!(bench.state(waiter).await, State::Waiting);
    let claimed = claim(&mut hand, parent).await;
    assert!(hand.end(&claimed, succeeded()).await);
    let claimed = claim(&mut hand, waiter).await;
    assert!(hand.end(&claimed, failed()).await);
    bench.queue.retry(waiter).await.unwrap();
    assert_eq!(bench.state(waiter).await, State::Ready, "its dependency has succeeded");
}

#[tokio::test]
async fn q1_a_parent_that_comes_back_before_its_end_was_noticed_is_waited_for_again() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let waiter = bench.queue.enqueue(after("waiter", &[parent], Until::Succeeded)).await.unwrap().id;
    let mut hand = Hand::new(&bench).await;
    let claimed = claim(&mut hand, parent).await;
    hand.end_and_die(&claimed, failed()).await;
    bench.queue.retry(parent).await.unwrap();
    assert_eq!((bench.sweep().await, bench.state(waiter).await), (0, State::Waiting));
    let claimed = claim(&mut hand, parent).await;
    assert!(hand.end(&claimed, succeeded()).await);
    assert_eq!(bench.state(waiter).await, State::Ready);
}

#[tokio::test]
async fn q7_a_waiter_whose_key_is_taken_waits_for_nothing_more() {
    let bench = bench().await;
    let (parent, holder) =
        (bench.enqueue("parent").await, bench.queue.enqueue(act("x").unique_key("k")).await.unwrap().id);
    let answer = bench.queue.enqueue(after("y", &[parent], Until::Succeeded).unique_key("k")).await.unwrap();
    assert_eq!((answer.id, answer.existing), (holder, true));
    assert_eq!(bench.state(holder).await, State::Ready);
}

#[tokio::test]
async fn q7_an_idempotency_key_tells_other_dependencies_apart() {
    let bench = bench().await;
    let (a, b) = (bench.enqueue("a").await, bench.enqueue("b").await);
    let once = async |parent| {
        let window = std::time::Duration::from_hours(1);
        bench.queue.enqueue_once("scope", "k", window, after("x", &[parent], Until::Ended)).await
    };
    let first = once(a).await.unwrap();
    assert_eq!(once(a).await.unwrap().id, first.id);
    assert!(matches!(once(b).await.unwrap_err(), EnqueueError::KeyReused { .. }));
}

#[tokio::test]
async fn dependencies_are_forgotten_with_history() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let ids =
        bench.enqueue_bulk(&[after("a", &[parent], Until::Ended), after("b", &[parent], Until::Ended)]).await;
    let mut hand = Hand::new(&bench).await;
    for _ in 0..2 {
        let claimed = hand.claim_one().await;
        assert!(hand.end(&claimed, succeeded()).await);
    }
    let mut conn = bench.conn().await;
    dependency::forget(&mut conn, Retention { days: 1 }).await.unwrap();
    assert_eq!(bench.count("select count(*) from queue.dependency").await, 2);
    bench.sql("update queue.dependency set settled_at = now() - interval '2 days'").await;
    dependency::forget(&mut conn, Retention { days: 1 }).await.unwrap();
    let left: Vec<i64> =
        sqlx::query_scalar("select waiter from queue.dependency").fetch_all(&bench.pool).await.unwrap();
    assert_eq!(left, [ids[1].0], "a live waiter keeps what it waited for");
}
