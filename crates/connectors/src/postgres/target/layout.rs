//! A target table as its catalog describes it to the role that writes.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use super::PgTarget;
use crate::definition::{FieldPath, RowVersion, StreamTarget};
use crate::digest::hex;
use crate::error::SourceError;
use crate::json;
use crate::postgres::catalog::Table;
use crate::target::{Fields, Observed, Validator};

/// The names that statements are made of.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) table: Table,
    pub(super) key: Vec<String>,
    pub(super) key_is_unique: bool,
    pub(super) owned: Vec<String>,
    /// The columns that the role may see.
    pub(super) visible: Vec<String>,
    pub(super) version: Option<RowVersion>,
}

impl Layout {
    /// Looks the table up; a column that is not there is named.
    pub(super) async fn find(target: &PgTarget, conn: &mut PgConnection) -> Result<Self, SourceError> {
        let place = &target.place;
        let table = target.database.table(conn, place, &target.table.table).await?;
        let visible =
            visible(conn, table.oid).await.map_err(|error| target.failure("reading privileges", &error))?;
        let key = match names(&target.table.key) {
            key if key.is_empty() => table.natural_key().map(<[String]>::to_vec).unwrap_or_default(),
            key => key,
        };
        if key.is_empty() {
            let advice = "name the columns that identify a row in `key`";
            return Err(place.configuration("the target's table has no primary key", advice));
        }
        let owned = names(&target.settings.owned);
        let version = target.table.version.clone();
        let named = match &version {
            Some(RowVersion::Column(name)) => Some(name),
            Some(RowVersion::Xmin) | None => None,
        };
        if let Some(name) = key.iter().chain(&owned).chain(named).find(|name| !visible.contains(name)) {
            let what = format!("the target's table has no column {name:?} that its role may select");
            return Err(place.configuration(what, "correct the name, or grant select on the column"));
        }
        let key_is_unique = table.is_unique(&key);
        Ok(Self { table, key, key_is_unique, owned, visible, version })
    }

    /// What the text of a row says.
    pub(super) fn observe(
        &self,
        settings: &StreamTarget,
        row: &str,
        version: Option<String>,
    ) -> Result<Observed, String> {
        let members = json::members(row).map_err(|flaw| flaw.detail)?.0;
        let mut fields = Fields::new();
        let mut rest = Sha256::new();
        for (name, value) in members {
            if self.owned.contains(&name) {
                let value: Value = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
                fields.insert(name, value);
            } else if !self.is_stamped(settings, &name) {
                // Names and values with their lengths: no two rows give one text.
                rest.update(format!("{}:{name}{}:{}", name.len(), value.get().len(), value.get()));
            }
        }
        Ok(Observed { fields, rest: hex(&rest.finalize()), validator: version.map(Validator) })
    }

    fn is_stamped(&self, settings: &StreamTarget, name: &str) -> bool {
        let by_version = matches!(&self.version, Some(RowVersion::Column(column)) if column == name);
        by_version || settings.stamped.iter().any(|field| field.names() == [name])
    }
}

fn names(fields: &[FieldPath]) -> Vec<String> {
    fields.iter().map(ToString::to_string).collect()
}

async fn visible(conn: &mut PgConnection, oid: i64) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- target.visible_columns
        select a.attname::text as "name!"
          from pg_catalog.pg_attribute a
         where a.attrelid = $1::int8::oid and a.attnum > 0 and not a.attisdropped
           and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select')
         order by a.attnum"#,
        oid,
    )
    .fetch_all(conn)
    .await
}
