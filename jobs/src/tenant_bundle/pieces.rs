//! A table's rows on their way out, in pieces of both forms.

use std::ops::Deref;

use futures_util::{Stream, TryStreamExt};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    BundleError,
    catalog::Table,
    row::{Encoder, RowFault},
    scrub::Scrubber,
};

/// A piece is handed out when it has about this length.
const BYTES: usize = 1 << 18;

/// Rows as lines of JSON, and the same as lines of CSV.
pub(super) struct Piece {
    pub(super) json: Vec<u8>,
    pub(super) csv: Vec<u8>,
}

impl Piece {
    fn empty() -> Self {
        Self { json: Vec::with_capacity(BYTES + BYTES / 4), csv: Vec::with_capacity(BYTES + BYTES / 4) }
    }
}

/// What is still to be copied out of a table.
pub(super) struct Pieces<'a, S> {
    copied: S,
    table: &'a Table,
    encoder: Encoder<'a>,
    /// The beginning of a row whose end has not come: a message is a row, but nothing says that it must be.
    begun: Vec<u8>,
    piece: Piece,
    is_over: bool,
}

/// Begins to copy the table's rows out.
pub(super) async fn pieces<'a>(
    conn: &'a mut PgConnection,
    table: &'a Table,
    tenant: Uuid,
    scrubber: &'a Scrubber,
) -> Result<
    Pieces<'a, impl Stream<Item = Result<impl Deref<Target = [u8]> + Send, sqlx::Error>> + Unpin + Send>,
    sqlx::Error,
> {
    let encoder = Encoder::new(&table.columns, scrubber);
    let mut piece = Piece::empty();
    encoder.header(&mut piece.csv);
    let copied = conn.copy_out_raw(&table.copy_out(tenant)).await?;
    Ok(Pieces { copied, table, encoder, begun: Vec::new(), piece, is_over: false })
}

impl<S, B> Pieces<'_, S>
where
    S: Stream<Item = Result<B, sqlx::Error>> + Unpin + Send,
    B: Deref<Target = [u8]> + Send,
{
    /// The next piece; none when all have been given.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, BundleError> {
        if self.is_over {
            return Ok(None);
        }
        while self.piece.json.len() < BYTES && self.piece.csv.len() < BYTES {
            let Some(message) = self.copied.try_next().await? else {
                self.is_over = true;
                break;
            };
            self.take(&message)?;
        }
        Ok(Some(std::mem::replace(&mut self.piece, Piece::empty())))
    }

    fn take(&mut self, message: &[u8]) -> Result<(), BundleError> {
        let mut rest = message;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (end, after) = (&rest[..at], &rest[at + 1..]);
            if self.begun.is_empty() {
                self.row(end)?;
            } else {
                let mut row = std::mem::take(&mut self.begun);
                row.extend_from_slice(end);
                self.row(&row)?;
            }
            rest = after;
        }
        self.begun.extend_from_slice(rest);
        Ok(())
    }

    fn row(&mut self, row: &[u8]) -> Result<(), BundleError> {
        let Piece { json, csv } = &mut self.piece;
        self.encoder.row(row, json, csv).map_err(|fault| {
            let table = self.table.name.clone();
            match fault {
                RowFault::Secret(column) => BundleError::SecretInside { table, column },
                RowFault::Malformed(column) => BundleError::Malformed { table, column },
            }
        })
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.encoder.rows
    }

    /// Sealed values so far, none of which came along.
    pub(super) fn sealed(&self) -> u64 {
        self.encoder.sealed
    }
}
