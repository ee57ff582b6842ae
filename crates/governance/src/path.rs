//! Paths: governed sets of fields of a stream, and the ladder they climb.
//!
//! Owns the states `catalogued → probed → certified → live` and their steps. Promises: one rung at a time upwards, each
//! step on record with who took it and what spoke for it; certified only by an approval. Down to any rung at any time.
//!
//! Refuses: to probe or to judge a baseline. Whoever does brings the [`Step`] with its evidence.

mod ladder;
mod stored;
#[cfg(test)]
pub(crate) mod tests;

pub use ladder::{Missing, PathState, Step, StepError, missing, step, steps};
pub use stored::{NewPath, Path, PathError, by_name, create, list};
