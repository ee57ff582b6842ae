//! One attempt at one writeback: which arrow follows what the target said or showed.

pub(super) mod judge;
pub(super) mod target;

use std::time::Duration;

use connectors::{Conflict, Observed, Standing, WriteAnswer};
use database::tenant::{Begun, Effect, TenantDb};
use governance::writeback::{
    self as rows, Asked, Consent, Intended, Intent, Move, State, Writeback, WritebackError, WritebackId,
};
use queue::{Attempt, JobError};
use serde_json::json;
use sqlx::PgConnection;

use self::{
    judge::{judge, source},
    target::Opened,
};
use crate::{
    Environment, describe,
    environment::{When, into_job_error},
};

/// How often a change is sent at most, all in all: after that the target has had its chances.
const SENDS_MAX: i32 = 6;

/// How long until an approval is looked for again.
const APPROVAL_PAUSE: Duration = Duration::from_secs(15);

/// The longest wait for the next day: a cap may be raised meanwhile.
const CAP_PAUSE_MAX: Duration = Duration::from_hours(1);

pub(super) struct Run<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) environment: &'a Environment,
    pub(super) db: &'a TenantDb,
}

/// What the job leaves as its output: ids and words of ours, no values.
pub(super) fn report(seen: &Writeback) -> serde_json::Value {
    json!({ "writeback": seen.id, "state": seen.state, "reason": seen.reason, "sends": seen.sends })
}

impl Run<'_> {
    pub(super) async fn load(&self, id: WritebackId) -> Result<Writeback, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let found = rows::find(&mut read, id).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        Ok(found)
    }

    /// Takes one arrow, or says when to come again.
    pub(super) async fn step(&self, seen: &Writeback) -> Result<(), JobError> {
        match seen.state {
            State::Planned => self.admit(seen).await,
            State::Approved | State::Held => {
                let Some(opened) = self.open(seen).await? else { return self.redefined(seen).await };
                self.send(seen, &opened).await
            }
            // Whoever wrote it may have sent it, and is gone.
            State::Intent => self.take(seen, &self.to(State::Unknown, "lost_attempt")).await,
            State::Sent => self.verify(seen).await,
            State::Unknown => self.resolve(seen).await,
            State::Verified
            | State::Mismatch
            | State::Conflict
            | State::NotApplied
            | State::Compensated
            | State::Accepted => Ok(()),
        }
    }

    /// From planned: asks whoever has to be asked, and looks for the answer.
    async fn admit(&self, seen: &Writeback) -> Result<(), JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let rule = rows::rule(&mut read, &seen.plan.path).await.map_err(judge)?;
        let consent = rows::look_for_consent(&mut read, seen).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        let refusal = match rule {
            None => Some(rows::Refusal::NoPath(seen.plan.path.clone())),
            Some(rule) => rule.admits(&seen.plan, seen.accepted_by, seen.confidence).err(),
        };
        if let Some(refusal) = refusal {
            let detail = refusal.to_string();
            let step = self.to(State::NotApplied, refusal.reason()).detail(&detail);
            return self.take(seen, &step).await;
        }
        match consent {
            Consent::NotNeeded => self.take(seen, &self.to(State::Approved, "no_gate")).await,
            Consent::Given => self.take(seen, &self.to(State::Approved, "approved")).await,
            Consent::Refused { reason, detail } => {
                self.take(seen, &self.to(State::NotApplied, reason).detail(&detail)).await
            }
            Consent::Undecided if seen.approval.is_none() => {
                self.ask(seen).await?;
                Err(Self::await_approval())
            }
            Consent::Undecided => Err(Self::await_approval()),
        }
    }

    fn await_approval() -> JobError {
        JobError::await_approval(APPROVAL_PAUSE, "a person has to approve the change")
    }

    async fn ask(&self, seen: &Writeback) -> Result<(), JobError> {
        let name = format!("ask {}", seen.steps);
        let Some(mut effect) = self.begin(&name).await? else { return Ok(()) };
        match rows::ask(&mut effect, seen, Some(self.attempt.job().0)).await.map_err(judge)? {
            Asked::Approval(_) => self.commit(&name, effect).await,
            // Lowered meanwhile. The step is not done: the gate may be raised again.
            Asked::Nobody => Ok(()),
        }
    }

    /// From approved, held, or unknown with the values of before: makes the plan anew, writes the intent, and sends.
    async fn send(&self, seen: &Writeback, opened: &Opened) -> Result<(), JobError> {
        let observed = opened.target.read(&seen.plan.key).await.map_err(|error| source(&error))?;
        let plan = target::replanned(&seen.plan, opened.definition, observed.as_ref());
        let plan = plan.digest().map_err(judge)?;
        let job = self.attempt.job().0;
        let intent = Intent { plan, rest: observed.as_ref().map(|seen| seen.rest.as_str()), job };
        let name = format!("intent {}", seen.steps + 1);
        let Some(mut effect) = self.begin(&name).await? else { return Ok(()) };
        match rows::intend(&mut effect, seen, intent).await.map_err(judge)? {
            Intended::Intent(written) => {
                self.commit(&name, effect).await?;
                self.deliver(&written, opened).await
            }
            Intended::Ended(_) => self.commit(&name, effect).await,
            Intended::Undecided => {
                // The gate was raised since: nobody has been asked yet.
                if seen.approval.is_none() {
                    drop(effect);
                    self.ask(seen).await?;
                }
                Err(Self::await_approval())
            }
            Intended::Later(refusal) => {
                let rows::Refusal::CapReached { again, .. } = &refusal else {
                    return Err(Self::await_approval());
                };
                Err(JobError::snooze((*again).min(CAP_PAUSE_MAX), refusal.to_string()))
            }
        }
    }

    /// Sends what was intended in this very attempt, and writes down what was answered.
    async fn deliver(&self, seen: &Writeback, opened: &Opened) -> Result<(), JobError> {
        let change = target::change(seen).ok_or_else(|| judge(WritebackError::Stored("idempotency key")))?;
        self.boundary("send", When::Before).await?;
        // An attempt that slept here must not send beside its successor.
        if !self.attempt.confirm().await.map_err(JobError::retry)? {
            return Err(JobError::fenced());
        }
        let answer = opened.target.write(&change).await;
        self.boundary("send", When::After).await?;
        self.answered(seen, answer).await
    }

    async fn answered(&self, seen: &Writeback, answer: WriteAnswer) -> Result<(), JobError> {
        // Something of ours may have arrived before: then a refusal now says nothing about that.
        let is_first = seen.sends == 1;
        match answer {
            WriteAnswer::Accepted => self.take(seen, &self.to(State::Sent, "accepted")).await,
            WriteAnswer::Already => {
                let step = Move { sent_nothing: is_first, ..self.to(State::Sent, "already") };
                self.take(seen, &step).await
            }
            WriteAnswer::Unknown { what } => {
                self.take(seen, &self.to(State::Unknown, "no_clear_answer").detail(&what)).await
            }
            WriteAnswer::Conflict(conflict) => {
                let to = if is_first { State::Conflict } else { State::Unknown };
                let (reason, detail) = conflicting(&conflict);
                self.take(seen, &self.to(to, reason).detail(&detail)).await
            }
            WriteAnswer::Refused { what } => {
                let to = if is_first { State::NotApplied } else { State::Unknown };
                self.take(seen, &self.to(to, "refused").detail(&what)).await
            }
            WriteAnswer::Throttled { after } => {
                self.take(seen, &self.to(State::Held, "throttled")).await?;
                Err(JobError::throttled(after, "the target asks for a pause"))
            }
            WriteAnswer::NotApplied(error) => {
                let detail = describe(&error);
                self.take(seen, &self.to(State::Held, "not_sent").detail(&detail)).await?;
                Err(source(&error))
            }
        }
    }

    /// From sent: reads until the wanted values are seen, or the window is over (W3, W8).
    async fn verify(&self, seen: &Writeback) -> Result<(), JobError> {
        let Some(opened) = self.open(seen).await? else { return self.redefined(seen).await };
        let (standing, observed) = self.look(seen, &opened).await?;
        let ended = match standing {
            Standing::Desired => return self.verified(seen, observed.as_ref()).await,
            Standing::Before => self.to(State::Mismatch, "not_stored"),
            Standing::Other(_) => self.to(State::Mismatch, "other_values"),
            Standing::Gone => self.to(State::Conflict, "gone"),
        };
        let fields = differing(&standing);
        self.after_window(seen, &opened, observed.as_ref(), &ended.detail(&fields)).await
    }

    /// From unknown: reading is the only legal move, and says which comes next (W6).
    async fn resolve(&self, seen: &Writeback) -> Result<(), JobError> {
        let Some(opened) = self.open(seen).await? else { return self.redefined(seen).await };
        let (standing, observed) = self.look(seen, &opened).await?;
        match standing {
            Standing::Desired => self.verified(seen, observed.as_ref()).await,
            Standing::Before if self.window_is_open(seen, &opened) => {
                self.read_again(seen, &opened, observed.as_ref()).await
            }
            // A record made twice is no update made twice: where nothing keeps the second from being made, stop.
            Standing::Before
                if seen.sends < SENDS_MAX && (seen.plan.before.is_some() || opened.creates_once) =>
            {
                self.send(seen, &opened).await
            }
            Standing::Before => self.take(seen, &self.to(State::Mismatch, "not_stored")).await,
            Standing::Gone => self.take(seen, &self.to(State::Conflict, "gone")).await,
            Standing::Other(_) => {
                let fields = differing(&standing);
                let step =
                    seen_as(self.to(State::Conflict, "other_values").detail(&fields), observed.as_ref());
                self.take(seen, &step).await
            }
        }
    }

    /// The target is another than the plan's.
    async fn redefined(&self, seen: &Writeback) -> Result<(), JobError> {
        let detail = match seen.sends {
            0 => "the connector was defined anew since the change was planned: plan it again",
            _ => {
                "the connector was defined anew since the change was sent: what came of it there is not known"
            }
        };
        self.take(seen, &self.to(State::Conflict, "redefined").detail(detail)).await
    }

    async fn look(
        &self,
        seen: &Writeback,
        opened: &Opened,
    ) -> Result<(Standing, Option<Observed>), JobError> {
        let observed = opened.target.read(&seen.plan.key).await.map_err(|error| source(&error))?;
        let change = target::change(seen).ok_or_else(|| judge(WritebackError::Stored("idempotency key")))?;
        Ok((opened.target.compare(&change, observed.as_ref()), observed))
    }

    async fn verified(&self, seen: &Writeback, observed: Option<&Observed>) -> Result<(), JobError> {
        self.take(seen, &seen_as(self.to(State::Verified, "read_back"), observed)).await
    }

    /// Ends here if the window is over, else reads again.
    async fn after_window(
        &self,
        seen: &Writeback,
        opened: &Opened,
        observed: Option<&Observed>,
        end: &Move<'_>,
    ) -> Result<(), JobError> {
        if self.window_is_open(seen, opened) {
            return self.read_again(seen, opened, observed).await;
        }
        self.take(seen, &seen_as(end.clone(), observed)).await
    }

    fn next_read(seen: &Writeback) -> u32 {
        u32::try_from(seen.reads).unwrap_or_default() + 1
    }

    #[expect(clippy::unused_self, reason = "it reads as a question to the run")]
    fn window_is_open(&self, seen: &Writeback, opened: &Opened) -> bool {
        opened.target.convergence().pause_before(Self::next_read(seen)).is_some()
    }

    /// Counts the read, and gives the lease back until the next.
    async fn read_again(
        &self,
        seen: &Writeback,
        opened: &Opened,
        observed: Option<&Observed>,
    ) -> Result<(), JobError> {
        let pause = opened.target.convergence().pause_before(Self::next_read(seen)).unwrap_or_default();
        let name = format!("read {}.{}", seen.steps, seen.reads + 1);
        if let Some(mut effect) = self.begin(&name).await? {
            rows::count_read(&mut effect, seen, observed.map(|seen| &seen.fields)).await.map_err(judge)?;
            self.commit(&name, effect).await?;
        }
        Err(JobError::snooze(pause, "the target may still show the values before"))
    }

    fn to(&self, to: State, reason: &'static str) -> Move<'static> {
        Move::by_job(self.attempt.job().0, to, reason)
    }

    /// Takes an arrow. A verified compensation takes the original along, in the same transaction.
    async fn take(&self, seen: &Writeback, step: &Move<'_>) -> Result<(), JobError> {
        let name = format!("{} {}", step.to, seen.steps + 1);
        let Some(mut effect) = self.begin(&name).await? else { return Ok(()) };
        let conn: &mut PgConnection = &mut effect;
        rows::advance(conn, seen, step).await.map_err(judge)?;
        if let (State::Verified, Some(original)) = (step.to, seen.plan.compensates) {
            let original = rows::find(conn, original).await.map_err(judge)?;
            if original.state == State::Verified {
                rows::advance(conn, &original, &self.to(State::Compensated, "compensated"))
                    .await
                    .map_err(judge)?;
            }
        }
        self.commit(&name, effect).await
    }

    /// None if the step is done already: the row says what came of it.
    async fn begin(&self, name: &str) -> Result<Option<Effect>, JobError> {
        match self.environment.effect(self.db, name).await.map_err(into_job_error)? {
            Begun::Fresh(effect) => Ok(Some(effect)),
            Begun::AlreadyApplied => Ok(None),
        }
    }

    async fn commit(&self, name: &str, effect: Effect) -> Result<(), JobError> {
        self.environment.commit(name, effect).await.map_err(into_job_error)
    }

    async fn boundary(&self, name: &str, when: When) -> Result<(), JobError> {
        self.environment.boundary(name, when).await.map_err(JobError::retry)
    }

    async fn open(&self, seen: &Writeback) -> Result<Option<Opened>, JobError> {
        target::open(self.db, self.environment.vault(), seen).await
    }

    /// A change that may be on its way is seen through; only what has not begun can be cancelled.
    pub(super) fn stop_if_asked(&self, seen: &Writeback) -> Result<(), JobError> {
        let has_begun = seen.idempotency_key.is_some();
        if self.attempt.is_cancelled() && !has_begun {
            return Err(JobError::cancel("cancelled before anything was sent; the change stays planned"));
        }
        if self.attempt.should_stop() && !self.attempt.is_cancelled() {
            return Err(JobError::hand_back());
        }
        Ok(())
    }
}

fn seen_as<'a>(step: Move<'a>, observed: Option<&'a Observed>) -> Move<'a> {
    match observed {
        Some(seen) => step.observed(&seen.fields, &seen.rest),
        None => step,
    }
}

fn conflicting(conflict: &Conflict) -> (&'static str, String) {
    match conflict {
        Conflict::Gone => ("gone", "the record is gone".to_owned()),
        Conflict::Exists => ("exists", "there is a record already".to_owned()),
        Conflict::Fields(names) => ("other_values", format!("somebody changed {}", names.join(", "))),
        Conflict::Version => ("other_version", "somebody changed the record".to_owned()),
        Conflict::Precondition { what } => ("precondition", what.clone()),
    }
}

fn differing(standing: &Standing) -> String {
    match standing {
        Standing::Other(fields) => format!("other values in {}", fields.join(", ")),
        Standing::Before => "the values before are still there".to_owned(),
        Standing::Gone => "the record is gone".to_owned(),
        Standing::Desired => String::new(),
    }
}
