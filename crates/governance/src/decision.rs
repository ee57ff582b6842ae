//! What a policy says of records, page by page.
//!
//! Owns: the pages of a path's records, the evidence that needs other records (gathered by one statement per kind and
//! page), the decisions and their rows.
//!
//! Promises: one decision per path, policy version and input digest, whatever is repeated, and a receipt for each. The
//! same input gives the same decision. Memory does not grow with the number of records. A decision on a record that has vanished or changed
//! meanwhile is not stored.
//!
//! Refuses: to write anything but decisions. Everything else happens in a transaction that may be read-only.

mod decide;
mod evidence;
mod measure;
mod page;
mod receipts;
mod store;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;

pub use decide::{Decider, Decision};
pub use evidence::{Evidence, MATCHES_MAX, gather};
pub use measure::{MEASURED_POLICY, Measured, measure};
pub use page::{PAGE_RECORDS, Record, fields, next_page, now, of_keys};
pub(crate) use receipts::issue as issue_receipts;
pub(crate) use store::insert;
pub use store::{DecisionError, Stored, store};
pub use tally::{Example, Row, Tally};
pub use verdict::Verdict;

use sqlx::PgConnection;

use crate::path::Path;

/// Decides over records and their evidence: reads what the policy needs and asks it.
///
/// For one page; a run goes over [`next_page`] or [`of_keys`] and then [`store`]s, in this transaction or a later one.
pub async fn decide_page(
    conn: &mut PgConnection,
    path: &Path,
    decider: &Decider<'_>,
    records: &[Record],
) -> Result<Vec<Decision>, sqlx::Error> {
    let evidence = gather(conn, path, decider.policy(), records).await?;
    Ok(records.iter().zip(&evidence).map(|(record, evidence)| decider.decide(record, evidence)).collect())
}
