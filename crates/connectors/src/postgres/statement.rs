//! The statements of a read. Names are quoted, values are bound; rows come through a cursor at the source,
//! so that a caller may take its time between two batches.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, PgConnection, Postgres, Type};
use uuid::Uuid;

use super::plan::Plan;
use super::quote::identifier;

/// A statement and its values.
pub(super) struct Statement {
    text: String,
    values: PgArguments,
    count: usize,
}

/// Which rows a statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    /// By cursor, from a lower bound on; without cursor, all rows by key.
    Main,
    /// The rows without usable cursor, by key.
    Odd,
}

/// From where on rows are read.
#[derive(Clone, Debug, Default)]
pub(super) struct From {
    /// The cursor, inclusive.
    pub(super) cursor: Option<String>,
    /// The key columns, exclusive; only without cursor.
    pub(super) after: Option<Vec<String>>,
}

/// One row as the source sends it.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) key: Option<String>,
    /// The key columns as texts, to resume behind.
    pub(super) place: Vec<Option<String>>,
    pub(super) cursor: Option<String>,
    pub(super) digest: Uuid,
    pub(super) bytes: i32,
    /// The source found the fingerprint among those given to it.
    pub(super) known: bool,
    /// Not sent for rows that are known or too large.
    pub(super) data: Option<String>,
}

impl Statement {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: PgArguments::default(), count: 0 }
    }

    /// Binds a value and returns the name of its parameter.
    fn bind<'v>(&mut self, value: impl Encode<'v, Postgres> + Type<Postgres> + 'v) -> String {
        self.values.add(value).expect("texts, numbers, uuids and lists of them always encode");
        self.count += 1;
        format!("${}", self.count)
    }

    pub(super) async fn execute(self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query_with(AssertSqlSafe(self.text), self.values).execute(conn).await.map(drop)
    }

    pub(super) async fn text(self, conn: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar_with(AssertSqlSafe(self.text), self.values).fetch_optional(conn).await
    }

    pub(super) async fn number(self, conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar_with(AssertSqlSafe(self.text), self.values).fetch_one(conn).await
    }
}

/// The next rows of the open cursor.
pub(super) async fn fetch_rows(conn: &mut PgConnection, count: usize) -> Result<Vec<Row>, sqlx::Error> {
    let text = format!("-- source.fetch_rows\nfetch {count} from tenure_rows");
    sqlx::query_as(AssertSqlSafe(text)).fetch_all(conn).await
}

/// The next keys of the open cursor.
pub(super) async fn fetch_keys(conn: &mut PgConnection, count: usize) -> Result<Vec<String>, sqlx::Error> {
    let text = format!("-- source.fetch_keys\nfetch {count} from tenure_keys");
    sqlx::query_scalar(AssertSqlSafe(text)).fetch_all(conn).await
}

impl Plan {
    /// Opens the cursor over the rows of a slice.
    pub(super) fn declare_rows(
        &self,
        slice: Slice,
        from: &From,
        known: Vec<Uuid>,
        bytes_max: i64,
    ) -> Statement {
        let mut statement = Statement::new("");
        let filter = self.filter(&mut statement, slice, from);
        let (known, bytes_max) = (statement.bind(known), statement.bind(bytes_max));
        let (table, key, order) = (self.table.quoted(), self.key_text(), self.order(slice));
        let (place, data) = (self.key_place(), self.data());
        let cursor = match (&self.cursor, slice) {
            (Some(cursor), Slice::Main) => cursor.text.as_str(),
            _ => "null::text",
        };
        // Doubles of a key come in an order of their own, the same in every run.
        let double = if self.key_is_unique { "" } else { ", d.digest" };
        // `offset 0` keeps the planner from writing the JSON of a row once for every use of it.
        statement.text = format!(
            "-- source.rows\n\
             declare tenure_rows no scroll cursor for \
             select {key} as key, {place} as place, {cursor} as cursor, d.digest, d.bytes, d.known, \
                    case when d.bytes <= {bytes_max}::int8 and not d.known then d.data end as data \
               from (select * from {table} t where {filter} order by {order}) t \
              cross join lateral ( \
                select v.data, octet_length(v.data) as bytes, md5(v.data)::uuid as digest, \
                       md5(v.data)::uuid in (select unnest({known}::uuid[])) as known \
                  from ({data} offset 0) v offset 0) d \
              order by {order}{double}"
        );
        statement
    }

    /// The data of one row by its fingerprint.
    pub(super) fn row_by_digest(&self, digest: Uuid) -> Statement {
        let mut statement = Statement::new("");
        let (digest, table, data) = (statement.bind(digest), self.table.quoted(), self.data());
        statement.text = format!(
            "-- source.row\n\
             select v.data from {table} t cross join lateral ({data} offset 0) v \
              where md5(v.data)::uuid = {digest} limit 1"
        );
        statement
    }

    /// Opens the cursor over all keys behind one.
    pub(super) fn declare_keys(&self, after: Option<&str>) -> Statement {
        let mut statement = Statement::new("");
        let after = after.map(|after| format!("and k.key > {}::text", statement.bind(after.to_owned())));
        let (key, table) = (self.key_text(), self.table.quoted());
        statement.text = format!(
            "-- source.keys\n\
             declare tenure_keys no scroll cursor for \
             select k.key from (select distinct ({key}) collate \"C\" as key from {table} t) k \
              where k.key is not null {} order by k.key",
            after.unwrap_or_default()
        );
        statement
    }

    /// How many keys there are.
    pub(super) fn count_keys(&self) -> Statement {
        let (key, table) = (self.key_text(), self.table.quoted());
        Statement::new(&format!("-- source.count_keys\nselect count(distinct {key}) from {table} t"))
    }

    /// How many rows have no usable cursor.
    pub(super) fn count_odd(&self) -> Option<Statement> {
        let odd = self.cursor.as_ref()?.odd.as_ref()?;
        let table = self.table.quoted();
        Some(Statement::new(&format!("-- source.count_odd\nselect count(*) from {table} t where {odd}")))
    }

    fn filter(&self, statement: &mut Statement, slice: Slice, from: &From) -> String {
        match (&self.cursor, slice) {
            (Some(cursor), Slice::Odd) => cursor.odd.clone().unwrap_or_else(|| "false".into()),
            (Some(cursor), Slice::Main) => {
                let lower = from.cursor.as_ref().map(|lower| {
                    let lower = (cursor.bound)(&statement.bind(lower.clone()));
                    format!("{} >= {lower}", cursor.order)
                });
                let parts: Vec<_> = cursor.usable.clone().into_iter().chain(lower).collect();
                if parts.is_empty() { "true".into() } else { parts.join(" and ") }
            }
            (None, _) => from.after.as_ref().map_or_else(
                || "true".into(),
                |after| {
                    let after = statement.bind(after.clone());
                    self.behind(&after)
                },
            ),
        }
    }

    /// Rows behind a key, and those without one: they come last.
    fn behind(&self, after: &str) -> String {
        let columns: Vec<_> =
            self.key_columns.iter().map(|column| format!("t.{}", identifier(&column.name))).collect();
        let values: Vec<_> = (1..)
            .zip(&self.key_columns)
            .map(|(index, column)| format!("(({after}::text[])[{index}])::{}", column.kind))
            .collect();
        let nulls = self.key_columns.iter().zip(&columns).filter(|(column, _)| !column.not_null);
        let nulls: Vec<_> = nulls.map(|(_, name)| format!(" or {name} is null")).collect();
        format!("(({}) > ({}){})", columns.join(", "), values.join(", "), nulls.concat())
    }

    fn order(&self, slice: Slice) -> String {
        let cursor = self.cursor.as_ref().filter(|_| slice == Slice::Main).map(|cursor| cursor.order.clone());
        let key = self.key_columns.iter().map(|column| format!("t.{}", identifier(&column.name)));
        cursor.into_iter().chain(key).collect::<Vec<_>>().join(", ")
    }

    /// The key as text: null where a part of it is.
    fn key_text(&self) -> String {
        let columns: Vec<_> =
            self.key_columns.iter().map(|column| format!("t.{}", identifier(&column.name))).collect();
        if let [column] = columns.as_slice() {
            return format!("to_json({column}) #>> '{{}}'");
        }
        let nulls: Vec<_> = columns.iter().map(|column| format!("{column} is null")).collect();
        format!(
            "case when {} then null else json_build_array({})::text end",
            nulls.join(" or "),
            columns.join(", ")
        )
    }

    fn key_place(&self) -> String {
        let columns: Vec<_> =
            self.key_columns.iter().map(|column| format!("t.{}::text", identifier(&column.name))).collect();
        format!("array[{}]", columns.join(", "))
    }

    /// The row's JSON. `json` and not `jsonb`: a `json` column may hold what `jsonb` cannot, and one such row
    /// must not fail the statement. `t.*` and not `t`: that would be a column of this name.
    fn data(&self) -> String {
        match &self.projection {
            None => "select row_to_json(t.*)::text as data".to_owned(),
            Some(columns) => format!("select row_to_json(r.*)::text as data from (select {columns}) r"),
        }
    }
}
