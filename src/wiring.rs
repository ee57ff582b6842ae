//! The composition root: from a configuration to a control database, an environment for jobs, a worker.
//!
//! Owns the choice of the database: the configured one, else a private Postgres in the data folder, which the process
//! that started it stops. Refuses to go on with a schema that is not this program's, and in production with a role that
//! has more powers than it needs.

mod refuse;
mod server;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, OnceLock},
};

use anyhow::Context;
use database::{
    control::Region,
    passwords::{self, DerivedPasswords, PasswordError, PasswordSource},
    provision::{self, Provisioner},
    tenant::{Limits, Scope, TenantDatabases, TenantDb},
    tombstone::Tombstones,
};
use governance::checkpoint::{self, CheckpointError};
use jobs::{Environment, audit_checkpoint::Checkpoints, tenant_bundle::Exports, tenant_delete::Deletions};
use queue::{Queue, Retention, Worker, WorkerOptions};
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, Postgres},
};
use vault::{AwsKms, Keyring, KeyringError, Services, Vault, Vendor};

pub(crate) use self::{refuse::powers, server::Server};
use crate::{
    cli::{
        exit::Failure,
        output::{Output, with_spinner},
    },
    config::{self, Config},
    operator::Operator,
    telemetry,
};

/// The key of the tenants' passwords, in the data folder, where none is configured.
const KEY_FILE: &str = "tenant.key";

/// The key that signs checkpoints, and where they go, in the data folder, where neither is configured.
const SIGNING_KEY_FILE: &str = "audit.key";
const CHECKPOINT_FOLDER: &str = "checkpoints";

/// Where tombstones go in the data folder, where no folder is configured.
const TOMBSTONE_FOLDER: &str = "tombstones";
/// The keyring, in the data folder, where none is configured.
const KEYRING_FILE: &str = "keyring.json";
/// Where bundles of tenants' data go, in the data folder, where no folder is configured.
const EXPORT_FOLDER: &str = "exports";

/// What to do about a schema that lags behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// Bring it up to date in a private Postgres, refuse to go on in any other.
    Current,
    /// Bring it up to date wherever it is.
    Migrated,
    /// Take it as it is.
    Any,
}

/// The control database, opened, with what else a command may need.
pub(crate) struct Control {
    config: Arc<Config>,
    server: Server,
    queue: Queue,
    tenants: OnceLock<(TenantDatabases, Provisioner)>,
    vault: OnceLock<Vault>,
    /// Who acts, by name.
    actor: Arc<str>,
}

impl Control {
    /// Chooses the server, reaches the database and looks at its schema.
    pub(crate) async fn open(config: Arc<Config>, output: Output, schema: Schema) -> anyhow::Result<Self> {
        let server = Server::choose(&config, output).await?;
        let connecting = database::connect::pool(server.control(), config.database.connections_max);
        let connected = with_spinner("connecting to the database", connecting).await;
        let pool: PgPool = connected.map_err(|error| server.unreachable(error))?;
        let control = Self {
            config,
            server,
            queue: Queue::new(pool),
            tenants: OnceLock::new(),
            vault: OnceLock::new(),
            actor: "somebody".into(),
        };
        match schema {
            Schema::Any => {}
            Schema::Migrated => drop(control.migrate().await?),
            Schema::Current if control.is_private() => drop(control.migrate().await?),
            Schema::Current => refuse::old_schema(&mut *control.connection().await?).await?,
        }
        refuse::powerful_role(&control).await?;
        Ok(control)
    }

    /// The same, at the hands of this person.
    pub(crate) fn acting_as(self, name: &str) -> Self {
        Self { actor: name.into(), ..self }
    }

    /// What is done in the person's name.
    pub(crate) fn operator(&self) -> Operator<'_> {
        Operator::new(self, &self.actor)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Whether it is the private Postgres of the data folder.
    pub(crate) fn is_private(&self) -> bool {
        self.server.is_private()
    }

    /// A connection to the control database, for calls that take one.
    pub(crate) async fn connection(&self) -> anyhow::Result<PoolConnection<Postgres>> {
        self.queue.pool().acquire().await.context("while connecting to the control database")
    }

    /// The way to the server itself, where the control database's leads through a pooler.
    pub(crate) fn direct(&self) -> &PgConnectOptions {
        self.server.direct()
    }

    /// Brings the schemas up to date; answers what was done, with the name of the set it belongs to. The role that makes
    /// tenants owns the schemas `control` and `governance`, so that the service's own cannot rewrite the chain (A5).
    pub(crate) async fn migrate(&self) -> anyhow::Result<Vec<(&'static str, database::migrate::Applied)>> {
        let opened = database::connect::connect(self.server.admin()).await;
        let mut admin = opened.map_err(|error| self.server.unreachable(error))?;
        let [control, governance, queue] = Self::sets();
        let mut ran = migrate(&mut admin, control).await?;
        ran.extend(migrate(&mut admin, governance).await?);
        let role = self.server.control().get_username();
        provision::admit_service(&mut admin, role).await.context("while granting the service its rights")?;
        admin.close().await?;
        ran.extend(migrate(&mut self.direct_connection().await?, queue).await?);
        self.queue.prepare_history().await.context("while preparing the partitions of history")?;
        Ok(ran)
    }

    /// The control database's sets of migrations.
    pub(crate) fn sets() -> [(&'static str, &'static Migrator); 3] {
        static QUEUE: LazyLock<Migrator> = LazyLock::new(queue::migrations);
        [
            ("control", database::migrate::control()),
            ("governance", database::migrate::governance()),
            ("queue", &QUEUE),
        ]
    }

    /// A connection past any pooler.
    pub(crate) async fn direct_connection(&self) -> anyhow::Result<PgConnection> {
        let opened = database::connect::connect(self.direct()).await;
        Ok(opened.map_err(|error| self.server.unreachable(error))?)
    }

    /// Opens a tenant's database on behalf of whoever types.
    pub(crate) async fn tenant(&self, tenant: &database::control::Tenant) -> anyhow::Result<TenantDb> {
        let scope = Scope::of_request(tenant.id, self.region().clone());
        let opened = self.tenants()?.0.open(scope).await;
        opened.with_context(|| format!("while opening the database of tenant {}", tenant.name))
    }

    pub(crate) fn region(&self) -> &Region {
        &self.config.region
    }

    /// A worker of this process. Without queues it takes the configured ones, else the region's and that of operations.
    pub(crate) async fn worker(&self, queues: Vec<String>) -> anyhow::Result<Worker> {
        let (tenants, provisioner) = self.tenants()?;
        // Without a key checkpoints fail, and say so; everything else goes on.
        let checkpoints = self.has_checkpoints().then(|| self.checkpoints()).transpose()?;
        let (queue, region) = (self.queue.clone(), self.region().clone());
        let (tenants, provisioner) = (tenants.clone(), provisioner.clone());
        let mut environment =
            Environment::new(queue, tenants, provisioner, region, checkpoints, self.vault()?);
        if let Some(exports) = self.exports()? {
            environment = environment.with_exports(exports);
        }
        if let Some(deletions) = self.deletions()? {
            environment = environment.deleting(deletions);
        }
        let options = self.worker_options(queues);
        let started = Worker::start(self.direct().clone(), jobs::registry(environment), options).await;
        started.context("while starting a worker")
    }

    fn worker_options(&self, queues: Vec<String>) -> WorkerOptions {
        let settings = &self.config.worker;
        let configured = [queues, settings.queues.clone()].into_iter().find(|queues| !queues.is_empty());
        let region = self.region();
        let usual = || vec![jobs::queue_of(region), jobs::deletions_of(region), jobs::OPERATIONS.to_owned()];
        WorkerOptions {
            queues: configured.unwrap_or_else(usual),
            slots: settings.slots,
            lease: settings.lease,
            heartbeat: settings.heartbeat,
            grace: settings.grace,
            poll_max: settings.poll_max,
            retention: Retention { days: settings.history_days },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            on_attempt: telemetry::on_attempt,
        }
    }

    /// One per process: the limit of connections to tenants is kept there.
    fn tenants(&self) -> anyhow::Result<&(TenantDatabases, Provisioner)> {
        if let Some(made) = self.tenants.get() {
            return Ok(made);
        }
        let passwords = self.passwords()?;
        let limits = Limits { backends_max: self.config.tenants.backends_max, ..Limits::default() };
        let pool = self.queue.pool().clone();
        let denials = jobs::denial::Record::new(pool.clone(), &self.actor);
        let tenants = TenantDatabases::new(pool, self.server.control().clone(), passwords.clone(), limits)
            .witnessed_by(Arc::new(denials));
        let provisioner = Provisioner::new(self.server.admin().clone(), passwords);
        let (tenants, provisioner) = match self.tombstones()? {
            Some(tombstones) => (tenants.heeding(tombstones.clone()), provisioner.heeding(tombstones)),
            None => (tenants, provisioner),
        };
        Ok(self.tenants.get_or_init(|| (tenants, provisioner)))
    }

    pub(crate) fn passwords(&self) -> anyhow::Result<Arc<dyn PasswordSource>> {
        let path = match &self.config.tenants.password_key_file {
            Some(path) => path.clone(),
            None => own_key_file(&self.data_folder()?)?,
        };
        Ok(Arc::new(DerivedPasswords::from_file(&path)?))
    }

    /// The way to the keys of secrets. A keyring that cannot be used is told now.
    pub(crate) fn vault(&self) -> anyhow::Result<Vault> {
        if let Some(made) = self.vault.get() {
            return Ok(made.clone());
        }
        let keyring = match &self.config.keys.keyring_file {
            Some(path) => Some(Keyring::open(path)?),
            None if self.config.environment == config::Environment::Production => None,
            None => Some(own_keyring(&self.data_folder()?)?),
        };
        let mut services = Services::none();
        if let Some(keyring) = keyring {
            services = services.with(Vendor::Local, Arc::new(keyring));
        }
        if let Some(credentials) = &self.config.keys.aws_credentials_file {
            let aws = AwsKms::new(credentials, self.config.keys.aws_endpoint.clone())?;
            services = services.with(Vendor::Aws, Arc::new(aws));
        }
        Ok(self.vault.get_or_init(|| Vault::new(services)).clone())
    }

    /// Whether there is a key that signs checkpoints, or one may be made.
    fn has_checkpoints(&self) -> bool {
        self.config.audit.signing_key_file.is_some()
            || self.config.environment != config::Environment::Production
    }

    /// What signs checkpoints of audit chains, and where they go: as configured, else of this machine's own making.
    pub(crate) fn checkpoints(&self) -> anyhow::Result<Checkpoints> {
        let settings = &self.config.audit;
        if let (Some(key), Some(folder)) = (&settings.signing_key_file, &settings.checkpoint_folder) {
            return Ok(Checkpoints::new(checkpoint::read_key_file(key)?, folder.clone()));
        }
        if !self.has_checkpoints() {
            let help = "set `audit.signing_key_file` and `audit.checkpoint_folder`";
            return Err(Failure::configuration("there is no key to sign checkpoints with", help).into());
        }
        let folder = self.data_folder()?;
        let key = checkpoint::read_key_file(&own_signing_key(&folder)?)?;
        Ok(Checkpoints::new(key, folder.join(CHECKPOINT_FOLDER)))
    }

    /// The tombstones of deleted tenants: as configured, else on this machine; in production nowhere else.
    pub(crate) fn tombstones(&self) -> anyhow::Result<Option<Tombstones>> {
        if let Some(folder) = &self.config.tenants.tombstone_folder {
            // Not made if it is absent: it may lie where nothing is mounted, and an empty one would know of nobody.
            return Ok(Some(Tombstones::of(folder.clone())));
        }
        if self.config.environment == config::Environment::Production {
            return Ok(None);
        }
        let folder = self.data_folder()?.join(TOMBSTONE_FOLDER);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("while making the folder {}", folder.display()))?;
        Ok(Some(Tombstones::of(folder)))
    }

    /// What a deletion leaves and sweeps on this machine; none if there is no place for tombstones.
    pub(crate) fn deletions(&self) -> anyhow::Result<Option<Deletions>> {
        let Some(tombstones) = self.tombstones()? else { return Ok(None) };
        let backup_days = self.config.tenants.backup_days;
        let mut folders: Vec<_> = self.data_folder().ok().into_iter().collect();
        let exports = self.config.exports.folder.as_deref().map(std::path::absolute).transpose()?;
        folders.extend(exports.filter(|exports| folders.iter().all(|folder| !exports.starts_with(folder))));
        Ok(Some(Deletions::new(tombstones, folders, backup_days)))
    }

    /// Where bundles go that nobody named a place for, and how long they stay; in production nowhere unless a folder is set.
    pub(crate) fn exports(&self) -> anyhow::Result<Option<Exports>> {
        let settings = &self.config.exports;
        let folder = match &settings.folder {
            Some(folder) => folder.clone(),
            None if self.config.environment == config::Environment::Production => return Ok(None),
            None => self.data_folder()?.join(EXPORT_FOLDER),
        };
        Ok(Some(Exports::new(std::path::absolute(folder)?, settings.keep)))
    }

    /// A connection to a tenant's database as the role that owns what is in it. The tenant is of this process's region and in
    /// service.
    pub(crate) async fn owner_of(&self, tenant: &database::control::Tenant) -> anyhow::Result<PgConnection> {
        self.tenant(tenant).await?;
        let opened = self.tenants()?.1.inside(tenant).await;
        opened.with_context(|| format!("while opening the database of tenant {} as its owner", tenant.name))
    }

    /// The folder for what belongs to this machine.
    pub(crate) fn data_folder(&self) -> anyhow::Result<PathBuf> {
        Ok(server::data_folder(&self.config)?)
    }

    /// Closes what is open and stops the private Postgres if this process started it.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        drop(self.tenants);
        self.queue.pool().close().await;
        self.server.stop().await
    }
}

async fn migrate(
    conn: &mut PgConnection,
    (name, set): (&'static str, &'static Migrator),
) -> anyhow::Result<Vec<(&'static str, database::migrate::Applied)>> {
    let applied = database::migrate::run(conn, set).await;
    let applied = applied.with_context(|| format!("while migrating the schema `{name}`"))?;
    Ok(applied.into_iter().map(|applied| (name, applied)).collect())
}

/// The key that signs checkpoints, in the data folder, made at the first use.
fn own_signing_key(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("while making the data folder {}", folder.display()))?;
    let path = folder.join(SIGNING_KEY_FILE);
    match checkpoint::generate_key_file(&path, "tenure-dev", &rand::random()) {
        // It was there, or another process has made it in this moment.
        Err(CheckpointError::File { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    Ok(path)
}

/// The keyring in the data folder, made at the first use.
fn own_keyring(folder: &Path) -> anyhow::Result<Keyring> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("while making the data folder {}", folder.display()))?;
    let path = folder.join(KEYRING_FILE);
    match Keyring::generate(&path) {
        // It was there, or another process has made it in this moment.
        Err(KeyringError::File { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(Keyring::open(&path)?)
        }
        made => Ok(made?),
    }
}

/// The key in the data folder, made at the first use.
fn own_key_file(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("while making the data folder {}", folder.display()))?;
    let path = folder.join(KEY_FILE);
    match passwords::generate_key_file(&path) {
        // Another process may have made it in this moment.
        Err(PasswordError::File { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    Ok(path)
}
