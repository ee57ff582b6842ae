//! The catalogue of job kinds: one file each, and nothing of HTTP, configuration files or environment variables.
//!
//! **How to add a kind.** Three edits:
//! 1. its file: copy the nearest one. A struct with its payload (`deny_unknown_fields`), `impl Job`, and the battery of
//!    `testing` at its foot;
//! 2. one line in [`catalogue`];
//! 3. a line in [`registry`].
//!
//! Command line, metrics and documents learn of it from the catalogue. `tests/architecture.rs` says what was forgotten.
//!
//! A kind may use what [`Environment`] gives it. It reaches a tenant's data only through
//! `Environment::enter`, which raises the attempt's fence there, and writes only in the effects of named steps.

pub mod audit_checkpoint;
pub mod bulk_operation;
pub mod connector_credential;
pub mod connector_registry;
pub mod connector_sync;
pub mod denial;
pub mod drift_check;
mod environment;
pub mod export_sweep;
mod judges;
pub mod key_rotation;
pub mod key_scope;
pub mod measure;
pub mod nightly_baseline;
pub mod policy_wish;
pub mod probe;
pub mod promotion_evaluation;
pub mod readiness_scan;
pub mod shadow_run;
pub mod standing;
pub mod target_capability;
pub mod tenant_bundle;
pub mod tenant_delete;
pub mod tenant_export;
pub mod tenant_provision;
#[cfg(test)]
mod testing;
pub mod writeback;
pub mod writeback_plan;

use std::time::Duration;

use queue::{Job, Registry};
use serde_json::value::RawValue;

pub use environment::Environment;

/// What the rest of the service knows of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name, as in `job enqueue NAME`.
    pub name: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
    /// A payload that it takes.
    pub example: &'static str,
    /// Whether it runs for a tenant.
    pub needs_tenant: bool,
    /// How often it may fail before it rests.
    pub attempts_max: u16,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Says what is wrong with a payload.
    pub check: fn(&RawValue) -> Result<(), serde_json::Error>,
}

impl Kind {
    const fn of<J: Job>(summary: &'static str, example: &'static str) -> Self {
        Self {
            name: J::KIND,
            summary,
            example,
            needs_tenant: true,
            attempts_max: J::ATTEMPTS_MAX,
            timeout: J::TIMEOUT,
            check: |payload| serde_json::from_str::<J>(payload.get()).map(drop),
        }
    }

    /// Works on the platform itself.
    const fn for_the_platform(self) -> Self {
        Self { needs_tenant: false, ..self }
    }
}

/// Every kind there is.
#[must_use]
pub const fn catalogue() -> &'static [Kind] {
    const KINDS: &[Kind] = &[
        Kind::of::<audit_checkpoint::AuditCheckpoint>(
            "signs what the audit chain is, of the tenant or else of the platform, and puts it into a folder",
            "{}",
        )
        .for_the_platform(),
        Kind::of::<bulk_operation::BulkOperation>(
            "one action on every job that a previewed filter admits; made by `job bulk`",
            r#"{"plan": {"filter": {"states": ["failed"]}, "action": {"verb": "retry"}, "up_to": "1000",
                "digest": "24b278fe8fd636333e2094f5a041ff27a613fff58dbf8360e1fe5559f1a4483e"}, "by": "ada"}"#,
        )
        .for_the_platform(),
        Kind::of::<connector_sync::ConnectorSync>(
            "reads a stream of a connector into the tenant's records",
            r#"{"connector": "crm", "stream": "contacts"}"#,
        ),
        Kind::of::<drift_check::DriftCheck>(
            "reads verified changes back again, and takes up changes whose job was lost",
            r#"{"days": 90}"#,
        ),
        Kind::of::<export_sweep::ExportSweep>(
            "removes a bundle of a tenant's data whose time is over; made by the export itself",
            r#"{"file": "acme-0198c5d2-3.zip", "bundle": "24b278fe8fd636333e2094f5a041ff27a613fff58dbf8360e1fe5559f1a4483e"}"#,
        ),
        Kind::of::<key_rotation::KeyRotation>(
            "puts keys under a new version of the key that wraps them, or values under a new key; made by `key rotate`",
            r#"{"action": "rewrap", "approval": "7"}"#,
        )
        .for_the_platform(),
        Kind::of::<nightly_baseline::NightlyBaseline>(
            "reads all sources, decides over every path, tries the candidates, and reports; writes to no target",
            "{}",
        ),
        Kind::of::<policy_wish::PolicyWish>(
            "takes up what a path's autonomous candidate may write without a person; made by the night",
            r#"{"path": "contact-email"}"#,
        ),
        Kind::of::<probe::Probe>(
            "writes down what it does in the tenant's ledger: proves an installation under faults",
            r#"{"steps": 3, "pause_ms": 100}"#,
        ),
        Kind::of::<promotion_evaluation::PromotionEvaluation>(
            "freezes a candidate's evidence and says whether it may move one phase up; moves nothing",
            r#"{"candidate": "email-rules-2"}"#,
        ),
        Kind::of::<readiness_scan::ReadinessScan>(
            "says what a tenant's sources, targets and paths are ready for; reads only, and proves it",
            "{}",
        ),
        Kind::of::<shadow_run::ShadowRun>(
            "tries a candidate on cases that people have judged, without effect",
            r#"{"candidate": "email-rules-2"}"#,
        ),
        Kind::of::<tenant_delete::TenantDelete>(
            "deletes a tenant for good, step by step, and signs a certificate; made by `tenant delete`",
            r#"{"deletion": "7"}"#,
        )
        .for_the_platform(),
        Kind::of::<tenant_export::TenantExport>(
            "everything held on a tenant, as one zip, once the tenant's gate agrees; made by `tenant export`",
            r#"{"approval": "3", "to": "/srv/handover"}"#,
        ),
        Kind::of::<tenant_provision::TenantProvision>(
            "makes a tenant's role and database and brings them up to date",
            "{}",
        ),
        Kind::of::<writeback::Writeback>(
            "sends one approved change to its target and reads it back; made by `writeback plan`",
            r#"{"writeback": "17"}"#,
        ),
        Kind::of::<writeback_plan::WritebackPlan>(
            "plans one change that a person accepted or a policy may make, and enqueues its writeback; made by `review accept`",
            r#"{"decision": "41"}"#,
        ),
    ];
    KINDS
}

/// The kinds as a worker runs them.
#[must_use]
pub fn registry(environment: Environment) -> Registry<Environment> {
    Registry::new(environment)
        .with::<audit_checkpoint::AuditCheckpoint>()
        .with::<bulk_operation::BulkOperation>()
        .with::<connector_sync::ConnectorSync>()
        .with::<drift_check::DriftCheck>()
        .with::<export_sweep::ExportSweep>()
        .with::<key_rotation::KeyRotation>()
        .with::<nightly_baseline::NightlyBaseline>()
        .with::<policy_wish::PolicyWish>()
        .with::<probe::Probe>()
        .with::<promotion_evaluation::PromotionEvaluation>()
        .with::<readiness_scan::ReadinessScan>()
        .with::<shadow_run::ShadowRun>()
        .with::<tenant_delete::TenantDelete>()
        .with::<tenant_export::TenantExport>()
        .with::<tenant_provision::TenantProvision>()
        .with::<writeback::Writeback>()
        .with::<writeback_plan::WritebackPlan>()
}

/// An error with its causes, for a report.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The queue of operators' work on other jobs, such as a bulk operation: it may not stand in line behind the very jobs
/// that it is to cancel, nor rest because their queue is paused. Workers of every region claim from it.
pub const OPERATIONS: &str = "operations";

/// The queue in which deletions of a region's tenants wait: apart from its other jobs, since few may run at once. Workers
/// of that region claim from it. No region is called so: its name has no slash.
#[must_use]
pub fn deletions_of(region: &database::control::Region) -> String {
    format!("{region}/deletions")
}

/// The queue in which jobs of a region wait: only workers of that region claim from it.
#[must_use]
pub fn queue_of(region: &database::control::Region) -> String {
    region.to_string()
}
