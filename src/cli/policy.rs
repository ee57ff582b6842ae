//! `tenure policy check|add|list|show`.

mod check;
mod view;

use std::path::{Path as FilePath, PathBuf};

use clap::Subcommand;
use connectors::{Deletions, FieldPath};
use database::tenant::{TenantDb, TenantError};
use governance::{
    actor, decision,
    path::{self, Path},
    policy::{Fields, Policy, PolicyFaults},
};
use jobs::connector_registry::{self, RegistryError};

use super::{
    Context,
    exit::{Exit, Failure},
    tenant::Whose,
};
use crate::config::Fault;

const CHECK_EXAMPLES: &str = "Examples:
  tenure policy check crm-contacts.toml
  tenure policy check crm-contacts.toml --tenant acme --records 1000 --json

The rules are compiled, their names and types compared with the stream's fields, and tried on stored records in a
transaction that cannot write. Faults are told with line and column; the exit code is then 78.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Compile a policy file and try it on the stored records, without effect
    #[command(after_help = CHECK_EXAMPLES)]
    Check(check::Args),
    /// Make a policy file the newest version of its path's policy
    Add {
        /// The policy file; it names its path
        file: PathBuf,
        #[command(flatten)]
        whose: Whose,
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// The versions of a path's policy
    List {
        /// The path
        path: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// A version as its author wrote it
    Show {
        /// The path
        path: String,
        /// The version [default: the newest]
        #[arg(long = "policy-version", value_name = "N")]
        version: Option<i32>,
        #[command(flatten)]
        whose: Whose,
    },
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Check(args) => check::run(args, context).await,
        Command::Add { file, whose, dry_run } => add(&file, &whose, dry_run, context).await,
        Command::List { path, whose } => {
            whose.enter(context, async |db| view::list(context, db, &path).await).await
        }
        Command::Show { path, version, whose } => {
            whose.enter(context, async |db| view::show(context, db, &path, version).await).await
        }
    }
}

async fn add(file: &FilePath, whose: &Whose, dry_run: bool, context: &Context) -> anyhow::Result<Exit> {
    let text = read(file)?;
    let name = compile(&text, file, &Fields::any(), None)?.path().to_owned();
    whose
        .enter(context, async |db| {
            let (path, fields) = surroundings(db, &name).await?;
            let policy = compile(&text, file, &fields, Some(&path.fields))?;
            let mut write = db.write().await?;
            let actor = actor::named(&mut write, context.actor()).await?;
            let (version, is_new) = governance::policy::add(&mut write, &path, &policy, &actor).await?;
            // A dry run does everything but the end.
            if !dry_run {
                write.commit().await?;
            }
            view::added(context, &policy, version, is_new, dry_run)
        })
        .await
}

fn read(file: &FilePath) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(file).map_err(|error| {
        let what = format!("the policy file {} cannot be read", file.display());
        Failure::configuration(what, "correct the path").by(error)
    })?)
}

/// The policy of this text, checked against these fields; a fault is told with its place.
pub(super) fn compile(
    text: &str,
    file: &FilePath,
    fields: &Fields,
    governed: Option<&[String]>,
) -> anyhow::Result<Policy> {
    let name = file.display().to_string();
    let faulty = |faults: PolicyFaults| {
        let faults = faults.faults.into_iter().map(|fault| Fault {
            place: format!("{name}:{}:{}", fault.line, fault.column),
            what: fault.to_string(),
            help: fault.help,
        });
        Failure::faulty("the policy cannot be used", faults.collect())
    };
    Ok(Policy::compile(text, &name, fields, governed).map_err(faulty)?)
}

/// The path, and the fields of its stream: those that its records have shown and those that its connector reads.
pub(super) async fn surroundings(db: &TenantDb, name: &str) -> anyhow::Result<(Path, Fields)> {
    let mut read = db.read().await?;
    let path = path::by_name(&mut read, name).await?;
    read.finish().await?;
    let agreed = agreed(db, &path).await?;
    let mut read = db.read().await?;
    let fields = decision::fields(&mut read, &path.connector, &path.stream, &agreed)
        .await
        .map_err(TenantError::from)?;
    read.finish().await?;
    Ok((path, fields))
}

/// The agreed fields of the path's stream, if its connector is known and has a list.
async fn agreed(db: &TenantDb, path: &Path) -> Result<Vec<String>, RegistryError> {
    let definition = match connector_registry::load(db, &path.connector).await {
        Ok(definition) => definition,
        Err(RegistryError::Unknown { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let stream = definition.streams().iter().find(|stream| stream.name() == path.stream);
    let Some((stream, fields)) = stream.and_then(|stream| Some((stream, stream.fields()?))) else {
        return Ok(Vec::new());
    };
    // What identifies and orders records comes along whether it is on the list or not.
    let flag = match stream.deletions() {
        Deletions::Flag(field) => Some(field),
        Deletions::None | Deletions::Keys => None,
    };
    let cursor = stream.cursor().map(|cursor| &cursor.field);
    let all = fields.iter().chain(stream.key()).chain(cursor).chain(flag);
    Ok(all.map(FieldPath::to_string).collect())
}
