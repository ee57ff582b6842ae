//! What exactly is to be changed, and the bytes that say it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Values, WritebackError, WritebackId};
use crate::{canonical, digest::Digest};

/// One change of one record. Its digest is what an approval is bound to.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whose record.
    pub tenant: Uuid,
    /// The governed path.
    pub path: String,
    /// The connector.
    pub connector: String,
    /// The stream.
    pub stream: String,
    /// The record's key.
    pub key: String,
    /// The action class, as policies name it, e.g. `email_format`.
    pub class: String,
    /// What the fields to be written hold now, as the target showed it; none if the change creates the record.
    pub before: Option<Values>,
    /// The record's version at the target.
    pub validator: Option<String>,
    /// What they are to hold.
    pub desired: Values,
    /// The digest of the connector's definition, by which the target is known: another definition is another target.
    /// None only in rows from before it was kept.
    pub definition: Option<Digest>,
    /// The version of the path's policy, and the digest of its text.
    pub policy: (i32, Digest),
    /// The writeback that this one undoes.
    pub compensates: Option<WritebackId>,
}

#[derive(Serialize)]
struct Bytes<'a> {
    before: Option<BTreeMap<&'a str, String>>,
    class: &'a str,
    compensates: Option<WritebackId>,
    connector: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Digest>,
    desired: BTreeMap<&'a str, String>,
    key: &'a str,
    path: &'a str,
    policy_digest: Digest,
    policy_version: i32,
    stream: &'a str,
    tag: &'static str,
    tenant: Uuid,
    validator: Option<&'a str>,
}

#[derive(Serialize)]
struct Key<'a> {
    action: WritebackId,
    connector: &'a str,
    #[serde(rename = "key")]
    record: &'a str,
    plan: Digest,
    stream: &'a str,
    tag: &'static str,
    tenant: Uuid,
}

impl Plan {
    /// The canonical bytes. Values stand in them as JSON texts: canonical JSON has no fractions.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WritebackError> {
        let bytes = Bytes {
            before: self.before.as_ref().map(texts),
            class: &self.class,
            compensates: self.compensates,
            connector: &self.connector,
            definition: self.definition,
            desired: texts(&self.desired),
            key: &self.key,
            path: &self.path,
            policy_digest: self.policy.1,
            policy_version: self.policy.0,
            stream: &self.stream,
            tag: "tenure.writeback.v1",
            tenant: self.tenant,
            validator: self.validator.as_deref(),
        };
        Ok(canonical::to_bytes(&bytes)?)
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Result<Digest, WritebackError> {
        Ok(Digest::of(&self.to_bytes()?))
    }

    /// What this change is sent under, each time: another action, target or plan has another.
    pub fn idempotency_key(&self, action: WritebackId) -> Result<Digest, WritebackError> {
        let key = Key {
            action,
            connector: &self.connector,
            record: &self.key,
            plan: self.digest()?,
            stream: &self.stream,
            tag: "tenure.writeback.key.v1",
            tenant: self.tenant,
        };
        Ok(Digest::of_canonical(&key)?)
    }
}

fn texts(values: &Values) -> BTreeMap<&str, String> {
    values.iter().map(|(name, value): (&String, &Value)| (name.as_str(), value.to_string())).collect()
}
