//! Where sealed values lie: every column of the type `governance.sealed`, as the catalog knows it, never from a list.

use serde::Serialize;
use sqlx::PgConnection;

use crate::sealed::{Cell, Owner};

/// A column of sealed values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The primary key's columns with their types, in its order.
    pub key: Vec<(String, String)>,
}

/// Why a column of sealed values cannot be rotated.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A value is bound to its row's primary key.
    #[error(
        "{0} holds sealed values and has no primary key: give it one, or values cannot be bound to their rows"
    )]
    NoKey(String),
    /// The text of such a key depends on settings.
    #[error(
        "{relation} holds sealed values and has {column} of type {kind} in its primary key; sealed values are bound to keys of text, uuid, whole numbers and booleans"
    )]
    KeyType {
        /// The table.
        relation: String,
        /// The column of the key.
        column: String,
        /// Its type.
        kind: String,
    },
    /// The type is used where no row can be found by a key.
    #[error("{0} holds sealed values and is no ordinary table: keep them in one")]
    NoTable(String),
    /// The type is used within another.
    #[error("{0} holds sealed values within another type: give each a column of its own")]
    Within(String),
    /// The catalog cannot be read.
    #[error("the catalog cannot be read")]
    Database(#[from] sqlx::Error),
}

/// Types whose text is the same whatever a session has set.
const KEY_TYPES: [&str; 7] =
    ["text", "character varying", "uuid", "smallint", "integer", "bigint", "boolean"];

impl Column {
    /// The table, as `schema.table`.
    #[must_use]
    pub fn relation(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// A cell of this column.
    pub(crate) fn cell<'a>(&'a self, owner: Owner, relation: &'a str, key: &'a [String]) -> Cell<'a> {
        Cell { owner, relation, column: &self.column, key }
    }

    /// Says why it cannot be rotated, if so.
    fn check(&self) -> Result<(), CatalogError> {
        let relation = self.relation();
        if self.key.is_empty() {
            return Err(CatalogError::NoKey(relation));
        }
        match self.key.iter().find(|(_, kind)| !KEY_TYPES.contains(&kind.as_str())) {
            Some((column, kind)) => {
                Err(CatalogError::KeyType { relation, column: column.clone(), kind: kind.clone() })
            }
            None => Ok(()),
        }
    }
}

/// All columns of sealed values, by schema, table and name. A table that cannot be rotated is an error by its name: one
/// that is silently left out would stay under an old key.
pub async fn columns(conn: &mut PgConnection) -> Result<Vec<Column>, CatalogError> {
    let rows = sqlx::query!(
        r#"-- vault.columns
        select n.nspname as "schema!", c.relname as "table!", a.attname as "column!", c.relkind::text as "kind!",
               t.typname <> 'sealed' as "within!",
               coalesce(k.names, '{}') as "names!: Vec<String>", coalesce(k.types, '{}') as "types!: Vec<String>"
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid
          join pg_namespace n on n.oid = c.relnamespace
          join pg_type t on t.oid = a.atttypid
          left join lateral (
              select array_agg(p.attname::text order by o.place) as names,
                     array_agg(format_type(p.atttypid, null) order by o.place) as types
                from pg_index i
               cross join unnest(i.indkey::smallint[]) with ordinality as o (number, place)
                join pg_attribute p on p.attrelid = c.oid and p.attnum = o.number
               where i.indrelid = c.oid and i.indisprimary
          ) k on true
         where (a.atttypid = 'governance.sealed'::regtype
                or t.typelem = 'governance.sealed'::regtype or t.typbasetype = 'governance.sealed'::regtype)
           and a.attnum > 0 and not a.attisdropped
           and c.relkind in ('r', 'p', 'm', 'f') and not c.relispartition and c.relpersistence <> 't'
         order by 1, 2, 3"#
    );
    let mut columns = Vec::new();
    for row in rows.fetch_all(conn).await? {
        let key = row.names.into_iter().zip(row.types).collect();
        let column = Column { schema: row.schema, table: row.table, column: row.column, key };
        if row.within {
            return Err(CatalogError::Within(column.relation()));
        }
        if !["r", "p"].contains(&row.kind.as_str()) {
            return Err(CatalogError::NoTable(column.relation()));
        }
        column.check()?;
        columns.push(column);
    }
    Ok(columns)
}

/// A name as SQL takes it.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
