//! The certificate: what was removed, what was looked for, what remains and until when. JSON that is signed, and the same in
//! plain words.
//!
//! Promises: it says what the steps have put on record and nothing else. It is verified without a database.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, SecondsFormat, Utc};
use database::control::{TenantId, deletion::DeletionId};
use governance::{actor::ActorId, canonical, canonical::CanonicalError};
use serde::{Deserialize, Serialize};
use verifier::note::{NoteError, PublicKey, SecretKey, SignedText};

use super::paper;
pub use super::{chain::ChainEnd, files::Swept};

/// What a deletion has removed, and what remains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The tenant's identity, which is never used again.
    pub tenant: TenantId,
    /// Its name, which is never used again in this installation.
    pub name: String,
    /// Where its data lay.
    pub region: String,
    /// The deletion's number in its control database.
    pub deletion: DeletionId,
    /// Who asked for it; the platform knows whose pseudonym that is.
    pub requested_by: ActorId,
    /// When, UTC.
    pub requested_at: String,
    /// The platform's approval that was used up.
    pub approval: String,
    /// Whose yeses carried it.
    pub approved_by: Vec<ActorId>,
    /// From when on there was no way back.
    pub begun_at: String,
    /// When every probe had found nothing.
    pub ended_at: String,
    /// What was removed.
    pub removed: Removed,
    /// What was looked for and not found.
    pub probed: Vec<String>,
    /// The end of the tenant's chain; none if it never had a database of its own.
    pub chain: Option<ChainEnd>,
    /// What remains beside the chain and this paper.
    pub remains: Remains,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// The database and the role, which are called alike.
    pub database: String,
    /// The database's size; none if there was none.
    pub database_bytes: Option<i64>,
    /// Sessions in it that were ended.
    pub sessions: i64,
    /// Rows of the control database, by table.
    pub rows: BTreeMap<String, i64>,
    /// Files in the data folder of the machine that did it; none if it has none.
    pub files: Option<Swept>,
    /// Keys that were the tenant's alone.
    pub keys: i64,
}

/// What remains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remains {
    /// For how many days backups are kept, as configured; none if nobody said.
    pub backup_days: Option<u32>,
    /// Until when plain records can be read in backups; none if nobody said how long those are kept.
    pub backups_until: Option<String>,
    /// Keys that the tenant's owner keeps elsewhere, and alone can destroy.
    pub others_keys: Vec<String>,
}

impl Remains {
    /// Backups that were made until now are kept for so many days.
    pub(super) fn of(backup_days: Option<u32>, now: DateTime<Utc>, others_keys: Vec<String>) -> Self {
        let until = backup_days.and_then(|days| now.checked_add_days(Days::new(days.into())));
        Self { backup_days, backups_until: until.map(time), others_keys }
    }
}

/// A time as papers have it.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Why a certificate is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is no signed note, or the signature is another's.
    #[error("the signature does not hold")]
    Signature(#[from] NoteError),
    /// It is another paper.
    #[error("this is no certificate of a deletion")]
    OtherPaper,
    /// Its content is none that this program knows.
    #[error("the certificate's content cannot be read")]
    Content(#[from] serde_json::Error),
}

/// Reads a certificate whose signature is this key's.
pub fn verify(note: &str, key: &PublicKey) -> Result<Certificate, CertificateError> {
    let signed = SignedText::parse(note)?;
    signed.check(key)?;
    let content = signed.text().strip_prefix(paper::CERTIFICATE).and_then(|rest| rest.strip_prefix('\n'));
    let content = content.ok_or(CertificateError::OtherPaper)?;
    let certificate: Certificate = serde_json::from_str(content)?;
    // Other bytes of the same meaning would be another paper.
    match canonical::to_text(&certificate) {
        Ok(text) if format!("{text}\n") == content => Ok(certificate),
        _ => Err(CertificateError::OtherPaper),
    }
}

impl Certificate {
    pub(super) fn sign(&self, key: &SecretKey) -> Result<String, CanonicalError> {
        paper::sign(key, paper::CERTIFICATE, self)
    }

    /// The same for people, a sentence or two a line.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            format!(
                "Tenant {} ({}) of region {} was deleted; deletion {}.",
                self.name, self.tenant, self.region, self.deletion
            ),
            format!(
                "Asked for at {} by {}, approved (approval {}) by {}.",
                self.requested_at,
                self.requested_by,
                self.approval,
                self.approved_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
            format!("Out of service for good from {}, gone by {}.", self.begun_at, self.ended_at),
        ];
        words.extend(self.removed.words());
        words.push(format!("Looked for afterwards and not found: {}.", self.probed.join("; ")));
        words.push(self.chain.as_ref().map_or_else(
            || {
                "No audit chain was taken out: there was no database, or none that was ever made whole."
                    .to_owned()
            },
            ChainEnd::words,
        ));
        words.extend(self.remains.words(self.removed.keys));
        words
    }
}

impl Removed {
    fn words(&self) -> Vec<String> {
        let database = match self.database_bytes {
            Some(bytes) => format!(
                "Removed: the database {} ({bytes} bytes) with everything in it, and its role; sessions ended: {}.",
                self.database, self.sessions
            ),
            None => {
                format!("There was no database {}; its role was removed if there was one.", self.database)
            }
        };
        let rows: Vec<_> = self.rows.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
        let rows = if rows.is_empty() { "none".to_owned() } else { rows.join(", ") };
        let files = match self.files {
            Some(Swept { files, bytes }) => format!(
                "Removed: {files} files ({bytes} bytes) in the data folders of the machine that did it. Folders of other machines were not in reach."
            ),
            None => "No data folder was in reach of the machine that did it, and no file was looked for."
                .to_owned(),
        };
        let keys = match self.keys {
            0 => "No key was kept for this tenant alone, so none was destroyed.".to_owned(),
            keys => format!(
                "Destroyed: {keys} keys that were this tenant's alone; what they sealed no longer opens, wherever it was copied."
            ),
        };
        vec![database, format!("Removed: rows of the control database: {rows}."), files, keys]
    }
}

impl ChainEnd {
    fn words(&self) -> String {
        let signed = match (&self.fault, &self.checkpoint) {
            (Some(fault), _) => format!("NOT signed to its end: {fault}"),
            (None, Some(_)) => "its last checkpoint is in this certificate".to_owned(),
            (None, None) => "never signed".to_owned(),
        };
        format!(
            "Remains: its audit chain of ids and digests, {} entries, head {}, in {} beside the tombstone; {signed}.",
            self.size, self.head, self.file
        )
    }
}

impl Remains {
    fn words(&self, keys: i64) -> Vec<String> {
        let backups = match (&self.backups_until, self.backup_days) {
            (Some(until), Some(days)) => format!(
                "Remains: backups of the databases, kept for {days} days as configured. Plain records can be read in them until {until}."
            ),
            _ => "Remains: backups of the databases. Nobody has configured how long they are kept; plain records can be read in them until they are gone.".to_owned(),
        };
        let sealed = match &*self.others_keys {
            [] => (keys > 0).then(|| "Sealed values in them no longer open.".to_owned()),
            others => Some(format!(
                "Remains: keys of their owner's, who alone can destroy them: {}. Until then sealed values in backups open to whoever may use them.",
                others.join(", ")
            )),
        };
        let others = "Remains: the tombstone and this certificate, the platform's chain and the approval of the deletion, and whatever other systems were given: credentials at vendors must be withdrawn there.";
        std::iter::once(backups).chain(sealed).chain([others.to_owned()]).collect()
    }
}
