//! When a cron line fires in a time zone: pure arithmetic, no clock and no database.
//!
//! croner says which wall-clock times match; what becomes of the hour that a zone skips and the hour that it has twice is
//! decided here and by croner's walk for intervals, by the rule that Vixie's cron made familiar:
//!
//! - a line that *names its time of day* (no `*` among second, minute and hour) fires once for each time it names. A time
//!   that is skipped fires at the first instant after the gap; a time that comes twice fires the first time only. Two
//!   skipped times of one line meet at that instant, which is one fire.
//! - a line with a `*` among them (`*/15 * * * *`, `0 * * * *`) is an *interval* and goes with the clock on the wall:
//!   nothing fires in the skipped hour, both passes of the doubled hour fire.

use std::fmt;

use chrono::{
    DateTime, Datelike, FixedOffset, MappedLocalTime, NaiveDateTime, Offset, SubsecRound, TimeDelta,
    TimeZone, Utc,
};
use chrono_tz::Tz;
use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};

/// The longest cron line; a line that names each minute of an hour has 170 characters.
pub const CRON_CHARS_MAX: usize = 200;

/// Nothing fires after this year.
const LAST_YEAR: i32 = 4_000;

/// The longest time that a zone ever skipped is a day (Samoa, 30 December 2011).
const GAP_MINUTES_MAX: i64 = 25 * 60;

/// A cron line in a time zone.
///
/// Five fields (minute, hour, day of month, month, day of week) or six (seconds first), names (`MON`, `JAN`), `L`, `W`,
/// `#`, and `@yearly`, `@monthly`, `@weekly`, `@daily`, `@hourly`. Sunday is 0 or 7. A line that restricts both the day of
/// the month and the day of the week fires on days that match *either*, as Vixie's cron does; `+MON` asks for both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    text: String,
    cron: Cron,
    zone: Tz,
    names_its_time: bool,
}

/// Why there is no such timetable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimetableError {
    /// The line is not cron.
    #[error("the cron line {cron:?} cannot be read: {why}")]
    Cron {
        /// The line.
        cron: String,
        /// What is wrong with it.
        why: String,
    },
    /// No day that the calendar has matches the line.
    #[error("the cron line {cron:?} never fires: no day of the calendar matches it")]
    NeverFires {
        /// The line.
        cron: String,
    },
    /// No zone has this name.
    #[error("there is no time zone {zone:?}")]
    UnknownZone {
        /// The name.
        zone: String,
    },
}

/// A fire to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Upcoming {
    /// The fire time.
    pub fire_at: DateTime<Utc>,
    /// The same instant as the schedule's zone shows it, with the offset that holds then.
    pub local: DateTime<FixedOffset>,
    /// When its job may run: the fire time and the schedule's share of the jitter.
    pub run_at: DateTime<Utc>,
}

impl Timetable {
    /// Reads a cron line and the IANA name of a zone, such as `30 2 * * *` and `Europe/Amsterdam`.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, TimetableError> {
        let text = cron.trim();
        let refused =
            |why: String| TimetableError::Cron { cron: text.chars().take(CRON_CHARS_MAX).collect(), why };
        let length = text.chars().count();
        if length > CRON_CHARS_MAX {
            return Err(refused(format!("it has {length} characters; at most {CRON_CHARS_MAX} are taken")));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| refused(explain(text, parser, &error)))?;
        let zone = zone.parse().map_err(|_| TimetableError::UnknownZone { zone: zone.to_owned() })?;
        let wall_clock = [&cron.pattern.seconds, &cron.pattern.minutes, &cron.pattern.hours];
        let names_its_time = !wall_clock.iter().any(|field| field.from_wildcard);
        let timetable = Self { text: text.to_owned(), cron, zone, names_its_time };
        match timetable.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(timetable),
            None => Err(TimetableError::NeverFires { cron: text.to_owned() }),
        }
    }

    /// The line, as it was given.
    #[must_use]
    pub fn cron(&self) -> &str {
        &self.text
    }

    /// The zone's IANA name.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The names of all zones.
    pub fn zones() -> impl Iterator<Item = &'static str> {
        chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// The line in plain English.
    #[must_use]
    pub fn describe(&self) -> String {
        self.cron.describe()
    }

    /// The first fire time after an instant, from 1970 on; none if the calendar up to the year 4000 has none.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Far from the ends of what can be counted; before 1970 zones had offsets in seconds.
        let instant = instant.max(DateTime::UNIX_EPOCH - TimeDelta::microseconds(1));
        if instant.year() > LAST_YEAR {
            return None;
        }
        let local = instant.with_timezone(&self.zone).trunc_subsecs(0);
        if self.names_its_time {
            return self.next_named(instant, local.naive_local());
        }
        let next = self.cron.find_next_occurrence(&local, false).ok()?.with_timezone(&Utc);
        (next > instant).then_some(next)
    }

    /// The fire times after an instant, in order.
    pub fn fires_after(&self, instant: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        std::iter::successors(self.next_after(instant), |last| self.next_after(*last))
    }

    /// An instant as the zone shows it.
    #[must_use]
    pub fn local(&self, instant: DateTime<Utc>) -> DateTime<FixedOffset> {
        let local = instant.with_timezone(&self.zone);
        local.with_timezone(&local.offset().fix())
    }

    /// Walks the times that the wall clock would show without any change of offset, and maps each to its instant.
    fn next_named(&self, instant: DateTime<Utc>, mut wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        loop {
            wall = self.cron.find_next_occurrence(&wall.and_utc(), false).ok()?.naive_utc();
            let at = self.instant_of(wall)?;
            // Not so in the second pass of a doubled hour, and for skipped times that meet after the gap.
            if at > instant {
                return Some(at);
            }
        }
    }

    /// The first instant at which the wall clock shows this time, or, if it skips it, the first after the gap.
    fn instant_of(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&wall) {
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
            MappedLocalTime::None => (0..=GAP_MINUTES_MAX).find_map(|minutes| {
                // Clocks have changed on full minutes since 1972.
                let minute = wall.and_utc().timestamp().div_euclid(60) + minutes;
                let wall = DateTime::from_timestamp(minute * 60, 0)?.naive_utc();
                Some(self.zone.from_local_datetime(&wall).earliest()?.with_timezone(&Utc))
            }),
        }
    }

    /// The shortest time between two of the coming fires after an instant.
    pub(crate) fn shortest_interval(&self, instant: DateTime<Utc>) -> Option<TimeDelta> {
        /// Enough to meet a line's shortest interval: a day that has each minute of an hour, then nothing.
        const FIRES: usize = 128;
        let fires: Vec<_> = self.fires_after(instant).take(FIRES).collect();
        fires.windows(2).map(|pair| pair[1] - pair[0]).min()
    }
}

impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone.name())
    }
}

/// What is wrong, and in which field.
fn explain(text: &str, parser: CronParser, error: &CronError) -> String {
    const NAMES: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];
    let fields: Vec<_> = text.split_whitespace().collect();
    if text.starts_with('@') {
        return "there are @yearly, @monthly, @weekly, @daily and @hourly".to_owned();
    }
    let names = match fields.len() {
        5 => &NAMES[1..],
        6 => &NAMES[..],
        count => {
            return format!(
                "it has {count} fields; write five (minute, hour, day of month, month, day of week) or six with seconds first"
            );
        }
    };
    // Each field alone: the first that is refused is the one to look at.
    for (place, name) in names.iter().enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[place] = fields[place];
        if let Err(error) = parser.parse(&alone.join(" ")) {
            return format!("the {name} {:?} is not taken: {}", fields[place], reason(&error));
        }
    }
    reason(error)
}

/// The parser's own word.
fn reason(error: &CronError) -> String {
    match error {
        CronError::ComponentError(what) => what.trim_end_matches('.').to_lowercase(),
        CronError::IllegalCharacters(_) => "a character or a name is unknown".to_owned(),
        other => other.to_string(),
    }
}
