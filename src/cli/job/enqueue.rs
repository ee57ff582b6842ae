//! `tenure job enqueue KIND`: nothing is written before the kind has taken the payload.

use std::{
    fs,
    io::{self, Read},
    time::Duration,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use database::control::TenantName;
use jobs::Kind;
use queue::{JobId, NewJob, PAYLOAD_BYTES_MAX, Priority, Until};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{
    Context,
    exit::{Exit, Failure},
    follow,
    output::{Answer, Page},
    tenant,
};
use crate::{telemetry, wiring::Control};

/// How long an idempotency key of the command line is remembered.
const KEY_WINDOW: Duration = Duration::from_hours(24);

/// The scope of the command line's idempotency keys.
const KEY_SCOPE: &str = "command line";

const EXAMPLES: &str = r#"Examples:
  tenure job enqueue connector_sync --tenant acme --payload '{"connector": "crm", "stream": "contacts"}' --wait
  tenure job enqueue tenant_provision --tenant acme --dry-run
  tenure job enqueue tenant_provision --tenant acme --after 41,42
  generate-payload | tenure job enqueue connector_sync --tenant acme --payload -"#;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What it shall do
    #[arg(value_parser = parse_kind)]
    kind: &'static Kind,
    /// For whom [default: the only tenant in service]
    #[arg(long)]
    tenant: Option<TenantName>,
    /// Its payload: JSON, @FILE, or - for stdin
    #[arg(long, default_value = "{}", value_name = "JSON")]
    payload: String,
    /// The queue [default: that of the tenant's region]
    #[arg(long)]
    queue: Option<String>,
    /// Which jobs go first among those that are due
    #[arg(long, default_value = "normal")]
    priority: PriorityName,
    /// Not before this time, such as 2026-05-01T04:00:00Z
    #[arg(long, value_name = "TIME")]
    run_at: Option<DateTime<Utc>>,
    /// While a live job of the kind has this key, answer with that one
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// Enqueue once per key within 24 hours, also after the job has ended
    #[arg(long, value_name = "KEY", conflicts_with = "unique_key")]
    idempotency_key: Option<String>,
    /// Count it against the rate of this key, if a limit was set for it
    #[arg(long, value_name = "KEY")]
    rate_key: Option<String>,
    /// Let it wait until these jobs have succeeded; if one does not, it fails too
    #[arg(long, value_name = "ID[,ID...]", value_delimiter = ',')]
    after: Vec<JobId>,
    /// If one of the jobs of --after does not succeed, let it run at once rather than fail
    #[arg(long, requires = "after")]
    or_release: bool,
    /// Let it wait until these jobs have ended, well or badly
    #[arg(long, value_name = "ID[,ID...]", value_delimiter = ',')]
    after_any: Vec<JobId>,
    /// Wait until it ends; exit 8 if badly
    #[arg(long)]
    wait: bool,
    /// Check everything, print the job, enqueue nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PriorityName {
    Urgent,
    High,
    Normal,
    Low,
}

impl From<PriorityName> for Priority {
    fn from(name: PriorityName) -> Self {
        match name {
            PriorityName::Urgent => Self::Urgent,
            PriorityName::High => Self::High,
            PriorityName::Normal => Self::Normal,
            PriorityName::Low => Self::Low,
        }
    }
}

pub(crate) fn parse_kind(name: &str) -> Result<&'static Kind, String> {
    jobs::catalogue().iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<_> = jobs::catalogue().iter().map(|kind| kind.name).collect();
        format!("there is no such kind; there are {}", names.join(", "))
    })
}

pub(super) async fn run(args: Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let payload = payload(args.kind, &args.payload)?;
    let tenant = if args.kind.needs_tenant || args.tenant.is_some() {
        Some(tenant::or_default(context, control, args.tenant.as_ref()).await?)
    } else {
        None
    };
    let region = tenant.as_ref().map_or(control.region(), |tenant| &tenant.region);
    let queue = args.queue.clone().unwrap_or_else(|| jobs::queue_of(region));
    let mut job = NewJob::raw(args.kind.name, payload)
        .queue(&queue)
        .priority(args.priority.into())
        .attempts_max(args.kind.attempts_max)
        .traceparent(telemetry::traceparent());
    if let Some(tenant) = &tenant {
        job = job.tenant(tenant.id.0);
    }
    if let Some(run_at) = args.run_at {
        job = job.run_at(run_at);
    }
    if let Some(key) = &args.rate_key {
        job = job.rate_key(key);
    }
    if let Some(key) = &args.unique_key {
        job = job.unique_key(key);
    }
    let job = waiting(job, &args);
    let mut told = Told {
        id: None,
        existing: false,
        kind: args.kind.name,
        queue,
        tenant: tenant.map(|tenant| tenant.name.to_string()),
        payload: serde_json::from_str(job.payload())?,
        after: args.after.iter().chain(&args.after_any).copied().collect(),
        dry_run: args.dry_run,
    };
    if args.dry_run {
        check_dependencies(&job, control).await?;
    } else {
        let operator = control.operator();
        let enqueued = match &args.idempotency_key {
            Some(key) => operator.enqueue_once(KEY_SCOPE, key, KEY_WINDOW, job).await?,
            None => operator.enqueue(&[job]).await?[0],
        };
        (told.id, told.existing) = (Some(enqueued.id), enqueued.existing);
        if args.wait {
            return wait(enqueued.id, &told.queue, context, control).await;
        }
    }
    context.output.answer(&told)?;
    Ok(Exit::Ok)
}

fn waiting(job: NewJob, args: &Args) -> NewJob {
    let until = if args.or_release { Until::SucceededElseReleased } else { Until::Succeeded };
    job.after(args.after.iter().copied(), until).after(args.after_any.iter().copied(), Until::Ended)
}

/// Whether it could wait for what it is to wait for, in a transaction that is rolled back.
async fn check_dependencies(job: &NewJob, control: &Control) -> anyhow::Result<()> {
    let queue = control.queue();
    let mut tx = queue.pool().begin().await?;
    let (_, _never_rung) = queue.enqueue_in(&mut tx, std::slice::from_ref(job)).await?;
    Ok(tx.rollback().await?)
}

async fn wait(id: JobId, queue: &str, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let ids = [id];
    let waiting = follow::jobs(context, control, &ids, None);
    let ended = follow::with_worker(context, control, queue, waiting).await?;
    context.output.answer(&super::detail(id, control).await?)?;
    Ok(if ended[0].state == queue::State::Succeeded { Exit::Ok } else { Exit::EndedBadly })
}

/// The payload, once the kind has taken it.
pub(crate) fn payload(kind: &Kind, argument: &str) -> anyhow::Result<Box<RawValue>> {
    let example = || format!("{} takes a payload like {}", kind.name, kind.example);
    let text = text(argument)?;
    let payload: Box<RawValue> = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("the payload is not JSON: {error}"), example()))?;
    (kind.check)(&payload).map_err(|error| {
        Failure::usage(format!("the payload does not fit the kind {}: {error}", kind.name), example())
    })?;
    Ok(payload)
}

fn text(argument: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    match argument.strip_prefix('@') {
        Some(path) => {
            let file = fs::File::open(path).map_err(|error| {
                Failure::usage(format!("the payload's file {path} cannot be opened"), "correct the path")
                    .by(error)
            })?;
            read(file, &mut text)?;
        }
        None if argument == "-" => read(io::stdin().lock(), &mut text)?,
        None => argument.clone_into(&mut text),
    }
    Ok(text)
}

/// A little more than may be, so that too large a payload is told as such.
fn read(from: impl Read, text: &mut String) -> anyhow::Result<()> {
    let limit = u64::try_from(PAYLOAD_BYTES_MAX * 2).expect("a payload's limit is far below 2^64");
    from.take(limit).read_to_string(text).context("while reading the payload")?;
    Ok(())
}

#[derive(Serialize)]
struct Told {
    id: Option<JobId>,
    existing: bool,
    kind: &'static str,
    queue: String,
    tenant: Option<String>,
    payload: serde_json::Value,
    /// The jobs that it waits for.
    after: Vec<JobId>,
    dry_run: bool,
}

impl Answer for Told {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { kind, queue, .. } = self;
        let whose = self.tenant.as_deref().map(|tenant| format!(" for tenant {tenant}")).unwrap_or_default();
        let after = match &self.after[..] {
            [] => String::new(),
            ids => format!(" after {}", ids.iter().map(JobId::to_string).collect::<Vec<_>>().join(", ")),
        };
        match (self.id, self.existing) {
            (None, _) => {
                page.line(format_args!("would enqueue {kind}{whose} in {queue}{after}: {}", self.payload))
            }
            (Some(id), true) => {
                page.line(format_args!("job {id} was there already: {kind}{whose} in {queue}"))
            }
            (Some(id), false) => {
                page.line(format_args!("job {id}: {kind}{whose} in {queue}{after}"))?;
                page.line(format_args!("follow it with `tenure job wait {id}`"))
            }
        }
    }
}
