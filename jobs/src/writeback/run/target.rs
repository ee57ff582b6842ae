//! The target of a writeback, and the change as its driver takes it.

use std::sync::Arc;

use connectors::{Capability, Change, Expected, Fields, Observed, Target, Validator};
use database::tenant::TenantDb;
use governance::{
    digest::Digest,
    writeback::{Plan, Values, Writeback},
};
use queue::{FailureClass, JobError};
use vault::Vault;

use super::judge::source;
use crate::{connector_registry, connector_sync::budget::TenantBudget, target_capability};

/// A target that may be written.
pub(super) struct Opened {
    pub(super) target: Target,
    /// Of which definition.
    pub(super) definition: Digest,
    /// Whether a creation that is sent twice makes one record.
    pub(super) creates_once: bool,
}

#[derive(Debug, thiserror::Error)]
enum NoTarget {
    #[error("the connector {connector:?} has no stream {stream:?} with a `[streams.target]`")]
    Missing { connector: String, stream: String },
    #[error("the target of {connector}/{stream} was never tried as it is defined now: plan the change again")]
    Untried { connector: String, stream: String },
    #[error("the target of {connector}/{stream} cannot be read, so nothing is written to it")]
    Blind { connector: String, stream: String },
}

/// None where the connector has been defined anew since the change was planned: what is there now is another target,
/// and neither a write nor a look there would be of this change.
pub(super) async fn open(db: &TenantDb, vault: &Vault, seen: &Writeback) -> Result<Option<Opened>, JobError> {
    let (connector, stream) = (&seen.plan.connector, &seen.plan.stream);
    let definition =
        connector_registry::open(db, vault, connector).await.map_err(connector_registry::into_job_error)?;
    let digest = target_capability::digest(&definition);
    if seen.plan.definition.is_some_and(|planned| planned != digest) {
        return Ok(None);
    }
    let named = || (connector.clone(), stream.clone());
    let fail = |error: NoTarget| Err(JobError::fail(error, FailureClass::Configuration));
    let missing = || {
        let (connector, stream) = named();
        NoTarget::Missing { connector, stream }
    };
    let Some(found) = definition.stream(stream) else { return fail(missing()) };
    let budget = Arc::new(TenantBudget::new(db.clone(), connector));
    let connected = Target::connect(&definition, found, budget).await.map_err(|error| source(&error))?;
    let Some(target) = connected else { return fail(missing()) };
    let kept =
        target_capability::load(db, &definition, stream).await.map_err(connector_registry::into_job_error)?;
    match kept.map(|kept| kept.probed.capability) {
        None if seen.idempotency_key.is_none() => {
            let (connector, stream) = named();
            fail(NoTarget::Untried { connector, stream })
        }
        Some(Capability::Blind) => {
            let (connector, stream) = named();
            fail(NoTarget::Blind { connector, stream })
        }
        capability => {
            let creates_once =
                matches!(capability, Some(Capability::ConditionalWrite | Capability::IdempotencyKey));
            Ok(Some(Opened { target, definition: digest, creates_once }))
        }
    }
}

/// The change as the driver takes it; none without a key, which only an intent gives.
pub(super) fn change(seen: &Writeback) -> Option<Change> {
    let expected = match &seen.plan.before {
        Some(before) => Expected::Present {
            before: before.clone(),
            validator: seen.plan.validator.clone().map(Validator),
        },
        None => Expected::Absent,
    };
    Some(Change {
        key: seen.plan.key.clone(),
        expected,
        desired: seen.plan.desired.clone(),
        idempotency_key: seen.idempotency_key?.to_string(),
    })
}

/// The plan with the target as it is defined, and with what it shows, now.
pub(in crate::writeback) fn replanned(plan: &Plan, definition: Digest, observed: Option<&Observed>) -> Plan {
    let of_plan = |fields: &Fields| -> Values {
        let named = fields.iter().filter(|(name, _)| plan.desired.contains_key(*name));
        named.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    Plan {
        before: observed.map(|seen| of_plan(&seen.fields)),
        definition: Some(definition),
        validator: observed.and_then(|seen| seen.validator.clone()).map(|validator| validator.0),
        ..plan.clone()
    }
}
