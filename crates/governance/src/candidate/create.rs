//! A new candidate.

use serde_json::json;
use sqlx::PgConnection;

use super::{Candidate, CandidateError, Definition, by_name, is_refused_by};
use crate::{
    actor::ActorId,
    audit::{self, Event},
};

/// Enters a candidate, in phase off and without evidence. Harmless to repeat with the same definition.
pub async fn create(
    conn: &mut PgConnection,
    name: &str,
    definition: &Definition,
    by: ActorId,
) -> Result<Candidate, CandidateError> {
    let bytes = definition.to_bytes()?;
    let digest = definition.digest()?;
    let entered = sqlx::query!(
        "-- candidate.create
        insert into tenant.candidate (name, path, digest, definition, created_by)
        values ($1, $2, $3, $4, $5) on conflict do nothing",
        name,
        definition.path,
        digest.as_bytes(),
        bytes,
        by as ActorId,
    )
    .execute(&mut *conn)
    .await;
    let entered = entered.map_err(|error| {
        if is_refused_by(&error, "candidate_name_bounded") {
            return CandidateError::BadName(name.to_owned());
        }
        error.into()
    })?;
    if entered.rows_affected() == 1 {
        let body = json!({ "candidate": digest, "policy": definition.policy });
        let event = Event { kind: "candidate.created", actor: Some(by), job: None, body };
        audit::append(conn, &event).await?;
        return by_name(conn, name).await;
    }
    match by_name(conn, name).await {
        Ok(found) if found.digest == digest => Ok(found),
        Ok(_) => Err(CandidateError::NameTaken(name.to_owned())),
        Err(CandidateError::NotFound(_)) => Err(CandidateError::DefinitionTaken(named(conn, &bytes).await?)),
        Err(error) => Err(error),
    }
}

async fn named(conn: &mut PgConnection, definition: &[u8]) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        "-- candidate.by_definition
        select name from tenant.candidate where digest = sha256($1)",
        definition,
    )
    .fetch_one(conn)
    .await
}
