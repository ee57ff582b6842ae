//! The engine's promises, each proved on a real Postgres: one file per family, named after what it attacks.

mod cancelling;
mod capping;
mod child;
mod claiming;
mod crashing;
mod depending;
mod enqueueing;
mod explaining;
mod failing;
mod fanning;
mod finishing;
mod hanging;
mod history;
mod interleaving;
mod leasing;
mod model;
mod planning;
mod rating;
mod rescuing;
mod restarting;
mod scheduling;
mod sharing;
mod stopping;
mod support;
mod timetables;
mod volume;
