//! The HTTP driver against a real server, and against one that misbehaves byte by byte.

mod bad_input;
mod bounds;
mod paging;
mod property;
mod retries;
mod secrets;
mod server;
