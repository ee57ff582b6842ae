//! What was previewed, bound by a digest.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BulkAction, BulkFilter};
use crate::JobId;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BulkRefused {
    /// The filter admits every job.
    #[error(
        "the filter is empty: narrow it by a state, queue, kind, tenant, priority, text or time, because one that \
         admits every job is refused"
    )]
    Empty,
    /// A span of time ends before it begins.
    #[error("the filter admits nothing: one of its times ends before it begins")]
    Backwards,
    /// The token or digest belongs to another plan.
    #[error("this is not what was previewed: the filter, the action or the newest job has changed")]
    Changed,
}

/// An action, the filter that chooses its jobs, and the newest id that there was when it was previewed.
///
/// It can only be had with a filter that narrows and with the digest of exactly these three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct BulkPlan {
    filter: BulkFilter,
    action: BulkAction,
    up_to: JobId,
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    filter: BulkFilter,
    action: BulkAction,
    up_to: JobId,
    digest: String,
}

impl TryFrom<Unchecked> for BulkPlan {
    type Error = BulkRefused;

    fn try_from(plan: Unchecked) -> Result<Self, BulkRefused> {
        let made = Self::new(plan.filter, plan.action, plan.up_to)?;
        if made.digest == plan.digest { Ok(made) } else { Err(BulkRefused::Changed) }
    }
}

/// How much of the digest a person has to copy: 64 bits, which no two plans of one operator share.
const TOKEN_DIGITS: usize = 16;

impl BulkPlan {
    pub(super) fn new(filter: BulkFilter, action: BulkAction, up_to: JobId) -> Result<Self, BulkRefused> {
        let filter = filter.normal();
        filter.check()?;
        let digest = digest(&filter, action, up_to);
        Ok(Self { filter, action, up_to, digest })
    }

    /// The plan that was previewed with this token, if filter and action are still the same.
    pub fn confirmed(filter: BulkFilter, action: BulkAction, token: &str) -> Result<Self, BulkRefused> {
        let up_to = token.split_once('-').and_then(|(up_to, _)| up_to.parse().ok());
        let plan = Self::new(filter, action, up_to.ok_or(BulkRefused::Changed)?)?;
        if plan.token() == token { Ok(plan) } else { Err(BulkRefused::Changed) }
    }

    /// What confirms the plan: the newest id and the beginning of the digest.
    #[must_use]
    pub fn token(&self) -> String {
        format!("{}-{}", self.up_to, &self.digest[..TOKEN_DIGITS])
    }

    /// Which jobs.
    #[must_use]
    pub fn filter(&self) -> &BulkFilter {
        &self.filter
    }

    /// What to do with them.
    #[must_use]
    pub fn action(&self) -> BulkAction {
        self.action
    }

    /// The newest job that the plan is about.
    #[must_use]
    pub fn up_to(&self) -> JobId {
        self.up_to
    }

    /// SHA-256 of the plan's canonical JSON, in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn digest(filter: &BulkFilter, action: BulkAction, up_to: JobId) -> String {
    // The members of a Value are sorted by name.
    let canonical = serde_json::json!({ "filter": filter, "action": action, "up_to": up_to });
    let mut digits = String::new();
    for byte in Sha256::digest(canonical.to_string()) {
        write!(digits, "{byte:02x}").expect("a String takes everything");
    }
    digits
}
