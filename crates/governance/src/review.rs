//! The review queue: decisions that wait for a person's word.
//!
//! Owns the cases and their states. Promises: one open case per path and record; a case is about a record in one state,
//! and one whose record has changed since cannot be decided, it is closed as stale and decided anew; of two persons who
//! change the same version of a case one is refused and told who came first. The first person's word is the baseline of
//! the shadow runs on the same input; ground truth it becomes only by a second person who says the same, and who was not
//! shown the first word before, on whatever case or by whatever is written for it (`confirm.rs`, `seen.rs`). Every reading of a case by a person and every word on one is in the
//! chain, as ids and digests, and every word has a receipt.
//!
//! Refuses: to write to a record. What was accepted is wanted ([`crate::wish`]), and for a writeback to send.

mod assign;
mod confirm;
mod decide;
mod find;
mod next;
mod open;
mod refresh;
mod seen;
mod state;
#[cfg(test)]
mod tests;
mod word_receipt;

pub use self::{
    assign::assign,
    confirm::{Agreement, Confirmation, confirm},
    decide::{REASON_LENGTH_MAX, Word, decide},
    find::{Case, Filter, Person, View, get, list, view},
    next::{Task, next, view_blind},
    open::{Opened, Pass, open, pass},
    refresh::{Refreshed, refresh, refresh_all},
    state::{ReviewId, State},
};

pub(crate) use self::seen::{saw_approval, saw_receipt, saw_writebacks};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    actor::{ActorError, ActorId},
    audit::AuditError,
    canonical::CanonicalError,
    decision::DecisionError,
    path::{Path, PathError},
    policy::PolicyError,
    receipt::ReceiptError,
    shadow::ShadowError,
    wish::WishError,
};

/// Why a case cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// There is none.
    #[error("there is no case {0}")]
    NotFound(ReviewId),
    /// It is closed. The text does not tell the word: who asks may be the one who is to give the second.
    #[error("case {id} was {} at {}", ended(*.state, .by.as_ref()), .at.format("%Y-%m-%d %H:%M:%S UTC"))]
    Ended {
        /// Which.
        id: ReviewId,
        /// How.
        state: State,
        /// By whom; nobody, where the record did it by changing.
        by: Option<Person>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Somebody changed it since it was seen.
    #[error("case {id} has changed since you saw version {seen}: it is version {version} now")]
    Changed {
        /// Which.
        id: ReviewId,
        /// The version that was named.
        seen: i32,
        /// The version that it has.
        version: i32,
    },
    /// It is somebody else's.
    #[error("case {id} is assigned to {to}")]
    NotYours {
        /// Which.
        id: ReviewId,
        /// To whom.
        to: Person,
    },
    /// Its record has changed or vanished.
    #[error("case {0} is stale: its record has changed since it was judged")]
    Stale(ReviewId),
    /// Its record is as it was.
    #[error("case {0} is not stale: its record is as it was when it was judged")]
    NotStale(ReviewId),
    /// The decision proposes nothing that could be accepted.
    #[error("case {0} proposes no value")]
    NothingProposed(ReviewId),
    /// A value for a field that the path does not govern, or for none.
    #[error("a correction has a value for one or more of {}", .0.join(", "))]
    BadValue(Vec<String>),
    /// The value that the record has.
    #[error("the correction of case {0} changes nothing")]
    ChangesNothing(ReviewId),
    /// There is no first word that a second could confirm.
    #[error("nobody has decided case {0} yet")]
    NoWord(ReviewId),
    /// Policy alone wants the same change.
    #[error("what case {0} proposes is wanted already, by policy alone: its writeback is on its way")]
    WantedAlready(ReviewId),
    /// A person is one person however often.
    #[error("you have given your word on case {0}: a second one must be another person's")]
    SamePerson(ReviewId),
    /// Who knows the first word gives no independent second one.
    #[error("you were shown the word on case {0}: a second one must be given without knowing the first")]
    NotBlind(ReviewId),
    /// Two persons said the same of it.
    #[error("case {0} is settled: two persons have said the same")]
    Settled(ReviewId),
    /// Nothing was kept that a candidate could be tried on.
    #[error("nothing is measured by case {0}: its record is too large to be kept")]
    NotMeasured(ReviewId),
    /// No reason, or a book.
    #[error("a reason has 1 to {REASON_LENGTH_MAX} characters")]
    BadReason,
    /// A service judges nothing here.
    #[error("only a person can judge a case, and {0} is a service")]
    NotAPerson(ActorId),
    /// Nobody of this id is known.
    #[error("the actor {0} is not known here")]
    UnknownActor(ActorId),
    /// A stored row makes no sense.
    #[error("a stored case cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The actors cannot be read.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// The path cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The policy cannot be read.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The decision cannot be stored.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// What is wanted cannot be kept.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// The receipt cannot be issued.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// What candidates are tried on cannot be kept.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// A value without a canonical form.
    #[error("a value has no canonical form")]
    Canonical(#[from] CanonicalError),
    /// The chain could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the cases cannot be used")]
    Database(#[from] sqlx::Error),
}

fn ended(state: State, by: Option<&Person>) -> String {
    match by {
        Some(person) => format!("decided by {person}"),
        None => format!("closed as {state}"),
    }
}

/// The case, locked to the end of the transaction, if it is open and this is the version that was seen.
async fn admitted(conn: &mut PgConnection, id: ReviewId, seen: i32) -> Result<Case, ReviewError> {
    let case = locked(conn, id).await?;
    if case.version != seen {
        return Err(ReviewError::Changed { id, seen, version: case.version });
    }
    Ok(case)
}

/// The case, locked to the end of the transaction, if it is open.
async fn locked(conn: &mut PgConnection, id: ReviewId) -> Result<Case, ReviewError> {
    lock(conn, id).await?;
    let case = get(conn, id).await?.ok_or(ReviewError::NotFound(id))?;
    match case.closed_at {
        Some(at) => Err(ReviewError::Ended { id, state: case.state, by: case.closed_by, at }),
        None => Ok(case),
    }
}

/// Locks the case to the end of the transaction. A statement of its own: what follows it sees what was committed while it
/// waited.
async fn lock(conn: &mut PgConnection, id: ReviewId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- review.lock
        select from tenant.review_case where id = $1 for no key update",
        id as ReviewId,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks the path to the end of the transaction: two who decide over its records come one after the other.
async fn lock_path(conn: &mut PgConnection, path: &Path) -> Result<(), sqlx::Error> {
    sqlx::query!("-- review.lock_path\nselect from tenant.path where id = $1 for no key update", path.id)
        .execute(conn)
        .await?;
    Ok(())
}
