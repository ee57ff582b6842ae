//! What a candidate is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    canonical::{self, CanonicalError},
    digest::Digest,
    path::Path,
    policy::StoredPolicy,
};

/// The meaning of rules and detectors in this program. It is raised whenever they may answer differently than before,
/// and with it every candidate becomes another one.
pub const ENGINE: u32 = 1;

/// Everything that can change what a candidate says. Whatever could and is not here must not reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The path that it decides on.
    pub path: String,
    /// The rules.
    pub policy: Policy,
    /// The model that is asked; none if rules alone decide.
    #[serde(default)]
    pub model: Option<Model>,
    /// The digest of the prompt's text.
    #[serde(default)]
    pub prompt: Option<Digest>,
    /// The tools that the model may call: the name and the digest of the description that it is given.
    #[serde(default)]
    pub tools: BTreeMap<String, Digest>,
    /// The digest of the profile by which values are hidden from the model.
    #[serde(default)]
    pub redaction: Option<Digest>,
    /// See [`ENGINE`].
    pub engine: u32,
}

/// A version of a path's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its number.
    pub version: i64,
    /// The digest of its text: the number alone would trust the table.
    pub digest: Digest,
}

/// A model as its provider knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Who runs it.
    pub provider: String,
    /// Its name with its version.
    pub name: String,
    /// Settings such as `temperature`; as texts, so that no two writings of a number are one.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Tagged<'a> {
    #[serde(flatten)]
    definition: &'a Definition,
    tag: &'static str,
}

impl Definition {
    /// A version of a path's rules, with no model behind them.
    #[must_use]
    pub fn of_rules(path: &Path, policy: &StoredPolicy) -> Self {
        Self {
            path: path.name.clone(),
            policy: Policy { version: policy.version.into(), digest: policy.digest },
            model: None,
            prompt: None,
            tools: BTreeMap::new(),
            redaction: None,
            engine: ENGINE,
        }
    }

    /// Its canonical bytes, whose SHA-256 is the candidate's digest.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_bytes(&Tagged { definition: self, tag: "tenure.candidate.v1" })
    }

    /// The digest.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        self.to_bytes().map(|bytes| Digest::of(&bytes))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes)?;
        members.remove("tag");
        serde_json::from_value(members.into())
    }
}
