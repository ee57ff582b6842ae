//! What tables a database has, from its own catalog, held against what we know of them.

use sqlx::PgConnection;

use super::{
    BundleError,
    classification::{Fate, Kept, Relation},
    row::{Column, Form},
};

/// The type of sealed values, a domain, in whatever schema.
const SEALED: &str = "sealed";

/// A table of the bundle.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// With its schema.
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The columns of the primary key, in its order.
    pub(super) key: Vec<String>,
    /// How its rows are ordered.
    order: Vec<String>,
    /// Which rows; none means all.
    pub(super) rows: Option<&'static str>,
}

/// What a database holds.
#[derive(Debug)]
pub(super) struct Catalog {
    /// In the order of their names.
    pub(super) tables: Vec<Table>,
    /// What stays, with the reason.
    pub(super) excluded: Vec<(String, String)>,
}

struct Found {
    name: String,
    kind: String,
    is_partition: bool,
    is_of_extension: bool,
    key: Vec<String>,
}

struct FoundColumn {
    table: String,
    name: String,
    type_name: String,
    base: String,
    domain: Option<String>,
    is_required: bool,
    is_generated: bool,
    has_collation: bool,
}

/// Reads the catalog. Whatever holds rows and is not classified is named in the error, all of it at once.
pub(super) async fn read(conn: &mut PgConnection, known: &[Relation]) -> Result<Catalog, BundleError> {
    let found = relations(conn).await?;
    let mut columns = columns(conn).await?;
    let (mut tables, mut excluded, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for relation in found {
        let own: Vec<_> = columns.extract_if(.., |column| column.table == relation.name).collect();
        if let Some(reason) = stays(&relation) {
            // Thousands of partitions would say nothing that their table does not say.
            if !relation.is_partition {
                excluded.push((relation.name, reason.to_owned()));
            }
            continue;
        }
        match known.iter().find(|known| known.name == relation.name).map(|known| known.fate) {
            None => unknown.push(format!("the table {}", relation.name)),
            Some(Fate::Excluded(reason)) => excluded.push((relation.name, reason.to_owned())),
            Some(Fate::Kept(kept)) => match table(relation, own, &kept) {
                Ok(table) => tables.push(table),
                Err(names) => unknown.extend(names),
            },
        }
    }
    if unknown.is_empty() {
        Ok(Catalog { tables, excluded })
    } else {
        Err(BundleError::Unclassified(unknown))
    }
}

/// Why something stays that holds no rows of its own, or none of ours.
fn stays(relation: &Found) -> Option<&'static str> {
    match relation.kind.as_str() {
        _ if relation.is_of_extension => Some("of an extension of Postgres"),
        _ if relation.is_partition => Some("its rows are those of the table that it is a partition of"),
        "v" => Some("a view: it holds nothing of its own"),
        _ => None,
    }
}

fn table(found: Found, columns: Vec<FoundColumn>, kept: &Kept) -> Result<Table, Vec<String>> {
    let mut unknown = Vec::new();
    let mut known = Vec::with_capacity(columns.len());
    let mut order: Vec<(Option<usize>, String)> = Vec::new();
    for column in columns {
        let Some(class) = kept.class(&column.name) else {
            unknown.push(format!("the column {}.{}", found.name, column.name));
            continue;
        };
        let place = found.key.iter().position(|name| *name == column.name);
        if place.is_some() || found.key.is_empty() {
            order.push((place, ordered_by(&column, found.key.is_empty())));
        }
        let form = form(&column);
        // It follows from the others, and cannot be written.
        if !column.is_generated {
            let (name, type_name, is_required) = (column.name, column.type_name, column.is_required);
            known.push(Column { name, type_name, form, class, is_required });
        }
    }
    if !unknown.is_empty() {
        return Err(unknown);
    }
    order.sort_by_key(|(place, _)| *place);
    let order = order.into_iter().map(|(_, expression)| expression).collect();
    Ok(Table { name: found.name, columns: known, key: found.key, order, rows: kept.rows })
}

/// Texts are ordered by their bytes, as on any other server; of a table without a key every column counts, as text.
fn ordered_by(column: &FoundColumn, as_text: bool) -> String {
    let name = identifier(&column.name);
    match (as_text, column.has_collation) {
        (true, _) => format!("t.{name}::text collate \"C\""),
        (false, true) => format!("t.{name} collate \"C\""),
        (false, false) => format!("t.{name}"),
    }
}

fn form(column: &FoundColumn) -> Form {
    if column.domain.as_deref() == Some(SEALED) {
        return Form::Sealed;
    }
    match column.base.as_str() {
        "bool" => Form::Boolean,
        "int2" | "int4" => Form::Number,
        "int8" | "numeric" | "float4" | "float8" | "oid" => Form::Digits,
        "bytea" => Form::Hex,
        "jsonb" => Form::Json,
        _ => Form::Text,
    }
}

impl Table {
    /// The name as it stands in a statement.
    pub(super) fn quoted(&self) -> String {
        self.name.split('.').map(identifier).collect::<Vec<_>>().join(".")
    }

    /// The statement that copies its rows out, in their order. Of a sealed value nothing is read.
    pub(super) fn copy_out(&self, tenant: uuid::Uuid) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| {
                let name = identifier(&column.name);
                match column.form {
                    Form::Sealed => format!("case when t.{name} is not null then '' end"),
                    _ => format!("t.{name}"),
                }
            })
            .collect();
        let rows = self.rows.map_or_else(String::new, |rows| {
            format!(" where {}", rows.replace("$tenant", &format!("'{tenant}'::uuid")))
        });
        format!(
            "copy (select {} from {} t{rows} order by {}) to stdout",
            columns.join(", "),
            self.quoted(),
            self.order.join(", ")
        )
    }

    /// The statement that copies rows in.
    pub(super) fn copy_in(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| identifier(&column.name)).collect();
        format!("copy {} ({}) from stdin", self.quoted(), columns.join(", "))
    }
}

/// A name in a statement.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Everything that may hold rows, outside of Postgres's own schemas.
async fn relations(conn: &mut PgConnection) -> Result<Vec<Found>, sqlx::Error> {
    sqlx::query_as!(
        Found,
        r#"-- bundle.relations
        select n.nspname || '.' || c.relname as "name!", c.relkind::text as "kind!", c.relispartition as "is_partition!",
               exists (select from pg_depend d
                        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
               ) as "is_of_extension!",
               coalesce((select array_agg(a.attname::text order by k.place)
                           from pg_index i
                          cross join lateral unnest(i.indkey::int2[]) with ordinality as k (number, place)
                           join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
                          where i.indrelid = c.oid and i.indisprimary), '{}') as "key!"
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'm', 'f', 'v')
           and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
         order by (n.nspname || '.' || c.relname) collate "C""#
    )
    .fetch_all(conn)
    .await
}

async fn columns(conn: &mut PgConnection) -> Result<Vec<FoundColumn>, sqlx::Error> {
    sqlx::query_as!(
        FoundColumn,
        r#"-- bundle.columns
        select n.nspname || '.' || c.relname as "table!", a.attname::text as "name!",
               format_type(a.atttypid, a.atttypmod) as "type_name!",
               coalesce(b.typname, t.typname)::text as "base!",
               case when t.typtype = 'd' then t.typname::text end as domain,
               a.attnotnull as "is_required!", a.attgenerated <> '' as "is_generated!",
               a.attcollation <> 0 as "has_collation!"
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid
          join pg_namespace n on n.oid = c.relnamespace
          join pg_type t on t.oid = a.atttypid
          left join pg_type b on b.oid = t.typbasetype
         where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'm', 'f')
           and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
         order by c.oid, a.attnum"#
    )
    .fetch_all(conn)
    .await
}

/// A sequence and where it stands. It is beyond any snapshot, and at least as far as the rows.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) name: String,
    pub(super) last_value: Option<i64>,
}

/// The sequences, in the order of their names. None of the value: it was never drawn from.
pub(super) async fn sequences(conn: &mut PgConnection) -> Result<Vec<Sequence>, sqlx::Error> {
    sqlx::query_as!(
        Sequence,
        r#"-- bundle.sequences
        select n.nspname || '.' || c.relname as "name!", pg_sequence_last_value(c.oid) as last_value
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind = 'S' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
         order by (n.nspname || '.' || c.relname) collate "C""#
    )
    .fetch_all(conn)
    .await
}

#[cfg(test)]
impl Table {
    /// Every column that is entered for it is there.
    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|known| known.name == column)
    }
}
