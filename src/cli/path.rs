//! `tenure path create|list|show|probe|certify|lower`.

mod climb;
mod view;

use std::io;

use clap::Subcommand;
use database::tenant::TenantDb;
use governance::{
    actor,
    path::{self, NewPath, Path},
};
use serde::Serialize;

use super::{
    Context,
    exit::Exit,
    output::{Answer, Page, Table},
    tenant::Whose,
};

const CREATE_EXAMPLES: &str = "Examples:
  tenure path create crm-contacts --connector crm --stream contacts --field email --field phone
  tenure path create crm-email --connector crm --stream contacts --field email --daily-cap 20

A path begins as catalogued. `tenure path show` says what it lacks for the next step.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Govern fields of a stream
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// All paths
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// One path: its ladder, what speaks for it, and what it lacks for the next step
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Try what the path's target does, keep that, and take the step to probed
    Probe(climb::Args),
    /// Take the step to certified: asks a second person first, and is typed again once they said yes
    #[command(after_help = climb::CERTIFY_EXAMPLES)]
    Certify(climb::Args),
    /// Take a path down the ladder at once; needs no approval
    Lower(climb::LowerArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// Its name: a to z, 0 to 9, _ and -, a letter first
    name: String,
    /// The connector
    #[arg(long)]
    connector: String,
    /// The stream
    #[arg(long)]
    stream: String,
    /// A field that may be changed; may be given several times
    #[arg(long = "field", value_name = "FIELD", required = true)]
    fields: Vec<String>,
    /// Changes sent in a day, at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    daily_cap: i32,
    /// Mismatches in a row after which its candidate is demoted
    #[arg(long, value_name = "N", default_value_t = 3)]
    breaker_limit: i32,
    #[command(flatten)]
    whose: Whose,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Create(args) => args.whose.enter(context, async |db| create(context, db, &args).await).await,
        Command::List { whose } => whose.enter(context, async |db| list(context, db).await).await,
        Command::Show { name, whose } => {
            whose.enter(context, async |db| view::show(context, db, &name).await).await
        }
        Command::Probe(args) => climb::probe(&args, context).await,
        Command::Certify(args) => climb::certify(&args, context).await,
        Command::Lower(args) => climb::lower(&args, context).await,
    }
}

async fn create(context: &Context, db: &TenantDb, args: &CreateArgs) -> anyhow::Result<Exit> {
    let new = NewPath {
        name: args.name.clone(),
        connector: args.connector.clone(),
        stream: args.stream.clone(),
        fields: args.fields.clone(),
        daily_cap: args.daily_cap,
        breaker_limit: args.breaker_limit,
    };
    let mut write = db.write().await?;
    let actor = actor::named(&mut write, context.actor()).await?;
    let path = path::create(&mut write, &new, &actor).await?;
    // A dry run does everything but the end.
    if !args.dry_run {
        write.commit().await?;
    }
    context.output.answer(&Created { path, dry_run: args.dry_run })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Created {
    path: Path,
    dry_run: bool,
}

impl Answer for Created {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Path { name, connector, stream, fields, .. } = &self.path;
        let governs = if self.dry_run { "would govern" } else { "governs" };
        page.line(format_args!("the path {name} {governs} {} of {connector}/{stream}", fields.join(", ")))
    }
}

async fn list(context: &Context, db: &TenantDb) -> anyhow::Result<Exit> {
    let mut read = db.read().await?;
    let paths = path::list(&mut read).await?;
    read.finish().await?;
    context.output.answer(&Listed { paths })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed {
    paths: Vec<Path>,
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.paths.is_empty() {
            return page.line("nothing is governed yet: `tenure path create` begins");
        }
        let mut table = Table::new(["PATH", "STATE", "STREAM", "FIELDS", "CAP A DAY"]);
        for path in &self.paths {
            let stream = format!("{}/{}", path.connector, path.stream);
            let cap = path.daily_cap.to_string();
            table.row(&[path.name.clone(), path.state.to_string(), stream, path.fields.join(", "), cap]);
        }
        page.table(&table)
    }
}
