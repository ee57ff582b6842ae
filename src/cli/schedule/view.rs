//! Schedules and their fires, as they are shown.

use std::io;

use chrono::{DateTime, Utc};
use queue::{Backfilled, JobId, ScheduleRecord, Timetable, Upcoming};
use serde::Serialize;

use super::super::{
    job::Names,
    output::{Answer, Page, Table},
};

const UTC: &str = "%Y-%m-%d %H:%M:%S UTC";
const LOCAL: &str = "%a %Y-%m-%d %H:%M:%S %:z";

#[derive(Serialize)]
pub(super) struct Listed {
    schedules: Vec<Listing>,
}

#[derive(Serialize)]
struct Listing {
    /// The tenant's name, in place of its id.
    tenant: Option<String>,
    #[serde(flatten)]
    schedule: serde_json::Value,
    #[serde(skip)]
    record: ScheduleRecord,
}

impl Listed {
    pub(super) fn of(schedules: Vec<ScheduleRecord>, names: &Names) -> Self {
        let listing = |record: ScheduleRecord| {
            let tenant = record.tenant.map(|id| names.get(&id).cloned().unwrap_or_else(|| id.to_string()));
            let mut schedule = serde_json::to_value(&record).expect("a record can always be serialized");
            schedule.as_object_mut().expect("a record is an object").remove("tenant");
            Listing { tenant, schedule, record }
        };
        Self { schedules: schedules.into_iter().map(listing).collect() }
    }
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.schedules.is_empty() {
            return page.line("there are no schedules: make one with `tenure schedule create`");
        }
        let mut table = Table::new(["NAME", "TENANT", "KIND", "WHEN", "NEXT FIRE", "LAST FIRE", "STATE"]);
        for Listing { tenant, record, .. } in &self.schedules {
            table.row(&[
                record.name.clone(),
                tenant.clone().unwrap_or_else(|| "-".to_owned()),
                record.kind.clone(),
                format!("{} ({}, {})", record.cron_in_words.trim_end_matches('.'), record.cron, record.zone),
                record
                    .next_fire_at
                    .filter(|_| record.paused_at.is_none())
                    .map_or_else(dash, |at| local(record, at)),
                record.last_fire_at.map_or_else(dash, |at| local(record, at)),
                state(record),
            ]);
        }
        page.table(&table)
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// As the schedule's zone shows it, or in UTC where the zone is unknown here.
fn local(record: &ScheduleRecord, at: DateTime<Utc>) -> String {
    match Timetable::parse(&record.cron, &record.zone) {
        Ok(timetable) => timetable.local(at).format(LOCAL).to_string(),
        Err(_) => at.format(UTC).to_string(),
    }
}

fn state(record: &ScheduleRecord) -> String {
    let state = match (record.paused_at, &record.fault) {
        (Some(at), _) => {
            let by = record.paused_by.as_deref().unwrap_or("somebody");
            let reason =
                record.pause_reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("paused since {} by {by}{reason}", at.format("%Y-%m-%d %H:%M UTC"))
        }
        (None, Some(fault)) => format!("cannot fire: {fault}"),
        (None, None) => "active".to_owned(),
    };
    match record.missed_total {
        0 => state,
        missed => format!("{state}, {missed} missed"),
    }
}

#[derive(Serialize)]
pub(super) struct Next {
    pub(super) cron: String,
    pub(super) cron_in_words: String,
    pub(super) zone: String,
    pub(super) fires: Vec<Upcoming>,
}

impl Answer for Next {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(format_args!(
            "{} ({}, {})",
            self.cron_in_words.trim_end_matches('.'),
            self.cron,
            self.zone
        ))?;
        fires(page, &self.fires)
    }
}

fn fires(page: &mut Page<'_>, fires: &[Upcoming]) -> io::Result<()> {
    let mut table = Table::new(["UTC", "LOCAL", "JOB RUNS FROM"]);
    for fire in fires {
        table.row(&[
            fire.fire_at.format(UTC).to_string(),
            fire.local.format(LOCAL).to_string(),
            fire.run_at.format(UTC).to_string(),
        ]);
    }
    page.table(&table)
}

#[derive(Serialize)]
pub(super) struct Created {
    pub(super) name: String,
    pub(super) tenant: Option<String>,
    pub(super) kind: &'static str,
    pub(super) queue: String,
    pub(super) cron_in_words: String,
    pub(super) zone: &'static str,
    pub(super) replaced: bool,
    pub(super) fires: Vec<Upcoming>,
    pub(super) dry_run: bool,
}

impl Answer for Created {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let how = match (self.dry_run, self.replaced) {
            (true, true) => "would be replaced",
            (true, false) => "would be created",
            (false, true) => "was replaced",
            (false, false) => "was created",
        };
        let whose = self.tenant.as_deref().map(|tenant| format!(" for tenant {tenant}")).unwrap_or_default();
        page.line(format_args!("the schedule {} {how}: {}{whose} in {}", self.name, self.kind, self.queue))?;
        page.line(format_args!("{} ({})", self.cron_in_words.trim_end_matches('.'), self.zone))?;
        fires(page, &self.fires)
    }
}

/// What became of a schedule.
#[derive(Serialize)]
pub(super) struct Acted<'a> {
    schedule: &'a str,
    state: &'static str,
    changed: bool,
    job: Option<JobId>,
    dry_run: bool,
}

impl<'a> Acted<'a> {
    pub(super) fn moved(schedule: &'a str, state: &'static str, changed: bool, dry_run: bool) -> Self {
        Self { schedule, state, changed, job: None, dry_run }
    }

    /// Without a job it was a dry run.
    pub(super) fn run(schedule: &'a str, job: Option<JobId>) -> Self {
        Self { schedule, state: "run", changed: true, job, dry_run: job.is_none() }
    }
}

impl Answer for Acted<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { schedule, state, .. } = self;
        if let Some(job) = self.job {
            page.line(format_args!("job {job}: the schedule {schedule} was run"))?;
            return page.line(format_args!("follow it with `tenure job wait {job}`"));
        }
        let how = match (self.dry_run, self.changed) {
            (true, true) => "would be",
            (true, false) => "would stay",
            (false, true) => "is now",
            (false, false) => "was already",
        };
        page.line(format_args!("the schedule {schedule} {how} {state}"))
    }
}

#[derive(Serialize)]
pub(super) struct Backfilling<'a> {
    schedule: &'a str,
    enqueued: usize,
    existing: usize,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    dry_run: bool,
}

impl<'a> Backfilling<'a> {
    pub(super) fn of(schedule: &'a str, done: &Backfilled, dry_run: bool) -> Self {
        let (first, last) = (done.fires.first().copied(), done.fires.last().copied());
        Self { schedule, enqueued: done.fires.len(), existing: done.existing, first, last, dry_run }
    }
}

impl Answer for Backfilling<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let how = if self.dry_run { "would be" } else { "were" };
        let range = match (self.first, self.last) {
            (Some(first), Some(last)) => format!(", from {} to {}", first.format(UTC), last.format(UTC)),
            _ => String::new(),
        };
        page.line(format_args!(
            "{} jobs of the schedule {} {how} enqueued{range}",
            self.enqueued, self.schedule
        ))?;
        match self.existing {
            0 => Ok(()),
            existing => page.line(format_args!("{existing} fire times of the range had theirs before")),
        }
    }
}
