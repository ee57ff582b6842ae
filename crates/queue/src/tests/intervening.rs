//! What an operator does, together with what belongs to it.

use chrono::{DateTime, Utc};

use super::support::{Bench, act, bench};
use crate::{CapOn, JobId, Limit, NewSchedule, Priority, RetryRefused, State, Timetable};

fn later() -> DateTime<Utc> {
    "2099-01-01T00:00:00Z".parse().unwrap()
}

/// Everything that an operator can change, as text.
async fn picture(bench: &Bench) -> String {
    sqlx::query_scalar(
        "select jsonb_build_object(
            'jobs', (select jsonb_agg(j order by id) from queue.job j),
            'history', (select jsonb_agg(h order by id) from queue.job_history h),
            'reasons', (select jsonb_agg(r order by at) from queue.reason_change r),
            'queues', (select jsonb_agg(q) from queue.queue q), 'pauses', (select jsonb_agg(p) from queue.pause p),
            'caps', (select jsonb_agg(c) from queue.cap c), 'governed', (select jsonb_agg(g) from queue.governed g),
            'frozen', (select jsonb_agg(f) from queue.frozen_tenant f),
            'schedules', (select jsonb_agg(s) from queue.schedule s), 'fires', (select jsonb_agg(f) from queue.fire f)
        )::text",
    )
    .fetch_one(bench.queue.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn an_intervention_that_is_not_committed_never_was() {
    let bench = bench().await;
    let (one, two) = (bench.enqueue("one").await, bench.enqueue("two").await);
    let tenant = uuid::Uuid::new_v4();
    let owned = bench.queue.enqueue(act("owned").tenant(tenant)).await.unwrap().id;
    let schedule = NewSchedule::new("nightly", Timetable::parse("@daily", "UTC").unwrap(), act("nightly"));
    bench.queue.put_schedule(&schedule).await.unwrap();
    bench.queue.cancel(two, "ben").await.unwrap();
    let before = picture(&bench).await;

    let mut intervention = bench.queue.intervene().await.unwrap();
    intervention.snooze(one, later(), "ada").await.unwrap();
    intervention.reprioritise(one, Priority::High).await.unwrap();
    intervention.cancel(one, "ada").await.unwrap();
    intervention.retry(two).await.unwrap();
    intervention.enqueue(&[act("three")]).await.unwrap();
    intervention.freeze(tenant, "ada", "a test").await.unwrap();
    intervention.thaw(tenant).await.unwrap();
    intervention.pause("default", "ada", None).await.unwrap();
    intervention.resume("default").await.unwrap();
    intervention
        .set_limit(&Limit::Cap { queue: Some("default".into()), on: CapOn::Queue, running_max: 1 })
        .await
        .unwrap();
    intervention.run_schedule(&schedule.name()).await.unwrap();
    intervention.pause_schedule(&schedule.name(), "ada", None).await.unwrap();
    intervention.delete_schedule(&schedule.name()).await.unwrap();
    intervention.forget("ben", "somebody").await.unwrap();
    let refused = intervention.release(owned, "ada").await;
    assert!(matches!(refused, Err(RetryRefused::NotQuarantined { state: State::Ready, .. })), "{refused:?}");
    drop(intervention);
    assert_eq!(picture(&bench).await, before);
}

#[tokio::test]
async fn what_is_written_beside_an_intervention_commits_with_it() {
    let bench = bench().await;
    let mut conn = bench.queue.pool().acquire().await.unwrap();
    sqlx::raw_sql("create table deed (job bigint not null)").execute(&mut *conn).await.unwrap();
    for commits in [false, true] {
        let id = bench.enqueue("x").await;
        let mut intervention = bench.queue.intervene().await.unwrap();
        intervention.cancel(id, "ada").await.unwrap();
        let deed = sqlx::query("insert into deed values ($1)").bind(id.0);
        deed.execute(intervention.connection()).await.unwrap();
        if commits {
            intervention.commit().await.unwrap();
        } else {
            drop(intervention);
        }
        let recorded: Vec<i64> =
            sqlx::query_scalar("select job from deed").fetch_all(&mut *conn).await.unwrap();
        let state = bench.state(id).await;
        assert_eq!(
            (recorded, state),
            if commits { (vec![id.0], State::Cancelled) } else { (vec![], State::Ready) }
        );
    }
}

#[tokio::test]
async fn an_operators_name_is_taken_out_of_every_note_and_no_other() {
    let bench = bench().await;
    let ids: Vec<JobId> = [bench.enqueue("one").await, bench.enqueue("two").await].into();
    let tenant = uuid::Uuid::new_v4();
    for by in ["ada", "nevada"] {
        bench.queue.pause(by, by, None).await.unwrap();
        bench.queue.pause(&format!("past {by}"), by, None).await.unwrap();
        bench.queue.resume(&format!("past {by}")).await.unwrap();
    }
    bench.queue.freeze(tenant, "ada", "a test").await.unwrap();
    bench.queue.snooze(ids[0], later(), "ada").await.unwrap();
    bench.queue.cancel(ids[1], "ada").await.unwrap();
    let schedule = NewSchedule::new("nightly", Timetable::parse("@daily", "UTC").unwrap(), act("nightly"));
    bench.queue.put_schedule(&schedule).await.unwrap();
    bench.queue.pause_schedule(&schedule.name(), "ada", None).await.unwrap();

    let mut intervention = bench.queue.intervene().await.unwrap();
    intervention.forget("ada", "somebody").await.unwrap();
    intervention.commit().await.unwrap();
    // The two queues that are called so keep their names.
    let after = picture(&bench).await.replace("\"name\": \"ada\"", "").replace("past ada", "");
    assert!(after.contains("\"nevada\"") && after.contains("cancelled by somebody"), "{after}");
    assert!(!after.replace("nevada", "").contains("ada"), "{after}");
}
