//! Signed checkpoints of a database's chain: what goes where we cannot rewrite it.
//!
//! Promises: two checkpoints of one chain never contradict each other: each goes on from the one before, over entries
//! that were found to be chained; a chain that is broken is not signed. Refuses a key file that others may read.

mod folder;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use futures_util::TryStreamExt;
use sqlx::PgConnection;
use verifier::{
    chain::chain_hash,
    merkle::{self, Tree},
    note::{Checkpoint, NoteError, SecretKey},
};

pub use self::folder::{generate_key_file, read_key_file, store};
use crate::digest::{Digest, NoDigest};

/// A checkpoint that is in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The number of entries it speaks of.
    pub size: i64,
    /// The signed note.
    pub note: String,
    /// Whether it was made now; else nothing was appended since.
    pub is_new: bool,
}

/// Why a checkpoint cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The chain is not what was appended: nothing is signed.
    #[error("entry {0} does not follow from the one before: the chain was tampered with, and is not signed")]
    Broken(i64),
    /// The chain is shorter than its last checkpoint, or was put together anew behind it.
    #[error("the chain is not the one of its last checkpoint, which had {0} entries")]
    Rewritten(i64),
    /// The file of the key cannot be used.
    #[error("the key file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may use the key.
    #[error("the key file {path} is open to others (mode {mode:o})")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The text is no key.
    #[error("the key is none")]
    Key(#[from] NoteError),
    /// A hash in the database is none.
    #[error("the chain holds a hash that is none")]
    Hash(#[from] NoDigest),
    /// The database refused or was lost.
    #[error("the checkpoint cannot be made")]
    Database(#[from] sqlx::Error),
}

/// Makes a checkpoint of the chain as it is, or finds the last one if nothing was appended since. In a transaction or
/// out of one; memory does not grow with the chain.
pub async fn make(conn: &mut PgConnection, key: &SecretKey) -> Result<Made, CheckpointError> {
    let head = sqlx::query!(
        r#"-- checkpoint.head
        select origin as "origin!", size as "size!", hash as "hash!",
               to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "at!"
          from governance.audit_tail"#
    )
    .fetch_one(&mut *conn)
    .await?;
    let last = last(conn).await?;
    if let Some(last) = &last
        && (head.size < last.size || (head.size == last.size && head.hash != last.head))
    {
        return Err(CheckpointError::Rewritten(last.size));
    }
    if let Some(last) = last.as_ref().filter(|last| last.size == head.size) {
        return Ok(Made { size: last.size, note: last.note.clone(), is_new: false });
    }
    let tree = grow(conn, last, &head.origin, head.size, Digest::try_from(head.hash.clone())?).await?;
    let root = tree.root();
    let checkpoint = Checkpoint {
        origin: head.origin,
        size: tree.size(),
        root,
        head: Digest::try_from(head.hash.clone())?.0,
        at: head.at,
    };
    let note = key.sign(&checkpoint);
    let inserted = sqlx::query!(
        "-- checkpoint.insert
        insert into governance.checkpoint (size, head, root, peaks, note) values ($1, $2, $3, $4, $5)
        on conflict (size) do nothing",
        head.size,
        head.hash,
        root.as_slice(),
        tree.peaks().concat(),
        note,
    )
    .execute(&mut *conn)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Made { size: head.size, note, is_new: true });
    }
    // Somebody else was faster, over the same entries.
    let other = self::last(conn).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Made { size: other.size, note: other.note, is_new: false })
}

/// The last checkpoint's note, if there is one.
pub async fn latest(conn: &mut PgConnection) -> Result<Option<Made>, CheckpointError> {
    Ok(last(conn).await?.map(|last| Made { size: last.size, note: last.note, is_new: false }))
}

struct Last {
    size: i64,
    head: Vec<u8>,
    peaks: Vec<u8>,
    note: String,
}

async fn last(conn: &mut PgConnection) -> Result<Option<Last>, CheckpointError> {
    let last = sqlx::query_as!(
        Last,
        "-- checkpoint.last
        select size, head, peaks, note from governance.checkpoint order by size desc limit 1"
    );
    Ok(last.fetch_optional(conn).await?)
}

/// The tree of the first `size` entries: the last checkpoint's, grown by the entries since, each of which must follow
/// from the one before.
async fn grow(
    conn: &mut PgConnection,
    last: Option<Last>,
    origin: &str,
    size: i64,
    head: Digest,
) -> Result<Tree, CheckpointError> {
    let (from, mut tree, mut hash) = match last {
        None => (0, Tree::default(), verifier::chain::genesis(origin)),
        Some(last) => {
            let peaks = last.peaks.as_chunks().0.to_vec();
            let tree = Tree::with_peaks(last.size.unsigned_abs(), peaks);
            let tree = tree.ok_or(CheckpointError::Rewritten(last.size))?;
            (last.size, tree, Digest::try_from(last.head)?.0)
        }
    };
    let mut entries = sqlx::query!(
        "-- checkpoint.entries
        select seq, content, hash from governance.audit_entry where seq > $1 and seq <= $2 order by seq",
        from,
        size,
    )
    .fetch(conn);
    let mut expected = from;
    while let Some(entry) = entries.try_next().await? {
        expected += 1;
        hash = chain_hash(&entry.content, &hash);
        if entry.seq != expected || entry.hash != hash {
            return Err(CheckpointError::Broken(expected));
        }
        tree.push(merkle::leaf(&hash));
    }
    if (expected, hash) == (size, head.0) { Ok(tree) } else { Err(CheckpointError::Broken(expected + 1)) }
}
