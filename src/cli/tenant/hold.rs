//! `tenure tenant hold|release`: legal holds.

use std::io;

use chrono::{DateTime, Utc};
use database::control::{
    TenantName,
    hold::{self, Hold},
};
use governance::actor::{self, ActorId};
use serde::Serialize;
use sqlx::PgConnection;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page},
    },
    named,
};
use crate::wiring::Control;

/// A hold with the name of whoever placed it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    hold: Hold,
    /// None once erased.
    placed_by_name: Option<String>,
}

impl Shown {
    fn text(&self) -> String {
        let Hold { id, reason, placed_at, until, .. } = &self.hold;
        let by = self.placed_by_name.as_deref().unwrap_or("somebody whose name was erased");
        let until =
            until.map_or_else(|| "until it is released".to_owned(), |until| format!("until {}", time(until)));
        format!("hold {id} by {by} since {}, {until}: {reason}", time(*placed_at))
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// The holds with the names of those who placed them.
pub(super) async fn shown(conn: &mut PgConnection, holds: Vec<Hold>) -> anyhow::Result<Vec<Shown>> {
    let mut shown = Vec::with_capacity(holds.len());
    for hold in holds {
        let by = actor::by_id(conn, ActorId(hold.placed_by)).await?;
        shown.push(Shown { placed_by_name: by.and_then(|by| by.name), hold });
    }
    Ok(shown)
}

/// What forbids the deletion, with who and why.
pub(super) async fn forbids(
    conn: &mut PgConnection,
    name: &TenantName,
    holds: Vec<Hold>,
) -> anyhow::Result<Failure> {
    let shown = shown(conn, holds).await?;
    let told: Vec<_> = shown.iter().map(Shown::text).collect();
    let what = format!("the tenant {name} is under legal hold and cannot be deleted: {}", told.join("; "));
    let help = shown.first().map_or_else(String::new, |first| {
        format!("whoever answers for it releases it: `tenure tenant release {name} --hold {}`", first.hold.id)
    });
    Ok(Failure::refused(what, help))
}

pub(super) async fn place(
    context: &Context,
    control: &Control,
    name: &TenantName,
    (reason, until): (&str, Option<DateTime<Utc>>),
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let tenant = named(control, name).await?;
    let hold = control.operator().hold(tenant.id, reason, until, dry_run).await?;
    context.output.answer(&Placed { tenant: name, hold, dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Placed<'a> {
    tenant: &'a TenantName,
    hold: Hold,
    dry_run: bool,
}

impl Answer for Placed<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (name, until) = (self.tenant, self.hold.until);
        let until =
            until.map_or_else(|| "until it is released".to_owned(), |until| format!("until {}", time(until)));
        if self.dry_run {
            return page.line(format_args!("the tenant {name} would be under legal hold {until}"));
        }
        page.line(format_args!("the tenant {name} is under legal hold {} {until}", self.hold.id))?;
        page.line("as long as it is, the tenant cannot be deleted")
    }
}

pub(super) async fn release(
    context: &Context,
    control: &Control,
    name: &TenantName,
    hold: Option<i64>,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let tenant = named(control, name).await?;
    let id = match hold {
        Some(id) => id,
        None => only(control, name, &tenant).await?,
    };
    if !control.operator().release_hold(tenant.id, id, dry_run).await? {
        let what = format!("hold {id} of the tenant {name} is not in force");
        return Err(
            Failure::refused(what, format!("`tenure tenant show {name}` shows those that are")).into()
        );
    }
    context.output.answer(&Released { tenant: name, hold: id, dry_run })?;
    Ok(Exit::Ok)
}

/// The tenant's hold, if it has one alone.
async fn only(
    control: &Control,
    name: &TenantName,
    tenant: &database::control::Tenant,
) -> anyhow::Result<i64> {
    let mut conn = control.connection().await?;
    let holds = hold::in_force(&mut conn, tenant.id).await?;
    match &holds[..] {
        [one] => Ok(one.id),
        [] => {
            let what = format!("the tenant {name} is under no legal hold");
            Err(Failure::refused(what, "there is nothing to release").into())
        }
        _ => {
            let told: Vec<_> = shown(&mut conn, holds).await?.iter().map(Shown::text).collect();
            let what = format!("the tenant {name} is under several legal holds: {}", told.join("; "));
            Err(Failure::usage(what, "say which one with `--hold`").into())
        }
    }
}

#[derive(Serialize)]
struct Released<'a> {
    tenant: &'a TenantName,
    hold: i64,
    dry_run: bool,
}

impl Answer for Released<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let would = if self.dry_run { "would be" } else { "is" };
        page.line(format_args!("hold {} of the tenant {} {would} released", self.hold, self.tenant))
    }
}

/// A line for each hold, where a tenant is shown.
pub(super) fn lines(page: &mut Page<'_>, width: usize, holds: &[Shown]) -> io::Result<()> {
    holds.iter().try_for_each(|hold| page.entry(width, "held", hold.text()))
}
