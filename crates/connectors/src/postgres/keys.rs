//! All keys of a table, in byte order, so that the caller can see which records are gone.
//!
//! Refuses to call an emptied table a deletion: when more of the known records would vanish than the stream
//! allows, a person decides.

use super::read::PgReader;
use super::session::within;
use super::statement::fetch_keys;
use crate::error::SourceError;
use crate::record::KeyRange;

/// Keys are small: a batch holds this many times more of them than of records.
const KEYS_PER_RECORD: usize = 10;

impl PgReader {
    /// The range of keys behind `after`. `open` says whether the cursor at the source is open already.
    pub(super) async fn next_keys(
        &mut self,
        after: Option<String>,
        open: bool,
    ) -> Result<KeyRange, SourceError> {
        if !open {
            self.refuse_a_wipe().await?;
            let statement = self.plan.declare_keys(after.as_deref());
            let selected = within(self.source.patience(), statement.execute(self.conn())).await;
            selected.map_err(|error| self.failed("selecting keys", &error))?;
        }
        let count = self.options.batch_records.max(1) * KEYS_PER_RECORD;
        let limit = self.source.patience();
        let keys = within(limit, fetch_keys(self.conn(), count))
            .await
            .map_err(|error| self.failed("reading keys", &error))?;
        let through = keys.last().filter(|_| keys.len() == count).cloned();
        Ok(KeyRange { after, through, keys })
    }

    async fn refuse_a_wipe(&mut self) -> Result<(), SourceError> {
        let statement = self.plan.count_keys();
        let counted = within(self.source.patience(), statement.number(self.conn())).await;
        let count = counted.map_err(|error| self.failed("counting keys", &error))?;
        let (count, percent) = (count.unsigned_abs(), self.stream.deletions_percent_max);
        // Who does not say how many records there are could lose them all.
        let known = self.options.known_records.unwrap_or_else(|| u64::from(count == 0));
        if !self.stream.too_many_deletions(known, known.saturating_sub(count)) {
            return Ok(());
        }
        Err(self.place.configuration(
            format!(
                "the source has {count} rows where {known} records are known: more than {percent} % would be \
                 marked deleted"
            ),
            "look at the source; if the rows are really gone, raise `deletions_percent_max` for one run",
        ))
    }
}
