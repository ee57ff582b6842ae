//! Whether syncs of a database can run: looked at without writing anything.

use sqlx::PgConnection;

use super::PgSource;
use super::catalog::Table;
use super::plan::Plan;
use super::statement::{From, Slice, fetch_rows};
use crate::cursor::CursorType;
use crate::definition::{Stream, StreamOrigin};
use crate::error::{Place, SourceError};
use crate::report::CheckReport;

impl PgSource {
    /// Each check in turn; what fails is in the report.
    pub(crate) async fn check(&self, streams: &[Stream]) -> CheckReport {
        let mut report = CheckReport::default();
        let mut session = match self.open(&self.place).await {
            Ok(session) => session,
            Err(error) => {
                report.fail("connect", None, &error);
                return report;
            }
        };
        let role = if session.replica { "a read-only replica" } else { "a primary server" };
        report.ok("connect", None, format!("Postgres {}, {role}, read-only snapshot", session.version));
        for stream in streams {
            // A failed statement ends its transaction: each stream gets a savepoint of its own.
            let begun = sqlx::raw_sql("savepoint stream").execute(&mut session.conn).await;
            if let Err(error) = begun {
                report.fail("connect", None, &self.failure(&self.place, "checking", &error));
                return report;
            }
            let place = self.place.at(&stream.name);
            if let Err(error) = self.check_stream(&mut session.conn, &place, stream, &mut report).await {
                report.fail("read", Some(&stream.name), &error);
            }
            // A connection that is gone shows at the next stream's savepoint.
            drop(sqlx::raw_sql("rollback to savepoint stream").execute(&mut session.conn).await);
        }
        report
    }

    pub(super) async fn check_stream(
        &self,
        conn: &mut PgConnection,
        place: &Place,
        stream: &Stream,
        report: &mut CheckReport,
    ) -> Result<(), SourceError> {
        let name = Some(stream.name.as_str());
        let plan = Plan::make(self, conn, place, stream).await?;
        let rows = plan
            .table
            .rows_estimated
            .map_or_else(|| "never analysed".into(), |rows| format!("about {rows} rows"));
        report.ok("table", name, format!("{}, {rows}", plan.table.written()));
        check_key(&plan, stream, report);
        self.check_cursor(conn, place, &plan, stream, report).await?;
        self.sample(conn, place, &plan).await?;
        report.ok("read", name, "the agreed fields can be read");
        let writes =
            can_write(conn, &plan.table).await.map_err(|e| self.failure(place, "reading privileges", &e))?;
        if writes {
            let advice = "give the connector a role that may only select";
            report.warn("privileges", name, "the credential may also write to the table", advice);
        } else {
            report.ok("privileges", name, "the credential may not write to the table");
        }
        Ok(())
    }

    async fn check_cursor(
        &self,
        conn: &mut PgConnection,
        place: &Place,
        plan: &Plan,
        stream: &Stream,
        report: &mut CheckReport,
    ) -> Result<(), SourceError> {
        let name = Some(stream.name.as_str());
        let (Some(cursor), Some(rule)) = (&plan.cursor, &stream.cursor) else {
            let advice = "name a column that rises with every change, if there is one";
            report.warn("cursor", name, "none: every run reads the whole table", advice);
            return Ok(());
        };
        let column = &cursor.column;
        report.ok("cursor", name, format!("{} ({}) read as {}", column.name, column.kind, rule.kind));
        if !plan.table.is_view && !plan.table.leading.contains(&column.name) {
            let message = format!("no index begins with {:?}: every run sorts the whole table", column.name);
            report.warn("cursor", name, message, "create an index on the cursor and the key columns");
        }
        if rule.kind == CursorType::Timestamp && column.kind != "timestamp with time zone" {
            let message = format!("{:?} has no time zone and is read as UTC", column.name);
            report.warn(
                "cursor",
                name,
                message,
                "if it holds local time, the settle window does not protect it",
            );
        }
        if let Some(count) = plan.count_odd() {
            let odd = count
                .number(conn)
                .await
                .map_err(|e| self.failure(place, "counting rows without cursor", &e))?;
            if odd > 0 {
                let message =
                    format!("{odd} rows have no usable {:?} and are read again in every run", column.name);
                report.warn("cursor", name, message, "fill the column at the source");
            }
        }
        Ok(())
    }

    /// Reads one row, as a sync would.
    async fn sample(&self, conn: &mut PgConnection, place: &Place, plan: &Plan) -> Result<(), SourceError> {
        let statement = plan.declare_rows(Slice::Main, &From::default(), Vec::new(), 0);
        statement.execute(conn).await.map_err(|error| self.failure(place, "selecting rows", &error))?;
        fetch_rows(conn, 1).await.map(drop).map_err(|error| self.failure(place, "reading rows", &error))
    }

    /// The table of a stream, if it is one of this source's.
    pub(super) fn configured_for(&self, table: &Table) -> Option<&Stream> {
        self.streams.iter().find(|stream| match &stream.origin {
            StreamOrigin::Table(written) => *written == table.written() || *written == table.name,
            StreamOrigin::Http(_) => false,
        })
    }
}

fn check_key(plan: &Plan, stream: &Stream, report: &mut CheckReport) {
    let key: Vec<_> = plan.key.iter().map(ToString::to_string).collect();
    let key = key.join(", ");
    if plan.key_is_unique {
        report.ok("key", Some(&stream.name), format!("({key}) is unique"));
    } else {
        let message = format!("nothing at the source keeps ({key}) unique or not null");
        let advice = "rows that share a key or have none are set aside; name a key with a unique index";
        report.warn("key", Some(&stream.name), message, advice);
    }
}

async fn can_write(conn: &mut PgConnection, table: &Table) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- source.can_write
        select has_table_privilege($1::int8::oid, 'insert, update, delete, truncate') as "writes!""#,
        table.oid,
    )
    .fetch_one(conn)
    .await
}
