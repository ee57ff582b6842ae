//! Who acts. The chain knows ids only; their names live here and can be erased.
//!
//! Promises: a name is one actor for good, and every actor resolves to a person: itself, or the one behind a service.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{self, AuditError, Event};

/// Names are at most so many characters long, as the table's check says.
const NAME_LENGTH_MAX: usize = 200;

/// An actor's pseudonym; random, so that it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct ActorId(pub Uuid);

impl std::fmt::Display for ActorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Somebody or something that acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Its pseudonym.
    pub id: ActorId,
    /// What it is called; none once erased.
    pub name: Option<String>,
    /// The person behind a service; a person's own id.
    pub person: ActorId,
}

/// Why an actor cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// The text is no name.
    #[error("a name has 1 to {NAME_LENGTH_MAX} characters, no control characters, no blank at either end")]
    BadName,
    /// The name belongs to an actor with another person behind it.
    #[error("`{0}` is known already, and acts for somebody else")]
    OtherPerson(String),
    /// The person named is a service itself.
    #[error("the actor {0} is no person")]
    NoPerson(ActorId),
    /// Nobody has this name.
    #[error("there is no actor `{0}`")]
    Unknown(String),
    /// It could not be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the actors cannot be read")]
    Database(#[from] sqlx::Error),
}

/// The actor of this name; at first sight it is entered, as a person.
pub async fn named(conn: &mut PgConnection, name: &str) -> Result<Actor, ActorError> {
    match by_name(conn, name).await? {
        Some(actor) => Ok(actor),
        None => enter(conn, name, None).await,
    }
}

/// The service of this name, behind which stands `person`; at first sight it is entered.
pub async fn service(conn: &mut PgConnection, name: &str, person: ActorId) -> Result<Actor, ActorError> {
    if by_id(conn, person).await?.is_none_or(|actor| actor.person != person) {
        return Err(ActorError::NoPerson(person));
    }
    let actor = match by_name(conn, name).await? {
        Some(actor) => actor,
        None => enter(conn, name, Some(person)).await?,
    };
    if actor.person == person { Ok(actor) } else { Err(ActorError::OtherPerson(name.to_owned())) }
}

/// The actor of this id.
pub async fn by_id(conn: &mut PgConnection, id: ActorId) -> Result<Option<Actor>, ActorError> {
    let found = sqlx::query_as!(
        Actor,
        r#"-- actor.by_id
        select id as "id: ActorId", name, person as "person: ActorId" from governance.actor where id = $1"#,
        id as ActorId,
    );
    Ok(found.fetch_optional(conn).await?)
}

/// The actor of this name, if it was ever seen.
pub async fn by_name(conn: &mut PgConnection, name: &str) -> Result<Option<Actor>, ActorError> {
    let found = sqlx::query_as!(
        Actor,
        r#"-- actor.by_name
        select id as "id: ActorId", name, person as "person: ActorId" from governance.actor where name = $1"#,
        name,
    );
    Ok(found.fetch_optional(conn).await?)
}

/// All actors, those with a name first, by name.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Actor>, ActorError> {
    let found = sqlx::query_as!(
        Actor,
        r#"-- actor.list
        select id as "id: ActorId", name, person as "person: ActorId" from governance.actor order by name, id"#
    );
    Ok(found.fetch_all(conn).await?)
}

/// Erases a name and answers whose it was. What the actor did stays on record under the pseudonym, which from now on
/// leads to nobody; the name, met again, is a new actor. Puts itself on record as the last statement.
pub async fn erase(conn: &mut PgConnection, name: &str, by: ActorId) -> Result<ActorId, ActorError> {
    let erased = sqlx::query_scalar!(
        r#"-- actor.erase
        update governance.actor set name = null where name = $1 returning id as "id: ActorId""#,
        name,
    );
    let id = erased.fetch_optional(&mut *conn).await?.ok_or_else(|| ActorError::Unknown(name.to_owned()))?;
    let body = json!({"actor": id});
    audit::append(conn, &Event { kind: "actor.erased", actor: Some(by), job: None, body }).await?;
    Ok(id)
}

/// Enters an actor; without a person it is one. Another session may have entered the name in this moment: then that
/// one counts.
async fn enter(conn: &mut PgConnection, name: &str, person: Option<ActorId>) -> Result<Actor, ActorError> {
    if name.trim() != name
        || name.is_empty()
        || name.chars().count() > NAME_LENGTH_MAX
        || name.contains(char::is_control)
    {
        return Err(ActorError::BadName);
    }
    let id = ActorId(Uuid::new_v4());
    sqlx::query!(
        "-- actor.enter
        insert into governance.actor (id, name, person) values ($1, $2, $3)
        on conflict (name) do nothing",
        id as ActorId,
        name,
        person.unwrap_or(id) as ActorId,
    )
    .execute(&mut *conn)
    .await?;
    by_name(conn, name).await?.ok_or(ActorError::Database(sqlx::Error::RowNotFound))
}
