//! Nights side by side, and which way they go. Pure: the same reports give the same window, in whatever order they come.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Days, NaiveDate};
use serde::Serialize;

use super::report::{PathCounts, PathResult, Report, basis_points};

/// The days of a window unless another length is asked for.
pub const WINDOW_DAYS: u32 = 14;

/// A smaller change than this, in ten-thousandths, is no trend.
pub const STEADY_BP: u64 = 10;

/// Nights, the oldest first, and what became of each path over them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// The first day, in UTC.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// Every day of the window, also those without a report.
    pub nights: Vec<Night>,
    /// Each path that has a report in the window, by name.
    pub paths: Vec<PathWindow>,
}

/// A day of the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Night {
    /// The day, in UTC.
    pub night: NaiveDate,
    /// How many runs left a report; the last of them stands for the night.
    pub runs: u32,
    /// That report.
    pub report: Option<Report>,
}

/// A path over the nights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathWindow {
    /// The path.
    pub path: String,
    /// What each night found, in the window's order; none where it was not looked at.
    pub nights: Vec<Option<Point>>,
    /// Which way its issue rate goes.
    pub trend: Trend,
}

/// What a night found of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Records looked at.
    pub records: u64,
    /// What would have been fixed.
    pub fix: u64,
    /// What goes to people.
    pub review: u64,
    /// What must not be written to.
    pub block: u64,
    /// Records with an issue, of ten thousand; none without records.
    pub issue_rate_bp: Option<u64>,
}

/// The first half of the window beside the second. A half's rate is all its issues over all its records, so that a
/// night with many records counts for more. Of an odd number of days the middle one belongs to the second half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trend {
    /// Where the issue rate goes.
    pub direction: Direction,
    /// The issue rate of the first half, of ten thousand.
    pub first_half_bp: Option<u64>,
    /// That of the second half.
    pub second_half_bp: Option<u64>,
    /// The second less the first.
    pub change_bp: Option<i64>,
}

/// Which way an issue rate goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Fewer issues than before.
    Falling,
    /// Within [`STEADY_BP`] of what it was.
    Steady,
    /// More issues than before.
    Rising,
    /// A half of the window has no records to compare.
    Unknown,
}

impl Direction {
    /// Its name in JSON and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Falling => "falling",
            Self::Steady => "steady",
            Self::Rising => "rising",
            Self::Unknown => "unknown",
        }
    }
}

impl Window {
    /// The `days` up to and with `to`, of these reports; what lies outside is left out.
    #[must_use]
    pub fn of(to: NaiveDate, days: u32, reports: Vec<Report>) -> Self {
        let from = Self::first_day(to, days);
        let mut by_night: BTreeMap<NaiveDate, Vec<Report>> = BTreeMap::new();
        for report in reports {
            by_night.entry(report.night).or_default().push(report);
        }
        let nights: Vec<_> = from
            .iter_days()
            .take_while(|night| *night <= to)
            .map(|night| Night::of(night, by_night.remove(&night).unwrap_or_default()))
            .collect();
        let found: BTreeSet<&str> = nights.iter().flat_map(Night::paths).map(|it| it.path.as_str()).collect();
        let paths = found.iter().map(|path| PathWindow::of(path, &nights)).collect();
        Self { from, to, nights, paths }
    }

    /// Where a window of so many days up to this one begins.
    pub(super) fn first_day(to: NaiveDate, days: u32) -> NaiveDate {
        to.checked_sub_days(Days::new(u64::from(days.max(1) - 1))).unwrap_or(NaiveDate::MIN)
    }

    /// The newest report in it.
    #[must_use]
    pub fn latest(&self) -> Option<&Report> {
        self.nights.iter().rev().find_map(|night| night.report.as_ref())
    }
}

impl Night {
    fn of(night: NaiveDate, reports: Vec<Report>) -> Self {
        let runs = u32::try_from(reports.len()).unwrap_or(u32::MAX);
        let last = reports.into_iter().max_by_key(|report| (report.finished_at, report.run));
        Self { night, runs, report: last }
    }

    /// What it found of paths whose rules could be applied.
    fn paths(&self) -> impl Iterator<Item = &PathResult> {
        self.report.iter().flat_map(|report| &report.paths).filter(|path| path.policy.is_some())
    }
}

impl PathWindow {
    fn of(path: &str, nights: &[Night]) -> Self {
        let found = |night: &Night| night.paths().find(|it| it.path == path).map(|it| Point::of(&it.counts));
        let nights: Vec<_> = nights.iter().map(found).collect();
        Self { path: path.to_owned(), trend: Trend::of(&nights), nights }
    }
}

impl Point {
    fn of(counts: &PathCounts) -> Self {
        let PathCounts { records, fix, review, block, .. } = *counts;
        Self { records, fix, review, block, issue_rate_bp: basis_points(counts.issues(), records) }
    }
}

impl Trend {
    fn of(nights: &[Option<Point>]) -> Self {
        let (first, second) = nights.split_at(nights.len() / 2);
        let (first, second) = (rate(first), rate(second));
        let change = first.zip(second).map(|(first, second)| second.cast_signed() - first.cast_signed());
        let direction = match change {
            None => Direction::Unknown,
            Some(change) if change.unsigned_abs() < STEADY_BP => Direction::Steady,
            Some(change) if change < 0 => Direction::Falling,
            Some(_) => Direction::Rising,
        };
        Self { direction, first_half_bp: first, second_half_bp: second, change_bp: change }
    }
}

/// All issues over all records.
fn rate(nights: &[Option<Point>]) -> Option<u64> {
    let points = nights.iter().flatten();
    let sums = points
        .fold((0, 0), |(issues, records), it| (issues + it.fix + it.review + it.block, records + it.records));
    basis_points(sums.0, sums.1)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use queue::JobId;

    use super::{super::report::Outcome, *};

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 3, day).unwrap()
    }

    /// A report of this night with so many records of the path and so many of them to be fixed.
    fn report(run: i64, night: u32, records: u64, fix: u64) -> Report {
        let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(run);
        let counts = PathCounts { records, fix, ..PathCounts::default() };
        let path = PathResult {
            path: "email".to_owned(),
            policy: Some(1),
            wanted: 0,
            why: None,
            issue_rate_bp: basis_points(fix, records),
            counts,
        };
        Report {
            run: JobId(run),
            night: day(night),
            started_at: at,
            finished_at: at,
            outcome: Outcome::Complete,
            streams: Vec::new(),
            paths: vec![path],
            candidates: Vec::new(),
        }
    }

    #[test]
    fn a_window_has_every_day_and_nothing_outside_of_it() {
        let reports =
            vec![report(1, 1, 10, 1), report(2, 2, 10, 1), report(3, 15, 10, 2), report(4, 16, 10, 3)];
        let window = Window::of(day(15), WINDOW_DAYS, reports);
        assert_eq!((window.from, window.to, window.nights.len()), (day(2), day(15), 14));
        let kept: Vec<_> = window.nights.iter().filter_map(|it| Some(it.report.as_ref()?.run.0)).collect();
        assert_eq!(kept, [2, 3]);
        assert_eq!(window.latest().unwrap().run, JobId(3));
        assert_eq!(window.paths[0].nights.iter().flatten().count(), 2);
    }

    #[test]
    fn the_last_run_of_a_night_stands_for_it_in_whatever_order_they_come() {
        let mut reports = vec![report(7, 5, 10, 1), report(9, 5, 10, 2), report(8, 5, 10, 3)];
        let window = Window::of(day(5), 2, reports.clone());
        assert_eq!((window.nights[1].runs, window.latest().unwrap().run), (3, JobId(9)));
        assert_eq!(window.paths[0].nights[1].unwrap().fix, 2);
        reports.reverse();
        assert_eq!(Window::of(day(5), 2, reports), window);
    }

    fn trend(days: u32, nights: &[(u32, u64, u64)]) -> Trend {
        let reports =
            nights.iter().zip(1..).map(|((night, records, fix), run)| report(run, *night, *records, *fix));
        Window::of(day(days), days, reports.collect()).paths[0].trend
    }

    #[test]
    fn a_trend_is_the_second_half_less_the_first_and_weighs_records() {
        // 10 of 1,000, then 30 of 1,000 in one night and none of 1,000 in the other.
        let risen = trend(4, &[(1, 1_000, 10), (3, 1_000, 30), (4, 1_000, 0)]);
        assert_eq!(
            (risen.first_half_bp, risen.second_half_bp, risen.change_bp),
            (Some(100), Some(150), Some(50))
        );
        assert_eq!(risen.direction, Direction::Rising);
        assert_eq!(trend(4, &[(1, 1_000, 30), (3, 1_000, 10)]).direction, Direction::Falling);
        let weighed = trend(2, &[(1, 10_000, 100), (2, 100, 1)]);
        assert_eq!((weighed.change_bp, weighed.direction), (Some(0), Direction::Steady));
    }

    #[test]
    fn a_small_change_is_steady_and_one_half_alone_is_no_trend() {
        let changes = [9, 10].map(|more| trend(2, &[(1, 10_000, 100), (2, 10_000, 100 + more)]).direction);
        assert_eq!(changes, [Direction::Steady, Direction::Rising]);
        let fallen = [9, 10].map(|less| trend(2, &[(1, 10_000, 100), (2, 10_000, 100 - less)]).direction);
        assert_eq!(fallen, [Direction::Steady, Direction::Falling]);
        assert_eq!(trend(2, &[(2, 10, 1)]).direction, Direction::Unknown);
        assert_eq!(trend(2, &[(1, 10, 1), (2, 0, 0)]).direction, Direction::Unknown);
        // The middle day of three belongs to the second half.
        assert_eq!(trend(3, &[(1, 10, 1), (2, 10, 10)]).direction, Direction::Rising);
    }

    #[test]
    fn a_path_without_rules_has_no_point() {
        let mut bare = report(1, 2, 0, 0);
        bare.paths[0].policy = None;
        let window = Window::of(day(2), 2, vec![bare]);
        assert!(window.paths.is_empty() && window.latest().is_some());
        assert!(Window::of(day(2), 2, Vec::new()).latest().is_none());
    }
}
