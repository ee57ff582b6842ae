//! A scan of a database, in transactions that can only read.

use sqlx::PgConnection;

use super::PgSource;
use super::catalog::Table;
use super::session::within;
use crate::definition::{Stream, StreamOrigin};
use crate::error::{Place, SourceError};
use crate::report::{CheckReport, DiscoveredField};
use crate::scan::{Beside, Precision, Proof, Scan, ScannedStream, Volume, expected, extra, missing};
use crate::source::ReadOptions;
use crate::state::State;

/// Tables of at most so many rows are counted.
const COUNTED_MAX: i64 = 10_000;

impl PgSource {
    pub(crate) async fn scan(&self, streams: &[Stream], sample: usize) -> Scan {
        let report = CheckReport::default();
        let mut scan =
            Scan { report, streams: Vec::new(), beside: Vec::new(), proof: Proof::of_transactions() };
        self.look_around(streams, &mut scan).await;
        for index in 0..scan.streams.len() {
            let name = scan.streams[index].name.clone();
            let Some(stream) = streams.iter().find(|stream| stream.name == name) else { continue };
            if !scan.report.has_failed(&name) {
                scan.streams[index].sample = self.sample_of(stream, sample, &mut scan).await;
            }
        }
        scan
    }

    /// The catalog, the privileges and the volumes, in one snapshot.
    async fn look_around(&self, streams: &[Stream], scan: &mut Scan) {
        let mut session = match self.open(&self.place).await {
            Ok(session) => session,
            Err(error) => return scan.report.fail("connect", None, &error),
        };
        let role = if session.replica { "a read-only replica" } else { "a primary server" };
        scan.report.ok("connect", None, format!("Postgres {}, {role}", session.version));
        for stream in streams {
            let place = self.place.at(&stream.name);
            let looked = self.in_savepoint(&mut session.conn, &place, async |conn| {
                self.scan_stream(conn, &place, stream, scan).await
            });
            if let Err(error) = looked.await {
                scan.report.fail("read", Some(&stream.name), &error);
            }
        }
        let beside =
            self.in_savepoint(&mut session.conn, &self.place, async |conn| self.beside(conn, streams).await);
        match beside.await {
            Ok(found) => scan.beside = found,
            Err(error) => scan.report.fail("tables", None, &error),
        }
        self.ask(&mut session.conn, &mut scan.proof).await;
    }

    /// A failed statement ends its transaction: what may fail gets a savepoint.
    async fn in_savepoint<T>(
        &self,
        conn: &mut PgConnection,
        place: &Place,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let failed = |error: sqlx::Error| self.failure(place, "scanning", &error);
        sqlx::raw_sql("savepoint scan").execute(&mut *conn).await.map_err(failed)?;
        let done = work(conn).await;
        let back = sqlx::raw_sql("rollback to savepoint scan").execute(conn).await;
        let done = done?;
        back.map_err(failed)?;
        Ok(done)
    }

    async fn scan_stream(
        &self,
        conn: &mut PgConnection,
        place: &Place,
        stream: &Stream,
        scan: &mut Scan,
    ) -> Result<(), SourceError> {
        let StreamOrigin::Table(written) = &stream.origin else {
            return Err(place.configuration("the stream is of another kind of source", "give it a `table`"));
        };
        let failed = |error: sqlx::Error| self.failure(place, "reading privileges", &error);
        let table = self.table(conn, place, written).await?;
        let expected = expected(stream, &stream.key);
        let refused = refused(conn, &table).await.map_err(failed)?;
        let privileges = privileges(conn, &table).await.map_err(failed)?;
        let fields: Vec<_> = table.columns.iter().map(DiscoveredField::from).collect();
        let volume = if privileges.may_read { self.volume(conn, place, &table).await? } else { None };
        scan.streams.push(ScannedStream {
            name: stream.name.clone(),
            volume,
            missing: missing(&expected, |field| table.column(&field.names()[0]).is_some()),
            extra: extra(stream, &stream.key, &fields),
            refused: refused
                .into_iter()
                .filter(|name| stream.fields.is_none() || expected.iter().any(|it| it.names()[0] == *name))
                .collect(),
            may_write: Some(privileges.may_write),
            fields,
            sample: None,
        });
        self.check_stream(conn, place, stream, &mut scan.report).await
    }

    /// Counted where that is soon done.
    async fn volume(
        &self,
        conn: &mut PgConnection,
        place: &Place,
        table: &Table,
    ) -> Result<Option<Volume>, SourceError> {
        let text = format!(
            "-- source.count\nselect count(*) from (select from {} limit {}) t",
            table.quoted(),
            COUNTED_MAX + 1
        );
        let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(text)).fetch_one(conn);
        let count = within(self.patience(), count).await;
        let count = count.map_err(|error| self.failure(place, "counting rows", &error))?;
        let volume = |records, precision| Some(Volume { records, precision });
        Ok(match (count <= COUNTED_MAX, table.rows_estimated) {
            (true, _) => volume(count.unsigned_abs(), Precision::Exact),
            (false, Some(rows)) => volume(rows.max(count.unsigned_abs()), Precision::Estimated),
            (false, None) => volume(count.unsigned_abs(), Precision::AtLeast),
        })
    }

    async fn beside(&self, conn: &mut PgConnection, streams: &[Stream]) -> Result<Vec<Beside>, SourceError> {
        let mut beside = Vec::new();
        for table in self.tables(conn).await? {
            let is_named = streams.iter().any(|stream| match &stream.origin {
                StreamOrigin::Table(written) => *written == table.written() || *written == table.name,
                StreamOrigin::Http(_) => false,
            });
            if is_named {
                continue;
            }
            let may = privileges(conn, &table).await;
            let may_read = may.map_err(|e| self.failure(&self.place, "reading privileges", &e))?.may_read;
            beside.push(Beside { name: table.written(), rows_estimated: table.rows_estimated, may_read });
        }
        Ok(beside)
    }

    /// The first records, as a sync would take them.
    async fn sample_of(
        &self,
        stream: &Stream,
        records: usize,
        scan: &mut Scan,
    ) -> Option<crate::record::Batch> {
        let options = ReadOptions { batch_records: records, ..ReadOptions::default() };
        let read = async {
            let mut reader = self.read(stream, &State::default(), options).await?;
            let batch = reader.next().await?;
            Ok::<_, SourceError>((reader, batch))
        };
        match read.await {
            Ok((mut reader, batch)) => {
                self.ask(reader.conn(), &mut scan.proof).await;
                batch
            }
            Err(error) => {
                scan.report.fail("sample", Some(&stream.name), &error);
                let broken = Proof::Transactions { begun: 1, unwritten: 0, broken: 1 };
                scan.proof = std::mem::replace(&mut scan.proof, Proof::of_transactions()).and(broken);
                None
            }
        }
    }

    /// Asks a transaction at its end whether it has written. It is not committed: its connection is dropped.
    pub(super) async fn ask(&self, conn: &mut PgConnection, proof: &mut Proof) {
        let asked = sqlx::query_scalar!(
            r#"-- source.unwritten
            select current_setting('transaction_read_only') = 'on' and txid_current_if_assigned() is null as "unwritten!""#
        );
        let answer = within(self.patience(), asked.fetch_one(conn)).await;
        let seen = match answer {
            Ok(unwritten) => Proof::Transactions { begun: 1, unwritten: u64::from(unwritten), broken: 0 },
            Err(_) => Proof::Transactions { begun: 1, unwritten: 0, broken: 1 },
        };
        *proof = std::mem::replace(proof, Proof::of_transactions()).and(seen);
    }
}

struct Privileges {
    may_read: bool,
    may_write: bool,
}

async fn privileges(conn: &mut PgConnection, table: &Table) -> Result<Privileges, sqlx::Error> {
    sqlx::query_as!(
        Privileges,
        r#"-- source.privileges
        select has_schema_privilege(c.relnamespace, 'usage') and has_any_column_privilege(c.oid, 'select') as "may_read!",
               has_schema_privilege(c.relnamespace, 'usage')
               and (has_table_privilege(c.oid, 'insert, update, delete, truncate')
                    or has_any_column_privilege(c.oid, 'insert, update')) as "may_write!"
          from pg_catalog.pg_class c where c.oid = $1::int8::oid"#,
        table.oid,
    )
    .fetch_one(conn)
    .await
}

/// The columns that the credential may not read.
async fn refused(conn: &mut PgConnection, table: &Table) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- source.refused_columns
        select a.attname::text as "name!" from pg_catalog.pg_attribute a
         where a.attrelid = $1::int8::oid and a.attnum > 0 and not a.attisdropped
           and not has_column_privilege(a.attrelid, a.attnum, 'select')
         order by a.attnum"#,
        table.oid,
    )
    .fetch_all(conn)
    .await
}
