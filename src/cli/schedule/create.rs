//! `tenure schedule create NAME KIND`: nothing is written before the kind has taken the payload.

use std::{num::NonZeroU16, time::Duration};

use clap::ValueEnum;
use database::control::TenantName;
use jobs::Kind;
use queue::{MissedFires, NewJob, NewSchedule, Timetable, TimetableError};

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        job::{PriorityName, parse_kind, payload},
        tenant,
    },
    view::Created,
};
use crate::{config::units::parse_duration, wiring::Control};

/// How many of the next fires are shown.
const SHOWN: usize = 3;

const EXAMPLES: &str = r#"Examples:
  tenure schedule create nightly connector_sync --tenant acme --cron '30 2 * * *' --zone Europe/Amsterdam \
      --payload '{"connector": "crm", "stream": "contacts"}' --jitter 1h
  tenure schedule next --cron '30 2 * * *' --zone Europe/Amsterdam --count 20

The cron line has five fields (minute, hour, day of month, month, day of week), or six with seconds first; or is
@yearly, @monthly, @weekly, @daily or @hourly. Where it restricts both days, either is enough; `+MON` asks for both.
A line that names its time of day fires once each day, also when clocks change: a skipped time at the first
instant after the gap, a doubled time the first time. A line with * among its times goes with the wall clock.
What passed more than a minute unseen was missed: `once` makes up for it with one job, `skip` with none, `all` with
one for each, up to --missed-max. A changed cron line or zone counts from the moment of the change."#;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What it is called; unique per tenant
    name: String,
    /// What its jobs shall do
    #[arg(value_parser = parse_kind)]
    kind: &'static Kind,
    /// When it fires
    #[arg(long, value_name = "LINE")]
    cron: String,
    /// The time zone of the cron line, an IANA name
    #[arg(long, value_name = "ZONE")]
    zone: String,
    /// For whom [default: the only tenant in service]
    #[arg(long)]
    tenant: Option<TenantName>,
    /// The payload of its jobs: JSON, @FILE, or - for stdin
    #[arg(long, default_value = "{}", value_name = "JSON")]
    payload: String,
    /// The queue of its jobs [default: that of the tenant's region]
    #[arg(long)]
    queue: Option<String>,
    /// Which jobs go first among those that are due
    #[arg(long, default_value = "normal")]
    priority: PriorityName,
    /// What is done about fire times that no worker saw
    #[arg(long, default_value = "once")]
    missed: MissedName,
    /// With `--missed all`: how many are made up for at once, the latest first
    #[arg(long, value_name = "N", default_value = "100")]
    missed_max: NonZeroU16,
    /// Spread the jobs over this window, each schedule at a time of its own, the same every time
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s")]
    jitter: Duration,
    /// While a live job of the kind has this key, a fire answers with that one
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// Check everything, show the next fires, write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MissedName {
    Skip,
    Once,
    All,
}

pub(super) async fn run(args: Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let payload = payload(args.kind, &args.payload)?;
    let timetable = timetable(&args.cron, &args.zone)?;
    let tenant = if args.kind.needs_tenant || args.tenant.is_some() {
        Some(tenant::or_default(context, control, args.tenant.as_ref()).await?)
    } else {
        None
    };
    let region = tenant.as_ref().map_or(control.region(), |tenant| &tenant.region);
    let queue = args.queue.unwrap_or_else(|| jobs::queue_of(region));
    let mut job = NewJob::raw(args.kind.name, payload)
        .queue(&queue)
        .priority(args.priority.into())
        .attempts_max(args.kind.attempts_max);
    if let Some(tenant) = &tenant {
        job = job.tenant(tenant.id.0);
    }
    if let Some(key) = &args.unique_key {
        job = job.unique_key(key);
    }
    let missed = match args.missed {
        MissedName::Skip => MissedFires::Skip,
        MissedName::Once => MissedFires::Once,
        MissedName::All => MissedFires::All(args.missed_max),
    };
    let schedule = NewSchedule::new(&args.name, timetable.clone(), job).missed(missed).jitter(args.jitter);
    let replaced = if args.dry_run {
        control.queue().check_schedule(&schedule).await?
    } else {
        control.operator().put_schedule(&schedule).await?
    };
    context.output.answer(&Created {
        name: args.name,
        tenant: tenant.map(|tenant| tenant.name.to_string()),
        kind: args.kind.name,
        queue,
        cron_in_words: timetable.describe(),
        zone: timetable.zone(),
        replaced,
        fires: control.queue().preview(&schedule, SHOWN).await?,
        dry_run: args.dry_run,
    })?;
    Ok(Exit::Ok)
}

/// The timetable, or what may have been meant.
pub(super) fn timetable(cron: &str, zone: &str) -> Result<Timetable, Failure> {
    Timetable::parse(cron, zone).map_err(|error| {
        let help = match &error {
            TimetableError::UnknownZone { zone } => match &*nearest_zones(zone) {
                [] => "write an IANA name, such as Europe/Amsterdam or UTC".to_owned(),
                names => format!("did you mean {}?", names.join(" or ")),
            },
            TimetableError::NeverFires { .. } => "choose a day that its months have".to_owned(),
            _ => "write it like '30 2 * * *'; `tenure schedule next --cron LINE` tries one".to_owned(),
        };
        Failure::usage(error.to_string(), help)
    })
}

/// At most three zones whose name, or whose city, is nearly this.
fn nearest_zones(word: &str) -> Vec<&'static str> {
    /// Below this, two words have little in common.
    const LIKENESS_MIN: f64 = 0.85;
    let word = word.trim().to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or_default();
        strsim::jaro_winkler(&word, &name).max(strsim::jaro_winkler(&word, city))
    };
    let mut zones: Vec<_> = Timetable::zones().map(|name| (likeness(name), name)).collect();
    zones.retain(|(likeness, _)| *likeness >= LIKENESS_MIN);
    zones.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Beside a very good match a fair one only distracts.
    let best = zones.first().map_or(0.0, |(likeness, _)| *likeness);
    zones.retain(|(likeness, _)| *likeness >= best - 0.03);
    zones.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest_zones;

    #[test]
    fn a_slip_of_the_hand_and_a_bare_city_find_their_zone() {
        for word in ["Europe/Amsterdm", "europe/amsterdam", "Amsterdam", "Europe/Amsterdam "] {
            assert_eq!(nearest_zones(word)[0], "Europe/Amsterdam", "{word}");
        }
        assert_eq!(nearest_zones("lord howe")[0], "Australia/Lord_Howe");
        assert!(nearest_zones("xyzzy").is_empty() && nearest_zones("").is_empty());
    }
}
