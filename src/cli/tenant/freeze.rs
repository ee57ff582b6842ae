//! `tenure tenant freeze|thaw`.

use std::io;

use database::control::TenantName;
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page},
    },
    named,
};
use crate::wiring::Control;

pub(super) async fn freeze(
    context: &Context,
    control: &Control,
    name: &TenantName,
    reason: &str,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let tenant = named(control, name).await?;
    let moved = if dry_run { None } else { Some(control.operator().freeze(tenant.id, reason).await?) };
    context.output.answer(&Moved { tenant: name, frozen: true, jobs: moved, dry_run })?;
    Ok(Exit::Ok)
}

pub(super) async fn thaw(
    context: &Context,
    control: &Control,
    name: &TenantName,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let tenant = named(control, name).await?;
    let moved = if dry_run {
        None
    } else {
        let thawed = control.operator().thaw(tenant.id).await?;
        let refused =
            || Failure::refused(format!("the tenant {name} is not frozen"), "there is nothing to thaw");
        Some(thawed.ok_or_else(refused)?)
    };
    context.output.answer(&Moved { tenant: name, frozen: false, jobs: moved, dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Moved<'a> {
    tenant: &'a TenantName,
    frozen: bool,
    /// How many jobs were made to wait, or to go on.
    jobs: Option<u64>,
    dry_run: bool,
}

impl Answer for Moved<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (name, state) = (self.tenant, if self.frozen { "frozen" } else { "thawed" });
        match (self.jobs, self.frozen) {
            (None, _) => page.line(format_args!("the tenant {name} would be {state}")),
            (Some(jobs), true) => {
                page.line(format_args!("the tenant {name} is frozen; jobs made to wait: {jobs}"))
            }
            (Some(jobs), false) => {
                page.line(format_args!("the tenant {name} is thawed; jobs that go on: {jobs}"))
            }
        }
    }
}
