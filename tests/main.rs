//! One binary for all tests of the whole service.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has no better answer than to stop")]

mod architecture;
mod chaos;
mod cli;
mod crash;
mod documents;
mod support;
