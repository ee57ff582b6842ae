//! When cron lines fire, checked against a calendar (the snapshots) and against a walk over every minute.

use std::fmt::Write;

use chrono::{DateTime, Datelike, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use proptest::{collection::btree_set, prelude::*, sample::select};

use crate::{CRON_CHARS_MAX, Timetable, TimetableError};

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The next ten fires, as a person would check them: UTC, then the wall clock with its weekday and offset.
fn ten(cron: &str, zone: &str, after: &str) -> String {
    let timetable = Timetable::parse(cron, zone).unwrap();
    let mut text = format!("{cron} in {zone}, after {after}\n");
    for at in timetable.fires_after(utc(after)).take(10) {
        let local = timetable.local(at).format("%a %Y-%m-%d %H:%M:%S %:z");
        writeln!(text, "{}  {local}", at.format("%Y-%m-%dT%H:%M:%SZ")).unwrap();
    }
    text
}

/// A named time in the change, one on its edge, and an interval across it.
fn change(zone: &str, named: &str, edge: &str, days_before: &str, hour_before: &str) -> String {
    [ten(named, zone, days_before), ten(edge, zone, days_before), ten("*/30 * * * *", zone, hour_before)]
        .join("\n")
}

#[test]
fn q10_amsterdam_in_spring() {
    insta::assert_snapshot!(change(
        "Europe/Amsterdam",
        "30 2 * * *",
        "0 3 * * *",
        "2026-03-26T12:00:00Z",
        "2026-03-28T23:30:00Z"
    ));
}

#[test]
fn q10_amsterdam_in_autumn() {
    insta::assert_snapshot!(change(
        "Europe/Amsterdam",
        "30 2 * * *",
        "0 2 * * *",
        "2026-10-22T12:00:00Z",
        "2026-10-24T22:30:00Z"
    ));
}

#[test]
fn q10_new_york_in_spring() {
    insta::assert_snapshot!(change(
        "America/New_York",
        "30 2 * * *",
        "0 3 * * *",
        "2026-03-05T12:00:00Z",
        "2026-03-08T05:30:00Z"
    ));
}

#[test]
fn q10_new_york_in_autumn() {
    insta::assert_snapshot!(change(
        "America/New_York",
        "30 1 * * *",
        "0 1 * * *",
        "2026-10-29T12:00:00Z",
        "2026-11-01T03:30:00Z"
    ));
}

#[test]
fn q10_lord_howe_skips_half_an_hour_in_october() {
    insta::assert_snapshot!(change(
        "Australia/Lord_Howe",
        "15 2 * * *",
        "30 2 * * *",
        "2026-10-01T12:00:00Z",
        "2026-10-03T13:30:00Z"
    ));
}

#[test]
fn q10_lord_howe_repeats_half_an_hour_in_april() {
    insta::assert_snapshot!(change(
        "Australia/Lord_Howe",
        "45 1 * * *",
        "30 1 * * *",
        "2026-04-02T12:00:00Z",
        "2026-04-04T13:00:00Z"
    ));
}

#[test]
fn q10_a_leap_day() {
    insta::assert_snapshot!(ten("0 12 29 2 *", "Europe/Amsterdam", "2026-01-01T00:00:00Z"));
}

#[test]
fn q10_a_line_that_lists_times_fires_once_for_each_also_in_a_change() {
    // croner alone takes two hours for an interval: skipped in spring, doubled in autumn.
    let text = [
        ten("30 2,14 * * *", "Europe/Amsterdam", "2026-03-28T00:00:00Z"),
        ten("30 2,14 * * *", "Europe/Amsterdam", "2026-10-24T00:00:00Z"),
        // Two skipped times meet at the end of the gap, which is one fire.
        ten("0,30 2,3 * * *", "Europe/Amsterdam", "2026-03-28T12:00:00Z"),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn q10_the_second_pass_of_an_hour_fires_no_named_time_again() {
    let timetable = Timetable::parse("30 2 * * *", "Europe/Amsterdam").unwrap();
    let first = utc("2026-10-25T00:30:00Z");
    for after in
        ["2026-10-25T00:30:00Z", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z", "2026-10-25T01:59:59Z"]
    {
        assert_eq!(timetable.next_after(utc(after)), Some(utc("2026-10-26T01:30:00Z")), "{after}");
    }
    assert_eq!(timetable.next_after(first - TimeDelta::microseconds(1)), Some(first));
}

#[test]
fn a_skipped_day_is_made_up_for_at_its_end() {
    // Samoa went from 29 to 31 December 2011.
    let timetable = Timetable::parse("0 12 * * *", "Pacific/Apia").unwrap();
    let fires: Vec<_> = timetable.fires_after(utc("2011-12-29T12:00:00Z")).take(3).collect();
    assert_eq!(fires, ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"].map(utc));
}

#[test]
fn days_of_the_month_and_of_the_week_are_joined_by_or() {
    // 1 and 15 June 2026 are Mondays.
    let fires = |cron: &str| -> Vec<u32> {
        let timetable = Timetable::parse(cron, "UTC").unwrap();
        let in_june = |at: &DateTime<Utc>| at.month() == 6;
        timetable.fires_after(utc("2026-05-31T23:59:00Z")).take_while(in_june).map(|at| at.day()).collect()
    };
    assert_eq!(fires("0 0 10 * MON"), [1, 8, 10, 15, 22, 29]);
    assert_eq!(fires("0 0 15 * +MON"), [15]);
    assert_eq!(fires("0 0 * * 0"), fires("0 0 * * 7"));
    assert_eq!(fires("0 0 * * SUN"), [7, 14, 21, 28]);
}

#[test]
fn names_nicknames_and_seconds_are_taken() {
    let next =
        |cron: &str| Timetable::parse(cron, "UTC").unwrap().next_after(utc("2026-05-31T12:34:56Z")).unwrap();
    assert_eq!(next("@daily"), utc("2026-06-01T00:00:00Z"));
    assert_eq!(next("@hourly"), utc("2026-05-31T13:00:00Z"));
    assert_eq!(next(" 0 0 1 JAN * "), utc("2027-01-01T00:00:00Z"));
    assert_eq!(next("*/20 * * * * *"), utc("2026-05-31T12:35:00Z"));
    assert_eq!(next("0 0 L * *"), utc("2026-06-30T00:00:00Z"));
}

#[test]
fn bad_lines_are_refused_soon_with_a_reason() {
    let began = std::time::Instant::now();
    let why = |cron: &str, zone: &str| match Timetable::parse(cron, zone).unwrap_err() {
        error @ (TimetableError::NeverFires { .. } | TimetableError::UnknownZone { .. }) => error.to_string(),
        TimetableError::Cron { why, .. } => why,
    };
    let long = "0,".repeat(1_000_000) + "0 * * * *";
    let lines = [
        "30 2 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0-99999999999999 * * * *",
        "0-65535 * * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "60 * * * *",
        "",
        "* * * *",
        "* * * * * * *",
        "@reboot",
        "* * * FOO *",
        "5/5 * * * *",
        "0 0 * * 8",
        &long,
    ];
    let mut text = String::new();
    for line in lines {
        let shown: String = line.chars().take(30).collect();
        writeln!(text, "{shown:?}: {}", why(line, "UTC")).unwrap();
    }
    writeln!(text, "{}", why("@daily", "Europe/Amsterdm")).unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(long.chars().count() > CRON_CHARS_MAX);
    insta::assert_snapshot!(text);
}

/// The fields of a line, as sets; an empty one is `*`.
#[derive(Debug, Clone)]
struct Fields {
    minutes: Vec<u32>,
    hours: Vec<u32>,
    days: Vec<u32>,
    weekdays: Vec<u32>,
}

impl Fields {
    fn text(&self) -> String {
        let field = |values: &[u32]| match values {
            [] => "*".to_owned(),
            values => values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        };
        let Self { minutes, hours, days, weekdays } = self;
        format!("{} {} {} * {}", field(minutes), field(hours), field(days), field(weekdays))
    }

    fn admits(&self, wall: NaiveDateTime) -> bool {
        let in_field = |values: &[u32], value| values.is_empty() || values.contains(&value);
        let day = in_field(&self.days, wall.day());
        let weekday = in_field(&self.weekdays, wall.weekday().num_days_from_sunday());
        let either = !self.days.is_empty() && !self.weekdays.is_empty();
        let is_day = if either { day || weekday } else { day && weekday };
        is_day && in_field(&self.minutes, wall.minute()) && in_field(&self.hours, wall.hour())
    }

    fn is_interval(&self) -> bool {
        self.minutes.is_empty() || self.hours.is_empty()
    }
}

/// Whether the line fires at this minute, by the rule and nothing else.
fn fires_at(fields: &Fields, zone: Tz, at: DateTime<Utc>) -> bool {
    const MINUTE: TimeDelta = TimeDelta::minutes(1);
    let wall = at.with_timezone(&zone).naive_local();
    if fields.is_interval() {
        return fields.admits(wall);
    }
    let is_second_pass = match zone.from_local_datetime(&wall) {
        MappedLocalTime::Ambiguous(first, _) => first.with_timezone(&Utc) != at,
        _ => false,
    };
    // The minutes that the wall clock skipped right before.
    let mut skipped = (at - MINUTE).with_timezone(&zone).naive_local() + MINUTE;
    while skipped < wall {
        if fields.admits(skipped) {
            return true;
        }
        skipped += MINUTE;
    }
    fields.admits(wall) && !is_second_pass
}

fn fields() -> impl Strategy<Value = Fields> {
    let set = |range: std::ops::Range<u32>, most| prop_oneof![1 => Just(Vec::new()), 2 => btree_set(range, 1..most).prop_map(|set| set.into_iter().collect())];
    // The hours of the night, where clocks change.
    (set(0..60, 6), set(0..5, 4), set(1..32, 8), set(0..7, 4))
        .prop_map(|(minutes, hours, days, weekdays)| Fields { minutes, hours, days, weekdays })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn q10_next_fires_rise_and_are_those_of_a_walk_over_every_minute(
        fields in fields(),
        zone in select(vec![
            Tz::Europe__Amsterdam, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::America__Havana,
            Tz::Asia__Beirut, Tz::Africa__Casablanca, Tz::America__St_Johns, Tz::Pacific__Chatham, Tz::Asia__Kathmandu,
        ]),
        year in 2020..2032_i32,
        // Around the changes of either hemisphere, down to the minute.
        day in prop_oneof![60..112_u32, 250..310_u32],
        minute in 0..1440_i64,
    ) {
        let start = Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap()
            + TimeDelta::days(i64::from(day)) + TimeDelta::minutes(minute);
        let end = start + TimeDelta::days(9);
        let timetable = Timetable::parse(&fields.text(), zone.name()).unwrap();
        let said: Vec<_> = timetable.fires_after(start).take_while(|at| *at <= end).collect();
        prop_assert!(said.is_sorted_by(|a, b| a < b));
        let minutes = (1..=(end - start).num_minutes()).map(|minutes| start + TimeDelta::minutes(minutes));
        let walked: Vec<_> = minutes.filter(|at| fires_at(&fields, zone, *at)).collect();
        prop_assert_eq!(said, walked, "{} {}", fields.text(), zone);
    }
}
