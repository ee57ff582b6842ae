//! How the program ends: one exit code per thing that a script would do differently.
//!
//! The code is decided from the types in an error's chain, never from its text.

use std::{error::Error, process::ExitCode};

use connectors::{DefinitionError, ErrorClass, SourceError};
use database::{
    Class, connect::ConnectError, control::ControlError, embedded::EmbeddedError, migrate::MigrateError,
    passwords::PasswordError, tenant::TenantError, tombstone::TombstoneError,
};
use governance::writeback::{Refusal, WritebackError};
use governance::{
    approval::ConsumeError,
    candidate::CandidateError,
    path::{PathError, StepError},
    policy::PolicyError,
    review::ReviewError,
};
use governance::{checkpoint::CheckpointError, receipt::ReceiptError};
use jobs::{
    connector_credential::CredentialFault,
    connector_registry::RegistryError,
    key_rotation::KeyFault,
    target_capability::ProbeError,
    tenant_bundle::{BundleError, ImportError, VerifyError},
    tenant_delete::RequestError,
    writeback::{LookError, PlanError},
};
use queue::{
    BulkError, BulkRefused, ChangeRefused, DependencyError, EnqueueError, LimitError, RetryRefused,
    ScheduleError, WorkerError,
};

use vault::{
    AccessError, CatalogError, KeyringError, RetireRefused, ServiceClass, ServiceError, VaultError,
    rotation::RotationError,
};

use crate::config::{ConfigError, Fault};

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    /// It did not work, for a reason that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The state of what was named does not admit it.
    Refused = 4,
    /// The role may not.
    NotPermitted = 5,
    /// A server did not answer.
    Unreachable = 6,
    /// What was verified does not fit.
    VerificationFailed = 7,
    /// A job that was waited for ended badly.
    EndedBadly = 8,
    /// What was verified fits, but nothing outside the database vouches for it.
    Unanchored = 9,
    /// The configuration, a connector's definition or the set-up is wrong (`EX_CONFIG` of sysexits).
    Configuration = 78,
    /// The time to wait was over.
    Timeout = 124,
    /// A signal ended it.
    Interrupted = 130,
}

impl Exit {
    /// The name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::NotPermitted => "not_permitted",
            Self::Unreachable => "unreachable",
            Self::VerificationFailed => "verification_failed",
            Self::EndedBadly => "ended_badly",
            Self::Unanchored => "unanchored",
            Self::Configuration => "configuration",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) help: Option<String>,
    /// The single faults, where there may be several.
    pub(crate) faults: Vec<Fault>,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { exit, what: what.into(), help: Some(help.into()), faults: Vec::new(), cause: None }
    }

    /// A file with faults of its own.
    pub(crate) fn faulty(what: impl Into<String>, faults: Vec<Fault>) -> Self {
        Self { exit: Exit::Configuration, what: what.into(), help: None, faults, cause: None }
    }

    pub(crate) fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, help)
    }

    pub(crate) fn not_found(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, what, help)
    }

    pub(crate) fn refused(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Refused, what, help)
    }

    pub(crate) fn configuration(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Configuration, what, help)
    }

    pub(crate) fn interrupted() -> Self {
        Self {
            exit: Exit::Interrupted,
            what: "interrupted".to_owned(),
            help: None,
            faults: Vec::new(),
            cause: None,
        }
    }

    /// Keeps the error below.
    pub(crate) fn by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

/// The exit code for an error and what to do, decided by the outermost error in its chain that has a say.
pub(crate) fn judge(error: &anyhow::Error) -> (Exit, Option<String>) {
    let exit = error.chain().find_map(judge_one).unwrap_or(Exit::Failed);
    let help = error.chain().find_map(|error| error.downcast_ref::<Failure>()?.help.clone());
    (exit, help.or_else(|| general_help(exit)))
}

fn general_help(exit: Exit) -> Option<String> {
    let help = match exit {
        Exit::Unreachable => "`tenure doctor` tells what is in the way",
        Exit::NotPermitted => "`tenure doctor` tells which role is used and what it lacks",
        _ => return None,
    };
    Some(help.to_owned())
}

fn judge_one(error: &(dyn Error + 'static)) -> Option<Exit> {
    None.or_else(|| error.downcast_ref().map(|failure: &Failure| failure.exit))
        .or_else(|| error.downcast_ref().map(|_: &ConfigError| Exit::Configuration))
        .or_else(|| error.downcast_ref().map(|_: &DefinitionError| Exit::Configuration))
        .or_else(|| error.downcast_ref().map(|_: &PasswordError| Exit::Configuration))
        .or_else(|| error.downcast_ref().map(|_: &KeyringError| Exit::Configuration))
        .or_else(|| error.downcast_ref().map(|_: &AccessError| Exit::Configuration))
        .or_else(|| error.downcast_ref().map(|_: &EmbeddedError| Exit::Configuration))
        .or_else(|| error.downcast_ref().map(of_connect))
        .or_else(|| error.downcast_ref().and_then(of_enqueue))
        .or_else(|| error.downcast_ref().and_then(of_retry))
        .or_else(|| error.downcast_ref().and_then(of_schedule))
        .or_else(|| error.downcast_ref().and_then(of_limit))
        .or_else(|| error.downcast_ref().and_then(of_change))
        .or_else(|| error.downcast_ref().and_then(of_bulk))
        .or_else(|| error.downcast_ref().and_then(of_bulk_refused))
        .or_else(|| error.downcast_ref().and_then(of_control))
        .or_else(|| error.downcast_ref().and_then(of_migrate))
        .or_else(|| error.downcast_ref().and_then(of_worker))
        .or_else(|| error.downcast_ref().and_then(of_tenant))
        .or_else(|| error.downcast_ref().and_then(of_deletion))
        .or_else(|| error.downcast_ref().and_then(of_registry))
        .or_else(|| error.downcast_ref().and_then(of_checkpoint))
        .or_else(|| error.downcast_ref().and_then(of_receipt))
        .or_else(|| error.downcast_ref().and_then(of_candidate))
        .or_else(|| error.downcast_ref().and_then(of_path))
        .or_else(|| error.downcast_ref().and_then(of_step))
        .or_else(|| error.downcast_ref().and_then(of_policy))
        .or_else(|| error.downcast_ref().and_then(of_probe))
        .or_else(|| error.downcast_ref().and_then(of_plan))
        .or_else(|| error.downcast_ref().and_then(of_bundle))
        .or_else(|| error.downcast_ref().and_then(of_verify))
        .or_else(|| error.downcast_ref().and_then(of_import))
        .or_else(|| error.downcast_ref().and_then(of_look))
        .or_else(|| error.downcast_ref().and_then(of_writeback))
        .or_else(|| error.downcast_ref().and_then(of_review))
        .or_else(|| error.downcast_ref().and_then(of_credential))
        .or_else(|| error.downcast_ref().and_then(of_key))
        .or_else(|| error.downcast_ref().and_then(of_vault))
        .or_else(|| error.downcast_ref().map(of_service))
        .or_else(|| error.downcast_ref().map(of_source))
        .or_else(|| error.downcast_ref().map(of_database))
}

fn of_connect(error: &ConnectError) -> Exit {
    match error {
        ConnectError::Unreachable(_) => Exit::Unreachable,
        ConnectError::NotPermitted(_) => Exit::NotPermitted,
        ConnectError::BadUrl(_)
        | ConnectError::Refused(_)
        | ConnectError::NoSuchDatabase(_)
        | ConnectError::TooOld(_)
        | ConnectError::Other(_) => Exit::Configuration,
    }
}

fn of_enqueue(error: &EnqueueError) -> Option<Exit> {
    match error {
        EnqueueError::KeyReused { .. } => Some(Exit::Refused),
        EnqueueError::Dependency(DependencyError::NotFound(_)) => Some(Exit::NotFound),
        EnqueueError::PayloadTooLarge { .. }
        | EnqueueError::PayloadUnstorable(_)
        | EnqueueError::Dependency(_) => Some(Exit::Usage),
        // The error below has a say.
        _ => None,
    }
}

fn of_retry(error: &RetryRefused) -> Option<Exit> {
    match error {
        RetryRefused::NotFound(_) => Some(Exit::NotFound),
        RetryRefused::State { .. }
        | RetryRefused::NotQuarantined { .. }
        | RetryRefused::KeyTaken { .. }
        | RetryRefused::DependencyFailed { .. } => Some(Exit::Refused),
        _ => None,
    }
}

fn of_schedule(error: &ScheduleError) -> Option<Exit> {
    match error {
        ScheduleError::NotFound(_) => Some(Exit::NotFound),
        ScheduleError::Job(error) => of_enqueue(error),
        // The error below has a say.
        ScheduleError::Database(_) => None,
        _ => Some(Exit::Usage),
    }
}

fn of_limit(error: &LimitError) -> Option<Exit> {
    // Of a database's error, the error below has a say.
    (!matches!(error, LimitError::Database(_))).then_some(Exit::Usage)
}

fn of_path(error: &PathError) -> Option<Exit> {
    match error {
        PathError::Unknown(_) => Some(Exit::NotFound),
        PathError::Taken(_) => Some(Exit::Refused),
        PathError::Invalid(_) => Some(Exit::Usage),
        // The error below has a say.
        _ => None,
    }
}

fn of_step(error: &StepError) -> Option<Exit> {
    match error {
        // The error below has a say.
        StepError::Consume(ConsumeError::Approval(_)) => None,
        StepError::NotNext { .. }
        | StepError::NotDown { .. }
        | StepError::Lacking { .. }
        | StepError::NoApproval
        | StepError::Consume(_) => Some(Exit::Refused),
        StepError::Path(error) => of_path(error),
        _ => None,
    }
}

fn of_policy(error: &PolicyError) -> Option<Exit> {
    match error {
        PolicyError::Unknown { .. } => Some(Exit::NotFound),
        PolicyError::OtherPath(_) => Some(Exit::Refused),
        PolicyError::Refused(_) => Some(Exit::Configuration),
        _ => None,
    }
}

/// What a person can do about the others is said where they are met. These are transparent: their own source is what
/// lies below the error that has a say.
fn of_review(error: &ReviewError) -> Option<Exit> {
    match error {
        ReviewError::Path(error) => of_path(error),
        ReviewError::Policy(error) => of_policy(error),
        // The error below has a say.
        _ => None,
    }
}

fn of_change(error: &ChangeRefused) -> Option<Exit> {
    match error {
        ChangeRefused::NotFound(_) => Some(Exit::NotFound),
        ChangeRefused::State { .. } => Some(Exit::Refused),
        _ => None,
    }
}

fn of_bulk(error: &BulkError) -> Option<Exit> {
    match error {
        BulkError::Refused(refused) => of_bulk_refused(refused),
        BulkError::Fenced => Some(Exit::Refused),
        _ => None,
    }
}

fn of_bulk_refused(error: &BulkRefused) -> Option<Exit> {
    match error {
        BulkRefused::Empty | BulkRefused::Backwards => Some(Exit::Usage),
        BulkRefused::Changed => Some(Exit::Refused),
        _ => None,
    }
}

fn of_control(error: &ControlError) -> Option<Exit> {
    match error {
        ControlError::BadName(_)
        | ControlError::BadRegion(_)
        | ControlError::BadReason
        | ControlError::HoldIsOver => Some(Exit::Usage),
        ControlError::NoSuchTenant(_) => Some(Exit::NotFound),
        ControlError::OtherRegion { .. } | ControlError::WrongState { .. } => Some(Exit::Refused),
        ControlError::UnknownState(_) => Some(Exit::Configuration),
        ControlError::Database(_) => None,
    }
}

fn of_migrate(error: &MigrateError) -> Option<Exit> {
    match error {
        MigrateError::Edited(_) | MigrateError::Newer(_) => Some(Exit::Configuration),
        MigrateError::Locked(_) => Some(Exit::Refused),
        MigrateError::Step { .. } | MigrateError::Bookkeeping(_) => None,
    }
}

fn of_worker(error: &WorkerError) -> Option<Exit> {
    match error {
        WorkerError::LeaseTooShort { .. } | WorkerError::Nothing => Some(Exit::Configuration),
        _ => None,
    }
}

fn of_tenant(error: &TenantError) -> Option<Exit> {
    match error {
        TenantError::NoSuchTenant(_) => Some(Exit::NotFound),
        TenantError::OtherRegion { .. }
        | TenantError::NotActive { .. }
        | TenantError::Tombstone(TombstoneError::Buried { .. }) => Some(Exit::Refused),
        TenantError::Tombstone(TombstoneError::Unreadable { .. }) | TenantError::OtherDatabase { .. } => {
            Some(Exit::Configuration)
        }
        TenantError::Password(_) | TenantError::Control(_) | TenantError::Database(_) => None,
        other => Some(of_class(other.class())),
    }
}

/// The others' sources have a say.
fn of_deletion(error: &RequestError) -> Option<Exit> {
    match error {
        RequestError::Held { .. }
        | RequestError::Nothing
        | RequestError::TooLate(_)
        | RequestError::Unclassified(_) => Some(Exit::Refused),
        _ => None,
    }
}

fn of_registry(error: &RegistryError) -> Option<Exit> {
    match error {
        RegistryError::Unknown { .. } => Some(Exit::NotFound),
        // The error below has a say.
        _ => None,
    }
}

fn of_checkpoint(error: &CheckpointError) -> Option<Exit> {
    match error {
        CheckpointError::Broken(_) | CheckpointError::Rewritten(_) | CheckpointError::Hash(_) => {
            Some(Exit::VerificationFailed)
        }
        CheckpointError::File { .. } | CheckpointError::OpenToOthers { .. } | CheckpointError::Key(_) => {
            Some(Exit::Configuration)
        }
        // The error below has a say.
        CheckpointError::Database(_) => None,
    }
}

fn of_receipt(error: &ReceiptError) -> Option<Exit> {
    matches!(error, ReceiptError::NotFound(_)).then_some(Exit::NotFound)
}

fn of_candidate(error: &CandidateError) -> Option<Exit> {
    match error {
        CandidateError::NotFound(_) | CandidateError::NoSnapshot { .. } => Some(Exit::NotFound),
        CandidateError::BadName(_) | CandidateError::Rules(_) => Some(Exit::Usage),
        CandidateError::NameTaken(_)
        | CandidateError::DefinitionTaken(_)
        | CandidateError::AtTheTop(_)
        | CandidateError::NotEligible(_)
        | CandidateError::Contradiction(_)
        | CandidateError::Overtaken(_)
        | CandidateError::PathTaken(_)
        | CandidateError::Consent(_)
        | CandidateError::Laxer
        | CandidateError::OlderRules(_) => Some(Exit::Refused),
        // The error below has a say.
        _ => None,
    }
}

fn of_probe(error: &ProbeError) -> Option<Exit> {
    match error {
        ProbeError::NoTarget { .. } => Some(Exit::Configuration),
        // The transparent ones: their own source is what lies below the error that has a say.
        ProbeError::Registry(error) => of_registry(error),
        ProbeError::Source(error) => Some(of_source(error)),
        ProbeError::Tenant(error) => of_tenant(error),
        _ => None,
    }
}

fn of_plan(error: &PlanError) -> Option<Exit> {
    match error {
        PlanError::Refused(Refusal::NoPath(_)) | PlanError::NoRecord(_) => Some(Exit::NotFound),
        PlanError::Refused(_)
        | PlanError::Exists(_)
        | PlanError::Nothing(_)
        | PlanError::Changed(_)
        | PlanError::State { .. }
        | PlanError::NotOurs(_)
        | PlanError::NoPolicy(_) => Some(Exit::Refused),
        PlanError::NoTarget { .. } | PlanError::Unwritable(_) => Some(Exit::Configuration),
        // Transparent: the chain goes on below them.
        PlanError::Registry(error) => of_registry(error),
        PlanError::Writeback(error) => of_writeback(error),
        // The error below has a say.
        _ => None,
    }
}

fn of_bundle(error: &BundleError) -> Option<Exit> {
    match error {
        BundleError::Unclassified(_) | BundleError::SecretInside { .. } => Some(Exit::Configuration),
        // The error below has a say.
        _ => None,
    }
}

fn of_verify(error: &VerifyError) -> Option<Exit> {
    match error {
        VerifyError::Mismatch { .. } => Some(Exit::VerificationFailed),
        VerifyError::Newer { .. } => Some(Exit::Refused),
        VerifyError::Read(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Exit::NotFound),
        VerifyError::Read(_) => None,
    }
}

fn of_import(error: &ImportError) -> Option<Exit> {
    match error {
        // Transparent: the chain goes on below them.
        ImportError::Verify(error) => of_verify(error),
        ImportError::Bundle(error) => of_bundle(error),
        ImportError::OtherRegion { .. }
        | ImportError::NotEmpty(_)
        | ImportError::OtherSchema(_)
        | ImportError::Sealed(_) => Some(Exit::Refused),
        ImportError::OtherTenant(_) => Some(Exit::Configuration),
        ImportError::ReadBack(_) => Some(Exit::VerificationFailed),
        // The error below has a say.
        ImportError::Database(_) | ImportError::Reader(_) => None,
    }
}

fn of_look(error: &LookError) -> Option<Exit> {
    match error {
        LookError::Writeback(error) => of_writeback(error),
        // The error below has a say.
        _ => None,
    }
}

fn of_writeback(error: &WritebackError) -> Option<Exit> {
    match error {
        WritebackError::NotFound(_) => Some(Exit::NotFound),
        WritebackError::RecordBusy(_)
        | WritebackError::CompensatedAlready(_)
        | WritebackError::Moved { .. }
        | WritebackError::Consent(_) => Some(Exit::Refused),
        _ => None,
    }
}

fn of_credential(error: &CredentialFault) -> Option<Exit> {
    match error {
        CredentialFault::Unknown(_) => Some(Exit::NotFound),
        CredentialFault::BadName | CredentialFault::Empty => Some(Exit::Usage),
        CredentialFault::InUse { .. } => Some(Exit::Refused),
        CredentialFault::NotText(_) => Some(Exit::Configuration),
        // Transparent: the chain goes on below it.
        CredentialFault::Vault(error) => of_vault(error),
        // The error below has a say.
        _ => None,
    }
}

fn of_key(error: &KeyFault) -> Option<Exit> {
    match error {
        // Transparent: the chain goes on below them.
        KeyFault::Vault(error)
        | KeyFault::Rotation(RotationError::Vault(error))
        | KeyFault::Retire(RetireRefused::Vault(error)) => of_vault(error),
        KeyFault::Retire(RetireRefused::NotFound(_)) => Some(Exit::NotFound),
        // The error below has a say.
        KeyFault::Consume(ConsumeError::Approval(_)) => None,
        KeyFault::Retire(_) | KeyFault::Rotation(RotationError::Overtaken(_)) | KeyFault::Consume(_) => {
            Some(Exit::Refused)
        }
        _ => None,
    }
}

fn of_vault(error: &VaultError) -> Option<Exit> {
    match error {
        VaultError::TooLong(_) => Some(Exit::Usage),
        VaultError::DoesNotOpen(_) | VaultError::UnknownKey { .. } | VaultError::RetiredKey { .. } => {
            Some(Exit::VerificationFailed)
        }
        VaultError::Service(error) => Some(of_service(error)),
        // The error below has a say.
        VaultError::Catalog(CatalogError::Database(_)) | VaultError::Database(_) => None,
        VaultError::Catalog(_) | VaultError::Faithless(_) => Some(Exit::Configuration),
    }
}

fn of_service(error: &ServiceError) -> Exit {
    match error.class() {
        ServiceClass::Transient | ServiceClass::Throttled(_) => Exit::Unreachable,
        ServiceClass::Configuration => Exit::Configuration,
        ServiceClass::Damaged => Exit::VerificationFailed,
    }
}

fn of_source(error: &SourceError) -> Exit {
    match error.class() {
        ErrorClass::Transient => Exit::Unreachable,
        ErrorClass::Configuration => Exit::Configuration,
        ErrorClass::Throttled | ErrorClass::Poison | ErrorClass::Incomplete => Exit::Failed,
    }
}

fn of_database(error: &sqlx::Error) -> Exit {
    // insufficient_privilege
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.is_some_and(|code| code == "42501") {
        return Exit::NotPermitted;
    }
    of_class(database::classify(error))
}

fn of_class(class: Class) -> Exit {
    match class {
        Class::Transient => Exit::Unreachable,
        Class::Configuration => Exit::Configuration,
        Class::Fenced | Class::Permanent => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use queue::{JobId, State};

    use super::*;

    fn exit_of(error: impl Into<anyhow::Error>) -> Exit {
        judge(&error.into().context("while testing")).0
    }

    fn io() -> sqlx::Error {
        std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()
    }

    #[test]
    fn the_type_below_any_context_decides() {
        assert_eq!(exit_of(ConnectError::Unreachable(io())), Exit::Unreachable);
        assert_eq!(exit_of(ConnectError::Refused(io())), Exit::Configuration);
        assert_eq!(exit_of(ConnectError::NotPermitted(io())), Exit::NotPermitted);
        assert_eq!(exit_of(RetryRefused::NotFound(JobId(1))), Exit::NotFound);
        assert_eq!(exit_of(RetryRefused::DependencyFailed { id: JobId(2), parent: JobId(1) }), Exit::Refused);
        assert_eq!(exit_of(EnqueueError::from(DependencyError::NotFound(JobId(1)))), Exit::NotFound);
        assert_eq!(exit_of(EnqueueError::from(DependencyError::TooMany(10_001))), Exit::Usage);
        assert_eq!(exit_of(RetryRefused::State { id: JobId(1), state: State::Running }), Exit::Refused);
        assert_eq!(exit_of(RetryRefused::Database(io())), Exit::Unreachable, "the error below has a say");
        assert_eq!(exit_of(ControlError::BadName("A".into())), Exit::Usage);
        assert_eq!(exit_of(TenantError::Control(ControlError::Database(io()))), Exit::Unreachable);
        assert_eq!(exit_of(MigrateError::Newer(9)), Exit::Configuration);
        assert_eq!(exit_of(anyhow::anyhow!("something else")), Exit::Failed);
    }

    #[test]
    fn a_failure_outside_decides_and_keeps_its_help() {
        let failure = Failure::refused("no", "do this").by(ConnectError::Unreachable(io()));
        let error = anyhow::Error::from(failure).context("while testing");
        assert_eq!(judge(&error), (Exit::Refused, Some("do this".to_owned())));
        let timeout: anyhow::Result<()> = Err(Failure::new(Exit::Timeout, "late", "wait longer").into());
        assert_eq!(judge(&timeout.context("outside").unwrap_err()).0, Exit::Timeout);
    }
}
