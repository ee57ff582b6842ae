//! The Postgres driver against a real server.

mod deletions;
mod faults;
mod looking;
mod property;
mod reading;
mod values;
