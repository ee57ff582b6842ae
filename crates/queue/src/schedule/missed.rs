//! What the fire times that have come since the last look are given: pure, so that every case can be tested at once.
//!
//! A fire time found within [`LATE_MAX`] is simply due, under every policy: a look that comes a little late, or a
//! worker's restart, is no gap. What is older was *missed*, and the policy decides.

use std::num::NonZeroU16;

use chrono::{DateTime, TimeDelta, Utc};

use super::timetable::Timetable;

/// How late a fire time may be found without having been missed.
pub const LATE_MAX: TimeDelta = TimeDelta::minutes(1);

/// The most missed times that [`MissedFires::All`] may make up for at once.
pub const MISSED_MAX: u16 = 1_000;

/// How far the fire times of a gap are counted.
const COUNTED_MAX: usize = 10_000;

/// What is done about fire times that passed while no worker looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedFires {
    /// Nothing.
    Skip,
    /// One fire stands for all of them: the latest missed time, unless another fire is due in the same look.
    #[default]
    Once,
    /// Each gets its fire, oldest first; beyond the bound only the latest ones do. At most [`MISSED_MAX`].
    All(NonZeroU16),
}

impl MissedFires {
    pub(crate) fn code(self) -> i16 {
        match self {
            Self::Skip => 0,
            Self::Once => 1,
            Self::All(_) => 2,
        }
    }

    /// How many missed times are given a fire at once.
    pub(crate) fn bound(self) -> u16 {
        match self {
            Self::Skip | Self::Once => 1,
            Self::All(bound) => bound.get().min(MISSED_MAX),
        }
    }

    pub(crate) fn of(code: i16, bound: i32) -> Self {
        match code {
            0 => Self::Skip,
            2 => Self::All(
                u16::try_from(bound)
                    .ok()
                    .and_then(NonZeroU16::new)
                    .expect("the check schedule_missed_bounded"),
            ),
            _ => Self::Once,
        }
    }

    /// The name used in JSON and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All(_) => "all",
        }
    }
}

/// Why a fire was inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its time had come.
    Due = 0,
    /// Its time had passed unseen, and the policy gives it a fire.
    Missed = 1,
    /// Somebody asked for it.
    RunNow = 2,
    /// Somebody asked for the fires of a past range.
    Backfill = 3,
}

impl How {
    pub(crate) fn of(code: i16) -> Self {
        match code {
            0 => Self::Due,
            1 => Self::Missed,
            2 => Self::RunNow,
            3 => Self::Backfill,
            _ => unreachable!("the check fire_how_known admits 0 to 3"),
        }
    }

    /// The name used in JSON, metrics and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Missed => "missed",
            Self::RunNow => "run_now",
            Self::Backfill => "backfill",
        }
    }
}

/// What the fire times between two looks are given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What fires, oldest first.
    pub fires: Vec<(DateTime<Utc>, How)>,
    /// How many fire times are given nothing, counted up to ten thousand.
    pub missed: usize,
}

/// Judges the fire times after `considered` up to and including `now`. Bounded in time and memory for any gap.
pub(crate) fn judge(
    timetable: &Timetable,
    considered: DateTime<Utc>,
    now: DateTime<Utc>,
    policy: MissedFires,
) -> Verdict {
    let cutoff = (now - LATE_MAX).max(considered);
    let due: Vec<_> = timetable.fires_after(cutoff).take_while(|at| *at <= now).collect();
    let missed: Vec<_> =
        timetable.fires_after(considered).take_while(|at| *at <= cutoff).take(COUNTED_MAX).collect();
    let wanted = match policy {
        MissedFires::Skip => 0,
        MissedFires::Once => usize::from(due.is_empty()),
        MissedFires::All(_) => usize::from(policy.bound()),
    };
    let made_up = if missed.len() < COUNTED_MAX {
        missed[missed.len().saturating_sub(wanted)..].to_vec()
    } else {
        latest(timetable, considered, cutoff, wanted)
    };
    let missed = missed.len() - made_up.len();
    let made_up = made_up.into_iter().map(|at| (at, How::Missed));
    Verdict { fires: made_up.chain(due.into_iter().map(|at| (at, How::Due))).collect(), missed }
}

/// The last `wanted` fire times up to a cutoff, found by looking back twice as far until there are enough.
fn latest(
    timetable: &Timetable,
    considered: DateTime<Utc>,
    cutoff: DateTime<Utc>,
    wanted: usize,
) -> Vec<DateTime<Utc>> {
    let mut back = TimeDelta::minutes(1);
    loop {
        let from = (cutoff - back).max(considered);
        let fires: Vec<_> = timetable.fires_after(from).take_while(|at| *at <= cutoff).collect();
        if fires.len() >= wanted || from == considered {
            return fires[fires.len().saturating_sub(wanted)..].to_vec();
        }
        back = back * 2;
    }
}
