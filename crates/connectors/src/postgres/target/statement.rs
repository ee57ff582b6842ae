//! The statements of a target: names quoted, values bound as JSON and cast by the table's own row type, so
//! that a value becomes what the column's type makes of it and the key's index is used.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use super::layout::Layout;
use crate::definition::RowVersion;
use crate::postgres::quote::identifier;
use crate::target::{Fields, Validator};

/// A statement and its values, all of them texts.
pub(super) struct Statement {
    text: String,
    values: Vec<String>,
}

/// A row of the target.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    /// `None` if it is too large to be sent.
    pub(super) data: Option<String>,
    pub(super) version: Option<String>,
}

impl Statement {
    pub(super) async fn rows(&self, conn: &mut PgConnection) -> Result<Vec<Row>, sqlx::Error> {
        let mut query = sqlx::query_as(AssertSqlSafe(self.text.clone()));
        for value in &self.values {
            query = query.bind(value);
        }
        query.fetch_all(conn).await
    }

    /// How many rows it touched.
    pub(super) async fn count(&self, conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let mut query = sqlx::query(AssertSqlSafe(self.text.clone()));
        for value in &self.values {
            query = query.bind(value);
        }
        Ok(query.execute(conn).await?.rows_affected())
    }
}

impl Layout {
    /// The row with this key, and at most one more to see that the key is not unique.
    pub(super) fn select(&self, key: &str, bytes_max: usize) -> Result<Statement, String> {
        let columns: Vec<_> = self.visible.iter().map(|name| format!("t.{}", identifier(name))).collect();
        let (columns, table, version) = (columns.join(", "), self.table.quoted(), self.version());
        let text = format!(
            "-- target.select\n\
             select case when octet_length(d.data) <= {bytes_max} then d.data end as data, {version} as version \
               from {table} t \
              cross join lateral (select row_to_json(r.*)::text as data from (select {columns}) r offset 0) d \
              where {} limit 2",
            self.is_key("$1")
        );
        Ok(Statement { text, values: vec![self.key_json(key)?] })
    }

    /// Locks the row. A statement of its own: one that waited for the lock would go on with the row that it
    /// had read before the wait, and the row as it is now is read after it.
    pub(super) fn lock(&self, key: &str) -> Result<Statement, String> {
        let text = format!(
            "-- target.lock\nselect from {} t where {} limit 2 for no key update",
            self.table.quoted(),
            self.is_key("$1")
        );
        Ok(Statement { text, values: vec![self.key_json(key)?] })
    }

    /// `desired` where the row is still as it was.
    pub(super) fn update(
        &self,
        key: &str,
        desired: &Fields,
        before: &Fields,
        validator: Option<&Validator>,
    ) -> Result<Statement, String> {
        let table = self.table.quoted();
        let new = |name: &String| {
            let column = identifier(name);
            format!("{column} = (json_populate_record(null::{table}, $2::json)).{column}")
        };
        let set: Vec<_> = desired.keys().map(new).collect();
        let mut values = vec![self.key_json(key)?, object(desired), object(before)];
        let mut guards: Vec<_> = before
            .keys()
            .map(|name| {
                let column = identifier(name);
                format!("coalesce(to_jsonb(t.{column}), 'null') = $3::jsonb -> {}", literal(name))
            })
            .collect();
        if let Some(validator) = validator {
            values.push(validator.0.clone());
            guards.push(format!("{} = $4::text", self.version()));
        }
        let text = format!(
            "-- target.update\nupdate {table} as t set {} where {} and {}",
            set.join(", "),
            self.is_key("$1"),
            guards.join(" and ")
        );
        Ok(Statement { text, values })
    }

    /// A new row, unless there is one.
    pub(super) fn insert(&self, key: &str, desired: &Fields) -> Result<Statement, String> {
        let mut row = self.key_fields(key)?;
        row.extend(desired.clone());
        let columns: Vec<_> = row.keys().map(|name| identifier(name)).collect();
        let values: Vec<_> = columns.iter().map(|column| format!("(d.r).{column}")).collect();
        let text = format!(
            "-- target.insert\n\
             insert into {table} ({}) \
             select {} from (select json_populate_record(null::{table}, $1::json) as r offset 0) d \
             on conflict do nothing",
            columns.join(", "),
            values.join(", "),
            table = self.table.quoted(),
        );
        Ok(Statement { text, values: vec![object(&row)] })
    }

    fn is_key(&self, parameter: &str) -> String {
        let table = self.table.quoted();
        let equal = |name: &String| {
            let column = identifier(name);
            format!("t.{column} = (json_populate_record(null::{table}, {parameter}::json)).{column}")
        };
        self.key.iter().map(equal).collect::<Vec<_>>().join(" and ")
    }

    fn version(&self) -> String {
        match &self.version {
            None => "null::text".to_owned(),
            Some(RowVersion::Xmin) => "t.xmin::text".to_owned(),
            Some(RowVersion::Column(name)) => format!("t.{}::text", identifier(name)),
        }
    }

    fn key_json(&self, key: &str) -> Result<String, String> {
        self.key_fields(key).map(|fields| object(&fields))
    }

    /// The key columns of a key's text: the text itself for one, a JSON array for several.
    fn key_fields(&self, key: &str) -> Result<Fields, String> {
        if let [name] = self.key.as_slice() {
            return Ok(Fields::from([(name.clone(), Value::from(key))]));
        }
        let parts: Vec<Value> = serde_json::from_str(key).unwrap_or_default();
        if parts.len() != self.key.len() {
            return Err(format!("the key does not have the {} parts of the target's key", self.key.len()));
        }
        Ok(self.key.iter().cloned().zip(parts).collect())
    }
}

fn object(fields: &Fields) -> String {
    serde_json::to_string(fields).expect("names and JSON values always serialise")
}

/// `text` as an SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
