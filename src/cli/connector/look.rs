//! `tenure connector check|discover`: what a source is like, before anything is read from it.

use std::{io, sync::Arc};

use chrono::{DateTime, Utc};
use connectors::{
    Check, Definition, DiscoveredStream, LocalBudget, Outcome, ProbedTarget, RequestBudget, Source,
    check_targets,
};
use database::tenant::TenantDb;
use jobs::{connector_credential, target_capability};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page, Table, Tone, with_spinner},
        tenant,
    },
    Named,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    named: Named,
    /// Only this stream
    #[arg(long)]
    stream: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    args: Args,
    /// Look at the source only: try no target and keep nothing
    #[arg(long)]
    dry_run: bool,
}

/// What targets do is kept with the tenant that has the connector; of a mere file there is nobody to keep it for.
pub(super) async fn check(args: CheckArgs, context: &Context) -> anyhow::Result<Exit> {
    let CheckArgs { args, dry_run } = args;
    with_definition(&args.named, context, async |definition, db| {
        let streams = super::sync::chosen(definition, args.stream.as_deref())?;
        let budget: Arc<dyn RequestBudget> = Arc::new(LocalBudget::default());
        let source = Source::connect(definition, Arc::clone(&budget)).await?;
        let mut report = with_spinner("checking the source", source.check(&streams)).await;
        let mut targets = Vec::new();
        if !dry_run {
            let probe = check_targets(definition, &source, &streams, &budget, &mut report);
            for target in with_spinner("trying the targets", probe).await {
                targets.push(Target::kept(db, definition, target).await?);
            }
        }
        let outcome = report.outcome();
        context.output.answer(&Checked {
            connector: definition.name(),
            outcome,
            checks: &report.checks,
            targets: &targets,
            dry_run,
        })?;
        Ok(if outcome == Outcome::Failed { Exit::Failed } else { Exit::Ok })
    })
    .await
}

pub(super) async fn discover(args: Args, context: &Context) -> anyhow::Result<Exit> {
    with_definition(&args.named, context, async |definition, _| {
        let source = Source::connect(definition, Arc::new(LocalBudget::default())).await?;
        let mut streams = with_spinner("looking at the source", source.discover()).await?;
        streams.retain(|stream| args.stream.as_ref().is_none_or(|name| *name == stream.name));
        context.output.answer(&Discovered { connector: definition.name(), streams: &streams })?;
        Ok(Exit::Ok)
    })
    .await
}

/// With a file's definition without any database of ours unless a tenant keeps its credentials, else with the tenant's.
/// Our database stays open meanwhile: the source may lie on the same private server.
async fn with_definition(
    named: &Named,
    context: &Context,
    look: impl AsyncFnOnce(&Definition, Option<&TenantDb>) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let file = named.file().map(|path| Named::read(path, context)).transpose()?;
    if let Some(definition) = file.as_ref().filter(|definition| definition.credentials().is_empty()) {
        return look(definition, None).await;
    }
    context
        .with_control(async |control| {
            let tenant = tenant::or_default(context, control, named.tenant.as_ref()).await?;
            let db = control.tenant(&tenant).await?;
            match file {
                Some(definition) => {
                    let definition = connector_credential::attach(definition, &db, &control.vault()?);
                    look(&definition, None).await
                }
                None => look(&named.open(control, &db).await?, Some(&db)).await,
            }
        })
        .await
}

#[derive(Serialize)]
struct Checked<'a> {
    connector: &'a str,
    outcome: Outcome,
    checks: &'a [Check],
    /// Left out for a connector that writes nothing back.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    targets: &'a [Target],
    dry_run: bool,
}

#[derive(Serialize)]
struct Target {
    #[serde(flatten)]
    seen: ProbedTarget,
    /// When it was kept; none for a mere file.
    probed_at: Option<DateTime<Utc>>,
}

impl Target {
    async fn kept(
        db: Option<&TenantDb>,
        definition: &Definition,
        seen: ProbedTarget,
    ) -> anyhow::Result<Self> {
        let probed_at = match db {
            Some(db) => Some(target_capability::store(db, definition, &seen.stream, &seen.probed).await?),
            None => None,
        };
        Ok(Self { seen, probed_at })
    }
}

impl Answer for Checked<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for check in self.checks {
            let (tone, word) = match check.outcome {
                Outcome::Ok => (Tone::Good, "ok     "),
                Outcome::Warning => (Tone::Doubtful, "warning"),
                Outcome::Failed => (Tone::Bad, "failed "),
            };
            let stream = check.stream.as_deref().map(|stream| format!(" {stream}")).unwrap_or_default();
            page.toned_line(tone, word, format_args!("  {}{stream}: {}", check.name, check.message))?;
            if let Some(advice) = &check.advice {
                page.line(format_args!("           {advice}"))?;
            }
        }
        for Target { seen: ProbedTarget { stream, probed }, probed_at } in self.targets {
            let class = probed.capability.name();
            match probed_at {
                Some(at) => page.line(format_args!(
                    "kept     target {stream}: {class}, probed {}",
                    at.format("%Y-%m-%d %H:%M UTC")
                ))?,
                None => page.line(format_args!(
                    "not kept target {stream}: {class}; check the connector by its name once a tenant has it"
                ))?,
            }
        }
        if self.dry_run {
            page.line("no target was tried")?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Discovered<'a> {
    connector: &'a str,
    streams: &'a [DiscoveredStream],
}

impl Answer for Discovered<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(["STREAM", "ROWS", "FIELDS", "KEY", "CURSOR", "PROBLEMS"]);
        for stream in self.streams {
            table.row(&[
                stream.name.clone(),
                stream.rows_estimated.map_or_else(|| "-".to_owned(), |rows| format!("~{rows}")),
                stream.fields.len().to_string(),
                or_dash(&stream.key.join(", ")),
                or_dash(stream.cursor_candidates.first().map_or("", String::as_str)),
                or_dash(&stream.problems.join("; ")),
            ]);
        }
        page.table(&table)?;
        for stream in self.streams {
            page.blank()?;
            page.line(stream.snippet.trim_end())?;
        }
        Ok(())
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
