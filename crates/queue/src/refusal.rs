//! Why a job was left as it is.

use sqlx::PgConnection;

use crate::{JobId, State};

/// Why a job was not snoozed or given another priority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeRefused {
    /// No job has this id, live or in history.
    #[error("there is no job {0}")]
    NotFound(JobId),
    /// The job's state does not admit it.
    #[error("job {id} is {state}: {only}")]
    State {
        /// The job.
        id: JobId,
        /// What it is.
        state: State,
        /// What it would have to be.
        only: &'static str,
    },
    /// The database did not take it.
    #[error("the job could not be changed")]
    Database(#[from] sqlx::Error),
}

/// Says why a change found no row of the job that admits it.
pub(crate) async fn of(conn: &mut PgConnection, id: JobId, only: &'static str) -> ChangeRefused {
    match crate::inspect::get(conn, id).await {
        Ok(Some(job)) => ChangeRefused::State { id, state: job.state, only },
        Ok(None) => ChangeRefused::NotFound(id),
        Err(error) => error.into(),
    }
}
