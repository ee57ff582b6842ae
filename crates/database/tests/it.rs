//! The crate's programs, run as a user runs them.

#[path = "it/with_postgres.rs"]
mod with_postgres;
