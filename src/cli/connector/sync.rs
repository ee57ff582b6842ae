//! `tenure connector sync`: a job per stream, and how they ended.

use std::{io, time::Duration};

use connectors::{Definition, Stream};
use database::{control::Tenant, tenant::TenantDb};
use governance::path::Fallen;
use jobs::{
    connector_registry,
    connector_sync::{self, ConnectorSync, Report},
};
use queue::{JobId, JobRecord, NewJob, State};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        follow,
        output::{Answer, Page, Table, Tone, age},
        tenant,
    },
    Named,
};
use crate::{config::units::parse_duration, telemetry, wiring::Control};

const EXAMPLES: &str = "Examples:
  tenure connector sync ./crm.toml --tenant acme    define or redefine a connector and read all its streams
  tenure connector sync crm --stream contacts       read one stream of a connector that is known";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    named: Named,
    /// Only this stream
    #[arg(long)]
    stream: Option<String>,
    /// Forget how far the streams were read and begin again; the records stay
    #[arg(long)]
    reset: bool,
    /// Print the jobs and leave them to the workers
    #[arg(long)]
    detach: bool,
    /// How long to wait, such as 5m [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "detach")]
    timeout: Option<Duration>,
    /// Check the definition, say which jobs would be enqueued, do nothing
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    // A fault in the file is told before a database is looked for.
    let file = args.named.file().map(|path| Named::read(path, context)).transpose()?;
    context
        .with_control(async |control| {
            let tenant = tenant::or_default(context, control, args.named.tenant.as_ref()).await?;
            let db = control.tenant(&tenant).await?;
            let definition = match file {
                Some(definition) => definition,
                None => args.named.load(&db).await?,
            };
            let streams = chosen(&definition, args.stream.as_deref())?;
            if args.dry_run {
                return would_sync(&tenant, &definition, &streams, context);
            }
            let to_certify = match args.named.file() {
                Some(_) => register(context, &db, &definition).await?,
                None => Vec::new(),
            };
            let ids = enqueue(control, &tenant, &definition, &streams, args.reset).await?;
            if args.detach {
                context.output.answer(&Detached { connector: definition.name(), jobs: &ids, to_certify })?;
                return Ok(Exit::Ok);
            }
            let results = wait(context, control, &tenant, &ids, args.timeout).await?;
            let synced = Synced { tenant: tenant.name.to_string(), results, to_certify };
            context.output.answer(&synced)?;
            Ok(if synced.is_complete() { Exit::Ok } else { Exit::EndedBadly })
        })
        .await
}

/// The streams of the definition, or the one that is named.
pub(super) fn chosen(definition: &Definition, name: Option<&str>) -> anyhow::Result<Vec<Stream>> {
    let Some(name) = name else { return Ok(definition.streams().to_vec()) };
    definition.stream(name).map(|stream| vec![stream.clone()]).ok_or_else(|| {
        let names: Vec<_> = definition.streams().iter().map(Stream::name).collect();
        let what = format!("the connector {} has no stream {name}", definition.name());
        Failure::not_found(what, format!("it has {}", names.join(", "))).into()
    })
}

/// One job per stream, all or none.
pub(crate) async fn enqueue(
    control: &Control,
    tenant: &Tenant,
    definition: &Definition,
    streams: &[Stream],
    reset: bool,
) -> anyhow::Result<Vec<JobId>> {
    let job = |stream: &Stream| -> anyhow::Result<NewJob> {
        let (connector, stream) = (definition.name().to_owned(), stream.name().to_owned());
        let job = connector_sync::job(tenant, &ConnectorSync { connector, stream, reset })?;
        Ok(job.traceparent(telemetry::traceparent()))
    };
    let jobs = streams.iter().map(job).collect::<Result<Vec<_>, _>>()?;
    Ok(control.operator().enqueue(&jobs).await?.iter().map(|enqueued| enqueued.id).collect())
}

async fn wait(
    context: &Context,
    control: &Control,
    tenant: &Tenant,
    ids: &[JobId],
    timeout: Option<Duration>,
) -> anyhow::Result<Vec<SyncResult>> {
    let waiting = follow::jobs(context, control, ids, timeout);
    let ended = follow::with_worker(context, control, &jobs::queue_of(&tenant.region), waiting).await?;
    results(control, &ended).await
}

/// How the jobs ended, each with its report or with the error that left none.
pub(crate) async fn results(control: &Control, ended: &[JobRecord]) -> anyhow::Result<Vec<SyncResult>> {
    let mut results = Vec::with_capacity(ended.len());
    for job in ended {
        let sync: ConnectorSync = serde_json::from_value(job.payload.clone())?;
        let report = job.output.clone().map(serde_json::from_value::<Report>).transpose()?;
        let error = match &report {
            Some(_) => None,
            None => control.queue().attempts(job.id).await?.pop().map(|attempt| attempt.error),
        };
        let (connector, stream) = (sync.connector, sync.stream);
        results.push(SyncResult { job: job.id, state: job.state, connector, stream, report, error });
    }
    Ok(results)
}

/// What became of one stream.
#[derive(Debug, Serialize)]
pub(crate) struct SyncResult {
    job: JobId,
    state: State,
    connector: String,
    stream: String,
    report: Option<Report>,
    error: Option<String>,
}

impl SyncResult {
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Succeeded
            && self.report.as_ref().is_some_and(|report| report.outcome == "complete")
    }

    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.report.as_ref().map_or(0, |report| report.counts.rejected)
    }
}

/// A table of what became of streams, then what stands in the way.
pub(crate) fn print(results: &[SyncResult], page: &mut Page<'_>) -> io::Result<()> {
    let header =
        ["STREAM", "OUTCOME", "READ", "WRITTEN", "UNCHANGED", "REPEATED", "REJECTED", "DELETED", "TIME"];
    let mut table = Table::new(header);
    for result in results {
        let stream = result.stream.clone();
        let Some(report) = &result.report else {
            let mut row = [const { String::new() }; 9];
            (row[0], row[1]) = (stream, result.state.to_string());
            table.row(&row);
            continue;
        };
        let counts = &report.counts;
        let numbers =
            [counts.read, counts.written, counts.unchanged, counts.repeated, counts.rejected, counts.deleted];
        let [read, written, unchanged, repeated, rejected, deleted] =
            numbers.map(|number| number.to_string());
        let time = age(Duration::from_millis(report.duration_ms).as_secs_f64());
        let outcome = report.outcome.clone();
        table.row(&[stream, outcome, read, written, unchanged, repeated, rejected, deleted, time]);
    }
    page.table(&table)?;
    for result in results {
        let report = result.report.as_ref();
        for warning in report.iter().flat_map(|report| &report.warnings) {
            page.toned_line(Tone::Doubtful, "warning: ", format_args!("{}: {warning}", result.stream))?;
        }
        let why = report.and_then(|report| report.why.as_deref()).or(result.error.as_deref());
        if let Some(why) = why {
            let class = report.and_then(|report| report.class.as_deref());
            let class = class.map(|class| format!("{class}: ")).unwrap_or_default();
            page.toned_line(Tone::Bad, "failed: ", format_args!("{}: {class}{why}", result.stream))?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Synced {
    tenant: String,
    results: Vec<SyncResult>,
    /// Paths that the new definition has taken their certificate from.
    to_certify: Vec<String>,
}

impl Synced {
    fn is_complete(&self) -> bool {
        self.results.iter().all(SyncResult::is_complete)
    }
}

impl Answer for Synced {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        print(&self.results, page)?;
        if let Some(result) = self.results.iter().find(|result| result.rejected() > 0) {
            let SyncResult { connector, stream, .. } = result;
            let help =
                format!("tenure connector rejected {connector} --stream {stream} --tenant {}", self.tenant);
            page.line(format_args!("what was set aside: `{help}`"))?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Detached<'a> {
    connector: &'a str,
    jobs: &'a [JobId],
    to_certify: Vec<String>,
}

impl Answer for Detached<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for job in self.jobs {
            page.line(format_args!("job {job}: follow it with `tenure job wait {job}`"))?;
        }
        Ok(())
    }
}

fn would_sync(
    tenant: &Tenant,
    definition: &Definition,
    streams: &[Stream],
    context: &Context,
) -> anyhow::Result<Exit> {
    let streams = streams.iter().map(|stream| stream.name().to_owned()).collect();
    let (tenant, connector) = (tenant.name.to_string(), definition.name().to_owned());
    context.output.answer(&WouldSync { tenant, connector, streams, dry_run: true })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct WouldSync {
    tenant: String,
    connector: String,
    streams: Vec<String>,
    dry_run: bool,
}

impl Answer for WouldSync {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { tenant, connector, .. } = self;
        let streams = self.streams.join(", ");
        page.line(format_args!(
            "would read {streams} of the connector {connector} into the records of {tenant}"
        ))
    }
}

/// Registers the connector, and says which paths its new definition has taken the certificate from, and how it is won
/// again.
pub(crate) async fn register(
    context: &Context,
    db: &TenantDb,
    definition: &Definition,
) -> anyhow::Result<Vec<String>> {
    let tenant = &db.tenant().name;
    let fallen = connector_registry::register(db, definition, context.actor()).await?;
    for Fallen { path, from } in &fallen {
        context.output.say(&format!(
            "the path {path} was {from} and is catalogued: its connector is defined anew, which is another target; \
             `tenure path probe {path} --tenant {tenant}`, then `tenure path certify {path} --tenant {tenant}`"
        ));
    }
    Ok(fallen.into_iter().map(|fallen| fallen.path).collect())
}
