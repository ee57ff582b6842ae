//! What a class of action asks for before it may happen: how many persons, which, and how fresh their yes.
//!
//! Owns the settings, per database: a tenant's are in the tenant's own. Promises: a change is in the chain; raising is
//! immediate, also for approvals already given; lowering is itself an action that needs an approval, of the class
//! `gate_lower` (P7); whoever relies on a gate under [`hold`] has it unchanged to the end of the transaction.
//!
//! *Single administrator*: where there is no second person, the requester's own yes counts after a cooling-off of 24 h
//! with the name typed. Switching into that mode is a lowering. While only one person was ever seen here, nobody else
//! could approve it: then that switch alone may be approved by the requester, after the same cooling-off.

mod change;
mod class;
mod set;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{actor::ActorId, approval::TermsError, audit::AuditError};

pub(crate) use self::change::is_mode_switch;
pub use self::{
    change::{Change, Direction},
    class::{ActionClass, NoActionClass},
    set::{set, terms},
};

/// The gate of one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What it stands before.
    pub class: ActionClass,
    /// How many persons other than the requester must say yes. 0 is for writebacks only: their policy decides alone.
    pub persons: i16,
    /// For how many seconds a yes is fresh and a request open; 1 to [`WINDOW_SECS_MAX`].
    pub window_secs: i32,
    /// Who may say yes; none for everybody.
    pub approvers: Option<Vec<ActorId>>,
}

/// No window is longer: 14 days.
pub const WINDOW_SECS_MAX: i32 = 14 * 24 * 60 * 60;

/// No gate asks for more persons.
pub const PERSONS_MAX: i16 = 10;

/// Why a gate cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The settings are none that a gate of the class can have.
    #[error("a gate of {class} cannot be so: {why}")]
    BadSettings {
        /// The class.
        class: ActionClass,
        /// What is wrong.
        why: &'static str,
    },
    /// The change is a lowering and comes without an approval.
    #[error("to lower {0} is itself an action that needs an approval")]
    NeedsApproval(String),
    /// The approval does not let the change pass.
    #[error("the approval does not cover this lowering")]
    Approval(#[from] crate::approval::ConsumeError),
    /// The change cannot be bound to an approval.
    #[error("the change cannot be bound to an approval")]
    Terms(#[from] TermsError),
    /// The chain refused the entry.
    #[error("the change of a gate cannot be recorded")]
    Audit(#[from] AuditError),
    /// A class in the database is none.
    #[error("the database holds a gate that is none")]
    Class(#[from] NoActionClass),
    /// The database refused or was lost.
    #[error("the gates cannot be used")]
    Database(#[from] sqlx::Error),
}

impl Gate {
    /// The gate of a class for which nothing was set is this one with the same class.
    pub fn check(&self) -> Result<(), GateError> {
        let least = i16::from(!self.class.is_writeback());
        let wrong = |why| Err(GateError::BadSettings { class: self.class.clone(), why });
        if self.persons < least {
            return wrong("it needs at least one person; only a writeback may go without");
        }
        if self.persons > PERSONS_MAX {
            return wrong("at most 10 persons can be asked for");
        }
        if !(1..=WINDOW_SECS_MAX).contains(&self.window_secs) {
            return wrong("the window is 1 second to 14 days");
        }
        match self.approvers.as_ref().map(Vec::len) {
            Some(many) if many > 100 => wrong("the list of approvers has at most 100 persons"),
            Some(few) if few < usize::from(self.persons.max(1).unsigned_abs()) => {
                wrong("the list of approvers is shorter than the number of persons asked for")
            }
            _ => Ok(()),
        }
    }
}

/// Whether this database is in the mode of a single administrator.
pub async fn is_single_admin(conn: &mut PgConnection) -> Result<bool, GateError> {
    let mode = sqlx::query_scalar!(
        "-- gate.mode
        select single_admin from governance.gate_mode"
    );
    Ok(mode.fetch_one(conn).await?)
}

/// The gate of a class, which stays so until the transaction ends. Before the lock of any approval.
pub async fn hold(conn: &mut PgConnection, class: &ActionClass) -> Result<Gate, GateError> {
    hold_all(conn).await?;
    get(conn, class).await
}

/// Keeps all gates as they are until the transaction ends.
pub(crate) async fn hold_all(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- gate.hold
        select only_row from governance.gate_mode for key share"
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// The gate of a class at this moment.
pub async fn get(conn: &mut PgConnection, class: &ActionClass) -> Result<Gate, GateError> {
    let row = sqlx::query!(
        r#"-- gate.get
        select persons as "persons!", window_secs as "window_secs!", approvers as "approvers: Vec<ActorId>"
          from governance.gate_for($1)"#,
        class.as_str(),
    )
    .fetch_one(conn)
    .await?;
    Ok(Gate {
        class: class.clone(),
        persons: row.persons,
        window_secs: row.window_secs,
        approvers: row.approvers,
    })
}

/// All gates: those of the classes that always exist, and of the writebacks for which something was set.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Gate>, GateError> {
    let set = sqlx::query_scalar!(
        "-- gate.list
        select class from governance.gate where class like 'writeback.%' order by class"
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut gates = Vec::new();
    for class in ActionClass::FIXED.into_iter().map(str::to_owned).chain(set) {
        gates.push(get(conn, &class.parse()?).await?);
    }
    Ok(gates)
}
