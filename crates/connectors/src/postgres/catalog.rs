//! What the source's catalog says about a table.

use sqlx::PgConnection;

use super::{PgSource, quote};
use crate::definition::nearest;
use crate::error::{Place, SourceError};

/// A table or view.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: i64,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_view: bool,
    /// About how many rows; `None` for what was never analysed.
    pub(super) rows_estimated: Option<u64>,
    pub(super) columns: Vec<Column>,
    /// Whole-table unique indexes, the primary key first.
    pub(super) unique: Vec<Vec<String>>,
    pub(super) has_primary_key: bool,
    /// The columns that come first in some index.
    pub(super) leading: Vec<String>,
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its type in SQL; of a domain, the type below.
    pub(super) kind: String,
    pub(super) not_null: bool,
}

impl Table {
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quote::identifier(&self.schema), quote::identifier(&self.name))
    }

    pub(super) fn written(&self) -> String {
        quote::written(&self.schema, &self.name)
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns that identify a row: of the primary key, else of a unique index without nullable columns.
    pub(super) fn natural_key(&self) -> Option<&[String]> {
        let not_null = |name: &String| self.column(name).is_some_and(|column| column.not_null);
        self.unique.iter().find(|columns| columns.iter().all(not_null)).map(Vec::as_slice)
    }

    /// Whether no two rows can share values of these columns.
    pub(super) fn is_unique(&self, key: &[String]) -> bool {
        self.unique.iter().any(|columns| {
            columns.iter().all(|column| {
                key.contains(column) && self.column(column).is_some_and(|column| column.not_null)
            })
        })
    }
}

/// A table before its columns are known.
struct Found {
    oid: i64,
    schema: String,
    name: String,
    is_view: bool,
    rows: f32,
}

impl PgSource {
    /// The table that a definition calls `written`.
    pub(super) async fn table(
        &self,
        conn: &mut PgConnection,
        place: &Place,
        written: &str,
    ) -> Result<Table, SourceError> {
        let Some((schema, name)) = quote::split(written) else {
            let advice = "write `table` like \"public.contacts\"; quote a name that holds dots";
            return Err(place.configuration(format!("{written:?} names no table"), advice));
        };
        let doing = "looking up the table";
        let found = find(conn, schema.as_deref(), &name).await.map_err(|e| self.failure(place, doing, &e))?;
        match found {
            Some(found) => describe(conn, found).await.map_err(|e| self.failure(place, doing, &e)),
            None => Err(self.unknown_table(conn, place, written).await),
        }
    }

    async fn unknown_table(&self, conn: &mut PgConnection, place: &Place, written: &str) -> SourceError {
        let names = match list(conn).await {
            Ok(found) => found,
            Err(error) => return self.failure(place, "listing the tables", &error),
        };
        let names: Vec<_> =
            names.iter().map(|found| (quote::written(&found.schema, &found.name), &found.name)).collect();
        let near =
            nearest(written, names.iter().map(|(full, _)| full.as_str())).map(str::to_owned).or_else(|| {
                let (_, wanted) = quote::split(written)?;
                let short = nearest(&wanted, names.iter().map(|(_, short)| short.as_str()))?;
                names.iter().find(|(_, name)| *name == short).map(|(full, _)| full.clone())
            });
        let advice = near.map_or_else(
            || "correct `table`; `connector discover` lists what the credential can see".to_owned(),
            |near| format!("did you mean {near:?}?"),
        );
        place.configuration(format!("there is no table or view {written:?}"), advice)
    }

    /// Every table and view that is not the system's own.
    pub(super) async fn tables(&self, conn: &mut PgConnection) -> Result<Vec<Table>, SourceError> {
        let doing = "listing the tables";
        let found = list(conn).await.map_err(|error| self.failure(&self.place, doing, &error))?;
        let mut tables = Vec::with_capacity(found.len());
        for found in found {
            tables
                .push(describe(conn, found).await.map_err(|error| self.failure(&self.place, doing, &error))?);
        }
        Ok(tables)
    }
}

async fn find(
    conn: &mut PgConnection,
    schema: Option<&str>,
    name: &str,
) -> Result<Option<Found>, sqlx::Error> {
    sqlx::query_as!(
        Found,
        r#"-- source.find_table
        select c.oid::int8 as "oid!", n.nspname::text as "schema!", c.relname::text as "name!",
               c.relkind = 'v' as "is_view!", c.reltuples as "rows!"
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname = $2::text
           and case when $1::text is null then pg_catalog.pg_table_is_visible(c.oid) else n.nspname = $1::text end"#,
        schema,
        name,
    )
    .fetch_optional(conn)
    .await
}

async fn list(conn: &mut PgConnection) -> Result<Vec<Found>, sqlx::Error> {
    sqlx::query_as!(
        Found,
        r#"-- source.list_tables
        select c.oid::int8 as "oid!", n.nspname::text as "schema!", c.relname::text as "name!",
               c.relkind = 'v' as "is_view!", c.reltuples as "rows!"
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
           and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
         order by n.nspname, c.relname"#
    )
    .fetch_all(conn)
    .await
}

async fn describe(conn: &mut PgConnection, found: Found) -> Result<Table, sqlx::Error> {
    let columns = sqlx::query_as!(
        Column,
        r#"-- source.columns
        select a.attname::text as "name!", a.attnotnull as "not_null!",
               pg_catalog.format_type(case t.typtype when 'd' then t.typbasetype else t.oid end, null) as "kind!"
          from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
         where a.attrelid = $1::int8::oid and a.attnum > 0 and not a.attisdropped
         order by a.attnum"#,
        found.oid,
    )
    .fetch_all(&mut *conn)
    .await?;
    // `indnkeyatts` is read by way of JSON because Postgres 10 does not have it.
    let indexes = sqlx::query!(
        r#"-- source.indexes
        select i.indisprimary as "primary!", i.indisunique and i.indpred is null and i.indisvalid as "unique!",
               array(select coalesce(a.attname::text, '')
                       from unnest(i.indkey::int2[]) with ordinality k (attnum, place)
                       left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                      where k.place <= coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts)
                      order by k.place) as "columns!"
          from pg_catalog.pg_index i
         where i.indrelid = $1::int8::oid and i.indislive
         order by i.indisprimary desc, i.indnatts, i.indexrelid"#,
        found.oid,
    )
    .fetch_all(conn)
    .await?;
    let leading = indexes.iter().filter_map(|index| index.columns.first().cloned()).collect();
    let has_primary_key = indexes.iter().any(|index| index.primary);
    // An expression has no column name: such an index identifies nothing that can be named.
    let named = |columns: &Vec<String>| columns.iter().all(|column| !column.is_empty());
    let unique = indexes.into_iter().filter(|i| i.unique).map(|i| i.columns).filter(named).collect();
    let Found { oid, schema, name, is_view, rows } = found;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, checked to be positive"
    )]
    let rows_estimated = (rows > 0.0).then_some(rows as u64);
    Ok(Table { oid, schema, name, is_view, rows_estimated, columns, unique, has_primary_key, leading })
}
