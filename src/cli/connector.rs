//! `tenure connector check|discover|sync|rejected|credential`.
//!
//! A connector is named by the file that defines it, or by the name under which a tenant has it.

mod credential;
mod look;
mod rejected;
pub(super) mod sync;

use std::path::Path;

use clap::Subcommand;
use connectors::Definition;
use database::{control::TenantName, tenant::TenantDb};

use super::{
    Context,
    exit::{Exit, Failure},
};
use crate::{
    config::{Environment, Fault},
    wiring::Control,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Look whether a source can be read, try what its targets do, and keep that
    Check(look::CheckArgs),
    /// Show what a source has, with sections to paste into its file
    Discover(look::Args),
    /// Read a source's streams into the tenant's records
    Sync(sync::Args),
    /// Show what syncs have set aside, and why
    Rejected(rejected::Args),
    /// Keep credentials, sealed, for definitions to name
    #[command(subcommand)]
    Credential(credential::Command),
}

/// Which connector, of which tenant.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The file that defines it (has a / or ends in .toml), or its name
    #[arg(value_name = "FILE_OR_NAME")]
    connector: String,
    /// Whose [default: the only tenant in service]
    #[arg(long)]
    tenant: Option<TenantName>,
}

pub(super) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Check(args) => context.interruptible(look::check(args, context)).await,
        Command::Discover(args) => context.interruptible(look::discover(args, context)).await,
        Command::Sync(args) => sync::run(args, context).await,
        Command::Credential(command) => credential::run(command, context).await,
        Command::Rejected(args) => context.interruptible(rejected::run(args, context)).await,
    }
}

impl Named {
    /// The file, if one is named.
    fn file(&self) -> Option<&Path> {
        let toml = Path::new(&self.connector).extension().is_some_and(|extension| extension == "toml");
        (toml || self.connector.contains('/')).then(|| Path::new(&self.connector))
    }

    /// The definition that the file holds; every fault in it is reported. Production refuses secrets in it.
    fn read(path: &Path, context: &Context) -> anyhow::Result<Definition> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::configuration(format!("the connector's file {name} cannot be read"), "correct the path")
                .by(error)
        })?;
        let definition = Definition::parse(&text, &name).map_err(|error| {
            let faults = error.faults.iter().map(|fault| Fault {
                place: format!("{name}:{}:{}", fault.line, fault.column),
                what: fault.what.clone(),
                help: fault.help.clone(),
            });
            Failure::faulty("the connector's definition cannot be used", faults.collect())
        })?;
        let secrets = definition.inline_secrets();
        if context.config.environment == Environment::Production && !secrets.is_empty() {
            let faults = secrets.iter().map(|key| Fault {
                place: name.clone(),
                what: format!("`{key}` holds a secret, which production refuses"),
                help: "give it to `tenure connector credential set` and name that credential instead, or write it to a file"
                    .to_owned(),
            });
            return Err(Failure::faulty("the connector's definition cannot be used", faults.collect()).into());
        }
        Ok(definition)
    }

    /// The definition under this name in the tenant's database.
    async fn load(&self, db: &TenantDb) -> anyhow::Result<Definition> {
        Ok(jobs::connector_registry::load(db, &self.connector).await?)
    }

    /// The same, with the credentials that it names.
    async fn open(&self, control: &Control, db: &TenantDb) -> anyhow::Result<Definition> {
        Ok(jobs::connector_registry::open(db, &control.vault()?, &self.connector).await?)
    }
}
