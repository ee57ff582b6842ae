//! `tenure queue limit set|clear|list`: caps, rates, weights and turns.

use std::{collections::HashMap, io, time::Duration};

use clap::Subcommand;
use database::control::{self, TenantName};
use queue::{CapOn, Limit, LimitName};
use serde::Serialize;
use uuid::Uuid;

use super::super::{
    Context,
    exit::{Exit, Failure},
    output::{Answer, Page, Table},
    tenant,
};
use crate::{config::units::parse_duration, wiring::Control};

const EXAMPLES: &str = "Examples:
  tenure queue limit set --queue eu --running 20
  tenure queue limit set --queue eu --each-tenant --running 5
  tenure queue limit set --tenant acme --running 8
  tenure queue limit set --key api.example.com --rate 100/1m
  tenure queue limit set --tenant acme --weight 3
  tenure queue limit set --queue eu --fair

A limit without --queue counts over all queues. Its jobs are then claimed one batch at a time, which is slower: a queue
that has no limit, while none is for all queues, pays nothing.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set a limit, in the place of one for the same queue, tenant or key
    #[command(after_help = EXAMPLES)]
    Set {
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        what: What,
        /// How many of the key may start at the same moment after a quiet time
        #[arg(long, value_name = "N", requires = "rate", default_value_t = 1)]
        burst: u32,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a limit
    Clear {
        #[command(flatten)]
        subject: Subject,
        /// The tenant's weight, not its cap
        #[arg(long, requires = "tenant", conflicts_with_all = ["queue", "key"])]
        weight: bool,
        /// The queue's turns, not its cap
        #[arg(long, requires = "queue", conflicts_with_all = ["tenant", "each_tenant", "key"])]
        fair: bool,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// All limits
    List,
}

/// What a limit is about.
#[derive(Debug, clap::Args)]
pub(crate) struct Subject {
    /// The queue [default: all queues, counted together]
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
    /// Each tenant that has no limit of its own
    #[arg(long, conflicts_with = "tenant")]
    each_tenant: bool,
    /// The jobs with this rate key
    #[arg(long, value_name = "KEY", conflicts_with_all = ["tenant", "each_tenant"])]
    key: Option<String>,
}

/// How it is limited: one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// At most so many run at the same time
    #[arg(long, value_name = "N", conflicts_with = "key")]
    running: Option<u32>,
    /// So many starts in a time, such as 100/1m
    #[arg(long, value_name = "N/TIME", requires = "key", value_parser = parse_rate)]
    rate: Option<(u32, Duration)>,
    /// So many jobs of the tenant in each round of a queue with turns
    #[arg(long, value_name = "N", requires = "tenant", conflicts_with_all = ["queue", "key"])]
    weight: Option<u32>,
    /// Turns between tenants, without any cap
    #[arg(long, requires = "queue", conflicts_with_all = ["tenant", "each_tenant", "key"])]
    fair: bool,
}

fn parse_rate(text: &str) -> Result<(u32, Duration), String> {
    let wrong = || format!("`{text}` is no rate: write starts and a time, such as 100/1m");
    let (starts, per) = text.split_once('/').ok_or_else(wrong)?;
    Ok((starts.parse().map_err(|_| wrong())?, parse_duration(per)?))
}

pub(crate) async fn run(command: &Command, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    match command {
        Command::Set { subject, what, burst, dry_run } => {
            let limit = subject.limit(what, *burst, control).await?;
            limit.check()?;
            if !dry_run {
                control.operator().set_limit(&limit).await?;
            }
            context.output.answer(&Changed::new("set", Named::of(limit, control).await?, *dry_run))?;
        }
        Command::Clear { subject, weight, fair, dry_run } => {
            let name = subject.name(*weight, *fair, control).await?;
            let limits = control.queue().limits().await?;
            let Some(limit) = limits.into_iter().find(|limit| limit.name() == name) else {
                let help = "`tenure queue limit list` shows all of them";
                return Err(Failure::not_found("there is no such limit", help).into());
            };
            if !dry_run {
                control.operator().clear_limit(&name).await?;
            }
            context.output.answer(&Changed::new("cleared", Named::of(limit, control).await?, *dry_run))?;
        }
        Command::List => {
            let names = names(control).await?;
            let limits = control.queue().limits().await?;
            let limits = limits.into_iter().map(|limit| Named::from(limit, &names)).collect();
            context.output.answer(&Listed { limits })?;
        }
    }
    Ok(Exit::Ok)
}

impl Subject {
    async fn limit(&self, what: &What, burst: u32, control: &Control) -> anyhow::Result<Limit> {
        let name = self.name(what.weight.is_some(), what.fair, control).await?;
        Ok(match (name, what.running, what.rate) {
            (LimitName::Cap { queue, on }, Some(running_max), _) => Limit::Cap { queue, on, running_max },
            (LimitName::Rate { queue, key }, _, Some((starts, per))) => {
                Limit::Rate { queue, key, starts, per, burst }
            }
            (LimitName::Weight { tenant }, ..) => Limit::Weight { tenant, weight: what.weight.unwrap_or(1) },
            (LimitName::Fair { queue }, ..) => Limit::Fair { queue },
            (LimitName::Cap { .. } | LimitName::Rate { .. }, ..) => {
                unreachable!("a rate requires a key, and a cap conflicts with one")
            }
        })
    }

    async fn name(&self, weight: bool, fair: bool, control: &Control) -> anyhow::Result<LimitName> {
        let queue = self.queue.clone();
        if let Some(key) = self.key.clone() {
            return Ok(LimitName::Rate { queue, key });
        }
        if let (true, Some(queue)) = (fair, &queue) {
            return Ok(LimitName::Fair { queue: queue.clone() });
        }
        let Some(name) = &self.tenant else {
            let on = if self.each_tenant { CapOn::EachTenant } else { CapOn::Queue };
            return Ok(LimitName::Cap { queue, on });
        };
        let tenant = tenant::named(control, name).await?.id.0;
        Ok(if weight {
            LimitName::Weight { tenant }
        } else {
            LimitName::Cap { queue, on: CapOn::Tenant(tenant) }
        })
    }
}

async fn names(control: &Control) -> anyhow::Result<HashMap<Uuid, String>> {
    let tenants = control::list(&mut *control.connection().await?).await?;
    Ok(tenants.into_iter().map(|tenant| (tenant.id.0, tenant.name.to_string())).collect())
}

/// A limit with its tenant's name.
#[derive(Serialize)]
struct Named {
    #[serde(flatten)]
    limit: Limit,
    tenant_name: Option<String>,
}

impl Named {
    fn from(limit: Limit, names: &HashMap<Uuid, String>) -> Self {
        let tenant = match &limit {
            Limit::Cap { on: CapOn::Tenant(tenant), .. } | Limit::Weight { tenant, .. } => Some(tenant),
            _ => None,
        };
        let tenant_name = tenant.and_then(|tenant| names.get(tenant).cloned());
        Self { limit, tenant_name }
    }

    async fn of(limit: Limit, control: &Control) -> anyhow::Result<Self> {
        Ok(Self::from(limit, &names(control).await?))
    }

    /// The queue, of whom, and what is allowed.
    fn cells(&self) -> [String; 3] {
        let tenant = |id: &Uuid| self.tenant_name.clone().unwrap_or_else(|| id.to_string());
        let unnamed = if matches!(self.limit, Limit::Weight { .. }) { "each" } else { "all together" };
        let queue = self.limit.name().queue().unwrap_or(unnamed).to_owned();
        let (of, allowed) = match &self.limit {
            Limit::Cap { on, running_max, .. } => {
                let of = match on {
                    CapOn::Queue => "all jobs".to_owned(),
                    CapOn::EachTenant => "each tenant".to_owned(),
                    CapOn::Tenant(id) => format!("tenant {}", tenant(id)),
                };
                (of, format!("{running_max} running"))
            }
            Limit::Rate { key, starts, per, burst, .. } => {
                (format!("rate key {key}"), format!("{starts} starts in {per:?}, burst {burst}"))
            }
            Limit::Weight { tenant: id, weight } => {
                (format!("tenant {}", tenant(id)), format!("{weight} in a round"))
            }
            Limit::Fair { .. } => ("all tenants".to_owned(), "turns".to_owned()),
        };
        [queue, of, allowed]
    }
}

#[derive(Serialize)]
struct Listed {
    limits: Vec<Named>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.limits.is_empty() {
            return page.line("there is no limit");
        }
        let mut table = Table::new(["QUEUE", "OF", "ALLOWED"]);
        for limit in &self.limits {
            table.row(&limit.cells());
        }
        page.table(&table)
    }
}

#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    limit: Named,
    change: &'static str,
    dry_run: bool,
}

impl Changed {
    fn new(change: &'static str, limit: Named, dry_run: bool) -> Self {
        Self { limit, change, dry_run }
    }
}

impl Answer for Changed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let [queue, of, allowed] = self.limit.cells();
        let how = if self.dry_run { "would be" } else { "is" };
        page.line(format_args!("{how} {}: {of} ({queue}): {allowed}", self.change))
    }
}
