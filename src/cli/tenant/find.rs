//! Which tenant a command means.

use database::control::{self, Tenant, TenantName, TenantState};

use super::{
    super::{Context, exit::Failure},
    enter, provisioned,
};
use crate::wiring::Control;

/// The tenant of the private Postgres, when none is named.
const DEFAULT: &str = "acme";

/// The tenant of this name.
pub(crate) async fn named(control: &Control, name: &TenantName) -> anyhow::Result<Tenant> {
    let found = control::by_name(&mut *control.connection().await?, name).await?;
    Ok(found.ok_or_else(|| {
        Failure::not_found(format!("there is no tenant {name}"), "`tenure tenant list` shows all of them")
    })?)
}

/// The named tenant; without a name the only one in service, or the private Postgres's own, which is made if need be.
/// It is in service.
pub(crate) async fn or_default(
    context: &Context,
    control: &Control,
    name: Option<&TenantName>,
) -> anyhow::Result<Tenant> {
    let tenant = match name {
        Some(name) => named(control, name).await?,
        None => default(control).await?,
    };
    match tenant.state {
        TenantState::Active => Ok(tenant),
        TenantState::Provisioning => {
            let (tenant, job) = enter(control, &tenant.name, &tenant.region).await?;
            provisioned(context, control, &tenant, job).await
        }
        state => {
            let what = format!("the tenant {} is {state}", tenant.name);
            Err(Failure::refused(what, "name a tenant that is in service with `--tenant`").into())
        }
    }
}

async fn default(control: &Control) -> anyhow::Result<Tenant> {
    let tenants = control::list(&mut *control.connection().await?).await?;
    let mut active: Vec<_> =
        tenants.into_iter().filter(|tenant| tenant.state == TenantState::Active).collect();
    if active.len() == 1 {
        return Ok(active.remove(0));
    }
    if control.is_private() {
        let name: TenantName = DEFAULT.parse().expect("the default is a tenant's name");
        if let Some(at) = active.iter().position(|tenant| tenant.name == name) {
            return Ok(active.remove(at));
        }
        return Ok(enter(control, &name, control.region()).await?.0);
    }
    let names: Vec<_> = active.iter().map(|tenant| tenant.name.to_string()).collect();
    let help = match &*names {
        [] => "make one with `tenure tenant create NAME --wait`, then name it with `--tenant`".to_owned(),
        names => format!("name one with `--tenant`: {}", names.join(", ")),
    };
    Err(Failure::usage("which tenant is not said", help).into())
}
