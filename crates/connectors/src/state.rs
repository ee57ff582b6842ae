//! Where a read stands: what a caller stores with each batch and gives back for the next.
//!
//! Between two runs a state is the committed cursor and the fingerprints of rows at or after it. Within a run
//! it also says how far the run has come. It is opaque to the caller and stored as JSON.

use serde::{Deserialize, Serialize};

use crate::cursor::CursorValue;
use crate::error::{Place, SourceError};
use crate::http::HttpPosition;
use crate::known::Known;
use crate::postgres::PgPosition;

/// A resumable position of a stream. `State::default()` reads from the beginning.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Which key and cursor it belongs to; a state of another shape is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shape: Option<String>,
    /// The committed cursor: every row up to and including it has been handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<CursorValue>,
    /// The place within an unfinished run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
    /// Rows at or after the cursor that were handed out.
    #[serde(default, skip_serializing_if = "Known::is_empty")]
    pub(crate) known: Known,
}

/// A driver's place within a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Position {
    Postgres(PgPosition),
    Http(Box<HttpPosition>),
}

/// Why one state must not replace another (I2, I4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The new state has no cursor although the old one has.
    #[error("the new state has no cursor and would replace the committed cursor {old}")]
    CursorLost {
        /// The committed cursor.
        old: String,
    },
    /// The new cursor lies before the old one.
    #[error("the cursor would move back from {old} to {new}")]
    CursorBackwards {
        /// The committed cursor.
        old: String,
        /// The cursor of the new state.
        new: String,
    },
    /// The new state is empty although the old one is not.
    #[error("the new state is empty and would replace one that is not")]
    Emptied,
    /// The two states belong to different keys or cursor fields.
    #[error("the new state belongs to another key or cursor of the stream")]
    OtherShape,
}

impl State {
    /// The committed cursor.
    #[must_use]
    pub const fn cursor(&self) -> Option<&CursorValue> {
        self.cursor.as_ref()
    }

    /// Whether the run that wrote it has not ended.
    #[must_use]
    pub const fn is_mid_run(&self) -> bool {
        self.position.is_some()
    }

    /// Refuses a state that was written for another key or cursor.
    pub(crate) fn must_fit(&self, place: &Place, shape: &str) -> Result<(), SourceError> {
        match &self.shape {
            Some(written) if written != shape => Err(place.configuration(
                format!("the last run read by ({written}), the definition now says ({shape})"),
                "reset the stream, or give the old key and cursor back",
            )),
            _ => Ok(()),
        }
    }

    /// What a driver says to the position of another driver.
    pub(crate) fn of_other_source(place: &Place) -> SourceError {
        place.configuration("the last run read another kind of source", "reset the stream")
    }

    /// Whether `new` may replace `old`: a cursor is never lost and never moves back. Only a reset by a person
    /// gets past this, by starting from `State::default()`.
    pub fn successor_ok(old: &Self, new: &Self) -> Result<(), StateError> {
        match (&old.cursor, &new.cursor) {
            (Some(old), None) => return Err(StateError::CursorLost { old: old.text() }),
            (Some(old), Some(new)) if old.kind() != new.kind() => return Err(StateError::OtherShape),
            (Some(old), Some(new)) if new < old => {
                return Err(StateError::CursorBackwards { old: old.text(), new: new.text() });
            }
            _ => {}
        }
        match (&old.shape, &new.shape) {
            (Some(_), None) => Err(StateError::Emptied),
            (Some(old), Some(new)) if old != new => Err(StateError::OtherShape),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::CursorType;

    fn with_cursor(value: &str) -> State {
        let cursor = Some(CursorValue::parse(CursorType::Integer, value).unwrap());
        State { cursor, ..State::default() }
    }

    #[test]
    fn i4_an_empty_state_never_replaces_a_cursor() {
        let lost = State::successor_ok(&with_cursor("7"), &State::default());
        assert_eq!(lost, Err(StateError::CursorLost { old: "7".into() }));
        assert_eq!(State::successor_ok(&State::default(), &with_cursor("7")), Ok(()));
        assert_eq!(State::successor_ok(&State::default(), &State::default()), Ok(()));
        for empty in ["{}", r#"{"cursor":null}"#] {
            let empty: State = serde_json::from_str(empty).unwrap();
            assert!(State::successor_ok(&with_cursor("7"), &empty).is_err());
        }
    }

    #[test]
    fn i4_an_empty_state_never_replaces_that_of_a_stream_without_cursor() {
        let old = State { shape: Some("id / no cursor".into()), ..State::default() };
        assert_eq!(State::successor_ok(&old, &State::default()), Err(StateError::Emptied));
    }

    #[test]
    fn i2_a_cursor_never_moves_back() {
        let back = State::successor_ok(&with_cursor("10"), &with_cursor("9"));
        assert_eq!(back, Err(StateError::CursorBackwards { old: "10".into(), new: "9".into() }));
        assert_eq!(State::successor_ok(&with_cursor("10"), &with_cursor("10")), Ok(()));
    }

    #[test]
    fn i2_a_cursor_of_another_type_is_another_shape() {
        let text = CursorValue::parse(CursorType::Text, "99").unwrap();
        let other = State { cursor: Some(text), ..State::default() };
        assert_eq!(State::successor_ok(&with_cursor("7"), &other), Err(StateError::OtherShape));
    }
}
