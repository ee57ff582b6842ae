//! Writebacks on a Postgres and on an HTTP server: struck at every arrow, beside people who edit, and against servers
//! that lie.

mod arrows;
mod consent;
pub(crate) mod house;
mod kinto;
mod lying;
mod people;
pub(crate) mod server;
