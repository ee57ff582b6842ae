//! What a stream's definition means for its table: key, cursor and the projection, as SQL over a row `t`.

use sqlx::PgConnection;

use super::PgSource;
use super::catalog::{Column, Table};
use super::quote::identifier;
use crate::cursor::CursorType;
use crate::definition::{Deletions, FieldPath, Stream, StreamOrigin, nearest};
use crate::error::{Place, SourceError};
use crate::json::Agreed;

/// How a stream is read from its table.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) table: Table,
    pub(super) key: Vec<FieldPath>,
    pub(super) key_columns: Vec<Column>,
    /// No two rows share a key.
    pub(super) key_is_unique: bool,
    pub(super) cursor: Option<CursorPlan>,
    /// The row as it is carried, for `row_to_json`, and where it comes from.
    pub(super) projection: Option<String>,
}

/// How the cursor column is written in statements.
#[derive(Clone, Debug)]
pub(super) struct CursorPlan {
    pub(super) column: Column,
    /// Its value as text that `CursorValue` reads.
    pub(super) text: String,
    /// What rows are ordered by.
    pub(super) order: String,
    /// The type that a lower bound, given as text, is brought to.
    pub(super) bound: fn(&str) -> String,
    /// Usable values only; `None` where all are.
    pub(super) usable: Option<String>,
    /// The rest; `None` where there can be none.
    pub(super) odd: Option<String>,
}

impl Plan {
    /// Matches the stream's definition with what the source has.
    pub(super) async fn make(
        source: &PgSource,
        conn: &mut PgConnection,
        place: &Place,
        stream: &Stream,
    ) -> Result<Self, SourceError> {
        let StreamOrigin::Table(written) = &stream.origin else {
            return Err(place.configuration("the stream is of another kind of source", "give it a `table`"));
        };
        let table = source.table(conn, place, written).await?;
        let key = key(place, stream, &table)?;
        let columns = key.iter().map(|field| top_column(place, &table, field, "key").cloned());
        let key_columns: Vec<Column> = columns.collect::<Result<_, _>>()?;
        let cursor = match &stream.cursor {
            Some(rule) => {
                Some(CursorPlan::make(place, top_column(place, &table, &rule.field, "cursor")?, rule.kind)?)
            }
            None => None,
        };
        if let Deletions::Flag(field) = &stream.deletions {
            column(place, &table, field, "deletions")?;
        }
        let carried = stream.carried(&key);
        let projection = carried.map(|fields| projection(place, &table, &fields)).transpose()?;
        let names: Vec<_> = key_columns.iter().map(|column| column.name.clone()).collect();
        let key_is_unique = table.is_unique(&names);
        Ok(Self { table, key, key_columns, key_is_unique, cursor, projection })
    }
}

/// The key that is configured, else the one that the table itself has.
fn key(place: &Place, stream: &Stream, table: &Table) -> Result<Vec<FieldPath>, SourceError> {
    if !stream.key.is_empty() {
        return Ok(stream.key.clone());
    }
    let natural = table.natural_key().ok_or_else(|| {
        place.configuration(
            format!("{} has no primary key and the stream names no key", table.written()),
            "name the columns that identify a row, such as key = [\"id\"]",
        )
    })?;
    Ok(natural.iter().map(|name| FieldPath(vec![name.clone()])).collect())
}

/// The column that holds `field`.
fn column<'t>(
    place: &Place,
    table: &'t Table,
    field: &FieldPath,
    wanted_by: &str,
) -> Result<&'t Column, SourceError> {
    let name = &field.names()[0];
    table.column(name).ok_or_else(|| {
        let columns = || table.columns.iter().map(|column| column.name.as_str());
        let advice = nearest(name, columns()).map_or_else(
            || format!("it has {}", columns().collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        place.configuration(format!("{} has no column {name:?} for `{wanted_by}`", table.written()), advice)
    })
}

fn top_column<'t>(
    place: &Place,
    table: &'t Table,
    field: &FieldPath,
    wanted_by: &str,
) -> Result<&'t Column, SourceError> {
    if field.names().len() > 1 {
        let what = format!("`{wanted_by}` is {field}, a field within a column");
        return Err(place.configuration(what, "name a column, or read from a view that has it as a column"));
    }
    column(place, table, field, wanted_by)
}

/// The agreed fields as columns of one row.
fn projection(place: &Place, table: &Table, fields: &[FieldPath]) -> Result<String, SourceError> {
    for field in fields {
        let column = column(place, table, field, "fields")?;
        if field.names().len() > 1 && column.kind != "jsonb" {
            let what = format!("{field} reaches into a column of type {}", column.kind);
            let advice =
                format!("agree on {:?} as a whole, or read from a view that has the field", column.name);
            return Err(place.configuration(what, advice));
        }
    }
    let agreed = Agreed::new(fields);
    let columns = agreed.parts().map(|(name, below)| {
        let column = format!("t.{}", identifier(name));
        format!("{} as {}", inner(&column, below), identifier(name))
    });
    Ok(columns.collect::<Vec<_>>().join(", "))
}

/// A value cut to what is agreed below it; a whole value is taken as it is.
fn inner(value: &str, agreed: &Agreed) -> String {
    if agreed.is_whole() {
        return value.to_owned();
    }
    let members = agreed.parts().map(|(name, below)| {
        let name = literal(name);
        format!("{name}, {}", inner(&format!("({value} -> {name})"), below))
    });
    let object = format!("jsonb_build_object({})", members.collect::<Vec<_>>().join(", "));
    format!("case jsonb_typeof({value}) when 'object' then {object} end")
}

/// Text as an SQL literal; the session has `standard_conforming_strings` on.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl CursorPlan {
    fn make(place: &Place, column: &Column, kind: CursorType) -> Result<Self, SourceError> {
        let c = format!("t.{}", identifier(&column.name));
        let text = match kind {
            CursorType::Timestamp => Self::timestamp(column, &c),
            CursorType::Integer => Self::integer(column, &c),
            CursorType::Text => Some(Self::text(column, &c)),
        };
        text.ok_or_else(|| {
            let fitting = match column.kind.as_str() {
                "smallint" | "integer" | "bigint" | "numeric" => "integer",
                kind if kind.starts_with("timestamp") || kind == "date" => "timestamp",
                _ => "text",
            };
            place.configuration(
                format!("the cursor {:?} is a column of type {}, not {kind}", column.name, column.kind),
                format!("write type = {fitting:?}"),
            )
        })
    }

    /// The years 1 to 9999 only: outside, dates have no RFC 3339 text, and the infinities no place.
    fn timestamp(column: &Column, c: &str) -> Option<Self> {
        let (utc, bound): (String, fn(&str) -> String) = match column.kind.as_str() {
            "timestamp with time zone" => {
                (format!("({c} at time zone 'UTC')"), |p| format!("{p}::text::timestamptz"))
            }
            "timestamp without time zone" => {
                (c.to_owned(), |p| format!("({p}::text::timestamptz at time zone 'UTC')"))
            }
            "date" => {
                (format!("{c}::timestamp"), |p| format!("({p}::text::timestamptz at time zone 'UTC')::date"))
            }
            _ => return None,
        };
        let (least, greatest) = match column.kind.as_str() {
            "date" => ("date '0001-01-01'", "date '9999-12-31'"),
            "timestamp without time zone" => {
                ("timestamp '0001-01-01 00:00:00'", "timestamp '9999-12-31 23:59:59.999999'")
            }
            _ => ("timestamptz '0001-01-01 00:00:00+00'", "timestamptz '9999-12-31 23:59:59.999999+00'"),
        };
        Some(Self {
            column: column.clone(),
            text: format!("to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"),
            order: c.to_owned(),
            bound,
            usable: Some(format!("{c} between {least} and {greatest}")),
            odd: Some(format!("({c} is null or {c} < {least} or {c} > {greatest})")),
        })
    }

    fn integer(column: &Column, c: &str) -> Option<Self> {
        let null = (!column.not_null).then(|| format!("{c} is null"));
        let whole = Self {
            column: column.clone(),
            text: format!("{c}::bigint::text"),
            order: c.to_owned(),
            bound: |p| format!("{p}::text::bigint"),
            usable: null.as_ref().map(|_| format!("{c} is not null")),
            odd: null,
        };
        match column.kind.as_str() {
            "smallint" | "integer" | "bigint" => Some(whole),
            "numeric" => {
                let range = "-9223372036854775808 and 9223372036854775807";
                Some(Self {
                    bound: |p| format!("{p}::text::numeric"),
                    usable: Some(format!("({c} between {range} and {c} = trunc({c}))")),
                    // NaN is greater than every number, so it is outside the range too.
                    odd: Some(format!("({c} is null or {c} not between {range} or {c} <> trunc({c}))")),
                    ..whole
                })
            }
            _ => None,
        }
    }

    /// In byte order, as it is compared here, whatever the column's collation.
    fn text(column: &Column, c: &str) -> Self {
        let null = (!column.not_null).then(|| format!("{c} is null"));
        Self {
            column: column.clone(),
            text: format!("{c}::text"),
            order: format!("{c}::text collate \"C\""),
            bound: |p| format!("{p}::text"),
            usable: null.as_ref().map(|_| format!("{c} is not null")),
            odd: null,
        }
    }
}
