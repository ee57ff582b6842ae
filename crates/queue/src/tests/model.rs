//! The lease protocol as a model small enough to read, and every order in which its steps can come.
//!
//! The tests beside this one break the real engine in chosen and in random ways. Here nothing is chosen: from the start,
//! every step that could come next is taken, until no new state appears. What is lost is detail. A model has one job
//! (jobs meet only at the caps, which have a model of their own), and each of its steps names the function or statement
//! that it stands for, so that the two can be compared by reading.
//!
//! A model is worth what it catches. [`lease::Mutation`] and [`cap::Mutation`] break it in the ways in which the code
//! could be broken; each must yield a counterexample, which the test prints.

mod cap;
mod lease;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt::{self, Debug, Write},
    hash::Hash,
};

/// A protocol: where it starts, what can happen next, and what must never be.
trait Model {
    /// Equal states have equal futures: whatever grows for ever is left out of it.
    type State: Copy + Eq + Hash + Debug;

    fn start(&self) -> Self::State;

    /// Everything that can happen next.
    fn steps(&self, from: &Self::State) -> Vec<Step<Self::State>>;

    /// The promise that this state breaks.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether everything that was to be done is done.
    fn has_ended(&self, state: &Self::State) -> bool;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Worker(usize),
    Rescuer,
    Keeper,
    Operator,
    Postgres,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(worker) => write!(f, "worker {}", ["A", "B", "C"][*worker]),
            Self::Rescuer => f.write_str("rescuer"),
            Self::Keeper => f.write_str("keeper"),
            Self::Operator => f.write_str("operator"),
            Self::Postgres => f.write_str("postgres"),
        }
    }
}

struct Step<S> {
    who: Who,
    what: &'static str,
    to: S,
}

impl<S: Copy> Step<S> {
    fn new(from: &S, who: Who, what: &'static str, change: impl FnOnce(&mut S)) -> Self {
        let mut to = *from;
        change(&mut to);
        Self { who, what, to }
    }
}

/// Takes in what an actor does next: its name, and the change it makes.
type Add<'a, S> = dyn FnMut(&'static str, &dyn Fn(&mut S)) + 'a;

/// The states seen, by number, with the way to each.
struct Seen<S> {
    numbers: HashMap<S, usize>,
    states: Vec<S>,
    came_by: Vec<Option<(usize, Who, &'static str)>>,
}

impl<S: Copy + Eq + Hash + Debug> Seen<S> {
    /// The state's number, and whether it is new.
    fn add(&mut self, state: S, by: Option<(usize, Who, &'static str)>) -> (usize, bool) {
        match self.numbers.entry(state) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(free) => {
                let number = *free.insert(self.states.len());
                self.states.push(state);
                self.came_by.push(by);
                (number, true)
            }
        }
    }

    /// The shortest way to a state, as a person can read it.
    fn trace(&self, mut number: usize) -> String {
        let last = self.states[number];
        let mut steps = Vec::new();
        while let Some((before, who, what)) = self.came_by[number] {
            steps.push(format!("{who} {what}"));
            number = before;
        }
        let mut text = String::new();
        for (n, step) in (1..).zip(steps.into_iter().rev()) {
            writeln!(text, "{n:>4}. {step}").expect("a String takes everything");
        }
        text + &format!("      {last:?}\n")
    }
}

/// Takes every step from every state, the nearest first, and answers how many states there are, or a counterexample:
/// the shortest way to a broken promise, or to a state from which no end can be reached.
fn explore<M: Model>(model: &M) -> Result<usize, String> {
    let mut seen = Seen { numbers: HashMap::new(), states: Vec::new(), came_by: Vec::new() };
    let mut to_visit = VecDeque::from([seen.add(model.start(), None).0]);
    let mut ways_back: Vec<(usize, usize)> = Vec::new();
    while let Some(number) = to_visit.pop_front() {
        let from = seen.states[number];
        for Step { who, what, to } in model.steps(&from) {
            let (next, is_new) = seen.add(to, Some((number, who, what)));
            if let Some(promise) = model.broken(&to) {
                return Err(format!("{promise}:\n{}", seen.trace(next)));
            }
            // What an operator may do is no excuse for a job that would otherwise never end.
            if who != Who::Operator {
                ways_back.push((next, number));
            }
            if is_new {
                to_visit.push_back(next);
            }
        }
    }
    match first_without_end(model, &seen.states, ways_back) {
        Some(lost) => Err(format!("the job is lost:\n{}", seen.trace(lost))),
        None => Ok(seen.states.len()),
    }
}

/// The first state from which no end can be reached.
fn first_without_end<M: Model>(
    model: &M,
    states: &[M::State],
    mut ways_back: Vec<(usize, usize)>,
) -> Option<usize> {
    ways_back.sort_unstable();
    let mut ends: Vec<bool> = states.iter().map(|state| model.has_ended(state)).collect();
    let mut to_visit: Vec<usize> = (0..states.len()).filter(|&number| ends[number]).collect();
    while let Some(number) = to_visit.pop() {
        let first = ways_back.partition_point(|way| way.0 < number);
        for &(_, before) in ways_back[first..].iter().take_while(|way| way.0 == number) {
            if !std::mem::replace(&mut ends[before], true) {
                to_visit.push(before);
            }
        }
    }
    ends.iter().position(|ends| !ends)
}

/// The model without a fault keeps its promises; each way to break it is found out.
fn check<M: Model, F: Debug + Copy>(model: impl Fn(Option<F>) -> M, faults: &[(F, &str)]) {
    let states = explore(&model(None)).unwrap_or_else(|trace| panic!("{trace}"));
    println!("{states} states, in none of them a broken promise");
    for (fault, promise) in faults {
        let trace = explore(&model(Some(*fault))).expect_err(&format!("{fault:?} is not found out"));
        println!("\n{fault:?} breaks a promise: {trace}");
        assert!(trace.starts_with(promise), "{fault:?} was to break another promise: {promise}");
    }
}
