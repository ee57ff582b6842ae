//! What a table does, found out on a real row in a transaction that is rolled back: nothing can change.

use serde_json::Value;
use sqlx::PgConnection;

use super::PgTarget;
use super::layout::Layout;
use crate::error::SourceError;
use crate::target::{Capability, Observed, Probed, Validator};

impl PgTarget {
    pub(crate) async fn probe(&self, sample: Option<&str>) -> Probed {
        let blind = Probed::new(Capability::Blind);
        let begun = self.open("begin isolation level read committed").await;
        let mut session = match begun {
            Ok(session) => session,
            Err(error) => return blind.obstructed(error.to_string()),
        };
        let Some(key) = self.settings.probe_key.as_deref().or(sample) else {
            return blind.obstructed("there is no record to try it on: name one in `probe_key`");
        };
        // The transaction ends with the connection, without a commit.
        match self.try_on(&mut session.conn, key).await {
            Ok(probed) => probed,
            Err(error) => blind.obstructed(error.to_string()),
        }
    }

    async fn try_on(&self, conn: &mut PgConnection, key: &str) -> Result<Probed, SourceError> {
        let layout = Layout::find(self, conn).await?;
        let Some(observed) = self.lock(conn, &layout, key).await? else {
            return Ok(Probed::new(Capability::Blind).obstructed("the record to try it on is not there"));
        };
        let mut probed = Probed::new(Capability::ReadCheck);
        let outdated = self.touch(conn, &layout, key, &observed, Wrong::Outdated).await?;
        let right = self.touch(conn, &layout, key, &observed, Wrong::Nothing).await?;
        probed.saw(format!(
            "an update of a row to its own values changed {outdated} rows with an outdated expectation, and \
             {right} with the right one; both were rolled back"
        ));
        if (outdated, right) == (0, 1) {
            probed.proved(Capability::ConditionalWrite);
        } else if right != 1 {
            return Ok(probed.obstructed("the target's own triggers or policies keep the row as it is"));
        }
        if observed.validator.is_some() {
            let after = self.look(conn, &layout, key).await?;
            let moved = after.is_some_and(|after| after.validator != observed.validator);
            probed.saw(if moved {
                "the row version changed with the update"
            } else {
                "the row version did not change with the update: only the values before guard a row"
            });
        }
        Ok(probed)
    }

    /// Writes a row's own values onto it; how many rows that touched.
    async fn touch(
        &self,
        conn: &mut PgConnection,
        layout: &Layout,
        key: &str,
        observed: &Observed,
        wrong: Wrong,
    ) -> Result<u64, SourceError> {
        let (mut before, mut validator) = (observed.fields.clone(), observed.validator.clone());
        match (wrong, &mut validator) {
            (Wrong::Nothing, _) => {}
            (Wrong::Outdated, Some(version)) => *version = Validator("no version".into()),
            (Wrong::Outdated, None) => {
                for value in before.values_mut() {
                    *value = Value::from("no value of this row");
                }
            }
        }
        let statement = layout
            .update(key, &observed.fields, &before, validator.as_ref())
            .map_err(|what| self.place.configuration(what, "correct the target's `key`"))?;
        statement.count(conn).await.map_err(|error| self.failure("trying an update", &error))
    }
}

/// What of the expectation does not hold.
#[derive(Clone, Copy)]
enum Wrong {
    Nothing,
    /// The row version; without one, the values.
    Outdated,
}
