//! How far the cursor of a run may be committed (I1, I2).
//!
//! A run reads every row with cursor ≥ the committed one, without an upper bound. What it may *commit* is the
//! greatest value seen that is not younger than the start of the run (by the source's clock) minus the settle
//! window: a transaction that stamped its rows earlier and commits later is still found, because the next run
//! reads from there again. Subtracting the window from the greatest value instead would leave the last rows
//! of a quiet table unread for ever, and committing the bound itself would rest the cursor on a value nobody
//! has seen. For integers the window is counted down from the greatest value; text has none.
//!
//! Within a run a value may be committed only once a greater one was seen, so that all its ties are in, and
//! only while the rows really come in ascending order.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::cursor::CursorValue;
use crate::definition::{CursorRule, Settle};

/// The part of a run's progress that outlives a crash.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The greatest value so far; its ties may still be coming.
    group: Option<CursorValue>,
    /// The greatest settled value of those that are complete.
    complete: Option<CursorValue>,
    /// The greatest settled value of all.
    settled: Option<CursorValue>,
    /// Rows came out of order: nothing is committed before the end.
    pub(crate) out_of_order: bool,
}

/// The progress of one run.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    settle: Settle,
    committed: Option<CursorValue>,
    started: DateTime<Utc>,
    ascending: bool,
    seen: Seen,
}

impl Seen {
    /// For a slice that is read again from its lower bound: the order begins anew.
    pub(crate) fn rewound(self) -> Self {
        Self { group: None, out_of_order: false, ..self }
    }
}

impl Progress {
    /// `started` is the start of the run by the source's clock; `ascending` says whether the order is
    /// promised at all.
    pub(crate) fn new(
        rule: &CursorRule,
        committed: Option<CursorValue>,
        started: DateTime<Utc>,
        ascending: bool,
        seen: Seen,
    ) -> Self {
        Self { settle: rule.settle, committed, started, ascending, seen }
    }

    /// Notes the cursor of the next row.
    pub(crate) fn see(&mut self, value: &CursorValue) {
        let settled = self.settled(value);
        raise(&mut self.seen.settled, settled);
        match &self.seen.group {
            Some(group) if value == group => {}
            Some(group) if value < group => self.seen.out_of_order = true,
            group => {
                let complete = group.as_ref().and_then(|group| self.settled(group));
                raise(&mut self.seen.complete, complete);
                self.seen.group = Some(value.clone());
            }
        }
    }

    /// What may be committed while the run goes on.
    pub(crate) fn checkpoint(&self) -> Option<CursorValue> {
        let mut cursor = self.committed.clone();
        if self.ascending && !self.seen.out_of_order {
            raise(&mut cursor, self.seen.complete.clone());
        }
        cursor
    }

    /// What may be committed once every row was seen.
    pub(crate) fn end(&self) -> Option<CursorValue> {
        let mut cursor = self.committed.clone();
        raise(&mut cursor, self.seen.settled.clone());
        cursor
    }

    pub(crate) const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The value below which no row is still to come, as far as `value` shows.
    fn settled(&self, value: &CursorValue) -> Option<CursorValue> {
        match (value, self.settle) {
            (CursorValue::Timestamp { at, .. }, Settle::Time(window)) => {
                let window = TimeDelta::from_std(window).unwrap_or(TimeDelta::MAX);
                let bound = self.started.checked_sub_signed(window)?;
                (*at <= bound).then(|| value.clone())
            }
            (CursorValue::Integer(number), Settle::Steps(steps)) => {
                Some(CursorValue::Integer(number.saturating_sub(steps)))
            }
            _ => Some(value.clone()),
        }
    }
}

/// Replaces `cursor` by `value` if that is greater: nothing here moves a cursor back.
fn raise(cursor: &mut Option<CursorValue>, value: Option<CursorValue>) {
    if value.is_some() && value > *cursor {
        *cursor = value;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cursor::CursorType;
    use crate::definition::FieldPath;

    fn value(kind: CursorType, text: &str) -> CursorValue {
        CursorValue::parse(kind, text).unwrap()
    }

    fn progress(settle: Settle, committed: Option<CursorValue>) -> Progress {
        let kind =
            if matches!(settle, Settle::Time(_)) { CursorType::Timestamp } else { CursorType::Integer };
        let rule = CursorRule { field: FieldPath(vec!["c".into()]), kind, settle };
        let started = "2026-03-01T12:00:00Z".parse().unwrap();
        Progress::new(&rule, committed, started, true, Seen::default())
    }

    fn numbers(settle: i64, committed: Option<i64>, seen: &[i64]) -> Progress {
        let mut progress = progress(Settle::Steps(settle), committed.map(CursorValue::Integer));
        for number in seen {
            progress.see(&CursorValue::Integer(*number));
        }
        progress
    }

    #[test]
    fn i2_a_value_is_committed_only_when_a_greater_one_was_seen() {
        assert_eq!(numbers(0, None, &[5, 5]).checkpoint(), None);
        assert_eq!(numbers(0, None, &[5, 5, 6]).checkpoint(), Some(CursorValue::Integer(5)));
        assert_eq!(numbers(0, None, &[5, 5, 6]).end(), Some(CursorValue::Integer(6)));
    }

    #[test]
    fn i2_rows_out_of_order_stop_checkpoints_and_not_the_end() {
        let progress = numbers(0, Some(1), &[3, 2, 9, 10]);
        assert_eq!(progress.checkpoint(), Some(CursorValue::Integer(1)));
        assert_eq!(progress.end(), Some(CursorValue::Integer(10)));
    }

    #[test]
    fn i2_a_settle_window_never_moves_the_cursor_back() {
        assert_eq!(numbers(100, Some(40), &[50, 60]).end(), Some(CursorValue::Integer(40)));
        assert_eq!(numbers(5, Some(40), &[50, 60]).end(), Some(CursorValue::Integer(55)));
        assert_eq!(numbers(0, Some(40), &[]).end(), Some(CursorValue::Integer(40)));
    }

    #[test]
    fn i1_an_instant_within_the_settle_window_is_not_committed() {
        let at = |text| value(CursorType::Timestamp, text);
        let mut progress = progress(Settle::Time(Duration::from_secs(5)), None);
        for text in ["2026-03-01T11:00:00Z", "2026-03-01T11:59:55Z", "2026-03-01T11:59:56Z", "2099-01-01"] {
            progress.see(&at(text));
        }
        assert_eq!(progress.checkpoint(), Some(at("2026-03-01T11:59:55Z")));
        assert_eq!(progress.end(), Some(at("2026-03-01T11:59:55Z")));
    }

    #[test]
    fn i1_the_last_rows_of_a_quiet_table_are_committed() {
        let at = |text| value(CursorType::Timestamp, text);
        let mut progress = progress(Settle::Time(Duration::from_secs(5)), None);
        progress.see(&at("2026-02-01T00:00:00Z"));
        assert_eq!(progress.end(), Some(at("2026-02-01T00:00:00Z")));
    }
}
