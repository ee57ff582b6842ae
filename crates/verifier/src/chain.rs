//! Goes through an export line by line, and says whether it is the chain that the checkpoints speak of.

mod fault;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead};

use sha2::{Digest as _, Sha256};

use self::fault::Lines;
pub use self::fault::{Fault, Kind};
use crate::{
    Hash, canonical, from_hex, hex,
    line::{CONTENT_BYTES_MAX, Next},
    merkle::{self, Tree},
    note::Checkpoint,
};

/// The tag in every entry.
const ENTRY_TAG: &str = "\"tenure.audit.v1\"";
/// The tag of an export's first line.
const EXPORT_TAG: &str = "tenure.audit.export.v1";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything fits, up to the newest checkpoint and beyond.
    Verified(Chain),
    /// The entries fit each other, but no checkpoint says that they are the ones that were written.
    Unanchored(Chain),
    /// Something does not fit.
    Broken(Fault),
}

/// A chain whose entries fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Whose it is.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The last chain hash.
    pub head: Hash,
    /// The root of the Merkle tree over all chain hashes.
    pub root: Hash,
    /// Entries up to this one are vouched for by a checkpoint; later ones are not yet.
    pub anchored: u64,
}

/// The hash before the first entry of the chain.
#[must_use]
pub fn genesis(origin: &str) -> Hash {
    Sha256::digest(format!("tenure.audit.v1 genesis\n{origin}\n")).into()
}

/// The chain hash of an entry.
#[must_use]
pub fn chain_hash(content: &[u8], previous: &Hash) -> Hash {
    Sha256::new().chain_update(content).chain_update(previous).finalize().into()
}

/// The first line of an export.
#[must_use]
pub fn first_line(origin: &str) -> String {
    format!("{{\"chain\":\"{origin}\",\"tag\":\"{EXPORT_TAG}\"}}\n")
}

/// The line of an entry; its content must be as it is stored.
#[must_use]
pub fn entry_line(content: &[u8], hash: &Hash) -> Vec<u8> {
    let hash = hex(hash);
    [b"{\"content\":", content, b",\"hash\":\"", hash.as_bytes(), b"\"}\n"].concat()
}

/// The last line of an export.
#[must_use]
pub fn last_line(size: u64, head: &Hash) -> String {
    format!("{{\"end\":{{\"hash\":\"{}\",\"size\":{size}}}}}\n", hex(head))
}

/// Checks an export. Checkpoints are taken at their word: whose signature they need is for the caller to check.
pub fn verify(reader: &mut impl BufRead, checkpoints: &[Checkpoint]) -> io::Result<Verdict> {
    let mut checkpoints = checkpoints.to_vec();
    checkpoints.sort_by_key(|checkpoint| checkpoint.size);
    let mut lines = Lines::new(reader);
    let walked = walk(&mut lines, &checkpoints)?;
    Ok(match walked {
        Ok(chain) if checkpoints.is_empty() => Verdict::Unanchored(chain),
        Ok(chain) => Verdict::Verified(chain),
        Err(fault) => Verdict::Broken(fault),
    })
}

/// A fault of the input is not an error of reading it.
type Walked<T> = io::Result<Result<T, Fault>>;

fn walk<R: BufRead>(lines: &mut Lines<'_, R>, checkpoints: &[Checkpoint]) -> Walked<Chain> {
    let origin = match lines.read()? {
        Next::Line => match origin_of(lines.text()) {
            Some(origin) => origin,
            None => return Ok(Err(lines.fault(Kind::Malformed, None, "the first line is no export's"))),
        },
        Next::Bad(why) => return Ok(Err(lines.fault(Kind::Malformed, None, why))),
        Next::End => return Ok(Err(lines.fault(Kind::Truncated, None, "the export is empty"))),
    };
    if let Some(other) = checkpoints.iter().find(|checkpoint| checkpoint.origin != origin) {
        let what = format!("the checkpoint is of {}, the export of {origin}", other.origin);
        return Ok(Err(lines.fault(Kind::Forked, None, what)));
    }
    let mut walker = Walker::new(origin, checkpoints);
    loop {
        if let Err(fault) = walker.compare(lines) {
            return Ok(Err(fault));
        }
        match lines.read()? {
            Next::Line => {}
            Next::Bad("the line does not end") => {
                return Ok(Err(lines.fault(Kind::Truncated, None, "the last line is cut")));
            }
            Next::Bad(why) => return Ok(Err(lines.fault(Kind::Malformed, None, why))),
            Next::End => {
                return Ok(Err(lines.fault(
                    Kind::Truncated,
                    None,
                    "the line that ends an export is missing",
                )));
            }
        }
        if let Some((size, head)) = end_of(lines.text()) {
            return walker.end(lines, size, head);
        }
        if let Err(fault) = walker.entry(lines)? {
            return Ok(Err(fault));
        }
    }
}

struct Walker<'a> {
    origin: String,
    /// The last chain hash, and the one before it.
    head: Hash,
    before: Hash,
    tree: Tree,
    /// The checkpoints not reached yet, smallest first.
    ahead: &'a [Checkpoint],
    anchored: u64,
}

impl<'a> Walker<'a> {
    fn new(origin: String, checkpoints: &'a [Checkpoint]) -> Self {
        let head = genesis(&origin);
        Self { origin, head, before: head, tree: Tree::default(), ahead: checkpoints, anchored: 0 }
    }

    /// Holds the chain so far against the checkpoints of its size.
    fn compare<R>(&mut self, lines: &Lines<'_, R>) -> Result<(), Fault> {
        while let Some((checkpoint, later)) = self.ahead.split_first() {
            if checkpoint.size != self.tree.size() {
                break;
            }
            if checkpoint.head != self.head || checkpoint.root != self.tree.root() {
                let what = format!(
                    "the entries up to here are not those of the checkpoint of size {}",
                    checkpoint.size
                );
                return Err(lines.fault(Kind::Forked, Some(self.tree.size()), what));
            }
            self.anchored = checkpoint.size;
            self.ahead = later;
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, lines: &mut Lines<'_, R>) -> Walked<()> {
        let Some(entry) = Entry::parse(lines.text()) else {
            return Ok(Err(lines.fault(Kind::Malformed, None, "the line is no entry in canonical JSON")));
        };
        let expected = self.tree.size() + 1;
        if entry.seq > expected {
            return lines.gap(expected, entry.seq).map(Err);
        }
        if entry.seq < expected {
            return Ok(Err(self.again(lines, &entry)));
        }
        let hash = chain_hash(entry.content, &self.head);
        if hash != entry.hash {
            let what = "its hash does not follow from its content and the entry before";
            return Ok(Err(lines.fault(Kind::Altered, Some(entry.seq), what)));
        }
        (self.before, self.head) = (self.head, hash);
        self.tree.push(merkle::leaf(&hash));
        Ok(Ok(()))
    }

    /// A number that was there before.
    fn again<R>(&self, lines: &Lines<'_, R>, entry: &Entry<'_>) -> Fault {
        let is_sibling = entry.seq == self.tree.size()
            && entry.hash != self.head
            && entry.hash == chain_hash(entry.content, &self.before);
        if is_sibling {
            let what = "a second entry follows the same entry as the one before";
            return lines.fault(Kind::Forked, Some(entry.seq), what);
        }
        lines.fault(Kind::Doubled, Some(entry.seq), "an entry of this number was there before")
    }

    /// The line that ends an export.
    fn end<R: BufRead>(self, lines: &mut Lines<'_, R>, size: u64, head: Hash) -> Walked<Chain> {
        let own = self.tree.size();
        if size > own {
            let what = format!("the export ends after {own} of {size} entries");
            return Ok(Err(lines.fault(Kind::Truncated, None, what)));
        }
        if (size, head) != (own, self.head) {
            let what = "the line that ends the export does not fit its entries";
            return Ok(Err(lines.fault(Kind::Altered, None, what)));
        }
        if let Some(checkpoint) = self.ahead.first() {
            let what = format!("the checkpoint of size {} has more entries", checkpoint.size);
            return Ok(Err(lines.fault(Kind::Truncated, None, what)));
        }
        if lines.read()? != Next::End {
            return Ok(Err(lines.fault(Kind::Malformed, None, "something follows the end")));
        }
        let (root, anchored) = (self.tree.root(), self.anchored);
        Ok(Ok(Chain { origin: self.origin, size, head, root, anchored }))
    }
}

/// An entry's line, taken apart.
pub(crate) struct Entry<'a> {
    content: &'a [u8],
    hash: Hash,
    pub(crate) seq: u64,
}

impl<'a> Entry<'a> {
    /// The content is everything up to the hash, whose length is fixed: nothing has to be parsed to find it.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"content\":")?.strip_suffix(b"\"}")?;
        let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let (content, hash) = (rest.strip_suffix(b",\"hash\":\"")?, from_hex(hash)?);
        let members = canonical::members(content).filter(|_| content.len() <= CONTENT_BYTES_MAX)?;
        let [
            ("actor", _),
            ("at", _),
            ("body", body),
            ("job", _),
            ("kind", _),
            ("seq", seq),
            ("tag", ENTRY_TAG),
        ] = members[..]
        else {
            return None;
        };
        let seq = canonical::integer(seq).filter(|seq| *seq > 0 && body.starts_with('{'))?;
        Some(Self { content, hash, seq })
    }
}

fn origin_of(line: &[u8]) -> Option<String> {
    match canonical::members(line)?[..] {
        [("chain", origin), ("tag", tag)] if canonical::plain_string(tag) == Some(EXPORT_TAG) => {
            canonical::plain_string(origin).map(str::to_owned)
        }
        _ => None,
    }
}

fn end_of(line: &[u8]) -> Option<(u64, Hash)> {
    let [("end", end)] = canonical::members(Some(line).filter(|line| line.starts_with(b"{\"end\":"))?)?[..]
    else {
        return None;
    };
    match canonical::members(end.as_bytes())?[..] {
        [("hash", hash), ("size", size)] => {
            Some((canonical::integer(size)?, from_hex(canonical::plain_string(hash)?.as_bytes())?))
        }
        _ => None,
    }
}
