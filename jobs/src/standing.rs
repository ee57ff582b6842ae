//! The schedules that a tenant has from its first day.
//!
//! They are made once, in the transaction that enters the tenant, and are schedules as any other from then on: whoever
//! pauses, changes or deletes one has the last word.

use std::time::Duration;

use database::control::Tenant;
use queue::{NewJob, NewSchedule, Timetable, TimetableError};

use crate::{
    audit_checkpoint,
    drift_check::{self, DriftCheck},
    nightly_baseline,
};

/// Their time zone. Each tenant has a time of its own within the window, the same every night.
const ZONE: &str = "UTC";

/// A schedule that every tenant has, named after the kind of its jobs.
struct Standing {
    name: &'static str,
    cron: &'static str,
    /// Over how many hours the tenants are spread.
    spread: u64,
    job: fn(&Tenant) -> Result<NewJob, serde_json::Error>,
}

/// In the order of the night: what no longer holds, then what there is to do, then what happened is signed.
const ALL: [Standing; 3] = [
    Standing {
        name: "drift_check",
        cron: "0 1 * * *",
        spread: 1,
        job: |tenant| drift_check::job(tenant, &DriftCheck { days: drift_check::DAYS }),
    },
    Standing { name: "nightly_baseline", cron: "0 2 * * *", spread: 4, job: nightly_baseline::job },
    Standing { name: "audit_checkpoint", cron: "0 7 * * *", spread: 1, job: audit_checkpoint::job },
];

/// Why a standing schedule cannot be made: a mistake in this file.
#[derive(Debug, thiserror::Error)]
#[error("the standing schedule {name} cannot be made")]
pub struct StandingError {
    name: &'static str,
    #[source]
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Timetable(#[from] TimetableError),
    #[error(transparent)]
    Payload(#[from] serde_json::Error),
}

/// The schedules of a new tenant.
pub fn schedules(tenant: &Tenant) -> Result<Vec<NewSchedule>, StandingError> {
    let made = |standing: &Standing| {
        standing.made(tenant).map_err(|cause| StandingError { name: standing.name, cause })
    };
    ALL.iter().map(made).collect()
}

impl Standing {
    fn made(&self, tenant: &Tenant) -> Result<NewSchedule, Cause> {
        let timetable = Timetable::parse(self.cron, ZONE)?;
        let schedule = NewSchedule::new(self.name, timetable, (self.job)(tenant)?);
        Ok(schedule.jitter(Duration::from_hours(self.spread)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{catalogue, testing::Stage};

    #[tokio::test]
    async fn every_standing_schedule_is_taken_and_fires_its_own_kind_at_night() {
        let stage = Stage::new().await;
        for schedule in schedules(&stage.tenant).unwrap() {
            assert!(!stage.queue.put_schedule(&schedule).await.unwrap());
        }
        let listed = stage.queue.schedules(Some(stage.tenant.id.0)).await.unwrap();
        let names: BTreeSet<_> = listed.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["audit_checkpoint", "drift_check", "nightly_baseline"]));
        for schedule in &listed {
            let kind = catalogue().iter().find(|kind| kind.name == schedule.kind).unwrap();
            let payload = serde_json::value::to_raw_value(&schedule.payload).unwrap();
            (kind.check)(&payload).unwrap();
            assert_eq!((schedule.name.as_str(), schedule.zone.as_str()), (kind.name, "UTC"));
            assert_eq!(schedule.queue, stage.tenant.region.as_str());
            assert!(schedule.unique_key.is_some(), "fires of {} would pile up", schedule.name);
        }
        let baseline = listed.iter().find(|it| it.name == "nightly_baseline").unwrap();
        assert_eq!((baseline.cron.as_str(), baseline.jitter_secs), ("0 2 * * *", 4 * 3_600));
        assert!((0.0..14_400.0).contains(&baseline.offset_secs));
    }
}
