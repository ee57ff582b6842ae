//! Issues receipts: their rows, and the one entry of the chain that anchors them.

use serde_json::json;
use sqlx::PgConnection;
use verifier::merkle;

use super::{Content, Receipt, ReceiptError, ReceiptId, Subject, TAG};
use crate::{
    actor::ActorId,
    audit::{Entry, Event, body_of},
    digest::Digest,
};

/// A batch has at most so many receipts: they are held in memory, and a path has at most 17 hashes.
pub(super) const BATCH_MAX: usize = 100_000;

/// Rows of one insert: a few MB.
const ROWS: usize = 5_000;

/// On whose account receipts are issued.
#[derive(Clone, Copy, Debug, Default)]
pub struct By<'a> {
    /// Who acts; none for what the service does of itself.
    pub actor: Option<ActorId>,
    /// The job in which it happens.
    pub job: Option<i64>,
    /// The approval that the whole batch belongs to: the entry carries it, for the approval's timeline.
    pub approval: Option<&'a str>,
}

/// A batch that was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its number.
    pub batch: i64,
    /// The entry that anchors it.
    pub entry: Entry,
}

impl Issued {
    /// The number of the receipt at this place of the slice that was issued.
    #[must_use]
    pub fn id(&self, position: usize) -> ReceiptId {
        ReceiptId { batch: self.batch, position: i32::try_from(position).unwrap_or(i32::MAX) }
    }
}

/// Issues receipts as one batch: a single receipt for an effect, up to 100,000 for decisions without one. The last
/// statements of the business transaction, since the entry is among them; see [`crate::audit::append`].
pub async fn issue(
    conn: &mut PgConnection,
    receipts: &[Receipt],
    by: By<'_>,
) -> Result<Issued, ReceiptError> {
    issue_all(conn, receipts.iter().map(|receipt| (None, receipt)), by).await
}

/// The same, each noted with what it is about, so that it is found from there.
pub async fn issue_about(
    conn: &mut PgConnection,
    receipts: &[(Subject, Receipt)],
    by: By<'_>,
) -> Result<Issued, ReceiptError> {
    issue_all(conn, receipts.iter().map(|(subject, receipt)| (Some(*subject), receipt)), by).await
}

async fn issue_all<'a>(
    conn: &mut PgConnection,
    mut receipts: impl ExactSizeIterator<Item = (Option<Subject>, &'a Receipt)>,
    by: By<'_>,
) -> Result<Issued, ReceiptError> {
    if receipts.len() == 0 || receipts.len() > BATCH_MAX {
        return Err(ReceiptError::BatchSize);
    }
    let begun = sqlx::query!(
        r#"-- receipt.begin
        select nextval('tenant.receipt_batch_number') as "batch!",
               to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "at!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut leaves = Vec::with_capacity(receipts.len());
    for first in (0..).step_by(ROWS) {
        let rows: Vec<_> = receipts.by_ref().take(ROWS).collect();
        if rows.is_empty() {
            break;
        }
        leaves.extend(insert(conn, begun.batch, &begun.at, first, &rows, by).await?);
    }
    anchor(conn, begun.batch, &leaves, by).await
}

/// Inserts the receipts from position `first` on; answers their leaves.
async fn insert(
    conn: &mut PgConnection,
    batch: i64,
    at: &str,
    first: i32,
    receipts: &[(Option<Subject>, &Receipt)],
    by: By<'_>,
) -> Result<Vec<[u8; 32]>, ReceiptError> {
    let job = by.job.map(|job| job.to_string());
    let (mut contents, mut leaves) = (Vec::with_capacity(receipts.len()), Vec::with_capacity(receipts.len()));
    let (mut formers, mut subjects) =
        (Vec::with_capacity(receipts.len()), Vec::with_capacity(receipts.len()));
    for ((subject, receipt), position) in receipts.iter().zip(first..) {
        let id = ReceiptId { batch, position };
        let content = Content { actor: by.actor, at, id, job: job.clone(), receipt, tag: TAG };
        let content = serde_json::to_vec(&content)?;
        leaves.push(merkle::leaf(&content));
        contents.push(content);
        formers.push(receipt.former.map(|former| former.to_string()));
        subjects.push(subject.map(|subject| subject.to_string()));
    }
    let bytes: Vec<Vec<u8>> = leaves.iter().map(|leaf| leaf.to_vec()).collect();
    sqlx::query!(
        "-- receipt.insert
        insert into tenant.receipt (batch, position, former, leaf, content, subject)
        select $1, $2 + number::int - 1, former, leaf, content, subject
          from unnest($3::text[], $4::bytea[], $5::bytea[], $6::text[]) with ordinality
              as new (former, leaf, content, subject, number)",
        batch,
        first,
        formers as Vec<Option<String>>,
        &bytes,
        &contents,
        subjects as Vec<Option<String>>,
    )
    .execute(conn)
    .await?;
    Ok(leaves)
}

/// Appends the entry with the batch's root, and notes its number: one statement, so that the chain is held no longer.
async fn anchor(
    conn: &mut PgConnection,
    batch: i64,
    leaves: &[[u8; 32]],
    by: By<'_>,
) -> Result<Issued, ReceiptError> {
    let root = Digest(merkle::root(leaves));
    let mut body = json!({ "batch": batch, "root": root, "size": leaves.len() });
    if let (Some(approval), Some(members)) = (by.approval, body.as_object_mut()) {
        members.insert("approval".to_owned(), approval.into());
    }
    let event = Event { kind: "receipt.issued", actor: by.actor, job: by.job, body };
    let anchored = sqlx::query!(
        r#"-- receipt.anchor
        with entry as (select * from governance.append($1, $2, $3, $4)),
             noted as (insert into tenant.receipt_batch (batch, seq, size, root)
                       select $5, entry_seq, $6, $7 from entry)
        select entry_seq as "seq!", entry_hash as "hash!" from entry"#,
        event.kind,
        event.actor as Option<ActorId>,
        event.job,
        body_of(&event)?,
        batch,
        i32::try_from(leaves.len()).map_err(|_| ReceiptError::BatchSize)?,
        root.as_bytes(),
    )
    .fetch_one(conn)
    .await?;
    let hash = anchored.hash.try_into().map_err(crate::audit::AuditError::from)?;
    Ok(Issued { batch, entry: Entry { seq: anchored.seq, hash } })
}
