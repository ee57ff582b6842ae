//! Paths as rows.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::PathState;
use crate::{
    actor::Actor,
    audit::{self, AuditError, Event},
    digest::NoDigest,
};

/// A governed set of fields of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct Path {
    /// Its number.
    pub id: i64,
    /// Its name, unique within the tenant.
    pub name: String,
    /// The connector whose stream it is of.
    pub connector: String,
    /// The stream.
    pub stream: String,
    /// The fields that may be changed, at the top of the record.
    pub fields: Vec<String>,
    /// How far it has come.
    pub state: PathState,
    /// Changes sent in a day, at most.
    pub daily_cap: i32,
    /// Mismatches in a row after which its candidate is demoted.
    pub breaker_limit: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A path to be made.
#[derive(Clone, Debug)]
pub struct NewPath {
    /// `[a-z][a-z0-9_-]*`, at most 63 characters.
    pub name: String,
    /// The connector.
    pub connector: String,
    /// The stream.
    pub stream: String,
    /// 1 to 50 fields.
    pub fields: Vec<String>,
    /// Changes sent in a day, at most.
    pub daily_cap: i32,
    /// Mismatches in a row after which its candidate is demoted.
    pub breaker_limit: i32,
}

/// Why a path could not be made or found.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// No path of this name.
    #[error("there is no path {0}")]
    Unknown(String),
    /// The name is taken.
    #[error("there is a path {0} already")]
    Taken(String),
    /// A rule of the table refuses it.
    #[error("the path is refused: {0}")]
    Invalid(String),
    /// Its state in the database is none.
    #[error("the path's state {0:?} is unknown")]
    State(String),
    /// A stored digest is none.
    #[error("a stored digest is none")]
    Digest(#[from] NoDigest),
    /// The chain refused the entry.
    #[error("the path could not be put on record")]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the paths cannot be used")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for PathError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|it| it.constraint()) {
            Some("path_name_is_plain") => {
                Self::Invalid("a name is 1 to 63 of a to z, 0 to 9, _ and -, a letter first".to_owned())
            }
            Some("path_has_fields") => Self::Invalid("a path has 1 to 50 fields".to_owned()),
            Some("path_daily_cap_sane") => Self::Invalid("a daily cap is 0 to 1,000,000".to_owned()),
            Some("path_breaker_limit_sane") => Self::Invalid("a breaker's limit is 1 to 1,000".to_owned()),
            _ => Self::Database(error),
        }
    }
}

/// Makes a path, in state `catalogued`, and puts it on record. The last call of its transaction.
pub async fn create(conn: &mut PgConnection, new: &NewPath, actor: &Actor) -> Result<Path, PathError> {
    let made = sqlx::query!(
        "-- path.create
        insert into tenant.path (name, connector, stream, fields, daily_cap, breaker_limit, created_by)
        values ($1, $2, $3, $4, $5, $6, $7) on conflict (name) do nothing returning id",
        new.name,
        new.connector,
        new.stream,
        &new.fields,
        new.daily_cap,
        new.breaker_limit,
        actor.id.0
    );
    let made = made.fetch_optional(&mut *conn).await?.ok_or_else(|| PathError::Taken(new.name.clone()))?;
    let body = serde_json::json!({ "path": made.id, "daily_cap": new.daily_cap, "breaker_limit": new.breaker_limit });
    audit::append(conn, &Event { kind: "path.created", actor: Some(actor.id), job: None, body }).await?;
    by_name(conn, &new.name).await
}

/// The path of this name.
pub async fn by_name(conn: &mut PgConnection, name: &str) -> Result<Path, PathError> {
    let row = sqlx::query_as!(
        Row,
        "-- path.by_name
        select id, name, connector, stream, fields, state, daily_cap, breaker_limit, created_at
        from tenant.path where name = $1",
        name
    );
    row.fetch_optional(conn).await?.ok_or_else(|| PathError::Unknown(name.to_owned()))?.read()
}

/// All paths, by name.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Path>, PathError> {
    let rows = sqlx::query_as!(
        Row,
        "-- path.list
        select id, name, connector, stream, fields, state, daily_cap, breaker_limit, created_at
        from tenant.path order by name"
    );
    rows.fetch_all(conn).await?.into_iter().map(Row::read).collect()
}

struct Row {
    id: i64,
    name: String,
    connector: String,
    stream: String,
    fields: Vec<String>,
    state: String,
    daily_cap: i32,
    breaker_limit: i32,
    created_at: DateTime<Utc>,
}

impl Row {
    fn read(self) -> Result<Path, PathError> {
        let Self { id, name, connector, stream, fields, state, daily_cap, breaker_limit, created_at } = self;
        let state = state.parse().map_err(|()| PathError::State(state))?;
        Ok(Path { id, name, connector, stream, fields, state, daily_cap, breaker_limit, created_at })
    }
}
