//! A run over pages.
//!
//! The position in the state moves to the next page when a page is handed out whole. A reader that stops
//! within a page asks for it again and, if it is still the same, goes on behind what was handed out of it;
//! if it changed, what was handed out is told by its fingerprints.

mod records;

use std::collections::VecDeque;

use tokio::time::Instant;

use super::exchange::{Ask, Exchange};
use super::guard::{Cycle, Guard, Loop};
use super::page::{Follows, Item, Page};
use super::{Done, HttpPosition, HttpSource, Next};
use crate::cursor::CursorValue;
use crate::definition::{HttpStream, Order, Pagination, Stream};
use crate::digest::Digest;
use crate::error::{Place, SourceError};
use crate::json::Agreed;
use crate::known::Known;
use crate::progress::{Progress, Seen};
use crate::record::Batch;
use crate::source::ReadOptions;
use crate::state::{Position, State};

/// A run in progress.
#[derive(Debug)]
pub(crate) struct HttpReader {
    source: HttpSource,
    place: Place,
    stream: Stream,
    http: HttpStream,
    agreed: Option<Agreed>,
    options: ReadOptions,
    shape: String,
    deadline: Instant,
    pages: u64,
    bytes: u64,
    /// The committed cursor.
    cursor: Option<CursorValue>,
    known: Known,
    /// Known once the source has answered for the first time.
    run: Option<Run>,
    /// The page that is being handed out, or to be asked for next.
    next: Next,
    /// Records of that page that were not handed out yet.
    pending: VecDeque<Item>,
    behind: Behind,
    guard: Guard,
    /// The guard as it is stored while the page is not handed out whole.
    cycle: Cycle,
    /// The fingerprints of the page before and of this page.
    page_before: Option<String>,
    page_here: Option<String>,
    /// What an earlier reader handed out of the first page.
    done: Option<Done>,
    /// How many records of this page were handed out.
    taken: usize,
    /// The first request continues an earlier reader's run; its token may have expired since.
    resumed: bool,
    ended: bool,
}

/// What comes behind the page at hand.
#[derive(Clone, Debug)]
enum Behind {
    /// The page itself was not asked for yet.
    Unasked,
    Page(Next),
    End,
}

/// What is fixed for a run when it begins.
#[derive(Clone, Debug)]
struct Run {
    started: chrono::DateTime<chrono::Utc>,
    lower: Option<CursorValue>,
    progress: Option<Progress>,
}

impl HttpReader {
    pub(super) fn start(
        source: &HttpSource,
        stream: &Stream,
        previous: &State,
        options: ReadOptions,
    ) -> Result<Self, SourceError> {
        let place = source.place.at(&stream.name);
        let shape = stream.shape(&stream.key);
        previous.must_fit(&place, &shape)?;
        let position = match &previous.position {
            None => None,
            Some(Position::Http(position)) => Some((**position).clone()),
            Some(Position::Postgres(_)) => return Err(State::of_other_source(&place)),
        };
        let next = position.as_ref().map_or(Next::First, |position| position.next.clone());
        let cycle = position.as_ref().map(|position| position.cycle.clone()).unwrap_or_default();
        let mut reader = Self {
            http: source.http(stream)?.clone(),
            agreed: stream.carried(&stream.key).map(|fields| Agreed::new(&fields)),
            deadline: Instant::now() + source.definition.run_deadline,
            pages: 0,
            bytes: 0,
            cursor: previous.cursor.clone(),
            known: previous.known.continued(stream.rules(), previous.is_mid_run()),
            run: None,
            resumed: next != Next::First,
            guard: Guard::new(cycle.clone(), &next),
            cycle,
            next,
            pending: VecDeque::new(),
            behind: Behind::Unasked,
            page_before: position.as_ref().and_then(|position| position.page.clone()),
            page_here: None,
            done: position.as_ref().and_then(|position| position.done.clone()),
            taken: 0,
            ended: false,
            source: source.clone(),
            place,
            stream: stream.clone(),
            options,
            shape,
        };
        if let Some(position) = position {
            reader.begin(position.started, position.lower, position.seen);
        }
        Ok(reader)
    }

    fn begin(&mut self, started: chrono::DateTime<chrono::Utc>, lower: Option<CursorValue>, seen: Seen) {
        let ascending = self.http.order == Order::Ascending;
        let rule = self.stream.cursor.as_ref();
        let progress = rule.map(|rule| Progress::new(rule, self.cursor.clone(), started, ascending, seen));
        self.run = Some(Run { started, lower, progress });
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        let mut batch = Batch::default();
        if matches!(self.behind, Behind::Unasked) {
            self.ask(&mut batch.warnings).await?;
        }
        let mut bytes = 0;
        while batch.len() < self.options.batch_records.max(1) && bytes < self.options.batch_bytes {
            let Some(item) = self.pending.pop_front() else { break };
            self.taken += 1;
            bytes += self.take(item, &mut batch);
        }
        if self.pending.is_empty() {
            self.turn();
        }
        Ok(Some(self.seal(batch)))
    }

    /// Asks for the page at `next`.
    async fn ask(&mut self, warnings: &mut Vec<String>) -> Result<(), SourceError> {
        self.stay_within_bounds()?;
        let lower = self.lower().cloned();
        let ask = Ask {
            place: &self.place,
            http: &self.http,
            next: &self.next,
            lower: lower.as_ref(),
            deadline: self.deadline,
        };
        match self.source.exchange(ask, warnings).await? {
            Exchange::Page(page) => self.open(*page),
            Exchange::Refused { status: 404, .. } if matches!(self.next, Next::Page(_)) => {
                self.end_at_a_missing_page(warnings).await
            }
            Exchange::Refused { .. } if self.resumed => {
                warnings.push(
                    "the source no longer knows the page at which the run stopped; it begins again".into(),
                );
                self.begin_again();
                Box::pin(self.ask(warnings)).await
            }
            Exchange::Refused { error, .. } => Err(error),
        }
    }

    /// Some APIs answer 404 behind the last page. One that answers so to its first page too is gone, and
    /// that is not the end of a run.
    async fn end_at_a_missing_page(&mut self, warnings: &mut Vec<String>) -> Result<(), SourceError> {
        let lower = self.lower().cloned();
        let first = Ask {
            place: &self.place,
            http: &self.http,
            next: &Next::First,
            lower: lower.as_ref(),
            deadline: self.deadline,
        };
        match self.source.exchange(first, warnings).await? {
            Exchange::Refused { error, .. } => Err(error),
            Exchange::Page(_) => {
                self.behind = Behind::End;
                Ok(())
            }
        }
    }

    /// The lower bound of the requests of this run: it must not move while tokens refer to it.
    fn lower(&self) -> Option<&CursorValue> {
        self.run.as_ref().map_or(self.cursor.as_ref(), |run| run.lower.as_ref())
    }

    /// Restarts the slice once, from as far as it is safely committed.
    fn begin_again(&mut self) {
        (self.next, self.resumed) = (Next::First, false);
        (self.guard, self.cycle) = (Guard::new(Cycle::default(), &Next::First), Cycle::default());
        (self.page_before, self.page_here, self.done) = (None, None, None);
        let Some(run) = self.run.take() else { return };
        let seen = run.progress.map(|progress| progress.seen().clone()).unwrap_or_default();
        let lower = if seen.out_of_order { run.lower } else { self.cursor.clone() };
        self.begin(run.started, lower, seen.rewound());
    }

    fn stay_within_bounds(&self) -> Result<(), SourceError> {
        let definition = &self.source.definition;
        if Instant::now() >= self.deadline {
            return Err(self.source.too_late(&self.place));
        }
        let goes_on = "the next run goes on from the last batch";
        if self.pages >= definition.pages_max {
            let why = format!("{} pages were read (`pages_max`)", self.pages);
            return Err(self
                .place
                .incomplete(why, format!("{goes_on}; raise `pages_max` if there are really more")));
        }
        if self.bytes >= definition.run_bytes_max {
            let why = format!("{} bytes were read (`run_bytes_max`)", self.bytes);
            return Err(self
                .place
                .incomplete(why, format!("{goes_on}; raise `run_bytes_max` if there are really more")));
        }
        Ok(())
    }

    /// Takes a page in and decides what comes behind it.
    fn open(&mut self, page: Page) -> Result<(), SourceError> {
        self.pages += 1;
        self.bytes += page.bytes;
        self.resumed = false;
        if self.run.is_none() {
            self.begin(page.began, self.cursor.clone(), Seen::default());
        }
        let records = page.items.len();
        let behind = match page.follows {
            Follows::Nothing => None,
            Follows::Page(next) => Some(next),
            Follows::Unsaid if records == 0 => None,
            Follows::Unsaid => {
                self.refuse_a_repeated_page(page.digest)?;
                Some(self.count_on(records))
            }
        };
        if let Some(behind) = &behind {
            self.guard.follow(behind, records).map_err(|found| self.looping(&found))?;
        }
        let here = page.digest.to_string();
        self.pending = page.items.into();
        self.taken =
            self.done.take().filter(|done| done.page == here).map_or(0, |done| done.records.min(records));
        self.pending.drain(..self.taken);
        self.page_here = Some(here);
        self.behind = behind.map_or(Behind::End, Behind::Page);
        Ok(())
    }

    /// The next page by number, or by how many records there were: a server may send fewer than asked for.
    fn count_on(&self, records: usize) -> Next {
        match (&self.http.pagination, &self.next) {
            (_, Next::Page(page)) => Next::Page(page + 1),
            (Pagination::Page { start, .. }, _) => Next::Page(start + 1),
            (_, Next::Offset(offset)) => Next::Offset(offset + records as u64),
            _ => Next::Offset(records as u64),
        }
    }

    fn refuse_a_repeated_page(&self, digest: Digest) -> Result<(), SourceError> {
        if self.page_before.as_deref() != Some(digest.to_string().as_str()) {
            return Ok(());
        }
        let (Pagination::Page { param, .. } | Pagination::Offset { param, .. }) = &self.http.pagination
        else {
            return Ok(());
        };
        Err(self.place.poison(
            format!("two pages in a row are the same: the source seems to ignore the parameter {param:?}"),
            "correct `pagination`, or write { type = \"none\" } if there is one page",
        ))
    }

    fn looping(&self, found: &Loop) -> SourceError {
        match found {
            Loop::Token(token) => {
                let token = self.source.scrubber.clean(token);
                let what = format!("the page token or next link {token:?} came a second time in this run");
                self.place.poison(what, "report it to the API's owner: its pages go in a circle")
            }
            Loop::EmptyPages => self.place.incomplete(
                "too many empty pages followed each other",
                "look at the stream's parameters: the source finds nothing and never says so",
            ),
        }
    }

    /// The page is handed out whole: on to the next, or to the end.
    fn turn(&mut self) {
        match std::mem::replace(&mut self.behind, Behind::Unasked) {
            Behind::Page(next) => {
                self.next = next;
                self.cycle = self.guard.cycle.clone();
                self.page_before = self.page_here.take();
                self.taken = 0;
            }
            Behind::End | Behind::Unasked => self.ended = true,
        }
    }

    /// Gives the batch its state.
    fn seal(&mut self, mut batch: Batch) -> Batch {
        batch.finished = self.ended;
        let progress = self.run.as_ref().and_then(|run| run.progress.as_ref());
        let cursor = match progress {
            Some(progress) if self.ended => progress.end(),
            Some(progress) => progress.checkpoint(),
            None => None,
        };
        let seen = progress.map(|progress| progress.seen().clone()).unwrap_or_default();
        if let Some(cursor) = cursor.filter(|cursor| self.cursor.as_ref() != Some(cursor)) {
            self.known.advance(&cursor);
            self.cursor = Some(cursor);
        }
        if self.ended {
            self.known.end_run();
        }
        let position = self.run.as_ref().filter(|_| !self.ended).map(|run| HttpPosition {
            next: self.next.clone(),
            started: run.started,
            lower: run.lower.clone(),
            seen,
            cycle: self.cycle.clone(),
            page: self.page_before.clone(),
            done: self.page_here.clone().map(|page| Done { page, records: self.taken }),
        });
        batch.state = State {
            shape: Some(self.shape.clone()),
            cursor: self.cursor.clone(),
            position: position.map(|position| Position::Http(Box::new(position))),
            known: self.known.clone(),
        };
        batch
    }
}
