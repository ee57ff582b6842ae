//! What a database has to offer, as streams ready to be pasted.

use std::fmt::Write as _;

use super::PgSource;
use super::catalog::{Column, Table};
use crate::error::SourceError;
use crate::report::{DiscoveredField, DiscoveredStream};

/// Column names that people give to the time of the last change, the likeliest first.
const CURSOR_NAMES: [&str; 8] = [
    "updated_at",
    "modified_at",
    "last_modified",
    "changed_at",
    "updated",
    "modified",
    "created_at",
    "version",
];

impl PgSource {
    /// Every table and view that the credential can see.
    pub(crate) async fn discover(&self) -> Result<Vec<DiscoveredStream>, SourceError> {
        let mut session = self.open(&self.place).await?;
        let tables = self.tables(&mut session.conn).await?;
        Ok(tables.iter().map(|table| self.describe(table)).collect())
    }

    fn describe(&self, table: &Table) -> DiscoveredStream {
        let key = table.natural_key().unwrap_or_default().to_vec();
        let cursors = cursor_candidates(table);
        let mut problems = Vec::new();
        if key.is_empty() {
            problems
                .push("no primary key and no unique index: name the columns that identify a row".to_owned());
        } else if !table.has_primary_key {
            problems.push("no primary key: the key is taken from a unique index".to_owned());
        }
        if cursors.is_empty() {
            problems.push("no column to serve as a cursor: every run would read the whole table".to_owned());
        }
        if table.rows_estimated.is_none() && !table.is_view {
            problems.push("never analysed: the number of rows is unknown".to_owned());
        }
        if let Some(stream) = self.configured_for(table) {
            problems.push(format!("already configured as stream {:?}", stream.name));
        }
        DiscoveredStream {
            name: table.written(),
            fields: table.columns.iter().map(DiscoveredField::from).collect(),
            snippet: snippet(table, &key, cursors.first().copied()),
            cursor_candidates: cursors.iter().map(|column| column.name.clone()).collect(),
            key,
            rows_estimated: table.rows_estimated,
            problems,
        }
    }
}

impl From<&Column> for DiscoveredField {
    fn from(column: &Column) -> Self {
        Self { name: column.name.clone(), kind: column.kind.clone(), nullable: !column.not_null }
    }
}

/// Columns that look like a time of change or a version, the best first: known names, indexed, not null.
fn cursor_candidates(table: &Table) -> Vec<&Column> {
    let rank = |column: &Column| {
        let name = CURSOR_NAMES.iter().position(|name| *name == column.name);
        (name.unwrap_or(CURSOR_NAMES.len()), !table.leading.contains(&column.name), !column.not_null)
    };
    let mut fitting: Vec<_> = table
        .columns
        .iter()
        .filter(|column| {
            column.kind.starts_with("timestamp")
                || (cursor_type(column) == Some("integer") && CURSOR_NAMES.contains(&column.name.as_str()))
        })
        .collect();
    fitting.sort_by_key(|column| rank(column));
    fitting
}

fn cursor_type(column: &Column) -> Option<&'static str> {
    match column.kind.as_str() {
        "timestamp with time zone" | "timestamp without time zone" | "date" => Some("timestamp"),
        "smallint" | "integer" | "bigint" | "numeric" => Some("integer"),
        _ => None,
    }
}

fn snippet(table: &Table, key: &[String], cursor: Option<&Column>) -> String {
    let list = |names: &[String]| names.iter().map(|name| text(name)).collect::<Vec<_>>().join(", ");
    let names: Vec<_> = table.columns.iter().map(|column| column.name.clone()).collect();
    let mut snippet = format!(
        "[[streams]]\nname = {}\ntable = {}\n",
        text(&stream_name(&table.name)),
        text(&table.written())
    );
    // Writing to a String cannot fail.
    let mut line = |line: String| writeln!(snippet, "{line}").expect("a String takes every text");
    if key.is_empty() {
        line("key = []  # name the columns that identify a row".to_owned());
    } else {
        line(format!("key = [{}]", list(key)));
    }
    if let Some((column, kind)) = cursor.and_then(|column| Some((column, cursor_type(column)?))) {
        line(format!("cursor = {{ field = {}, type = {kind:?} }}", text(&column.name)));
    }
    line(format!("fields = [{}]", list(&names)));
    snippet
}

/// A stream's name made of a table's.
fn stream_name(table: &str) -> String {
    let name: String = table
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '_' })
        .take(63)
        .collect();
    if name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name
    } else {
        format!("t{name}").chars().take(63).collect()
    }
}

/// Text as TOML writes it.
fn text(text: &str) -> String {
    toml::Value::from(text).to_string()
}
