//! Which server: the configured one or the private Postgres of the data folder.

use std::path::PathBuf;

use anyhow::Context;
use database::{
    connect::ConnectError,
    embedded::{self, Embedded, EmbeddedError},
};
use sqlx::postgres::PgConnectOptions;

use crate::{
    cli::{
        exit::{Exit, Failure},
        output::{Output, with_spinner},
    },
    config::{Config, DatabaseUrl},
};

/// The control database's name in the private Postgres.
const DATABASE: &str = "tenure";

/// Sessions of the private Postgres: a worker takes about twelve, the tenants' twenty, a few commands beside them.
const CONNECTIONS_MAX: u16 = 100;

/// The ways to the control database.
#[derive(Debug)]
pub(crate) struct Server {
    control: PgConnectOptions,
    direct: PgConnectOptions,
    admin: PgConnectOptions,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Configured { url: DatabaseUrl, place: String },
    Private { embedded: Embedded, folder: PathBuf },
}

impl Server {
    /// The configured server, else the private one, which is started or attached to.
    pub(super) async fn choose(config: &Config, output: Output) -> anyhow::Result<Self> {
        let database = &config.database;
        let Some(url) = &database.url else { return Self::private(config, output).await };
        let control = url.options().clone();
        let direct =
            database.direct_url.as_ref().map_or_else(|| control.clone(), |url| url.options().clone());
        let admin =
            database.provisioning_url.as_ref().map_or_else(|| direct.clone(), |url| url.options().clone());
        let place = config.url_place("database.url");
        Ok(Self { control, direct, admin, kind: Kind::Configured { url: url.clone(), place } })
    }

    async fn private(config: &Config, output: Output) -> anyhow::Result<Self> {
        let folder = data_folder(config)?;
        let mut options = embedded::Options::at(&folder);
        options.connections_max = CONNECTIONS_MAX;
        let starting = tokio::task::spawn_blocking(|| Embedded::start_or_attach(options));
        let embedded = with_spinner("starting a private Postgres", starting).await??;
        if embedded.is_owner() {
            output.say(&format!(
                "using a private Postgres in {} until this command ends; DATABASE_URL names another",
                folder.display()
            ));
        }
        let mut conn = database::connect::connect(&embedded.options("postgres")).await?;
        database::create::database(&mut conn, DATABASE).await.context("while making the control database")?;
        let control = embedded.options(DATABASE).application_name("tenure");
        let (direct, admin) = (control.clone(), control.clone());
        Ok(Self { control, direct, admin, kind: Kind::Private { embedded, folder } })
    }

    /// The control database, perhaps through a pooler.
    pub(crate) fn control(&self) -> &PgConnectOptions {
        &self.control
    }

    /// The control database past any pooler.
    pub(crate) fn direct(&self) -> &PgConnectOptions {
        &self.direct
    }

    /// The control database as the role that makes tenants.
    pub(crate) fn admin(&self) -> &PgConnectOptions {
        &self.admin
    }

    pub(crate) fn is_private(&self) -> bool {
        matches!(self.kind, Kind::Private { .. })
    }

    /// The URL of another database of the same server, without password, and the password.
    pub(crate) fn url_of(&self, database: &str) -> (String, Option<String>) {
        match &self.kind {
            Kind::Configured { url, .. } => (url.of_database(database), url.password()),
            Kind::Private { embedded, .. } => (embedded.url(database), None),
        }
    }

    /// How people name it; never with a password.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Configured { url, .. } => url.to_string(),
            Kind::Private { folder, .. } => format!("the private Postgres in {}", folder.display()),
        }
    }

    /// What to tell when there is no connection.
    pub(super) fn unreachable(&self, error: ConnectError) -> Failure {
        let place = match &self.kind {
            Kind::Configured { place, .. } => place.clone(),
            Kind::Private { folder, .. } => format!("server.log in {}", folder.display()),
        };
        let (exit, help) = match &error {
            ConnectError::Unreachable(_) => {
                (Exit::Unreachable, format!("start the server, or correct the address ({place})"))
            }
            ConnectError::NotPermitted(_) => {
                (Exit::NotPermitted, "grant the role CONNECT on the database".to_owned())
            }
            ConnectError::Refused(_) => {
                (Exit::Configuration, format!("correct the role or its password ({place})"))
            }
            ConnectError::NoSuchDatabase(_) => {
                (Exit::Configuration, format!("create the database, or correct its name ({place})"))
            }
            ConnectError::TooOld(_) => (Exit::Configuration, "use PostgreSQL 14 or newer".to_owned()),
            ConnectError::BadUrl(_) | ConnectError::Other(_) => {
                (Exit::Configuration, format!("correct the address ({place})"))
            }
        };
        Failure::new(exit, format!("no connection to {}", self.name()), help).by(error)
    }

    /// Stops the private Postgres if this process started it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        if let Kind::Private { embedded, .. } = self.kind {
            let stopping = tokio::task::spawn_blocking(|| embedded.stop());
            with_spinner("stopping the private Postgres", stopping).await??;
        }
        Ok(())
    }
}

/// The configured data folder, else the account's own.
pub(super) fn data_folder(config: &Config) -> Result<PathBuf, EmbeddedError> {
    config.dev.data_folder.clone().map_or_else(embedded::default_folder, Ok)
}
