//! The Postgres driver against a real server.

mod reading;
