//! Schedules.

use chrono::{DateTime, SecondsFormat, Utc};
use queue::{Backfilled, JobId, NewSchedule, ScheduleName};
use serde_json::{Value, json};

use super::{Deed, Operator, digest};

impl Operator<'_> {
    /// Answers whether there was one of the name before.
    pub(crate) async fn put_schedule(&self, schedule: &NewSchedule) -> anyhow::Result<bool> {
        let mut intervention = self.intervene().await?;
        let replaced = intervention.put_schedule(schedule).await?;
        let (job, timetable) = (schedule.job(), schedule.timetable());
        let mut body = named(&schedule.name());
        body["cron"] = timetable.cron().into();
        body["zone"] = timetable.zone().into();
        body["kind"] = job.kind().into();
        body["payload"] = json!(digest(job.payload()));
        let kind = if replaced { "schedule.changed" } else { "schedule.created" };
        self.commit(intervention, vec![Deed { kind, body }]).await?;
        Ok(replaced)
    }

    /// Answers whether it fired before.
    pub(crate) async fn pause_schedule(
        &self,
        name: &ScheduleName,
        reason: Option<&str>,
    ) -> anyhow::Result<bool> {
        let mut intervention = self.intervene().await?;
        let fired_before = intervention.pause_schedule(name, &self.by, reason).await?;
        let mut body = named(name);
        body["reason"] = json!(reason.map(digest));
        self.commit(intervention, vec![Deed { kind: "schedule.paused", body }]).await?;
        Ok(fired_before)
    }

    /// Answers whether it had been paused.
    pub(crate) async fn resume_schedule(&self, name: &ScheduleName) -> anyhow::Result<bool> {
        let mut intervention = self.intervene().await?;
        let resumed = intervention.resume_schedule(name).await?;
        let deed = resumed.then(|| Deed { kind: "schedule.resumed", body: named(name) });
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(resumed)
    }

    pub(crate) async fn delete_schedule(&self, name: &ScheduleName) -> anyhow::Result<()> {
        let mut intervention = self.intervene().await?;
        intervention.delete_schedule(name).await?;
        self.commit(intervention, vec![Deed { kind: "schedule.deleted", body: named(name) }]).await
    }

    pub(crate) async fn run_schedule(&self, name: &ScheduleName) -> anyhow::Result<JobId> {
        let mut intervention = self.intervene().await?;
        let job = intervention.run_schedule(name).await?;
        let mut body = named(name);
        body["job"] = job.to_string().into();
        self.commit(intervention, vec![Deed { kind: "schedule.run", body }]).await?;
        Ok(job)
    }

    pub(crate) async fn backfill(
        &self,
        name: &ScheduleName,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> anyhow::Result<Backfilled> {
        let mut intervention = self.intervene().await?;
        let backfilled = intervention.backfill(name, from, to).await?;
        let deed = (!backfilled.fires.is_empty()).then(|| {
            let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
            let mut body = named(name);
            body["from"] = time(from).into();
            body["to"] = time(to).into();
            body["jobs"] = backfilled.fires.len().into();
            Deed { kind: "schedule.backfilled", body }
        });
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(backfilled)
    }
}

fn named(schedule: &ScheduleName) -> Value {
    json!({"schedule": schedule.name, "tenant": schedule.tenant})
}
