//! The command line as scripts and people meet it.

mod approvals;
mod audit;
mod baseline;
mod bulk;
mod candidate;
mod connector;
mod deletion;
mod dev;
mod exits;
mod explain;
mod exports;
mod help;
mod jobs;
mod keys;
mod ladder;
mod messages;
mod policies;
mod record;
mod review;
mod schedules;
mod work;
mod writebacks;
