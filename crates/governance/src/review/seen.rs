//! Who knows another's word on a case, by whatever they were shown.
//!
//! A word is told by the case itself, by its receipt, and by the writeback that it led to: the plan, the request for its
//! approval, and its receipts. Whoever was shown one of them gives no second word on the same input, whichever case it is
//! given on; the schema counts it so (`tenant.two_persons_said`).

use sqlx::PgConnection;

use super::Case;
use crate::{actor::ActorId, approval::ApprovalId, receipt::ReceiptId, writeback::WritebackId};

/// Notes who was shown another's word.
pub(super) async fn saw(conn: &mut PgConnection, cases: &[Case], by: ActorId) -> Result<(), sqlx::Error> {
    let others = cases
        .iter()
        .filter(|case| case.state.is_word() && case.closed_by.as_ref().is_some_and(|first| first.id != by));
    let others: Vec<_> = others.map(|case| case.id.0).collect();
    if others.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "-- review.saw
        insert into tenant.review_seen (review_case, actor) select id, $2 from unnest($1::bigint[]) as id order by id
        on conflict do nothing",
        &others,
        by as ActorId,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Notes who was shown the writebacks of words. Before the reading is put on record.
pub(crate) async fn saw_writebacks(
    conn: &mut PgConnection,
    writebacks: &[WritebackId],
    by: ActorId,
) -> Result<(), sqlx::Error> {
    let writebacks: Vec<_> = writebacks.iter().map(|id| id.0).collect();
    sqlx::query!(
        "-- review.saw_writebacks
        insert into tenant.review_seen (review_case, actor)
        select c.id, $2
        from tenant.writeback b
        join tenant.wish w on w.writeback = coalesce(b.compensates, b.id)
        join tenant.review_case c on c.id = w.review_case
        where b.id = any($1) and c.closed_by <> $2 order by c.id
        on conflict do nothing",
        &writebacks,
        by as ActorId,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Notes who was shown what is to be approved, if that is a word's writeback.
pub(crate) async fn saw_approval(
    conn: &mut PgConnection,
    approval: ApprovalId,
    by: ActorId,
) -> Result<(), sqlx::Error> {
    let writebacks = sqlx::query_scalar!(
        r#"-- review.approved_writebacks
        select id from tenant.writeback where approval = $1"#,
        approval.0,
    );
    let writebacks: Vec<_> = writebacks.fetch_all(&mut *conn).await?.into_iter().map(WritebackId).collect();
    saw_writebacks(conn, &writebacks, by).await
}

/// Notes who was shown the receipt of a word, or of its writeback.
pub(crate) async fn saw_receipt(
    conn: &mut PgConnection,
    receipt: ReceiptId,
    by: ActorId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- review.saw_receipt
        insert into tenant.review_seen (review_case, actor)
        select c.id, $3
        from tenant.receipt r join tenant.review_case c on 'review/' || c.id = r.subject
        where r.batch = $1 and r.position = $2 and c.closed_by <> $3
        on conflict do nothing",
        receipt.batch,
        receipt.position,
        by as ActorId,
    )
    .execute(&mut *conn)
    .await?;
    let writebacks = sqlx::query_scalar!(
        r#"-- review.receipted_writebacks
        select (convert_from(content, 'UTF8')::jsonb #>> '{receipt,writeback,id}')::bigint as "id!"
        from tenant.receipt
        where batch = $1 and position = $2
          and convert_from(content, 'UTF8')::jsonb #>> '{receipt,writeback,id}' is not null"#,
        receipt.batch,
        receipt.position,
    );
    let writebacks: Vec<_> = writebacks.fetch_all(&mut *conn).await?.into_iter().map(WritebackId).collect();
    saw_writebacks(conn, &writebacks, by).await
}
