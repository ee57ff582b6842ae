//! One job with one step, two workers that claim it, and everything that may befall them.
//!
//! Fences are kept as ranks: only their order matters, so the states are finitely many although runs are endless. A
//! step's transaction at the resource is two steps here, because a newer attempt may come between them.

use super::{Add, Model, Step, Who, check};

const WORKERS: usize = 2;

/// A lease that was just given or renewed; each tick of Postgres's clock takes one, and with none left it has ended.
const LEASE: u8 = 2;
/// What `rescue::bury` leaves of a lease whose worker's lock is gone.
const LAST_MOMENT: u8 = 1;

/// Ways to break the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    EffectIgnoresTheFence,
    EffectReadsTheFenceWithoutLockingIt,
    EffectLeavesNoMark,
    FenceRaisedAfterTheConfirmation,
    FinishMatchesOnIdAlone,
    RescueKeepsTheFence,
    RescuePutsACancelledJobBack,
    RescueWantsTheLockFree,
}
use Mutation::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Ready,
    Running,
    Succeeded,
    Cancelled,
}

/// `queue.job`, and `queue.job_history` once it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    state: State,
    fence: u8,
    worker: Option<usize>,
    lease: u8,
    cancel_requested: bool,
}

/// The tenant's database: `tenant.job_fence` and `tenant.applied_step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Resource {
    /// 0: no row.
    fence: u8,
    marked: bool,
    /// How often the step's effect happened in truth.
    effects: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Process {
    Up,
    Frozen,
    Dead,
}

/// The advisory lock by which a worker is known to live (`presence.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lock {
    Held,
    Free,
    /// Taken on an earlier start of the server: that it is free proves nothing.
    Forgotten,
}

/// How far the attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Idle,
    Claimed,
    HalfEntered,
    Entered,
    /// Its transaction at the resource is open.
    Writing,
    Applied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Worker {
    process: Process,
    lock: Lock,
    at: At,
    fence: u8,
}

const FRESH: Worker = Worker { process: Process::Up, lock: Lock::Held, at: At::Idle, fence: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    row: Row,
    resource: Resource,
    workers: [Worker; WORKERS],
    broken: Option<&'static str>,
}

const TWICE: &str = "the effect of one step happened twice";
const STALE_EFFECT: &str = "an older attempt wrote past a newer fence";
const STALE_END: &str = "an attempt without the lease moved the job";
const RESTARTED: &str = "a job that was called off started again";
const LOST: &str = "the job is lost";

impl World {
    /// `nextval('queue.fence')`.
    fn draw(&self) -> u8 {
        let held = self.workers.iter().map(|worker| worker.fence);
        held.chain([self.row.fence, self.resource.fence]).max().unwrap_or(0) + 1
    }

    /// Replaces each fence by its rank.
    fn rank(&mut self) {
        // Each fence, or 0, is in use or it is not.
        let mut used = [false; 8];
        used[usize::from(self.row.fence)] = true;
        used[usize::from(self.resource.fence)] = true;
        self.workers.iter().for_each(|worker| used[usize::from(worker.fence)] = true);
        let rank =
            |fence: &mut u8| *fence = (1..=*fence).map(|lower| u8::from(used[usize::from(lower)])).sum();
        rank(&mut self.row.fence);
        rank(&mut self.resource.fence);
        self.workers.iter_mut().for_each(|worker| rank(&mut worker.fence));
    }

    fn is_over(&self) -> bool {
        matches!(self.row.state, State::Succeeded | State::Cancelled)
    }

    fn break_unless(&mut self, holds: bool, promise: &'static str) {
        self.broken = self.broken.or((!holds).then_some(promise));
    }

    /// What `queue.confirm` asks.
    fn stands(&self, i: usize) -> bool {
        self.row.state == State::Running && self.row.fence == self.workers[i].fence
    }

    /// `claim.sql`.
    fn claim(&mut self, i: usize) {
        self.break_unless(!self.row.cancel_requested, RESTARTED);
        let fence = self.draw();
        self.row = Row { state: State::Running, fence, worker: Some(i), lease: LEASE, ..self.row };
    }

    /// The update that `release`, `disown` and `rescue` share.
    fn put_back(&mut self, fence: u8) {
        self.row = Row { state: State::Ready, fence, worker: None, lease: 0, ..self.row };
    }

    fn end(&mut self, state: State) {
        self.row = Row { state, fence: 0, worker: None, lease: 0, ..self.row };
    }

    fn leave(&mut self, i: usize) {
        (self.workers[i].at, self.workers[i].fence) = (At::Idle, 0);
    }

    /// `fence::raise`: never lowers, and ends an older attempt's transaction that is in the way.
    fn raise(&mut self, i: usize, then: At, ends_others: bool) {
        if self.resource.fence > self.workers[i].fence {
            return self.leave(i);
        }
        self.resource.fence = self.workers[i].fence;
        self.workers[i].at = then;
        for other in self.workers.iter_mut().filter(|other| ends_others && other.at == At::Writing) {
            other.at = At::Entered;
        }
    }

    /// `Attempt::confirm`.
    fn confirm(&mut self, i: usize, then: At) {
        if self.stands(i) {
            self.workers[i].at = then;
        } else {
            self.leave(i);
        }
    }

    /// `TenantDb::effect`.
    fn begin(&mut self, i: usize, checks: bool) {
        match self.resource {
            Resource { fence, .. } if checks && fence != self.workers[i].fence => self.leave(i),
            Resource { marked: true, .. } => self.workers[i].at = At::Applied,
            Resource { .. } => self.workers[i].at = At::Writing,
        }
    }

    /// `Effect::commit`. Of two marks the second is refused by the key of `tenant.applied_step`.
    fn commit(&mut self, i: usize, marks: bool) {
        self.workers[i].at = At::Applied;
        if self.resource.marked {
            return;
        }
        self.break_unless(self.resource.fence <= self.workers[i].fence, STALE_EFFECT);
        self.resource.effects += 1;
        self.break_unless(self.resource.effects == 1, TWICE);
        self.resource.marked = marks;
    }

    /// `finish.sql`, or `release` where the job shall run again.
    fn settle(&mut self, i: usize, is_done: bool, matches_fence: bool) {
        if self.is_over() || (matches_fence && self.row.fence != self.workers[i].fence) {
            return;
        }
        self.break_unless(self.stands(i) && self.row.worker == Some(i), STALE_END);
        match (is_done, self.row.cancel_requested) {
            (true, _) => self.end(State::Succeeded),
            (false, true) => self.end(State::Cancelled),
            (false, false) => self.put_back(self.draw()),
        }
    }
}

struct Protocol(Option<Mutation>);

impl Protocol {
    fn keeps(&self, mutation: Mutation) -> bool {
        self.0 != Some(mutation)
    }

    /// What a worker that is awake does next.
    fn work(&self, world: &World, i: usize, add: &mut Add<'_, World>) {
        let (row, at) = (world.row, world.workers[i].at);
        let raise = |world: &mut World, then| {
            world.raise(i, then, self.keeps(EffectReadsTheFenceWithoutLockingIt));
        };
        match (at, self.keeps(FenceRaisedAfterTheConfirmation)) {
            (At::Idle, _) if row.state == State::Ready => {
                add("claims the job", &|world| {
                    world.claim(i);
                    (world.workers[i].at, world.workers[i].fence) = (At::Claimed, world.row.fence);
                });
                add("claims the job, and the answer is lost", &|world| world.claim(i));
            }
            (At::Idle, _) if row.worker == Some(i) && !row.cancel_requested => {
                add("gives back what it does not know (disown)", &|world| world.put_back(world.draw()));
            }
            (At::Idle, _) => {}
            (At::Claimed, true) => add("raises its fence there", &|w| raise(w, At::HalfEntered)),
            (At::HalfEntered, true) => add("confirms its lease", &|w| w.confirm(i, At::Entered)),
            (At::Claimed, false) => add("confirms its lease", &|w| w.confirm(i, At::HalfEntered)),
            (At::HalfEntered, false) => add("raises its fence there", &|w| raise(w, At::Entered)),
            (At::Entered, _) => {
                let checks = self.keeps(EffectIgnoresTheFence);
                add("begins the step and reads the fence there", &|world| world.begin(i, checks));
            }
            (At::Writing, _) => {
                let marks = self.keeps(EffectLeavesNoMark);
                add("commits the step's effect", &|world| world.commit(i, marks));
            }
            (At::Applied, _) => {
                let matches_fence = self.keeps(FinishMatchesOnIdAlone);
                add("finishes the job", &|world| {
                    world.settle(i, true, matches_fence);
                    world.leave(i);
                });
                add("finishes the job, and the answer is lost", &|world| {
                    world.settle(i, true, matches_fence);
                });
            }
        }
        if at == At::Idle {
            return;
        }
        add("fails or hands the job back (release)", &|world| {
            world.settle(i, false, true);
            world.leave(i);
        });
        add("renews its lease", &|world| {
            if world.stands(i) {
                world.row.lease = LEASE;
            } else {
                world.leave(i);
            }
        });
    }

    fn rescue(&self, world: &mut World) {
        if world.row.cancel_requested && self.keeps(RescuePutsACancelledJobBack) {
            world.end(State::Cancelled);
        } else {
            world.put_back(if self.keeps(RescueKeepsTheFence) { world.draw() } else { world.row.fence });
        }
    }
}

/// What befalls a process.
fn befall(world: &World, i: usize, add: &mut Add<'_, World>) {
    let worker = world.workers[i];
    match worker.process {
        Process::Up => {
            add("freezes", &|world| world.workers[i].process = Process::Frozen);
            if worker.lock == Lock::Held {
                add("loses its lock's connection", &|world| world.workers[i].lock = Lock::Free);
            } else {
                add("takes its lock again", &|world| world.workers[i].lock = Lock::Held);
            }
        }
        Process::Frozen => add("thaws", &|world| world.workers[i].process = Process::Up),
        // A new process is a new worker: it comes when the old one's lease is gone.
        Process::Dead if world.row.worker != Some(i) => add("starts anew", &|w| w.workers[i] = FRESH),
        Process::Dead => {}
    }
    if worker.process != Process::Dead {
        add("dies", &|world| {
            let lock = if worker.lock == Lock::Forgotten { Lock::Forgotten } else { Lock::Free };
            world.workers[i] = Worker { process: Process::Dead, lock, ..FRESH };
        });
    }
}

impl Model for Protocol {
    type State = World;

    fn start(&self) -> World {
        let row = Row { state: State::Ready, fence: 0, worker: None, lease: 0, cancel_requested: false };
        let resource = Resource { fence: 0, marked: false, effects: 0 };
        World { row, resource, workers: [FRESH; WORKERS], broken: None }
    }

    fn steps(&self, from: &World) -> Vec<Step<World>> {
        let mut steps = Vec::new();
        let mut add = |who, what, change: &dyn Fn(&mut World)| {
            steps.push(Step::new(from, who, what, |world| {
                change(world);
                world.rank();
            }));
        };
        for i in 0..WORKERS {
            let mut add = |what, change: &dyn Fn(&mut World)| add(Who::Worker(i), what, change);
            if from.workers[i].process == Process::Up {
                self.work(from, i, &mut add);
            }
            befall(from, i, &mut add);
        }
        let row = from.row;
        if let Some(holder) = row.worker.map(|worker| from.workers[worker]) {
            if row.lease > 0 {
                add(Who::Postgres, "ticks", &|world| world.row.lease -= 1);
            }
            if row.lease > LAST_MOMENT && holder.lock == Lock::Free {
                add(Who::Rescuer, "shortens the lease (bury)", &|world| world.row.lease = LAST_MOMENT);
            }
            if row.lease == 0 && (self.keeps(RescueWantsTheLockFree) || holder.lock == Lock::Free) {
                add(Who::Rescuer, "takes the job back (rescue)", &|world| self.rescue(world));
            }
            if !row.cancel_requested {
                add(Who::Operator, "asks to cancel", &|world| world.row.cancel_requested = true);
            }
        } else if !from.is_over() {
            add(Who::Operator, "cancels", &|world| world.end(State::Cancelled));
        }
        if from.is_over() && from.workers.iter().all(|worker| worker.at != At::Writing) {
            add(Who::Keeper, "prunes the fence and the mark of the ended job", &|world| {
                (world.resource.fence, world.resource.marked) = (0, false);
            });
        }
        add(Who::Postgres, "restarts and loses nothing that was committed", &|world| {
            for worker in &mut world.workers {
                worker.at = if worker.at == At::Writing { At::Entered } else { worker.at };
                worker.lock = if worker.lock == Lock::Held { Lock::Forgotten } else { worker.lock };
            }
        });
        steps
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        world.broken
    }

    fn has_ended(&self, world: &World) -> bool {
        world.is_over()
    }
}

#[test]
fn q2_q11_no_interleaving_breaks_the_lease_protocol_and_each_mutation_is_found_out() {
    check(
        Protocol,
        &[
            (EffectIgnoresTheFence, STALE_EFFECT),
            (EffectReadsTheFenceWithoutLockingIt, STALE_EFFECT),
            (EffectLeavesNoMark, TWICE),
            (FenceRaisedAfterTheConfirmation, TWICE),
            (FinishMatchesOnIdAlone, STALE_END),
            (RescueKeepsTheFence, STALE_END),
            (RescuePutsACancelledJobBack, RESTARTED),
            (RescueWantsTheLockFree, LOST),
        ],
    );
}
