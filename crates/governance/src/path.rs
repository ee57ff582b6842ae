//! Paths: governed sets of fields of a stream, and the ladder they climb.
//!
//! Owns the states `catalogued → probed → certified → live`, their steps, and what speaks for each step. Promises: one
//! rung at a time upwards, each step on record with who took it and what spoke for it. *Probed*: the target was tried as
//! the connector defines it now, and a write can succeed. *Certified*: that still holds, the baseline is clean (see
//! [`Baseline`]), and an approval that is bound to exactly this evidence is used up in the step's transaction. *Live*: a
//! change of the path was written and verified, in whose transaction the step is taken. Down to any rung at any time,
//! for nothing; to the ground when the connector is defined anew, which is another target.
//!
//! Refuses: to probe a target, to sync, or to decide over records. It reads what those who do have left.

mod climb;
mod evidence;
mod ladder;
mod standing;
mod state;
mod stored;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use climb::lift;
pub use climb::{Certifying, Fallen, certify, lower, probed, redefined};
pub use evidence::{Baseline, PolicyVersion, Probe};
pub use ladder::{Step, StepError, steps};
pub use standing::{Missing, Standing, standing};
pub use state::PathState;
pub use stored::{NewPath, Path, PathError, by_name, create, list};
