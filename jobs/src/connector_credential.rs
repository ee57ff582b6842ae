//! Credentials of a tenant's connectors: sealed values in the tenant's own database, which a definition names.
//!
//! Nothing shows one: it is taken from whoever sets it, sealed, and opened when a source or a target is connected.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use connectors::{CredentialError, CredentialKeeper, Definition, DefinitionError};
use database::{
    Class,
    tenant::{TenantDb, TenantError},
};
use futures_util::future::BoxFuture;
use governance::{
    actor::{self, ActorError},
    audit::{self, AuditError, Event},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use vault::{Cell, DekId, Owner, Sealed, ServiceClass, Vault, VaultError};

/// The table, and the column in it, that its values are bound to.
const RELATION: &str = "tenant.connector_credential";
const COLUMN: &str = "value";

/// Why a credential could not be kept, opened or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialFault {
    /// The tenant keeps none of this name.
    #[error("the tenant keeps no credential {0:?}: give it one with `connector credential set {0}`")]
    Unknown(String),
    /// Not a name.
    #[error("a credential's name is a letter a-z, then a-z, 0-9, - and _, at most 63 in all")]
    BadName,
    /// There is nothing in it.
    #[error("the credential is empty: give it on standard input")]
    Empty,
    /// Definitions name it.
    #[error(
        "the credential {name:?} is named by the connector {connector}: register another definition first"
    )]
    InUse {
        /// The credential.
        name: String,
        /// A connector that names it.
        connector: String,
    },
    /// What was kept is no text.
    #[error("the credential {0:?} is no text: set it anew")]
    NotText(String),
    /// Its keys cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The name of whoever acts is none.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// It could not be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The tenant's database failed.
    #[error("the tenant's database failed")]
    Tenant(#[from] TenantError),
}

impl From<sqlx::Error> for CredentialFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Tenant(error.into())
    }
}

/// A credential, without what it is.
#[derive(Clone, Debug, Serialize)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// When it was set.
    pub set_at: DateTime<Utc>,
    /// The key that it is sealed under.
    pub dek: DekId,
    /// The connectors whose definitions name it.
    pub connectors: Vec<String>,
}

fn cell<'a>(db: &TenantDb, key: &'a [String]) -> Cell<'a> {
    Cell { owner: Owner::Tenant(db.tenant().id.0), relation: RELATION, column: COLUMN, key }
}

/// Whether a text can be a credential's name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_rest = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
    name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.len() <= 63
        && name.bytes().all(is_rest)
}

/// Seals a credential and keeps it under its name, in the place of an older one; says whether there was none.
pub async fn set(
    db: &TenantDb,
    vault: &Vault,
    name: &str,
    text: &SecretString,
    by: &str,
) -> Result<bool, CredentialFault> {
    if !is_name(name) {
        return Err(CredentialFault::BadName);
    }
    if text.expose_secret().is_empty() {
        return Err(CredentialFault::Empty);
    }
    let mut write = db.write().await?;
    let key = [name.to_owned()];
    let sealed = vault.seal(&mut write, &cell(db, &key), text.expose_secret().as_bytes()).await?;
    let is_new = sqlx::query_scalar!(
        r#"-- credential.set
        insert into tenant.connector_credential (name, value) values ($1, $2)
        on conflict (name) do update set value = excluded.value, set_at = now()
        returning (xmax = 0) as "is_new!""#,
        name,
        sealed as Sealed,
    )
    .fetch_one(&mut *write as &mut PgConnection)
    .await?;
    let actor = actor::named(&mut write, by).await?.id;
    let body = json!({ "credential": name, "is_new": is_new });
    audit::append(&mut write, &Event { kind: "credential.set", actor: Some(actor), job: None, body }).await?;
    write.commit().await?;
    Ok(is_new)
}

/// All of a tenant's credentials, by name.
pub async fn list(db: &TenantDb) -> Result<Vec<Credential>, CredentialFault> {
    let mut read = db.read().await?;
    let rows = sqlx::query!(
        r#"-- credential.list
        select name, set_at, value as "value: Sealed" from tenant.connector_credential order by name"#
    )
    .fetch_all(&mut *read as &mut PgConnection)
    .await?;
    let definitions = definitions(&mut read).await?;
    read.finish().await?;
    let credential = |row: (String, DateTime<Utc>, Sealed)| {
        let (name, set_at, value) = row;
        let connectors = naming(&definitions, &name).map(str::to_owned).collect();
        Credential { name, set_at, dek: value.dek(), connectors }
    };
    Ok(rows.into_iter().map(|row| credential((row.name, row.set_at, row.value))).collect())
}

/// Forgets a credential that no connector names. `dry_run` does the same and takes it back.
pub async fn remove(db: &TenantDb, name: &str, by: &str, dry_run: bool) -> Result<(), CredentialFault> {
    let mut write = db.write().await?;
    if let Some(connector) = naming(&definitions(&mut write).await?, name).next() {
        return Err(CredentialFault::InUse { name: name.to_owned(), connector: connector.to_owned() });
    }
    let removed =
        sqlx::query!("-- credential.remove\ndelete from tenant.connector_credential where name = $1", name)
            .execute(&mut *write as &mut PgConnection)
            .await?;
    if removed.rows_affected() == 0 {
        return Err(CredentialFault::Unknown(name.to_owned()));
    }
    let actor = actor::named(&mut write, by).await?.id;
    let body = json!({ "credential": name });
    audit::append(&mut write, &Event { kind: "credential.removed", actor: Some(actor), job: None, body })
        .await?;
    if !dry_run {
        write.commit().await?;
    }
    Ok(())
}

/// The tenant's connectors with their definitions; one that no longer parses names nothing.
async fn definitions(
    conn: &mut PgConnection,
) -> Result<Vec<(String, Result<Definition, DefinitionError>)>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- credential.definitions\nselect name, definition from tenant.connector order by name"
    );
    let parsed = |name: String, text: &str| {
        let definition = Definition::parse(text, &name);
        (name, definition)
    };
    Ok(rows.fetch_all(conn).await?.into_iter().map(|row| parsed(row.name, &row.definition)).collect())
}

/// The connectors whose definitions name a credential.
fn naming<'a>(
    definitions: &'a [(String, Result<Definition, DefinitionError>)],
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    let names = move |definition: &Definition| definition.credentials().contains(&name);
    definitions
        .iter()
        .filter(move |(_, definition)| definition.as_ref().is_ok_and(names))
        .map(|(connector, _)| connector.as_str())
}

/// The definition as this tenant has it: its credentials are opened when something is connected with it.
#[must_use]
pub fn attach(definition: Definition, db: &TenantDb, vault: &Vault) -> Definition {
    let keeper = Keeper { db: db.clone(), vault: vault.clone() };
    definition.kept_by(&(Arc::new(keeper) as Arc<dyn CredentialKeeper>))
}

/// Opens a tenant's credentials.
struct Keeper {
    db: TenantDb,
    vault: Vault,
}

impl CredentialKeeper for Keeper {
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString, CredentialError>> {
        Box::pin(async move { self.text(name).await.map_err(|error| judge(error, name)) })
    }
}

impl Keeper {
    async fn text(&self, name: &str) -> Result<SecretString, CredentialFault> {
        let mut read = self.db.read().await?;
        let sealed = sqlx::query_scalar!(
            r#"-- credential.open
            select value as "value: Sealed" from tenant.connector_credential where name = $1"#,
            name,
        )
        .fetch_optional(&mut *read as &mut PgConnection)
        .await?;
        let sealed = sealed.ok_or_else(|| CredentialFault::Unknown(name.to_owned()))?;
        let key = [name.to_owned()];
        let bytes = self.vault.open(&mut read, &cell(&self.db, &key), &sealed).await?;
        read.finish().await?;
        self.note_use(&sealed).await?;
        let text = std::str::from_utf8(bytes.expose_secret());
        Ok(text.map_err(|_| CredentialFault::NotText(name.to_owned()))?.into())
    }

    /// Written once an hour, so that a key's last use can be trusted when somebody wants to retire it.
    async fn note_use(&self, sealed: &Sealed) -> Result<(), CredentialFault> {
        let is_job = self.db.scope().claim().is_some();
        let mut write = if is_job { self.db.fenced().await? } else { self.db.write().await? };
        self.vault.note_use(&mut write, sealed).await?;
        write.commit().await?;
        Ok(())
    }
}

/// What it means for whoever connects.
fn judge(error: CredentialFault, name: &str) -> CredentialError {
    let transient = |error: &sqlx::Error| database::classify(error) == Class::Transient;
    match error {
        CredentialFault::Vault(VaultError::Service(error)) => match error.class() {
            ServiceClass::Transient => CredentialError::Unavailable(error.into()),
            ServiceClass::Throttled(after) => CredentialError::Throttled(error.to_string(), after),
            ServiceClass::Configuration | ServiceClass::Damaged => refused(
                "its key cannot be had",
                "look with `tenure key census`, and let the key's owner allow it again",
                error,
            ),
        },
        CredentialFault::Tenant(error) if error.class() == Class::Transient => {
            CredentialError::Unavailable(error.into())
        }
        CredentialFault::Vault(VaultError::Database(error)) if transient(&error) => {
            CredentialError::Unavailable(error.into())
        }
        CredentialFault::Unknown(_) => CredentialError::Refused {
            what: "the tenant keeps none of this name".to_owned(),
            advice: format!("give it one with `tenure connector credential set {name}`"),
            cause: None,
        },
        error => refused("it does not open", "set it anew with `tenure connector credential set`", error),
    }
}

fn refused(
    what: &str,
    advice: &str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CredentialError {
    CredentialError::Refused { what: what.to_owned(), advice: advice.to_owned(), cause: Some(cause.into()) }
}
