//! The filter on the command line, and the command that says the same in absolute times.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use database::control::TenantName;
use queue::{BulkAction, BulkFilter, BulkPlan, State};

use super::super::{super::tenant, change::now, enqueue::PriorityName, parse_state};
use crate::{config::units::parse_duration, wiring::Control};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which jobs (all that is given must fit)")]
pub(crate) struct FilterArgs {
    /// In one of these states, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = parse_state)]
    state: Vec<State>,
    /// Of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Of this tenant
    #[arg(long)]
    tenant: Option<TenantName>,
    /// Of this priority
    #[arg(long, value_name = "LEVEL")]
    priority: Option<PriorityName>,
    /// Whose last error or note contains this text, to the letter
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Enqueued longer ago than this, such as 2h or 7d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "created_before")]
    older_than: Option<Duration>,
    /// Enqueued at this time or later, such as 2026-05-01T04:00:00Z
    #[arg(long, value_name = "TIME")]
    created_from: Option<DateTime<Utc>>,
    /// Enqueued before this time
    #[arg(long, value_name = "TIME")]
    created_before: Option<DateTime<Utc>>,
    /// Due at this time or later
    #[arg(long, value_name = "TIME")]
    due_from: Option<DateTime<Utc>>,
    /// Due before this time
    #[arg(long, value_name = "TIME")]
    due_before: Option<DateTime<Utc>>,
    /// Finished at this time or later
    #[arg(long, value_name = "TIME")]
    finished_from: Option<DateTime<Utc>>,
    /// Finished before this time
    #[arg(long, value_name = "TIME")]
    finished_before: Option<DateTime<Utc>>,
}

impl FilterArgs {
    /// The filter, with the tenant's id and with ages counted back from the database's time.
    pub(super) async fn resolve(&self, control: &Control) -> anyhow::Result<BulkFilter> {
        let tenant = match &self.tenant {
            Some(name) => Some(tenant::named(control, name).await?.id.0),
            None => None,
        };
        let created_before = match self.older_than {
            Some(age) => Some(now(control).await? - TimeDelta::from_std(age)?),
            None => self.created_before,
        };
        Ok(BulkFilter {
            states: self.state.clone(),
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            tenant,
            priority: self.priority.map(Into::into),
            note: self.note.clone(),
            created_from: self.created_from,
            created_before,
            due_from: self.due_from,
            due_before: self.due_before,
            finished_from: self.finished_from,
            finished_before: self.finished_before,
        })
    }
}

/// The command that confirms the plan. An age is written as the time that it meant.
pub(super) fn command(plan: &BulkPlan, args: &FilterArgs) -> String {
    let filter = plan.filter();
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let states: Vec<_> = filter.states.iter().map(|state| state.name()).collect();
    let to = match plan.action() {
        BulkAction::Reprioritise { to } => Some(to.name().to_owned()),
        _ => None,
    };
    let until = match plan.action() {
        BulkAction::Snooze { until } => Some(time(until)),
        _ => None,
    };
    let options = [
        ("--to", to),
        ("--until", until),
        ("--state", Some(states.join(",")).filter(|states| !states.is_empty())),
        ("--queue", filter.queue.clone()),
        ("--kind", filter.kind.clone()),
        ("--tenant", args.tenant.as_ref().map(ToString::to_string)),
        ("--priority", filter.priority.map(|priority| priority.name().to_owned())),
        ("--note", filter.note.clone()),
        ("--created-from", filter.created_from.map(time)),
        ("--created-before", filter.created_before.map(time)),
        ("--due-from", filter.due_from.map(time)),
        ("--due-before", filter.due_before.map(time)),
        ("--finished-from", filter.finished_from.map(time)),
        ("--finished-before", filter.finished_before.map(time)),
        ("--confirm", Some(plan.token())),
    ];
    let given = options.into_iter().filter_map(|(name, value)| Some(format!(" {name} {}", quoted(&value?))));
    format!("tenure job bulk {}{}", plan.action().verb(), given.collect::<String>())
}

/// As a POSIX shell takes it for one word.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/+".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_word_for_a_shell() {
        assert_eq!(quoted("2026-05-01T04:00:00Z"), "2026-05-01T04:00:00Z");
        assert_eq!(quoted("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
