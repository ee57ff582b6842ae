//! What is to be approved, and the digest that a yes is bound to.

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use crate::{
    audit::{self, AuditError},
    canonical::{self, CanonicalError},
    digest::Digest,
    gate::ActionClass,
};

/// A plan's canonical bytes are at most so long, as the table's check says.
const PLAN_BYTES_MAX: usize = 1 << 20;

/// The same for all that is bound besides.
const CONTENT_BYTES_MAX: usize = 64 << 10;

/// What is to happen, completely: a change of any of it is another digest (P5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The class of action.
    pub action: ActionClass,
    /// What the thing is called, to be typed where that is asked for, e.g. the tenant's name. 1 to 200 characters.
    pub name: String,
    /// What it touches; the order says nothing.
    pub targets: Vec<String>,
    /// What exactly is done; people are shown this.
    pub plan: Value,
    /// What must be unchanged at the targets, e.g. row versions or entity tags.
    pub validators: Value,
    /// The version of the policy that asks for it.
    pub policy_version: Option<String>,
    /// How far it may go, e.g. a number of records.
    pub limits: Value,
}

/// Why something cannot be approved as it is.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// Something in it has no canonical form.
    #[error("the plan has no canonical form")]
    Canonical(#[from] CanonicalError),
    /// It is more than anybody could read.
    #[error("{what} takes {bytes} bytes, and at most {max} can be approved: divide it")]
    TooLarge {
        /// The plan or what is bound besides.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The name could not be typed.
    #[error("the name of the thing has 1 to 200 characters, no control characters, no blank at either end")]
    BadName,
    /// Whose database it is cannot be read.
    #[error("the origin of the chain cannot be read")]
    Origin(#[from] AuditError),
}

/// The canonical bytes of terms in one database.
pub(super) struct Bound {
    pub(super) plan: Vec<u8>,
    pub(super) content: Vec<u8>,
    pub(super) digest: Digest,
}

#[derive(Serialize)]
struct Content<'a> {
    tag: &'static str,
    tenant: &'a str,
    action: &'a str,
    name: &'a str,
    targets: Vec<&'a String>,
    plan: Digest,
    validators: &'a Value,
    policy_version: Option<&'a str>,
    limits: &'a Value,
}

impl Terms {
    /// Without validators, a policy and limits.
    #[must_use]
    pub fn new(action: ActionClass, name: String, targets: Vec<String>, plan: Value) -> Self {
        let none = || Value::Object(Map::new());
        Self { action, name, targets, plan, validators: none(), policy_version: None, limits: none() }
    }

    /// What a yes in this database would be bound to: give it to [`super::consume`] with what is about to be done.
    pub async fn digest(&self, conn: &mut PgConnection) -> Result<Digest, TermsError> {
        Ok(self.bind(conn).await?.digest)
    }

    pub(super) async fn bind(&self, conn: &mut PgConnection) -> Result<Bound, TermsError> {
        self.bind_to(&audit::head(conn).await?.origin)
    }

    /// `tenant` is the origin of the database's chain.
    pub(super) fn bind_to(&self, tenant: &str) -> Result<Bound, TermsError> {
        let is_name =
            self.name.trim() == self.name && !self.name.contains(char::is_control) && !self.name.is_empty();
        if !is_name || self.name.chars().count() > 200 {
            return Err(TermsError::BadName);
        }
        let plan = bounded("the plan", canonical::to_bytes(&self.plan)?, PLAN_BYTES_MAX)?;
        let mut targets: Vec<_> = self.targets.iter().collect();
        targets.sort_unstable();
        targets.dedup();
        let content = canonical::to_bytes(&Content {
            tag: "tenure.approval.v1",
            tenant,
            action: self.action.as_str(),
            name: &self.name,
            targets,
            plan: Digest::of(&plan),
            validators: &self.validators,
            policy_version: self.policy_version.as_deref(),
            limits: &self.limits,
        })?;
        let content = bounded("what the plan is bound to", content, CONTENT_BYTES_MAX)?;
        let digest = Digest::of(&content);
        Ok(Bound { plan, content, digest })
    }
}

fn bounded(what: &'static str, bytes: Vec<u8>, max: usize) -> Result<Vec<u8>, TermsError> {
    if bytes.len() <= max { Ok(bytes) } else { Err(TermsError::TooLarge { what, bytes: bytes.len(), max }) }
}
