//! What a table lets its credential do, by the catalog's word: nothing is tried.

use sqlx::PgConnection;

use super::PgTarget;
use super::layout::Layout;
use crate::error::SourceError;
use crate::scan::{Proof, TargetLook};

impl PgTarget {
    pub(crate) async fn examine(&self) -> Result<TargetLook, SourceError> {
        let mut session = self.open("begin isolation level repeatable read read only").await?;
        let layout = Layout::find(self, &mut session.conn).await?;
        let refused = refused(&mut session.conn, layout.table.oid, &layout.owned).await;
        let refused = refused.map_err(|error| self.failure("reading privileges", &error))?;
        let mut proof = Proof::of_transactions();
        self.database.ask(&mut session.conn, &mut proof).await;
        Ok(TargetLook { may_write: Some(refused.is_empty()), refused, proof })
    }
}

/// The columns among these that the role may not update.
async fn refused(conn: &mut PgConnection, table: i64, owned: &[String]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- target.refused_columns
        select a.attname::text as "name!" from pg_catalog.pg_attribute a
         where a.attrelid = $1::int8::oid and a.attname::text = any($2) and not a.attisdropped
           and not has_column_privilege(a.attrelid, a.attnum, 'update')
         order by a.attnum"#,
        table,
        owned,
    )
    .fetch_all(conn)
    .await
}
