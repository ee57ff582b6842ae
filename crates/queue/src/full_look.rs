//! How often to look from the beginning rather than from a low-water mark.
//!
//! While an old snapshot keeps vacuum from working, the entries of finished jobs pile up at the beginning of the indexes
//! of due jobs and of ended leases. Whoever looks there remembers how far it came and starts there, but now and then
//! it must begin at the beginning, for rows that came in behind its mark. As long as nothing has piled up that costs
//! nothing, and every look is a full one.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Full looks may take this share of the time: one in twenty.
const SHARE: u32 = 20;

/// When to repeat a full look that was broken off.
const AGAIN: Duration = Duration::from_secs(1);

/// The first day that Postgres can hold, 24 November 4714 BC.
pub(crate) const BEGINNING: DateTime<Utc> =
    DateTime::from_timestamp(-210_866_803_200, 0).expect("chrono reaches further back than Postgres");

/// When the next full look is due.
#[derive(Debug)]
pub(crate) struct FullLook(Instant);

impl FullLook {
    /// At once.
    pub(crate) fn due() -> Self {
        Self(Instant::now())
    }

    /// After a pause.
    #[cfg(test)]
    pub(crate) fn due_in(pause: Duration) -> Self {
        Self(Instant::now() + pause)
    }

    /// Whether the look that begins now is a full one. Nobody else begins one beside it.
    pub(crate) fn begin(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.0;
        if is_due {
            // Stands only if the look is broken off and its cost never becomes known.
            self.0 = now + AGAIN;
        }
        is_due
    }

    /// Takes in what a full look has cost: the next one waits so long that both together stay within their share.
    pub(crate) fn took(&mut self, cost: Duration) {
        self.0 = Instant::now() + cost * SHARE;
    }
}
