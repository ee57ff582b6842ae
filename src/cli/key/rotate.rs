//! `tenure key rotate`.

use std::time::Duration;

use database::control::Tenant;
use governance::approval::ApprovalId;
use jobs::key_rotation::{self, Asked, KeyRotation, PAGE_ROWS};
use vault::rotation::{Action, Settings};

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        follow,
        output::Progress,
        place::Place,
        tenant::must_have_succeeded,
    },
    EXAMPLES,
    view::{Detached, Predicted, Rotated, Waits},
};
use crate::{config::units::parse_duration, telemetry, wiring::Control};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Seal the values anew under new keys, where without it only the keys of tables are wrapped anew
    #[arg(long)]
    reseal: bool,
    /// Leave keys in use that are younger; 0s makes new ones in any case
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_age)]
    older_than: Duration,
    /// Rows of a transaction
    #[arg(long, value_name = "N", default_value_t = PAGE_ROWS, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    page_rows: u16,
    /// Print the job and leave it to the workers
    #[arg(long)]
    detach: bool,
    /// How long to wait, such as 5m [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "detach")]
    timeout: Option<Duration>,
    /// Go through everything in transactions that cannot write, and say what would become of it
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
}

fn parse_age(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

impl Args {
    fn action(&self) -> Action {
        if self.reseal { Action::Reseal } else { Action::Rewrap }
    }

    fn settings(&self) -> Settings {
        let (older_than, page_rows) = (self.older_than, self.page_rows.into());
        Settings { action: self.action(), older_than, page_rows }
    }
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            if args.dry_run {
                return context.interruptible(predict(&args, context, control)).await;
            }
            let (scope, tenant) = args.place.keys(context, control).await?;
            match key_rotation::ask(&scope, &args.settings(), context.actor()).await? {
                Asked::Waits { id, .. } => {
                    let (what, flag) = (format!("to {} the keys", args.action()), args.place.flag());
                    context.output.answer(&Waits { what, approval: Some(id), flag, dry_run: false })?;
                    Ok(Exit::Ok)
                }
                Asked::Done(id) => rotate(&args, context, control, tenant.as_ref(), id).await,
            }
        })
        .await
}

async fn predict(args: &Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let (scope, _) = args.place.keys(context, control).await?;
    let mut shown = Progress::start("reading");
    let told = |progress: &vault::rotation::Progress| {
        shown.update(progress.counts.total(), Some(progress.total), "would rotate");
    };
    let predicted = key_rotation::predict(&scope, &control.vault()?, args.settings(), told).await?;
    drop(shown);
    let is_faulty = predicted.counts.undecryptable > 0;
    context.output.answer(&Predicted::of(scope.name(), args.action(), predicted))?;
    Ok(if is_faulty { Exit::EndedBadly } else { Exit::Ok })
}

async fn rotate(
    args: &Args,
    context: &Context,
    control: &Control,
    tenant: Option<&Tenant>,
    approval: ApprovalId,
) -> anyhow::Result<Exit> {
    let rotation = KeyRotation {
        action: args.action(),
        approval: approval.to_string(),
        older_than_secs: args.older_than.as_secs(),
        page_rows: args.page_rows,
    };
    let job = key_rotation::job(tenant, &rotation)?.traceparent(telemetry::traceparent());
    let enqueued = control.operator().enqueue(&[job]).await?[0];
    if enqueued.existing {
        let what = format!("job {} rotates these keys already", enqueued.id);
        let help = format!("wait for it with `tenure job wait {}`", enqueued.id);
        return Err(Failure::refused(what, help).into());
    }
    if args.detach {
        context.output.answer(&Detached { job: enqueued.id })?;
        return Ok(Exit::Ok);
    }
    let queue = tenant.map_or_else(|| jobs::OPERATIONS.to_owned(), |tenant| jobs::queue_of(&tenant.region));
    let ids = [enqueued.id];
    let waiting = follow::jobs(context, control, &ids, args.timeout);
    let ended = follow::with_worker(context, control, &queue, waiting).await?;
    must_have_succeeded(control, &ended[0], "the keys were not rotated").await?;
    let output = ended[0].output.clone().unwrap_or_default();
    let rotated = Rotated::of(ended[0].id, &output)?;
    context.output.answer(&rotated)?;
    Ok(if rotated.is_complete() { Exit::Ok } else { Exit::EndedBadly })
}
