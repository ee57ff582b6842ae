//! `tenure writeback plan|list|show|run|compensate|accept|drift`.

mod view;

use clap::Subcommand;
use database::{control::Tenant, tenant::TenantDb};
use governance::writeback::{Asked, Filter, State, Values, Writeback, WritebackId};
use jobs::writeback::{self, Wish};
use queue::JobId;

use super::{
    Context,
    exit::{Exit, Failure},
    tenant::Whose,
};
use crate::{telemetry, wiring::Control};

const EXAMPLES: &str = "Examples:
  tenure writeback plan --tenant acme --path email --key 17 --set email=ada@example.org --class email_format
  tenure writeback show 5 --tenant acme           the exact plan, each arrow it took, and what was read back
  tenure writeback compensate 5 --tenant acme     put the values before back, while they are still ours
  tenure writeback accept 6 --because 'she is right' --tenant acme

A change is planned on what the target shows now. It is sent once whoever the gate asks has said yes, and only if
nothing moved meanwhile; then it is read back. Exit code 4: the path, or the state of things, refuses it.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Plan a change of one record, ask for its approval, and enqueue its job
    #[command(after_help = EXAMPLES)]
    Plan(PlanArgs),
    /// What is under way; with --all also what has ended
    List(ListArgs),
    /// One change: the plan, its arrows, what was read back
    Show {
        /// Its number
        id: WritebackId,
        #[command(flatten)]
        whose: Whose,
    },
    /// Enqueue the job of a change that is under way, where it was lost
    Run {
        /// Its number
        id: WritebackId,
        #[command(flatten)]
        whose: Whose,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Plan the undoing of a verified change: refused once somebody else's values are there
    Compensate {
        /// Its number
        id: WritebackId,
        #[command(flatten)]
        whose: Whose,
        /// Show the plan and keep nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a mismatch or a conflict for what it is
    Accept {
        /// Its number
        id: WritebackId,
        /// Why
        #[arg(long, value_name = "TEXT")]
        because: String,
        #[command(flatten)]
        whose: Whose,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Verified changes that the target no longer holds, as the last check found
    Drift(#[command(flatten)] Whose),
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// The governed path
    #[arg(long)]
    path: String,
    /// The record's key
    #[arg(long)]
    key: String,
    /// A field and its new value: JSON, or else text
    #[arg(long = "set", value_name = "FIELD=VALUE", required = true, value_parser = assignment)]
    set: Vec<(String, serde_json::Value)>,
    /// The action class, as the path's policy names it
    #[arg(long)]
    class: String,
    /// The record is to be created
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    whose: Whose,
    /// Show the plan and keep nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    whose: Whose,
    /// Only of this path
    #[arg(long)]
    path: Option<String>,
    /// Only in this state
    #[arg(long)]
    state: Option<State>,
    /// Also what has ended
    #[arg(long)]
    all: bool,
    /// At most so many, the latest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
}

fn assignment(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("write FIELD=VALUE")?;
    if name.is_empty() {
        return Err("write FIELD=VALUE".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::from(value));
    Ok((name.to_owned(), value))
}

/// A tenant, its database, and who acts there.
struct Desk<'a> {
    context: &'a Context,
    control: &'a Control,
    tenant: Tenant,
    db: TenantDb,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    context
        .with_control(async |control| {
            let (tenant, db) = command.whose().opened(context, control).await?;
            Desk { context, control, tenant, db }.answer(&command).await
        })
        .await
}

impl Command {
    const fn whose(&self) -> &Whose {
        match self {
            Self::Plan(PlanArgs { whose, .. })
            | Self::List(ListArgs { whose, .. })
            | Self::Show { whose, .. }
            | Self::Run { whose, .. }
            | Self::Compensate { whose, .. }
            | Self::Accept { whose, .. }
            | Self::Drift(whose) => whose,
        }
    }
}

impl Desk<'_> {
    async fn answer(&self, command: &Command) -> anyhow::Result<Exit> {
        match command {
            Command::Plan(args) => self.plan(args).await,
            Command::List(args) => self.list(args).await,
            Command::Show { id, .. } => {
                let (found, steps) = writeback::view(&self.db, *id, self.context.actor()).await?;
                self.say(&view::Shown { writeback: view::Line::of(&found), plan: view::plan(&found)?, steps })
            }
            Command::Run { id, dry_run, .. } => self.resume(*id, *dry_run).await,
            Command::Compensate { id, dry_run, .. } => {
                let by = writeback::actor(&self.db, self.context.actor()).await?;
                let (planned, asked) =
                    writeback::compensate(&self.db, &self.control.vault()?, *id, by, *dry_run).await?;
                self.planned(&planned, asked, *dry_run).await
            }
            Command::Accept { id, because, dry_run, .. } => self.accept(*id, because, *dry_run).await,
            Command::Drift(_) => {
                let drifts = writeback::drifts(&self.db, DRIFTS_MAX, self.context.actor()).await?;
                self.say(&view::Drifts { drifts })
            }
        }
    }

    async fn plan(&self, args: &PlanArgs) -> anyhow::Result<Exit> {
        let by = writeback::actor(&self.db, self.context.actor()).await?;
        let set: Values = args.set.iter().cloned().collect();
        let wish = Wish {
            policy: None,
            path: args.path.clone(),
            key: args.key.clone(),
            set,
            class: args.class.clone(),
            creates: args.create,
            confidence: 100,
            evidence: None,
            requested_by: by,
            accepted_by: Some(by),
        };
        let (planned, asked) = writeback::plan(&self.db, &self.control.vault()?, &wish, args.dry_run).await?;
        self.planned(&planned, asked, args.dry_run).await
    }

    async fn planned(&self, planned: &Writeback, asked: Asked, dry_run: bool) -> anyhow::Result<Exit> {
        let job = if dry_run { None } else { Some(self.enqueue(planned.id).await?) };
        let approval = match asked {
            Asked::Nobody => None,
            Asked::Approval(id) => Some(id.to_string()),
        };
        let tenant = self.tenant.name.to_string();
        let (plan, writeback) = (view::plan(planned)?, view::Line::of(planned));
        self.say(&view::Planned { tenant, writeback, plan, approval, job, dry_run })
    }

    async fn enqueue(&self, id: WritebackId) -> anyhow::Result<JobId> {
        let job = writeback::job(&self.tenant, id)?.traceparent(telemetry::traceparent());
        Ok(self.control.operator().enqueue(&[job]).await?[0].id)
    }

    async fn list(&self, args: &ListArgs) -> anyhow::Result<Exit> {
        let is_open = !args.all && args.state.is_none();
        let filter = Filter { path: args.path.clone(), state: args.state, is_open, before: None };
        let found = writeback::list(&self.db, &filter, i64::from(args.limit), self.context.actor()).await?;
        self.say(&view::List { writebacks: found.iter().map(view::Line::of).collect() })
    }

    async fn resume(&self, id: WritebackId, dry_run: bool) -> anyhow::Result<Exit> {
        let (found, _) = writeback::show(&self.db, id).await?;
        if found.state.is_final() {
            let what = format!("writeback {id} is {}", found.state);
            return Err(Failure::refused(what, "there is nothing left to do for a job").into());
        }
        let job = if dry_run { None } else { Some(self.enqueue(id).await?) };
        self.say(&view::Resumed { writeback: id, job, dry_run })
    }

    async fn accept(&self, id: WritebackId, because: &str, dry_run: bool) -> anyhow::Result<Exit> {
        let by = writeback::actor(&self.db, self.context.actor()).await?;
        let accepted = if dry_run {
            writeback::show(&self.db, id).await?.0
        } else {
            writeback::accept(&self.db, id, by, because).await?
        };
        self.say(&view::Accepted { writeback: view::Line::of(&accepted), dry_run })
    }

    fn say(&self, answer: &impl super::output::Answer) -> anyhow::Result<Exit> {
        self.context.output.answer(answer)?;
        Ok(Exit::Ok)
    }
}

/// More than anybody reads.
const DRIFTS_MAX: i64 = 1_000;
