//! A database with sealed values, and a key service that does as it is told.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use database::{migrate, testing::TestDatabase};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretSlice};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    Cell, KeyReference, KeyService, Keyring, Owner, Sealed, ServiceError, Services, Vault, Vendor, Wrapped,
    Wrapping,
    rotation::{Action, Counts, Fault, Progress, Rotation, RotationError, Settings},
};

pub(super) const ACME: Owner = Owner::Tenant(Uuid::from_u128(7));

/// A table with a key of two columns, one of which sorts otherwise as text, and two sealed columns.
const TABLES: &str = r#"create schema app;
    create table app."Odd name" (region text, id bigint, token governance.sealed, "Pass" governance.sealed,
        note text, primary key (region, id))"#;
pub(super) const RELATION: &str = "app.Odd name";

pub(super) struct House {
    pub(super) database: TestDatabase,
    pub(super) vault: Vault,
    pub(super) service: Arc<Flaky>,
    pub(super) keyring: PathBuf,
    _folder: TempDir,
}

/// What a key service does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Down,
    Throttled,
    Revoked,
}

/// A keyring that fails from some call on, until it is mended.
pub(super) struct Flaky {
    keyring: Keyring,
    fate: Mutex<Option<(usize, Fate)>>,
    calls: AtomicUsize,
}

impl Flaky {
    pub(super) fn fail_after(&self, calls: usize, fate: Fate) {
        self.calls.store(0, Ordering::SeqCst);
        *self.fate.lock().unwrap() = Some((calls, fate));
    }

    pub(super) fn mend(&self) {
        *self.fate.lock().unwrap() = None;
    }

    fn answer(&self) -> Result<(), ServiceError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let Some((_, fate)) = self.fate.lock().unwrap().filter(|(calls, _)| call >= *calls) else {
            return Ok(());
        };
        Err(match fate {
            Fate::Down => ServiceError::Unavailable(Vendor::Local, "connection refused".into()),
            Fate::Throttled => ServiceError::Throttled(Vendor::Local, Duration::from_secs(3)),
            Fate::Revoked => {
                let reference =
                    KeyReference { vendor: Vendor::Local, region: String::new(), key_id: "k".into() };
                ServiceError::Refused { key: reference, why: "disabled".into() }
            }
        })
    }
}

impl KeyService for Flaky {
    fn makes_versions(&self) -> bool {
        true
    }

    fn create(&self) -> BoxFuture<'_, Result<KeyReference, ServiceError>> {
        KeyService::create(&self.keyring)
    }

    fn version<'a>(&'a self, key: &'a KeyReference) -> BoxFuture<'a, Result<String, ServiceError>> {
        Box::pin(async {
            self.answer()?;
            self.keyring.version(key).await
        })
    }

    fn advance<'a>(
        &'a self,
        key: &'a KeyReference,
        request: &'a str,
    ) -> BoxFuture<'a, Result<String, ServiceError>> {
        Box::pin(async {
            self.answer()?;
            KeyService::advance(&self.keyring, key, request).await
        })
    }

    fn wrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        dek: &'a SecretSlice<u8>,
    ) -> BoxFuture<'a, Result<Wrapped, ServiceError>> {
        Box::pin(async {
            self.answer()?;
            self.keyring.wrap(key, wrapping, dek).await
        })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        wrapped: &'a Wrapped,
    ) -> BoxFuture<'a, Result<SecretSlice<u8>, ServiceError>> {
        Box::pin(async {
            self.answer()?;
            self.keyring.unwrap(key, wrapping, wrapped).await
        })
    }

    fn destroy<'a>(&'a self, key: &'a KeyReference) -> BoxFuture<'a, Result<bool, ServiceError>> {
        KeyService::destroy(&self.keyring, key)
    }
}

impl House {
    pub(super) async fn new() -> Self {
        let database = TestDatabase::migrated(&[migrate::governance()]).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        let keyring = Keyring::generate(&path).unwrap();
        let service = Arc::new(Flaky { keyring, fate: Mutex::default(), calls: AtomicUsize::new(0) });
        let services = Services::none().with(Vendor::Local, service.clone());
        let vault = Vault::keeping(services, Duration::ZERO);
        let house = Self { database, vault, service, keyring: path, _folder: folder };
        house.run(TABLES).await;
        house
    }

    /// With so many rows, every fifth of which has no token.
    pub(super) async fn with(rows: i64) -> Self {
        let house = Self::new().await;
        for id in 1..=rows {
            house.write(id, &format!("token {id}"), &format!("pass {id}")).await;
        }
        house.run(r#"update app."Odd name" set token = null where id % 5 = 0"#).await;
        house
    }

    pub(super) async fn connect(&self) -> PgConnection {
        self.database.connect().await
    }

    pub(super) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connect().await).await.unwrap();
    }

    pub(super) async fn one(&self, sql: &str) -> String {
        let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.connect().await)
            .await
            .unwrap();
        found.unwrap_or_default()
    }

    /// Writes a row as an application does.
    pub(super) async fn write(&self, id: i64, token: &str, pass: &str) {
        self.write_on(&mut self.connect().await, id, token, pass).await;
    }

    pub(super) async fn write_on(&self, conn: &mut PgConnection, id: i64, token: &str, pass: &str) {
        let mut tx = conn.begin().await.unwrap();
        let key = key(id);
        let token = self.vault.seal(&mut tx, &cell(&key, "token"), token.as_bytes()).await.unwrap();
        let pass = self.vault.seal(&mut tx, &cell(&key, "Pass"), pass.as_bytes()).await.unwrap();
        sqlx::query(
            r#"insert into app."Odd name" values ('eu', $1, $2, $3)
            on conflict (region, id) do update set token = excluded.token, "Pass" = excluded."Pass""#,
        )
        .bind(id)
        .bind(token)
        .bind(pass)
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    /// All texts, row by row; what does not open is told as that.
    pub(super) async fn texts(&self) -> Vec<(i64, String, String)> {
        let mut conn = self.connect().await;
        let rows: Vec<(i64, Option<Sealed>, Option<Sealed>)> =
            sqlx::query_as(r#"select id, token, "Pass" from app."Odd name" order by id"#)
                .fetch_all(&mut conn)
                .await
                .unwrap();
        let mut texts = Vec::new();
        for (id, token, pass) in rows {
            texts.push((
                id,
                self.text(&mut conn, id, "token", token).await,
                self.text(&mut conn, id, "Pass", pass).await,
            ));
        }
        texts
    }

    async fn text(&self, conn: &mut PgConnection, id: i64, column: &str, value: Option<Sealed>) -> String {
        let Some(value) = value else { return "null".into() };
        match self.vault.open(conn, &cell(&key(id), column), &value).await {
            Ok(text) => String::from_utf8(text.expose_secret().to_vec()).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    /// Every byte of every table that a rotation may touch.
    pub(super) async fn digest(&self) -> String {
        self.one(
            r#"select md5((select string_agg(t::text, '|' order by t.region, t.id) from app."Odd name" t)
                || (select coalesce(string_agg(d::text, '|' order by d.id), '') from governance.dek d)
                || (select coalesce(string_agg(k::text, '|' order by k.id), '') from governance.kek k)
                || (select count(*) from governance.key_rotation))"#,
        )
        .await
    }

    /// How many values are under the active key of the table, and how many under others.
    pub(super) async fn under(&self) -> String {
        self.one(
            r#"select string_agg(state || ' ' || n, ', ' order by state) from (
                select d.state, count(*) as n
                  from (select token as v from app."Odd name" union all select "Pass" from app."Odd name") v
                  join governance.dek d on d.id = governance.sealed_dek(v.v) group by 1) counted"#,
        )
        .await
    }

    pub(super) async fn real(&self, action: Action, older_than: Duration) -> Counts {
        self.try_real(action, older_than).await.unwrap().0
    }

    pub(super) async fn try_real(
        &self,
        action: Action,
        older_than: Duration,
    ) -> Result<(Counts, Vec<Fault>), RotationError> {
        let mut progress = Progress::default();
        self.go_on(action, older_than, &mut progress).await
    }

    /// Goes on from what was committed; each step is a transaction.
    pub(super) async fn go_on(
        &self,
        action: Action,
        older_than: Duration,
        progress: &mut Progress,
    ) -> Result<(Counts, Vec<Fault>), RotationError> {
        let mut rotation =
            Rotation::real(self.vault.clone(), ACME, settings(action, older_than), "request 1".into());
        let mut conn = self.connect().await;
        let mut faults = Vec::new();
        while !progress.is_done {
            let mut tx = conn.begin().await?;
            let mut next = progress.clone();
            faults.extend(rotation.advance(&mut tx, &mut next).await?);
            tx.commit().await?;
            *progress = next;
        }
        Ok((progress.counts, faults))
    }

    pub(super) async fn dry(&self, action: Action, older_than: Duration) -> (Counts, Vec<Fault>) {
        let mut rotation = Rotation::dry(self.vault.clone(), ACME, settings(action, older_than));
        let (mut conn, mut progress, mut faults) = (self.connect().await, Progress::default(), Vec::new());
        while !progress.is_done {
            let read_only = "begin transaction isolation level repeatable read, read only";
            let mut tx = conn.begin_with(read_only).await.unwrap();
            faults.extend(rotation.advance(&mut tx, &mut progress).await.unwrap());
            tx.commit().await.unwrap();
        }
        (progress.counts, faults)
    }
}

/// Seven rows a page: pages end in the middle of everything.
fn settings(action: Action, older_than: Duration) -> Settings {
    Settings { action, older_than, page_rows: 7 }
}

pub(super) fn key(id: i64) -> Vec<String> {
    vec!["eu".to_owned(), id.to_string()]
}

pub(super) fn cell<'a>(key: &'a [String], column: &'a str) -> Cell<'a> {
    Cell { owner: ACME, relation: RELATION, column, key }
}

pub(super) const DAY: Duration = Duration::from_hours(24);
pub(super) const NOW: Duration = Duration::ZERO;
