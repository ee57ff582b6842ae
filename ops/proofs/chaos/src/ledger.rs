//! What a run has left, as plain values: what was asked for, what the databases say, what the runner did meanwhile.
//!
//! Times are microseconds of the machine's clock, which the databases share. A time named `committed` is that of the
//! commit, as Postgres keeps it: in the order in which transactions could see each other.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Microseconds since 1970.
pub(crate) type Micros = i64;

/// Now, by the clock that the databases use too.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    Micros::try_from(since.as_micros()).expect("microseconds since 1970 fit for 290,000 years")
}

/// Everything that the checker looks at.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) promises: Vec<Promise>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) charges: Vec<Charge>,
    pub(crate) moves: Vec<Move>,
    pub(crate) raises: Vec<Raise>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) sightings: Vec<Sighting>,
    pub(crate) caps: Vec<Cap>,
    pub(crate) beats: Vec<Beat>,
    pub(crate) fires: Vec<Fire>,
    pub(crate) deaths: Vec<Death>,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) struck: Vec<Struck>,
    /// Workers at a time.
    pub(crate) workers: usize,
    /// How long a lease is good for without renewal.
    pub(crate) lease: Micros,
}

/// What became of a request to enqueue, as the one who asked knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    RolledBack,
    /// The connection broke at the commit.
    Unknown,
}

/// A probe that somebody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    pub(crate) label: String,
    pub(crate) fate: Fate,
    pub(crate) steps: u16,
    pub(crate) failures: u16,
    pub(crate) hang: bool,
    pub(crate) attempts_max: i16,
}

impl Promise {
    /// It was told to fail as often as it may.
    pub(crate) fn is_doomed(&self) -> bool {
        i32::from(self.failures) >= i32::from(self.attempts_max)
    }
}

/// Where a job is at the end of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Live,
    Quarantined,
    Succeeded,
    Failed,
    Cancelled,
}

/// A row of the live table or of history.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) label: String,
    pub(crate) rest: Rest,
    pub(crate) attempt: i16,
    pub(crate) failures: i16,
    pub(crate) attempts_max: i16,
    pub(crate) note: String,
}

/// How the engine recorded an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charged {
    /// Failed, timed out or panicked.
    Failed,
    Lost,
    Crashed,
    Cancelled,
}

#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub(crate) job: i64,
    pub(crate) how: Charged,
    pub(crate) worker: Option<i64>,
}

/// A side of a move: where the job was or came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) running: bool,
    pub(crate) fence: i64,
    pub(crate) worker: Option<i64>,
}

/// A change of a job's fence, or its leaving the live table; in the order of `number` for each job.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) number: i64,
    pub(crate) job: i64,
    pub(crate) from: Side,
    /// None when it left.
    pub(crate) to: Option<Side>,
    pub(crate) committed: Micros,
    pub(crate) queue: String,
    pub(crate) tenant: Option<Uuid>,
}

/// A fence that came into place in a tenant's database.
#[derive(Debug, Clone)]
pub(crate) struct Raise {
    pub(crate) job: i64,
    pub(crate) fence: i64,
    pub(crate) committed: Micros,
}

/// A row of a tenant's ledger.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) job: i64,
    pub(crate) fence: i64,
    pub(crate) step: String,
    pub(crate) committed: Micros,
}

/// What an attempt was seen to do, whether or not it might.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) job: i64,
    pub(crate) fence: i64,
    pub(crate) began: bool,
    pub(crate) at: Micros,
}

/// How many jobs of a queue may hold a lease at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Cap {
    pub(crate) queue: &'static str,
    /// Counted for each tenant by itself.
    pub(crate) each_tenant: bool,
    pub(crate) running_max: usize,
}

/// What a schedule's jobs are labelled with: their promises are the fire times.
pub(crate) const FIRE: &str = "fire";

/// A schedule that fires at every multiple of a number of seconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Beat {
    pub(crate) schedule: i64,
    pub(crate) every: Micros,
    /// Fire times after this and up to that must have had their fire.
    pub(crate) from: Micros,
    pub(crate) to: Micros,
}

/// A fire that a schedule gave.
#[derive(Debug, Clone)]
pub(crate) struct Fire {
    pub(crate) schedule: i64,
    pub(crate) at: Micros,
    pub(crate) job: Option<i64>,
}

/// A worker that the runner killed.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) worker: i64,
    pub(crate) at: Micros,
}

/// A time in which a place of the fleet, or all of it, could not be expected to work.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) place: Option<usize>,
    pub(crate) from: Micros,
    pub(crate) to: Micros,
}

/// How often a fault really struck, or why it did not.
#[derive(Debug, Clone)]
pub(crate) struct Struck {
    pub(crate) fault: &'static str,
    pub(crate) times: usize,
    pub(crate) absent: Option<String>,
}
