//! What a second person has to agree to: a rotation, another key of a key service, a key taken out of use.
//!
//! A rotation's approval is used up by its job. The others happen in the transaction that uses theirs up.

use std::time::Duration;

use database::{Class, tenant::TenantError};
use governance::{
    actor::{self, ActorError},
    approval::{self, ApprovalError, ApprovalId, ConsumeError, RequestError, State, Terms, TermsError},
    audit::{self, AuditError, Event},
    digest::Digest,
    gate::ActionClass,
};
use serde_json::{Value, json};
use sqlx::PgConnection;
use vault::{
    DekId, Kek, KekId, KeyReference, RetireRefused, Retired, ServiceClass, Vault, VaultError, retire_dek,
    retire_kek,
    rotation::{self, Settings},
};

use crate::key_scope::{KeyScope, KeyTransaction};

/// What is to be done with keys.
#[derive(Clone, Debug)]
pub enum Errand {
    /// Rotate: what [`ask`] asks for and the job does.
    Rotate(Settings),
    /// Let this key of a key service wrap new keys.
    Name(KeyReference),
    /// Forget a table's key.
    RetireDek(DekId),
    /// Let go of a key service's key.
    RetireKek(KekId),
}

impl Errand {
    fn plan(&self) -> Value {
        match self {
            Self::Rotate(Settings { action, older_than, page_rows: _ }) => {
                json!({ "change": action, "older_than_secs": older_than.as_secs() })
            }
            Self::Name(key) => json!({ "change": "name", "key": key }),
            Self::RetireDek(id) => json!({ "change": "retire", "dek": id }),
            Self::RetireKek(id) => json!({ "change": "retire", "kek": id }),
        }
    }
}

/// Why keys were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// The name of whoever acts is none.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// It cannot be asked for.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What is to be approved has no digest.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The approval does not allow it.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The approval cannot be read.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// The key is kept.
    #[error(transparent)]
    Retire(#[from] RetireRefused),
    /// A rotation stopped.
    #[error(transparent)]
    Rotation(#[from] rotation::RotationError),
    /// The keys cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It could not be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database failed.
    #[error("the database that holds the keys failed")]
    Database(#[from] TenantError),
}

impl From<sqlx::Error> for KeyFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl KeyFault {
    /// Whether it may go away by itself.
    pub(crate) fn class(&self) -> Class {
        let database = match self {
            Self::Database(error) => return error.class(),
            Self::Vault(VaultError::Service(error)) => {
                return match error.class() {
                    ServiceClass::Transient | ServiceClass::Throttled(_) => Class::Transient,
                    ServiceClass::Configuration | ServiceClass::Damaged => Class::Configuration,
                };
            }
            Self::Request(RequestError::Approval(ApprovalError::Database(error)))
            | Self::Consume(ConsumeError::Approval(ApprovalError::Database(error)))
            | Self::Approval(ApprovalError::Database(error))
            | Self::Terms(TermsError::Origin(AuditError::Database(error)))
            | Self::Vault(VaultError::Database(error))
            | Self::Audit(AuditError::Database(error)) => error,
            _ => return Class::Configuration,
        };
        database::classify(database)
    }
}

/// What came of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<T> {
    /// Somebody has to say yes first; then it is to be asked for again.
    Waits {
        /// The approval.
        id: ApprovalId,
        /// Whether it was asked for just now.
        is_new: bool,
    },
    /// It was done, or may be.
    Done(T),
}

/// What an approval is bound to: a rotation that happens meanwhile voids it.
async fn terms(conn: &mut PgConnection, scope: &KeyScope, errand: &Errand) -> Result<Terms, sqlx::Error> {
    let rotations = rotation::count(conn).await?;
    let targets = vec![format!("keys/{}", scope.owner())];
    Ok(Terms {
        validators: json!({ "rotations": rotations }),
        ..Terms::new(ActionClass::key_rotation(), scope.name(), targets, errand.plan())
    })
}

/// The digest that an approval of this errand is bound to now.
pub(super) async fn digest(
    conn: &mut PgConnection,
    scope: &KeyScope,
    errand: &Errand,
) -> Result<Digest, KeyFault> {
    Ok(terms(conn, scope, errand).await?.digest(conn).await?)
}

/// Asks for the approval of a rotation, or finds the one that was given: its number goes into the job. One that was begun
/// and has not ended needs no other. A dry run asks nobody.
pub async fn ask(scope: &KeyScope, settings: &Settings, by: &str) -> Result<Asked<ApprovalId>, KeyFault> {
    let mut tx = scope.write().await?;
    if let Some(id) = rotation::unfinished(&mut tx, settings).await? {
        tx.roll_back().await?;
        return Ok(Asked::Done(ApprovalId(id)));
    }
    let by = actor::named(&mut tx, by).await?.id;
    let terms = terms(&mut tx, scope, &Errand::Rotate(*settings)).await?;
    let asked = approval::request(&mut tx, &terms, by, None).await?;
    let found = approval::get(&mut tx, asked.id).await?;
    tx.commit().await?;
    Ok(match found {
        Some(found) if found.state == State::Approved => Asked::Done(asked.id),
        _ => Asked::Waits { id: asked.id, is_new: asked.is_new },
    })
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// This key wraps new keys.
    Named(Kek),
    /// A key was taken out of use.
    Retired(Retired),
}

/// Names a key of a key service, or takes a key out of use, once somebody else has agreed. Whether it could be done is
/// looked at before anybody is asked. `dry_run` does the same and takes it back.
pub async fn change(
    scope: &KeyScope,
    vault: &Vault,
    errand: &Errand,
    backups_kept: Duration,
    by: &str,
    dry_run: bool,
) -> Result<Asked<Changed>, KeyFault> {
    let mut tx = scope.write().await?;
    let would = act(&mut tx, scope, vault, errand, backups_kept).await?;
    tx.roll_back().await?;
    if let Some(unchanged) = would.unchanged() {
        return Ok(Asked::Done(destroyed(scope, vault, errand, unchanged, dry_run).await?));
    }
    let mut tx = scope.write().await?;
    let by = actor::named(&mut tx, by).await?.id;
    let terms = terms(&mut tx, scope, errand).await?;
    let asked = approval::request(&mut tx, &terms, by, None).await?;
    let found = approval::get(&mut tx, asked.id).await?;
    if found.is_none_or(|found| found.state != State::Approved) {
        end(tx, dry_run).await?;
        return Ok(Asked::Waits { id: asked.id, is_new: asked.is_new });
    }
    // Keys are locked before the chain is: whoever seals does it in that order.
    let done = act(&mut tx, scope, vault, errand, backups_kept).await?;
    let consumed = approval::consume(&mut tx, asked.id, &asked.digest, Some(by), None).await?;
    let (kind, body) = match (&done.changed, errand) {
        (Changed::Named(kek), _) => {
            ("key.named", json!({ "approval": consumed.id, "kek": kek.id, "vendor": kek.reference.vendor }))
        }
        (_, errand) => ("key.retired", json!({ "approval": consumed.id, "plan": errand.plan() })),
    };
    audit::append(&mut tx, &Event { kind, actor: Some(by), job: None, body }).await?;
    end(tx, dry_run).await?;
    Ok(Asked::Done(destroyed(scope, vault, errand, done.changed, dry_run).await?))
}

/// Destroys a key of a key service that is retired, where it is ours to destroy. After the commit, since it cannot be
/// taken back; whoever was killed between the two repeats the command.
async fn destroyed(
    scope: &KeyScope,
    vault: &Vault,
    errand: &Errand,
    changed: Changed,
    dry_run: bool,
) -> Result<Changed, KeyFault> {
    match (changed, errand) {
        (Changed::Retired(retired), Errand::RetireKek(id)) if !dry_run => {
            let mut tx = scope.read().await?;
            let destroyed = vault.destroy_kek(&mut tx, *id).await?;
            tx.commit().await?;
            Ok(Changed::Retired(Retired { destroyed, ..retired }))
        }
        (changed, _) => Ok(changed),
    }
}

async fn end(tx: KeyTransaction, dry_run: bool) -> Result<(), TenantError> {
    if dry_run { tx.roll_back().await } else { tx.commit().await }
}

/// What came of an act, and whether it was so before.
struct Act {
    changed: Changed,
    is_new: bool,
}

impl Act {
    fn unchanged(self) -> Option<Changed> {
        (!self.is_new).then_some(self.changed)
    }
}

async fn act(
    conn: &mut PgConnection,
    scope: &KeyScope,
    vault: &Vault,
    errand: &Errand,
    backups_kept: Duration,
) -> Result<Act, KeyFault> {
    let retired = match errand {
        Errand::Name(key) => {
            let (kek, is_new) = vault.name_kek(conn, scope.owner(), key).await?;
            return Ok(Act { changed: Changed::Named(kek), is_new });
        }
        // Its job does that.
        Errand::Rotate(_) => Retired { is_new: true, destroyed: false },
        Errand::RetireDek(id) => retire_dek(conn, *id, backups_kept).await?,
        Errand::RetireKek(id) => retire_kek(conn, *id, backups_kept).await?,
    };
    Ok(Act { changed: Changed::Retired(retired), is_new: retired.is_new })
}
