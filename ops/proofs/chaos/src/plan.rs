//! The schedule of faults: a pure function of the seed.

use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// What can be done to the fleet or to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL a worker and start another
    Kill,
    /// SIGSTOP a worker past its lease, then SIGCONT
    Freeze,
    /// SIGTERM a worker, as a deployment does, and start another
    Drain,
    /// Restart Postgres in order (fast)
    Restart,
    /// Stop Postgres at once (immediate), so that it recovers
    Crash,
    /// Terminate a few of the workers' sessions
    Terminate,
    /// SIGKILL a backend: Postgres ends all sessions and recovers
    Backend,
    /// Close a worker's connections and refuse new ones
    Cut,
    /// Let nothing through between a worker and Postgres, past its lease, with its connections open
    Blackhole,
    /// Make a worker's network slow
    Delay,
    /// Step a worker's clock by minutes, forward or back
    Clock,
    /// Take all connections of the server
    Exhaust,
    /// Make each commit wait for a slow disk
    Wal,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Drain => "drain",
            Self::Restart => "restart",
            Self::Crash => "crash",
            Self::Terminate => "terminate",
            Self::Backend => "backend",
            Self::Cut => "cut",
            Self::Blackhole => "blackhole",
            Self::Delay => "delay",
            Self::Clock => "clock",
            Self::Exhaust => "exhaust",
            Self::Wal => "wal",
        }
    }

    /// How long it lasts, in milliseconds, for a lease of 4 s: some shorter, some well past it.
    fn lasts(self) -> (u64, u64) {
        match self {
            Self::Kill | Self::Drain => (200, 1_500),
            Self::Freeze => (3_500, 8_000),
            Self::Blackhole => (3_500, 10_000),
            Self::Restart | Self::Crash => (100, 1_500),
            Self::Terminate | Self::Backend => (1, 2),
            Self::Cut => (500, 8_000),
            Self::Delay | Self::Wal => (2_000, 5_000),
            Self::Clock => (3_000, 6_000),
            Self::Exhaust => (500, 2_500),
        }
    }
}

/// Which of a worker's connections a network fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    All,
    /// Those to the control database, where the leases are.
    Control,
    /// Those to the tenants' databases, where the effects are.
    Tenants,
}

/// How often each: where the leases are lost and the effects are not is the hardest case.
const REACHES: [Reach; 5] = [Reach::All, Reach::Control, Reach::Control, Reach::Control, Reach::Tenants];

/// A fault at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strike {
    /// Since the begin of the faults.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
    /// The place in the fleet, where it is one worker's.
    pub(crate) place: usize,
    pub(crate) reach: Reach,
    /// Whatever else is to be chosen.
    pub(crate) dice: u64,
}

/// Between one strike and the next, in milliseconds.
const GAP: (u64, u64) = (800, 2_200);

/// The strikes of a run. Every fault has its turn before one comes again.
pub(crate) fn plan(seed: u64, faults: &[Fault], workers: usize, span: Duration) -> Vec<Strike> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut strikes = Vec::new();
    let mut at = Duration::ZERO;
    let mut round: Vec<Fault> = Vec::new();
    loop {
        if round.is_empty() {
            round = faults.to_vec();
            round.shuffle(&mut random);
        }
        at += Duration::from_millis(random.random_range(GAP.0..GAP.1));
        let Some(fault) = round.pop().filter(|_| at < span) else { return strikes };
        let (shortest, longest) = fault.lasts();
        strikes.push(Strike {
            at,
            fault,
            lasts: Duration::from_millis(random.random_range(shortest..longest)),
            place: random.random_range(0..workers),
            reach: REACHES[random.random_range(0..REACHES.len())],
            dice: random.random(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_again_and_every_fault_its_turn() {
        let faults = Fault::value_variants();
        let span = Duration::from_mins(1);
        let strikes = plan(7, faults, 4, span);
        assert_eq!(strikes, plan(7, faults, 4, span));
        assert_ne!(strikes, plan(8, faults, 4, span));
        assert!(faults.iter().all(|fault| strikes.iter().any(|strike| strike.fault == *fault)));
        assert!(strikes.iter().all(|strike| strike.at < span && strike.place < 4));
    }
}
