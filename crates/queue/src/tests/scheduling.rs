//! Schedules: each fire time once, whatever happens to those who look; gaps by their policy.

use std::{collections::BTreeSet, num::NonZeroU16, time::Duration};

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use serde_json::value::RawValue;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::support::{Bench, Stage, act, bench, never, quick, soon, until};
use crate::{
    BACKFILL_MAX, Done, EnqueueError, How, MissedFires, NewJob, NewSchedule, Retention, ScheduleError,
    ScheduleName, Timetable,
    schedule::fire::{self, Fired},
};

const HOUR: TimeDelta = TimeDelta::hours(1);

fn named(name: &str) -> ScheduleName {
    ScheduleName { tenant: None, name: name.to_owned() }
}

fn utc(cron: &str) -> Timetable {
    Timetable::parse(cron, "UTC").unwrap()
}

/// Every second.
fn ticking(name: &str) -> NewSchedule {
    NewSchedule::new(name, utc("* * * * * *"), act(name))
}

/// Every hour, half an hour away from now: a gap of hours ends with no fire that is due.
async fn hourly(bench: &Bench, name: &str) -> NewSchedule {
    let minute = (bench.now().await + TimeDelta::minutes(30)).minute();
    NewSchedule::new(name, utc(&format!("{minute} * * * *")), act(name))
}

impl Bench {
    async fn schedule(&self, schedule: &NewSchedule) {
        self.queue.put_schedule(schedule).await.unwrap();
    }

    /// Lets no worker have looked at any schedule for so long: what a clock that jumps forward does, too.
    async fn last_looked(&self, ago: TimeDelta) {
        let at = self.now().await - ago;
        sqlx::query("update queue.schedule set considered_at = $1, next_fire_at = $1 + interval '1 s'")
            .bind(at)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn fire(&self) -> Fired {
        fire::fire_due(&mut self.conn().await).await.unwrap()
    }

    /// The schedule's fires, oldest first.
    async fn fired(&self, name: &str) -> Vec<(DateTime<Utc>, How)> {
        let fires = self.queue.fires(&named(name), 10_000).await.unwrap();
        assert!(fires.iter().all(|fire| fire.job.is_some()));
        fires.iter().rev().map(|fire| (fire.fire_at, fire.how)).collect()
    }

    /// Every job belongs to one fire and every fire to one job.
    async fn fires_and_jobs_agree(&self) {
        let jobs = self.count("select count(*) from queue.job").await
            + self.count("select count(*) from queue.job_history").await;
        assert_eq!(jobs, self.count("select count(distinct job) from queue.fire").await);
        assert_eq!(jobs, self.count("select count(*) from queue.fire").await);
    }
}

/// What a schedule fires between two instants if nothing is lost.
fn expected(timetable: &Timetable, after: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    timetable.fires_after(after).take_while(|at| *at <= to).collect()
}

#[tokio::test]
async fn q10_four_schedulers_at_once_fire_each_time_once() {
    let bench = bench().await;
    for i in 0..12 {
        bench.schedule(&ticking(&format!("s{i}"))).await;
    }
    for _round in 0..5 {
        bench.last_looked(TimeDelta::seconds(30)).await;
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(4));
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (mut conn, barrier) = (bench.conn().await, barrier.clone());
            racers.spawn(async move {
                barrier.wait().await;
                // One at a time, so that they meet at every schedule.
                while fire::fire_batch(&mut conn, 1).await.unwrap().more {}
            });
        }
        soon(racers.join_all()).await;
    }
    bench.fires_and_jobs_agree().await;
    for i in 0..12 {
        let fired: Vec<_> = bench.fired(&format!("s{i}")).await.into_iter().map(|(at, _)| at).collect();
        let whole = expected(&utc("* * * * * *"), fired[0] - TimeDelta::seconds(1), *fired.last().unwrap());
        assert_eq!(fired, whole, "no second is missing, none comes twice");
        assert!(fired.len() >= 30);
    }
}

#[tokio::test]
async fn q10_workers_that_are_dropped_and_started_lose_no_second_and_double_none() {
    let bench = bench().await;
    bench.schedule(&ticking("tick").missed(MissedFires::All(NonZeroU16::new(1_000).unwrap()))).await;
    let count = async || bench.count("select count(*) from queue.fire").await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(bench.start(Stage::of_success(), quick()).await);
    }
    until(async || count().await >= 2).await;
    workers.pop().unwrap().abandon().await;
    workers.pop().unwrap().abandon().await;
    workers.push(bench.start(Stage::of_success(), quick()).await);
    until(async || count().await >= 4).await;
    for worker in workers {
        worker.stop().await;
    }
    let fired: Vec<_> = bench.fired("tick").await.into_iter().map(|(at, _)| at).collect();
    let whole = expected(&utc("* * * * * *"), fired[0] - TimeDelta::seconds(1), *fired.last().unwrap());
    assert_eq!(fired, whole);
    bench.fires_and_jobs_agree().await;
}

/// Waits until the session waits for a lock.
async fn await_blocked(bench: &Bench, pid: i32) {
    until(async || {
        sqlx::query_scalar("select wait_event_type = 'Lock' from pg_stat_activity where pid = $1")
            .bind(pid)
            .fetch_one(&bench.pool)
            .await
            .is_ok_and(|blocked: Option<bool>| blocked == Some(true))
    })
    .await;
}

async fn pid(conn: &mut PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn q10_a_scheduler_killed_between_the_fire_and_its_job_leaves_neither() {
    let bench = bench().await;
    bench.schedule(&hourly(&bench, "s").await).await;
    for table in ["queue.job", "queue.schedule"] {
        bench.last_looked(HOUR * 2).await;
        let before = bench.count("select count(*) from queue.fire").await;
        // The first stops it before the job, the second between the job and the cursor.
        let mut holder = bench.db.connect().await;
        let mut tx = holder.begin().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(match table {
            "queue.job" => "lock table queue.job in share mode".to_owned(),
            _ => "lock table queue.schedule in share mode".to_owned(),
        }))
        .execute(&mut *tx)
        .await
        .unwrap();
        let mut conn = bench.conn().await;
        let victim = pid(&mut conn).await;
        let firing = tokio::spawn(async move { fire::fire_due(&mut conn).await });
        await_blocked(&bench, victim).await;
        sqlx::query("select pg_terminate_backend($1)").bind(victim).execute(&bench.pool).await.unwrap();
        soon(firing).await.unwrap().unwrap_err();
        tx.rollback().await.unwrap();
        assert_eq!(bench.count("select count(*) from queue.fire").await, before);

        let fired = bench.fire().await;
        assert_eq!(
            fired.missed,
            usize::from(before == 0),
            "the next one does it; what was fired stays fired"
        );
        bench.fires_and_jobs_agree().await;
    }
}

#[tokio::test]
async fn q10_what_passed_unseen_gets_what_its_policy_says() {
    let bench = bench().await;
    let policies = [
        ("skip", MissedFires::Skip, 0),
        ("once", MissedFires::Once, 1),
        ("all", MissedFires::All(NonZeroU16::new(10).unwrap()), 5),
        ("bounded", MissedFires::All(NonZeroU16::new(3).unwrap()), 3),
    ];
    for (name, policy, _) in policies {
        bench.schedule(&hourly(&bench, name).await.missed(policy)).await;
    }
    // Half past, five times.
    bench.last_looked(HOUR * 5).await;
    let now = bench.now().await;
    bench.fire().await;
    for (name, _, wanted) in policies {
        let fired = bench.fired(name).await;
        assert_eq!(fired.len(), wanted, "{name}");
        assert!(fired.iter().all(|(_, how)| *how == How::Missed));
        let latest = fired.last().map(|(at, _)| now - *at);
        assert!(latest.is_none_or(|age| age < HOUR), "{name}: the latest are made up for, {latest:?}");
        let record = bench.queue.schedule(&named(name)).await.unwrap();
        assert_eq!(record.missed_total, 5 - i64::try_from(wanted).unwrap(), "{name}");
        assert!(record.next_fire_at.unwrap() > now, "{name}");
    }
    assert!(bench.fire().await.ring.queues.is_empty(), "once");
}

#[tokio::test]
async fn q10_a_fire_found_within_a_minute_is_due_under_every_policy() {
    let bench = bench().await;
    bench.schedule(&ticking("tick").missed(MissedFires::Skip)).await;
    bench.last_looked(TimeDelta::seconds(20)).await;
    let fired = bench.fire().await;
    assert!((20..=25).contains(&fired.due) && fired.skipped == 0, "{fired:?}");
}

#[tokio::test]
async fn q10_a_fire_that_is_due_stands_for_those_missed_before_it() {
    let bench = bench().await;
    bench.schedule(&ticking("tick")).await;
    bench.last_looked(HOUR).await;
    let fired = bench.fire().await;
    assert_eq!(fired.missed, 0, "the seconds of the last minute are due");
    assert!((58..=60).contains(&fired.due) && fired.skipped > 3_500, "{fired:?}");
}

#[tokio::test]
async fn q10_a_gap_of_a_year_is_judged_in_bounded_time_and_memory() {
    let bench = bench().await;
    bench.schedule(&ticking("tick").missed(MissedFires::All(NonZeroU16::new(1_000).unwrap()))).await;
    bench.last_looked(TimeDelta::days(365)).await;
    let began = std::time::Instant::now();
    let fired = bench.fire().await;
    assert_eq!((fired.missed, fired.skipped), (1_000, 9_000), "missed times are counted up to 10,000");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let all = bench.fired("tick").await;
    assert!(all.windows(2).all(|pair| pair[1].0 - pair[0].0 == TimeDelta::seconds(1)), "the latest thousand");
}

#[tokio::test]
async fn q10_a_clock_set_back_fires_nothing_again() {
    let bench = bench().await;
    bench.schedule(&ticking("tick")).await;
    bench.last_looked(TimeDelta::seconds(20)).await;
    bench.fire().await;
    let before = bench.fired("tick").await;
    // Seen from the clock that was set back, the last look lies in the future.
    sqlx::query(
        "update queue.schedule set considered_at = considered_at + interval '1 h', next_fire_at = now()",
    )
    .execute(&bench.pool)
    .await
    .unwrap();
    bench.fire().await;
    assert_eq!(bench.fired("tick").await, before);
    let next = bench.queue.schedule(&named("tick")).await.unwrap().next_fire_at.unwrap();
    assert!(next > bench.now().await + TimeDelta::minutes(59), "it goes on where it was: {next}");

    // A cursor that went back, as in a row restored from a copy, meets the fires that are there.
    bench.last_looked(TimeDelta::seconds(10)).await;
    bench.fire().await;
    bench.fires_and_jobs_agree().await;
    assert!(bench.fired("tick").await.len() <= before.len() + 5);
}

#[tokio::test]
async fn a_pause_is_no_gap() {
    let bench = bench().await;
    let all = MissedFires::All(NonZeroU16::new(10).unwrap());
    bench.schedule(&hourly(&bench, "s").await.missed(all)).await;
    assert!(bench.queue.pause_schedule(&named("s"), "ada", Some("the source moves")).await.unwrap());
    assert!(!bench.queue.pause_schedule(&named("s"), "ada", None).await.unwrap());
    bench.last_looked(HOUR * 3).await;
    assert_eq!(bench.fire().await.missed, 0);
    assert!(bench.queue.resume_schedule(&named("s")).await.unwrap());
    assert!(!bench.queue.resume_schedule(&named("s")).await.unwrap());
    let record = bench.queue.schedule(&named("s")).await.unwrap();
    assert!(record.next_fire_at.unwrap() > bench.now().await);
    bench.sql("update queue.schedule set next_fire_at = now()").await;
    bench.fire().await;
    assert_eq!(bench.fired("s").await, []);
    assert_eq!(bench.queue.schedule(&named("s")).await.unwrap().missed_total, 0);
}

#[tokio::test]
async fn a_schedule_deleted_while_due_fires_nothing_and_its_jobs_stay() {
    let bench = bench().await;
    bench.schedule(&ticking("s")).await;
    let job = bench.queue.run_schedule(&named("s")).await.unwrap();
    bench.last_looked(TimeDelta::seconds(20)).await;
    bench.queue.delete_schedule(&named("s")).await.unwrap();
    assert_eq!(bench.fire().await.due, 0);
    assert_eq!(bench.count("select count(*) from queue.fire").await, 0);
    assert_eq!(bench.record(job).await.kind, "act");
    let error = bench.queue.delete_schedule(&named("s")).await.unwrap_err();
    assert!(matches!(error, ScheduleError::NotFound(_)), "{error}");
}

#[tokio::test]
async fn a_schedule_that_cannot_fire_says_so_and_stops_no_other() {
    let bench = bench().await;
    for name in ["good", "garbled", "refused"] {
        bench.schedule(&ticking(name)).await;
    }
    bench.sql("update queue.schedule set cron = 'at noon' where name = 'garbled'").await;
    bench.sql("alter table queue.job add constraint no_refused check (payload->>'name' <> 'refused')").await;
    bench.last_looked(TimeDelta::seconds(10)).await;
    let mut faults = BTreeSet::new();
    loop {
        let fired = bench.fire().await;
        faults.extend(fired.faults.into_iter().map(|(name, _)| name));
        if !fired.more {
            break;
        }
    }
    assert_eq!(faults.into_iter().collect::<Vec<_>>(), ["garbled", "refused"]);
    assert!(bench.fired("good").await.len() >= 10);
    assert_eq!(bench.queue.schedule_figures().await.unwrap().faulty, 2);
    let record = bench.queue.schedule(&named("refused")).await.unwrap();
    assert!(record.fault.unwrap().contains("no_refused"));
    assert!(record.next_fire_at.unwrap() > bench.now().await, "it is left alone for a while");

    bench.sql("alter table queue.job drop constraint no_refused").await;
    bench.schedule(&ticking("refused")).await;
    let fired = bench.fire().await;
    assert!(fired.due >= 10, "mended, it fires at once what it had not: {fired:?}");
}

#[tokio::test]
async fn a_changed_line_counts_from_the_change_and_other_changes_keep_the_fire_times() {
    let bench = bench().await;
    let now = bench.now().await;
    bench.schedule(&hourly(&bench, "s").await).await;
    bench.last_looked(HOUR * 3).await;
    let before = bench.queue.schedule(&named("s")).await.unwrap();
    assert!(
        bench.queue.put_schedule(&hourly(&bench, "s").await.jitter(Duration::from_mins(1))).await.unwrap()
    );
    let same = bench.queue.schedule(&named("s")).await.unwrap();
    assert_eq!((same.next_fire_at, same.jitter_secs), (before.next_fire_at, 60));
    let amsterdam = Timetable::parse(&same.cron, "Europe/Amsterdam").unwrap();
    assert!(bench.queue.put_schedule(&NewSchedule::new("s", amsterdam, act("s"))).await.unwrap());
    bench.fire().await;
    assert_eq!(bench.fired("s").await, [], "what the old line had not been given is dropped");
    assert!(bench.queue.schedule(&named("s")).await.unwrap().next_fire_at.unwrap() > now);
}

#[tokio::test]
async fn jitter_spreads_tenants_over_the_window_and_is_the_same_every_time() {
    let bench = bench().await;
    let window = Duration::from_secs(1_000);
    let mut offsets = Vec::new();
    for i in 0..400_u128 {
        let job = act("nightly").tenant(Uuid::from_u128(i));
        let schedule = NewSchedule::new("nightly", utc("0 2 * * *"), job).jitter(window);
        let upcoming = bench.queue.preview(&schedule, 2).await.unwrap();
        let offset = upcoming[0].run_at - upcoming[0].fire_at;
        assert_eq!(upcoming[1].run_at - upcoming[1].fire_at, offset, "every night");
        assert_eq!(
            (upcoming[0].fire_at.hour(), upcoming[0].fire_at.minute()),
            (2, 0),
            "the fire stays where it is"
        );
        offsets.push(offset.num_milliseconds());
    }
    assert!(offsets.iter().all(|offset| (0..1_000_000).contains(offset)));
    for tenth in 0..10 {
        let share = offsets.iter().filter(|offset| **offset / 100_000 == tenth).count();
        assert!((15..=75).contains(&share), "{share} of 400 in tenth {tenth}");
    }
    bench.schedule(&ticking("s").jitter(Duration::from_secs(1))).await;
    bench.last_looked(TimeDelta::seconds(3)).await;
    bench.fire().await;
    let odd = "select count(*) from queue.fire f join queue.job j on j.id = f.job
        where j.run_at - f.fire_at <> (select min(j.run_at - f.fire_at) from queue.fire f join queue.job j on j.id = f.job)
           or j.run_at < f.fire_at or j.run_at >= f.fire_at + interval '1 s'";
    assert_eq!(bench.count(odd).await, 0);
}

#[tokio::test]
async fn a_job_learns_its_fire_time_and_one_that_was_not_scheduled_has_none() {
    let bench = bench().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let stage = Stage::new(move |_, attempt| {
        let tell = tell.clone();
        async move {
            tell.send((attempt.job(), attempt.fire_at().await.unwrap())).unwrap();
            Ok(Done::new())
        }
    });
    let plain = bench.enqueue("plain").await;
    bench.schedule(&ticking("tick")).await;
    let worker = bench.start(stage, quick()).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(soon(told.recv()).await.unwrap());
    }
    worker.stop().await;
    let fires = bench.queue.fires(&named("tick"), 100).await.unwrap();
    for (job, fire_at) in seen {
        let fire = fires.iter().find(|fire| fire.job == Some(job));
        assert_eq!((fire_at, job == plain), (fire.map(|fire| fire.fire_at), fire.is_none()));
    }
}

#[tokio::test]
async fn a_run_asked_for_stands_beside_the_fire_times_also_in_a_pause() {
    let bench = bench().await;
    bench.schedule(&hourly(&bench, "s").await).await;
    bench.queue.pause_schedule(&named("s"), "ada", None).await.unwrap();
    let before = bench.queue.schedule(&named("s")).await.unwrap().next_fire_at;
    let name = named("s");
    let (first, second) = tokio::join!(bench.queue.run_schedule(&name), bench.queue.run_schedule(&name));
    assert_ne!(first.unwrap(), second.unwrap());
    assert_eq!(bench.fired("s").await.iter().map(|(_, how)| *how).collect::<Vec<_>>(), [How::RunNow; 2]);
    assert_eq!(bench.queue.schedule(&named("s")).await.unwrap().next_fire_at, before);
}

#[tokio::test]
async fn a_unique_key_keeps_fires_from_piling_up() {
    let bench = bench().await;
    bench.schedule(&NewSchedule::new("s", utc("* * * * * *"), act("s").unique_key("one"))).await;
    bench.last_looked(TimeDelta::seconds(5)).await;
    assert!(bench.fire().await.due >= 5);
    assert_eq!(bench.count("select count(*) from queue.job").await, 1);
    assert_eq!(bench.count("select count(distinct job) from queue.fire").await, 1);
}

#[tokio::test]
async fn a_backfill_enqueues_what_was_not_fired_and_repeats_nothing() {
    let bench = bench().await;
    bench.schedule(&hourly(&bench, "s").await.missed(MissedFires::Skip)).await;
    let (from, to) = (bench.now().await - HOUR * 10, bench.now().await);
    let dry = bench.queue.backfill(&named("s"), from, to, true).await.unwrap();
    assert_eq!((dry.fires.len(), dry.existing), (10, 0));
    assert_eq!(bench.fired("s").await, [], "a dry run does nothing");
    let half = bench.queue.backfill(&named("s"), from, from + HOUR * 4, false).await.unwrap();
    let name = named("s");
    let again = || bench.queue.backfill(&name, from, to, false);
    let (a, b) = tokio::join!(again(), again());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((half.fires.len(), a.fires.len() + b.fires.len(), a.existing + b.existing), (4, 6, 14));
    let fired = bench.fired("s").await;
    assert_eq!(fired.iter().map(|(at, _)| *at).collect::<Vec<_>>(), dry.fires);
    bench.fires_and_jobs_agree().await;
    bench.last_looked(HOUR * 3).await;
    bench.schedule(&hourly(&bench, "s").await.missed(MissedFires::All(NonZeroU16::new(9).unwrap()))).await;
    assert_eq!(bench.fire().await.missed, 0, "a backfilled time is a fire time that was given");
}

#[tokio::test]
async fn a_backfill_that_is_too_large_empty_or_in_the_future_is_refused() {
    let bench = bench().await;
    bench.schedule(&ticking("s")).await;
    let now = bench.now().await;
    let refused =
        async |from, to| bench.queue.backfill(&named("s"), from, to, false).await.unwrap_err().to_string();
    let began = std::time::Instant::now();
    let million = refused(now - TimeDelta::seconds(1_000_000), now).await;
    assert!(million.starts_with("the range has more than 100000 fire times"), "{million}");
    let exact = refused(now - TimeDelta::seconds(20_000), now).await;
    assert!(exact.starts_with("the range has 20000 fire times; one backfill takes at most 10000"), "{exact}");
    assert!(refused(DateTime::<Utc>::MIN_UTC, now).await.contains("more than"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(refused(now, now - HOUR).await.starts_with("there is no fire time of s from"));
    assert!(refused(now, now + HOUR).await.starts_with("a backfill ends at the present"));
    assert!(refused(now, DateTime::<Utc>::MAX_UTC).await.starts_with("a backfill ends at the present"));
    assert_eq!(bench.count("select count(*) from queue.job").await, 0);
    let most = TimeDelta::seconds(i64::try_from(BACKFILL_MAX).unwrap());
    assert_eq!(
        bench.queue.backfill(&named("s"), now - most, now, false).await.unwrap().fires.len(),
        BACKFILL_MAX
    );
}

#[tokio::test]
async fn bad_schedules_are_refused_before_anything_is_written() {
    let bench = bench().await;
    let refused = async |schedule: NewSchedule| bench.queue.put_schedule(&schedule).await.unwrap_err();
    let error = refused(ticking("s").jitter(Duration::from_secs(2))).await;
    assert!(
        error
            .to_string()
            .starts_with("a jitter of 2 s is longer than the shortest time between two fires, 1 s")
    );
    let error = refused(ticking("s").jitter(Duration::MAX)).await;
    assert!(matches!(error, ScheduleError::JitterNotWhole), "{error}");
    let error = refused(ticking("s").jitter(Duration::from_secs(u64::MAX))).await;
    assert!(matches!(error, ScheduleError::JitterTooLong { .. }), "{error}");
    for name in ["", "a\nb", &"x".repeat(201)] {
        assert!(matches!(refused(ticking(name)).await, ScheduleError::BadName));
    }
    let error = refused(ticking("s").missed(MissedFires::All(NonZeroU16::MAX))).await;
    assert!(matches!(error, ScheduleError::TooManyMissed(_)), "{error}");
    let payload = RawValue::from_string(r#""\u0000""#.to_owned()).unwrap();
    let error = refused(NewSchedule::new("s", utc("@daily"), NewJob::raw("act", payload))).await;
    assert!(matches!(error, ScheduleError::Job(EnqueueError::PayloadUnstorable(_))), "{error:?}");
    assert_eq!(bench.queue.schedules(None).await.unwrap(), []);
}

#[tokio::test]
async fn a_name_is_unique_per_owner() {
    let bench = bench().await;
    let of = |tenant: u128| NewSchedule::new("s", utc("@daily"), act("s").tenant(Uuid::from_u128(tenant)));
    assert!(!bench.queue.put_schedule(&of(1)).await.unwrap());
    assert!(!bench.queue.check_schedule(&of(2)).await.unwrap());
    assert!(!bench.queue.put_schedule(&of(2)).await.unwrap(), "the check wrote nothing");
    assert!(!bench.queue.put_schedule(&ticking("s")).await.unwrap());
    assert!(bench.queue.put_schedule(&ticking("s")).await.unwrap());
    assert_eq!(bench.queue.schedules(None).await.unwrap().len(), 3);
    assert_eq!(bench.queue.schedules(Some(Uuid::from_u128(2))).await.unwrap().len(), 1);
    assert_eq!(bench.queue.schedule(&named("s")).await.unwrap().tenant, None, "nobody's is the platform's");
    let second = ScheduleName { tenant: Some(Uuid::from_u128(2)), name: "s".to_owned() };
    let job = bench.queue.run_schedule(&second).await.unwrap();
    assert_eq!(bench.record(job).await.tenant, Some(Uuid::from_u128(2)));
}

#[tokio::test]
async fn fires_go_with_the_history_of_their_jobs() {
    let bench = bench().await;
    bench.schedule(&ticking("s")).await;
    bench.queue.run_schedule(&named("s")).await.unwrap();
    bench.queue.run_schedule(&named("s")).await.unwrap();
    bench.sql("update queue.fire set inserted_at = now() - interval '9 days' where job = 1").await;
    fire::forget(&mut bench.conn().await, Retention { days: 7 }).await.unwrap();
    assert_eq!(bench.fired("s").await.len(), 1);
}

#[tokio::test]
async fn a_paused_worker_fleet_shows_as_lag() {
    let bench = bench().await;
    assert!(bench.queue.schedule_figures().await.unwrap().lag_secs < f64::EPSILON);
    bench.schedule(&ticking("s")).await;
    bench.last_looked(HOUR).await;
    let lag = bench.queue.schedule_figures().await.unwrap().lag_secs;
    assert!((3_590.0..3_700.0).contains(&lag), "{lag}");
    bench.queue.pause_schedule(&named("s"), "ada", None).await.unwrap();
    never(async || bench.queue.schedule_figures().await.unwrap().lag_secs > 0.0).await;
}
