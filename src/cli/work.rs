//! `tenure work`: a worker until it is told to stop.

use database::control::{self, deletion::is_doomed};

use super::{Context, close, exit::Exit};
use crate::{telemetry::Listener, wiring::Control};

const EXAMPLES: &str = "Examples:
  tenure work                       the queues of the configured region, and operations
  tenure work --queues eu,default   these queues alone

SIGTERM or Ctrl-C stops it in order: nothing new is claimed, running jobs get `worker.grace`, what is left is
handed back. A second signal ends it at once; its jobs are then taken over by another worker.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The queues to claim from [default: worker.queues, else those of the region and operations]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    queues: Vec<String>,
    /// Stop as soon as nothing is due or running
    #[arg(long)]
    until_empty: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let control = context.interruptible(context.control()).await?;
    let done = work(args, context, &control).await;
    close(control, done).await
}

async fn work(args: Args, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let worker = control.worker(args.queues).await?;
    warn_of_the_buried(context, control).await?;
    let listener = listener(context, control).await?;
    if args.until_empty {
        context.interruptible(async { Ok(worker.run_until_empty().await?) }).await?;
    } else {
        worker.run(context.shutdown.clone()).await;
    }
    if let Some(listener) = listener {
        listener.end().await;
    }
    Ok(Exit::Ok)
}

/// Says which tenants this database believes to live though they were deleted: it was restored.
async fn warn_of_the_buried(context: &Context, control: &Control) -> anyhow::Result<()> {
    let Some(tombstones) = control.tombstones()? else { return Ok(()) };
    for tenant in control::list(&mut *control.connection().await?).await? {
        if is_doomed(tenant.state) {
            continue;
        }
        if let Err(error) = tombstones.refuse(tenant.id).await {
            let name = &tenant.name;
            context.output.say(&format!("{name}: {error}; `tenure tenant delete {name} --confirm {name}`"));
        }
    }
    Ok(())
}

/// Metrics and probes, where configured.
pub(super) async fn listener(context: &Context, control: &Control) -> anyhow::Result<Option<Listener>> {
    let Some(bind) = context.config.telemetry.metrics_bind else { return Ok(None) };
    let listener = Listener::open(bind, control.queue().clone(), context.shutdown.clone()).await?;
    context.output.say(&format!("metrics and probes answer on http://{}/metrics", listener.address()));
    Ok(Some(listener))
}
