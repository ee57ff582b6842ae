//! What a process refuses to go on with once it sees the database.

use database::{migrate::MigrateError, roles};
use sqlx::PgConnection;

use super::Control;
use crate::{cli::exit::Failure, config::Environment};

/// A schema that is older or newer than this program.
pub(super) async fn old_schema(conn: &mut PgConnection) -> anyhow::Result<()> {
    for (name, set) in Control::sets() {
        let pending = match database::migrate::plan(conn, set).await {
            Ok(pending) => pending.len(),
            Err(error @ (MigrateError::Newer(_) | MigrateError::Edited(_))) => {
                let what = format!("the schema `{name}` was not made by this program");
                return Err(Failure::configuration(what, "use the version of `tenure` that migrated it")
                    .by(error)
                    .into());
            }
            Err(error) => return Err(error.into()),
        };
        if pending > 0 {
            let what = format!("the schema `{name}` lacks {pending} of this program's migrations");
            return Err(Failure::configuration(what, "run `tenure db migrate`").into());
        }
    }
    Ok(())
}

/// In production, a role that could do more than run (T5).
pub(super) async fn powerful_role(control: &Control) -> anyhow::Result<()> {
    if control.config().environment != Environment::Production {
        return Ok(());
    }
    let findings = roles::check(&mut *control.connection().await?).await?;
    if findings.is_empty() {
        return Ok(());
    }
    let role = control.server().control().get_username().to_owned();
    let what = format!("in production the role {role} may not be {}", powers(&findings));
    Err(Failure::configuration(
        what,
        "use a role without these powers; only `database.provisioning_url` may have them",
    )
    .into())
}

/// The findings as words.
pub(crate) fn powers(findings: &[roles::Finding]) -> String {
    let word = |finding: &roles::Finding| match finding {
        roles::Finding::Superuser => "a superuser",
        roles::Finding::BypassRls => "a role that passes over row security",
        roles::Finding::CreateRole => "a role that makes roles",
    };
    if findings.contains(&roles::Finding::Superuser) {
        return word(&roles::Finding::Superuser).to_owned();
    }
    findings.iter().map(word).collect::<Vec<_>>().join(" or ")
}
