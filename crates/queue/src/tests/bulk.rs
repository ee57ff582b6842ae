//! One action on many jobs: only what was previewed, once on each job, and nothing on a job that moved.

use std::time::Duration;

use super::support::{Bench, Hand, act, bench, failure};
use crate::{
    BulkAction, BulkError, BulkFilter, BulkPlan, BulkProgress, BulkRefused, Cancelled, ChangeRefused,
    Claimed, JobId, Priority, State, WaitReason, bulk::Operation, outcome::Outcome,
};

/// Jobs of a page: few, so that small tests have several.
const PAGE: u32 = 3;

fn of_queue(queue: &str) -> BulkFilter {
    BulkFilter { queue: Some(queue.to_owned()), ..BulkFilter::default() }
}

fn in_state(state: State) -> BulkFilter {
    BulkFilter { states: vec![state], ..of_queue("default") }
}

/// An operation whose job is held by hand.
struct Operating {
    hand: Hand,
    claimed: Claimed,
}

impl Operating {
    async fn begin(bench: &Bench) -> Self {
        let id = bench.queue.enqueue(act("operation").queue("operations")).await.unwrap().id;
        let mut hand = Hand::of_queue(bench, "operations").await;
        let claimed = hand.claim_one().await;
        assert_eq!(claimed.id, id);
        Self { hand, claimed }
    }

    async fn step(&self, bench: &Bench, plan: &BulkPlan) -> Result<BulkProgress, BulkError> {
        let operation = Operation { job: self.claimed.id, fence: self.claimed.fence };
        bench.queue.carry_out(operation, plan, "ada", PAGE).await
    }

    /// Carries out the rest, and answers how often each number of jobs was acted on and skipped.
    async fn finish(&self, bench: &Bench, plan: &BulkPlan) -> BulkProgress {
        loop {
            let progress = self.step(bench, plan).await.unwrap();
            if progress.is_done() {
                return progress;
            }
        }
    }

    async fn reasons(&self, bench: &Bench) -> Vec<(String, u64)> {
        let skipped = bench.queue.bulk_skipped(self.claimed.id).await.unwrap();
        skipped.into_iter().map(|outcome| (outcome.reason, outcome.jobs)).collect()
    }
}

async fn plan(bench: &Bench, filter: BulkFilter, action: BulkAction) -> BulkPlan {
    bench.queue.bulk_preview(filter, action).await.unwrap().plan
}

async fn jobs(bench: &Bench, count: usize) -> Vec<JobId> {
    let made = bench.queue.enqueue_all(&vec![act("x"); count]).await.unwrap();
    made.iter().map(|made| made.id).collect()
}

async fn cancelled(bench: &Bench, count: usize) -> Vec<JobId> {
    let ids = jobs(bench, count).await;
    for id in &ids {
        assert_eq!(bench.queue.cancel(*id, "the test").await.unwrap(), Cancelled::Never);
    }
    ids
}

async fn states(bench: &Bench, ids: &[JobId]) -> Vec<State> {
    let mut states = Vec::new();
    for id in ids {
        states.push(bench.state(*id).await);
    }
    states
}

#[tokio::test]
async fn an_empty_filter_is_refused_however_it_is_empty() {
    let bench = bench().await;
    let all = State::ALL.to_vec();
    for empty in [
        BulkFilter::default(),
        BulkFilter { states: all, ..BulkFilter::default() },
        BulkFilter { note: Some(String::new()), ..BulkFilter::default() },
    ] {
        let refused = bench.queue.bulk_preview(empty, BulkAction::Cancel).await.unwrap_err();
        assert!(matches!(refused, BulkError::Refused(BulkRefused::Empty)), "{refused}");
    }
    let now = bench.now().await;
    let backwards =
        BulkFilter { created_from: Some(now), created_before: Some(now), ..BulkFilter::default() };
    let refused = bench.queue.bulk_preview(backwards, BulkAction::Cancel).await.unwrap_err();
    assert!(matches!(refused, BulkError::Refused(BulkRefused::Backwards)), "{refused}");
}

#[tokio::test]
async fn a_token_confirms_what_was_previewed_and_nothing_else() {
    let bench = bench().await;
    let last = *jobs(&bench, 2).await.last().unwrap();
    let seen = plan(&bench, of_queue("default"), BulkAction::Retry).await;
    assert_eq!(seen.up_to(), last);
    let token = seen.token();
    let confirm = |filter, action, token: &str| BulkPlan::confirmed(filter, action, token);
    assert_eq!(confirm(of_queue("default"), BulkAction::Retry, &token).unwrap(), seen);
    let newer = token.replacen(&last.to_string(), "99", 1);
    for (filter, action, token) in [
        (of_queue("other"), BulkAction::Retry, &*token),
        (of_queue("default"), BulkAction::Cancel, &token),
        (of_queue("default"), BulkAction::Retry, &newer),
        (of_queue("default"), BulkAction::Retry, "yes"),
    ] {
        assert!(matches!(confirm(filter, action, token), Err(BulkRefused::Changed)));
    }
    let stored = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<BulkPlan>(&stored).unwrap(), seen);
    let forged = stored.replace(r#""default""#, r#""other""#);
    assert!(
        serde_json::from_str::<BulkPlan>(&forged).unwrap_err().to_string().contains("not what was previewed")
    );
}

#[tokio::test]
async fn a_preview_counts_shows_a_sample_and_does_nothing() {
    let bench = bench().await;
    let gone = cancelled(&bench, 12).await;
    jobs(&bench, 3).await;
    bench.queue.enqueue(act("x").queue("other")).await.unwrap();
    let preview =
        bench.queue.bulk_preview(of_queue("default"), BulkAction::Snooze { until: bench.now().await });
    let preview = preview.await.unwrap();
    assert_eq!(preview.states, [(State::Ready, 3), (State::Cancelled, 12)]);
    assert_eq!((preview.matched, preview.admitted, preview.is_exact), (15, 3, true));
    assert_eq!(preview.sample.iter().map(|job| job.id).collect::<Vec<_>>(), gone[..10]);
    assert_eq!(bench.count("select count(*) from queue.bulk").await, 0);
    assert_eq!(bench.count("select count(*) from queue.job where state = 0").await, 4);
}

#[tokio::test]
async fn every_field_of_a_filter_narrows() {
    let bench = bench().await;
    let tenant = uuid::Uuid::new_v4();
    let later = bench.now().await + Duration::from_hours(1);
    let special = act("x").queue("q").tenant(tenant).priority(Priority::Low).run_at(later);
    let special = bench.queue.enqueue(special).await.unwrap().id;
    jobs(&bench, 3).await;
    let gone = cancelled(&bench, 1).await;
    bench.sql("update queue.job_history set note = 'connection refused'").await;
    bench.sql("update queue.job set created_at = now() - interval '1 d' where queue = 'q'").await;
    let hour = |hours| Some(later + Duration::from_hours(1) * hours - Duration::from_hours(2));
    let any = BulkFilter::default;
    for (filter, expected) in [
        (of_queue("q"), vec![special]),
        (BulkFilter { kind: Some("act".into()), queue: Some("q".into()), ..any() }, vec![special]),
        (BulkFilter { kind: Some("brief_act".into()), ..any() }, vec![]),
        (BulkFilter { tenant: Some(tenant), ..any() }, vec![special]),
        (BulkFilter { priority: Some(Priority::Low), ..any() }, vec![special]),
        (BulkFilter { due_from: hour(2), ..any() }, vec![special]),
        (BulkFilter { due_before: hour(2), states: vec![State::Cancelled], ..any() }, gone.clone()),
        (BulkFilter { created_before: hour(0), ..any() }, vec![special]),
        (BulkFilter { created_from: hour(0), states: vec![State::Cancelled], ..any() }, gone.clone()),
        (BulkFilter { finished_from: hour(0), ..any() }, gone.clone()),
        (BulkFilter { finished_before: hour(0), ..any() }, vec![]),
        (BulkFilter { note: Some("n refused".into()), ..any() }, gone),
    ] {
        let said = format!("{filter:?}");
        let preview = bench.queue.bulk_preview(filter, BulkAction::Cancel).await.unwrap();
        assert_eq!(preview.sample.iter().map(|job| job.id).collect::<Vec<_>>(), expected, "{said}");
    }
}

#[tokio::test]
async fn ten_thousand_failed_jobs_run_again_and_each_once() {
    let bench = bench().await;
    bench
        .sql(
            "insert into queue.job_history (id, fence, run_at, created_at, finished_at, outcome, priority, attempt,
                attempts_max, failures, losses, crashes, queue, kind, payload)
             select nextval('queue.job_id'), i, now(), now(), now(), 2, 2, 3, 3, 3, 0, 0, 'default', 'act',
                '{\"name\":\"x\"}' from generate_series(1, 10000) as i",
        )
        .await;
    let plan = plan(&bench, in_state(State::Failed), BulkAction::Retry).await;
    let operating = Operating::begin(&bench).await;
    let operation = Operation { job: operating.claimed.id, fence: operating.claimed.fence };
    let began = std::time::Instant::now();
    let mut pages = 0;
    while !bench.queue.carry_out(operation, &plan, "ada", 500).await.unwrap().is_done() {
        pages += 1;
    }
    println!("10,000 jobs in {pages} pages and {:?}", began.elapsed());
    let back = "select count(*) from queue.job where state = 0 and failures = 0 and attempt = 3 and queue = 'default'";
    assert_eq!(bench.count(back).await, 10_000);
    assert_eq!(bench.count("select count(*) from queue.job_history").await, 0);
    assert_eq!(bench.count("select count(*) from queue.bulk_outcome where outcome = 1").await, 10_000);
}

#[tokio::test]
async fn a_job_that_moved_since_it_was_chosen_is_skipped_with_the_reason() {
    let bench = bench().await;
    let ids = jobs(&bench, 5).await;
    let plan = plan(&bench, of_queue("default"), BulkAction::Reprioritise { to: Priority::Urgent }).await;
    let operating = Operating::begin(&bench).await;
    assert_eq!(operating.step(&bench, &plan).await.unwrap().chosen, 5);

    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim(2).await;
    let later = Outcome::Retry { failure: failure("x"), after: Duration::ZERO };
    assert!(hand.end(&claimed[1], later).await, "it is ready again, and has run");
    bench.queue.cancel(ids[2], "the test").await.unwrap();
    bench.queue.cancel(ids[3], "the test").await.unwrap();
    bench.sql("delete from queue.job_history where id = (select max(id) from queue.job_history)").await;

    let done = operating.finish(&bench, &plan).await;
    assert_eq!((done.chosen, done.acted, done.skipped), (5, 1, 4));
    let reasons: Vec<String> =
        operating.reasons(&bench).await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(
        reasons,
        [
            "it has left history",
            "it was ready when it was chosen and has moved since",
            "it was ready when it was chosen and is cancelled now",
            "it was ready when it was chosen and is running now",
        ]
    );
    let priorities = "select count(*) from queue.job where priority = 0";
    assert_eq!((bench.count(priorities).await, bench.record(ids[4]).await.priority), (1, 0));
}

#[tokio::test]
async fn a_job_made_after_the_preview_is_left_alone() {
    let bench = bench().await;
    let before = jobs(&bench, 1).await;
    let plan = plan(&bench, of_queue("default"), BulkAction::Cancel).await;
    let after = jobs(&bench, 2).await;
    let done = Operating::begin(&bench).await.finish(&bench, &plan).await;
    assert_eq!((done.chosen, done.acted), (1, 1));
    assert_eq!(states(&bench, &before).await, [State::Cancelled]);
    assert_eq!(states(&bench, &after).await, [State::Ready; 2]);
}

#[tokio::test]
async fn an_operation_meets_an_earlier_one_and_never_itself() {
    let bench = bench().await;
    let earlier = Operating::begin(&bench).await;
    let plan = plan(&bench, of_queue("operations"), BulkAction::Cancel).await;
    let operating = Operating::begin(&bench).await;
    let done = operating.finish(&bench, &plan).await;
    assert_eq!((done.chosen, done.acted), (1, 1));
    assert!(bench.record(earlier.claimed.id).await.cancel_requested, "a running one is told");
    assert!(!bench.record(operating.claimed.id).await.cancel_requested);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operations_on_the_same_jobs_act_once_on_each() {
    let bench = bench().await;
    let ids = cancelled(&bench, 20).await;
    let plan = plan(&bench, in_state(State::Cancelled), BulkAction::Retry).await;
    let (one, other) = (Operating::begin(&bench).await, Operating::begin(&bench).await);
    for operating in [&one, &other] {
        assert_eq!(operating.step(&bench, &plan).await.unwrap().chosen, 20);
    }
    let (one, other) = tokio::join!(one.finish(&bench, &plan), other.finish(&bench, &plan));
    assert_eq!((one.acted + other.acted, one.skipped + other.skipped), (20, 20));
    assert_eq!(states(&bench, &ids).await, [State::Ready; 20]);
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_acts_on_nothing() {
    let bench = bench().await;
    let ids = jobs(&bench, 4).await;
    let plan = plan(&bench, of_queue("default"), BulkAction::Cancel).await;
    let zombie = Operating::begin(&bench).await;
    zombie.step(&bench, &plan).await.unwrap();
    bench.expire(zombie.claimed.id).await;
    bench.rescue(&[]).await;
    assert!(matches!(zombie.step(&bench, &plan).await, Err(BulkError::Fenced)));
    assert_eq!(states(&bench, &ids).await, [State::Ready; 4]);

    let Operating { mut hand, .. } = zombie;
    let claimed = hand.claim_one().await;
    let newer = Operating { hand, claimed };
    let done = newer.finish(&bench, &plan).await;
    assert_eq!((done.chosen, done.acted), (4, 4), "what was chosen before stays chosen");
    assert!(newer.step(&bench, &plan).await.unwrap().is_done(), "a repetition finds nothing to do");
    assert_eq!(bench.count("select count(*) from queue.bulk_outcome").await, 4);
}

#[tokio::test]
async fn a_job_whose_unique_key_is_taken_stays_in_history() {
    let bench = bench().await;
    for key in ["a", "a", "b"] {
        let id = bench.queue.enqueue(act("x").unique_key(key)).await.unwrap().id;
        bench.queue.cancel(id, "the test").await.unwrap();
    }
    let plan = plan(&bench, in_state(State::Cancelled), BulkAction::Retry).await;
    bench.queue.enqueue(act("x").unique_key("b")).await.unwrap();
    let operating = Operating::begin(&bench).await;
    let done = operating.finish(&bench, &plan).await;
    assert_eq!((done.acted, done.skipped), (1, 2), "one with the key a comes back");
    assert_eq!(operating.reasons(&bench).await, [("another live job has its unique key".to_owned(), 2)]);
    assert_eq!(bench.count("select count(*) from queue.job_history").await, 2);
}

#[tokio::test]
async fn what_a_state_does_not_admit_is_skipped_with_what_it_would_take() {
    let bench = bench().await;
    jobs(&bench, 1).await;
    Hand::new(&bench).await.claim_one().await;
    let until = bench.now().await + Duration::from_hours(1);
    let plan = plan(&bench, of_queue("default"), BulkAction::Snooze { until }).await;
    let operating = Operating::begin(&bench).await;
    assert_eq!(operating.finish(&bench, &plan).await.skipped, 1);
    let reason = "it is running: only a job that is ready can be snoozed".to_owned();
    assert_eq!(operating.reasons(&bench).await, [(reason, 1)]);
}

#[tokio::test]
async fn an_operation_is_forgotten_with_its_history() {
    let bench = bench().await;
    jobs(&bench, 1).await;
    let plan = plan(&bench, of_queue("default"), BulkAction::Cancel).await;
    let mut operating = Operating::begin(&bench).await;
    operating.finish(&bench, &plan).await;
    bench.sql("update queue.bulk set created_at = now() - interval '9 d'").await;
    let keep = crate::Retention { days: 8 };
    bench.queue.drop_expired(keep).await.unwrap();
    assert_eq!(bench.count("select count(*) from queue.bulk").await, 1, "its job is live");
    assert!(operating.hand.end(&operating.claimed, Outcome::Succeeded(crate::Done::new())).await);
    bench.queue.drop_expired(keep).await.unwrap();
    assert_eq!(bench.count("select count(*) from queue.bulk_outcome").await, 0);
}

#[tokio::test]
async fn a_snoozed_job_waits_for_its_time_and_says_who_asked() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let until = bench.now().await + Duration::from_hours(1);
    bench.queue.snooze(id, until, "ada").await.unwrap();
    let record = bench.record(id).await;
    assert_eq!((record.reason, record.note.as_deref()), (WaitReason::Snoozed, Some("snoozed by ada")));
    assert!((record.run_at - until).abs() < chrono::TimeDelta::milliseconds(1));
    let mut hand = Hand::new(&bench).await;
    assert!(hand.claim(1).await.is_empty());
    bench.queue.snooze(id, until - Duration::from_hours(2), "ada").await.unwrap();
    assert!(bench.record(id).await.run_at <= bench.now().await, "a time that is over makes it due");
    hand.claim_one().await;
    let refused = bench.queue.snooze(id, until, "ada").await.unwrap_err().to_string();
    assert_eq!(refused, format!("job {id} is running: only a job that is ready can be snoozed"));
    assert!(matches!(
        bench.queue.snooze(JobId(99), until, "ada").await,
        Err(ChangeRefused::NotFound(JobId(99)))
    ));
}

#[tokio::test]
async fn a_job_with_another_priority_is_drawn_from_its_new_lane() {
    let bench = bench().await;
    let (first, second) = (bench.enqueue("1").await, bench.enqueue("2").await);
    bench.queue.reprioritise(second, Priority::Urgent).await.unwrap();
    let mut hand = Hand::new(&bench).await;
    assert_eq!(hand.claim_one().await.id, second);
    bench.queue.cancel(first, "the test").await.unwrap();
    let refused = bench.queue.reprioritise(first, Priority::Low).await.unwrap_err().to_string();
    assert!(refused.contains("is cancelled: only a job that is ready or waits"), "{refused}");
}

#[tokio::test]
async fn those_that_wait_for_a_job_hear_of_its_bulk_cancellation_and_come_back_only_with_it() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let child = bench
        .queue
        .enqueue(act("child").queue("children").after([parent], crate::Until::Succeeded))
        .await
        .unwrap()
        .id;
    let cancel = plan(&bench, of_queue("default"), BulkAction::Cancel).await;
    Operating::begin(&bench).await.finish(&bench, &cancel).await;
    bench.await_state(child, State::Failed).await;

    let failed = BulkFilter { states: vec![State::Failed], ..of_queue("children") };
    let retry = plan(&bench, failed, BulkAction::Retry).await;
    let operating = Operating::begin(&bench).await;
    assert_eq!(operating.finish(&bench, &retry).await.skipped, 1);
    let reason = "a job that it waits for did not succeed: retry that first".to_owned();
    assert_eq!(operating.reasons(&bench).await, [(reason, 1)]);
    assert_eq!(bench.state(child).await, State::Failed);

    bench.queue.retry(parent).await.unwrap();
    let again = Operating::begin(&bench).await;
    assert_eq!(again.finish(&bench, &retry).await.acted, 1);
    assert_eq!(bench.state(child).await, State::Waiting);
}
