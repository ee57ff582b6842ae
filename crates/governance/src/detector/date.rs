//! Dates and moments.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use super::plausible;

/// How `03/04/2026` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayOrder {
    /// The third of April.
    DayFirst,
    /// The fourth of March.
    MonthFirst,
    /// Not at all.
    Unknown,
}

/// The date as `2026-04-03`, or nothing if the text is no date that exists between the years 1000 and 9999.
///
/// A year comes first, or the order is said. Two-digit years are nothing.
#[must_use]
pub fn date(text: &str, order: DayOrder) -> Option<String> {
    let text = plausible(text)?;
    let day = moment_of(text).map(|moment| moment.date()).or_else(|| day_of(text, order))?;
    in_range(day).then(|| day.format("%Y-%m-%d").to_string())
}

/// The moment that a date or a date with time means, in UTC where no zone is given; a date is its first moment.
#[must_use]
pub fn moment(text: &str) -> Option<DateTime<Utc>> {
    let text = plausible(text)?;
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.to_utc());
    }
    // Postgres writes the zone without minutes.
    if let Ok(moment) = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z") {
        return Some(moment.to_utc());
    }
    let midnight = || day_of(text, DayOrder::Unknown).map(|day| day.and_time(NaiveTime::MIN));
    let moment = moment_of(text).or_else(midnight)?;
    in_range(moment.date()).then(|| moment.and_utc())
}

fn in_range(day: NaiveDate) -> bool {
    use chrono::Datelike as _;
    (1000..=9999).contains(&day.year())
}

/// As written, whatever the zone: its date is what the writer meant.
fn moment_of(text: &str) -> Option<NaiveDateTime> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.naive_local());
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}

fn day_of(text: &str, order: DayOrder) -> Option<NaiveDate> {
    let parts: Vec<_> = text.split(['-', '/', '.', ' ']).filter(|part| !part.is_empty()).collect();
    let [first, second, third] = parts[..] else { return compact(text) };
    let (year, month, day) = match (first.len(), third.len(), order) {
        (4, 1..=2, _) => (first, second, third),
        (1..=2, 4, DayOrder::DayFirst) => (third, second, first),
        (1..=2, 4, DayOrder::MonthFirst) => (third, first, second),
        // A month by name cannot be mistaken.
        (1..=2, 4, DayOrder::Unknown) if month_named(second).is_some() => (third, second, first),
        _ => return None,
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let month = month_named(month).or_else(|| number(month))?;
    NaiveDate::from_ymd_opt(year.parse().ok()?, month, number(day)?)
}

fn compact(text: &str) -> Option<NaiveDate> {
    (text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| NaiveDate::parse_from_str(text, "%Y%m%d").ok())?
}

fn month_named(text: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let text = text.to_lowercase();
    let at =
        MONTHS.iter().position(|month| text == *month || (text.len() == 3 && month.starts_with(&text)))?;
    u32::try_from(at + 1).ok()
}
