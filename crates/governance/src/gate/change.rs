//! What a change of gates does to their height: a pure comparison.

use serde::Serialize;

use super::{ActionClass, Gate};

/// A change of the gates of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The gate of a class becomes this.
    Gate(Gate),
    /// The mode of a single administrator is switched on or off.
    SingleAdmin(bool),
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Nothing.
    Unchanged,
    /// It asks for more, or for the same of fewer people.
    Raised,
    /// Something that was refused before would pass.
    Lowered,
}

impl Change {
    /// What is changed, in a word: the class, or `single_admin`.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Gate(gate) => gate.class.as_str(),
            Self::SingleAdmin(_) => SINGLE_ADMIN,
        }
    }
}

/// The mode's name among the targets of approvals; no class is called so.
pub(super) const SINGLE_ADMIN: &str = "single_admin";

/// Whether an action on these targets switches the mode.
pub(crate) fn is_mode_switch(class: &ActionClass, targets: &[String]) -> bool {
    *class == ActionClass::gate_lower() && targets == [SINGLE_ADMIN]
}

/// The direction from one gate of a class to another: one thing that becomes easier makes it a lowering, whatever else
/// becomes harder.
pub(super) fn direction(from: &Gate, to: &Gate) -> Direction {
    let admits_more = match (&from.approvers, &to.approvers) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(from), Some(to)) => to.iter().any(|person| !from.contains(person)),
    };
    if to.persons < from.persons || to.window_secs > from.window_secs || admits_more {
        Direction::Lowered
    } else if to == from {
        Direction::Unchanged
    } else {
        Direction::Raised
    }
}
