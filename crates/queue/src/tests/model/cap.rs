//! Three workers that claim from one queue under a cap, each claim in the steps that it really has: one advisory lock,
//! then a statement that counts, then one that claims, then the commit.
//!
//! A statement sees what was committed when it began. That is why the lock must be taken by a statement of its own: one
//! that takes it and counts began before it waited, and counts what was true then.

use super::{Add, Model, Step, Who, check};

const WORKERS: usize = 3;
const CAP: u8 = 1;

/// Ways to break the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    NoLock,
    LockInsideTheClaimingStatement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// It has counted, and waits for the lock: only where the lock is taken by the claiming statement.
    Waiting(u8),
    Locked,
    Counted(u8),
    /// So many leases are written, and nobody else can see them.
    Claimed(u8),
}

impl At {
    fn holds_lock(self) -> bool {
        !matches!(self, Self::Idle | Self::Waiting(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    /// Leases that are committed.
    running: u8,
    workers: [At; WORKERS],
}

const OVER: &str = "there are more leases than the cap";

struct Capped(Option<Mutation>);

impl Capped {
    fn claim(&self, world: World, i: usize, add: &mut Add<'_, World>) {
        let is_free = self.0 == Some(Mutation::NoLock) || !world.workers.iter().any(|at| at.holds_lock());
        let in_statement = self.0 == Some(Mutation::LockInsideTheClaimingStatement);
        match world.workers[i] {
            At::Idle if in_statement => {
                add("begins the claiming statement, which sees the leases of now", &|world| {
                    world.workers[i] = At::Waiting(world.running);
                });
            }
            At::Waiting(seen) if is_free => {
                add("is given the lock", &|world| world.workers[i] = At::Counted(seen));
            }
            At::Idle if is_free => add("takes the lock", &|world| world.workers[i] = At::Locked),
            At::Idle | At::Waiting(_) => {}
            At::Locked => {
                add("counts the leases", &|world| world.workers[i] = At::Counted(world.running));
            }
            At::Counted(seen) => {
                let room = CAP.saturating_sub(seen);
                add("claims up to the cap", &|world| world.workers[i] = At::Claimed(room));
            }
            At::Claimed(leases) => add("commits, which frees the lock", &|world| {
                world.running += leases;
                world.workers[i] = At::Idle;
            }),
        }
        if world.workers[i] != At::Idle {
            add("dies: its transaction is undone, its lock freed", &|world| world.workers[i] = At::Idle);
        }
    }
}

impl Model for Capped {
    type State = World;

    fn start(&self) -> World {
        World { running: 0, workers: [At::Idle; WORKERS] }
    }

    fn steps(&self, from: &World) -> Vec<Step<World>> {
        let mut steps = Vec::new();
        for i in 0..WORKERS {
            self.claim(*from, i, &mut |what, change| {
                steps.push(Step::new(from, Who::Worker(i), what, change));
            });
        }
        if from.running > 0 {
            let ends = "finishes, releases or takes back a job: a lease less";
            steps.push(Step::new(from, Who::Rescuer, ends, |world| world.running -= 1));
        }
        steps
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        (world.running > CAP).then_some(OVER)
    }

    /// There are jobs enough for ever: what must stay possible is a lease.
    fn has_ended(&self, world: &World) -> bool {
        world.running == CAP
    }
}

#[test]
fn q8_no_interleaving_exceeds_a_cap_and_each_mutation_is_found_out() {
    check(Capped, &[(Mutation::NoLock, OVER), (Mutation::LockInsideTheClaimingStatement, OVER)]);
}
