//! How long the verifier takes, and how much memory.

use std::{
    fs,
    io::{self, BufReader, BufWriter, Write as _},
    path::Path,
    time::Instant,
};

use serde::Serialize;
use verifier::{
    chain::{self, Verdict},
    merkle::{self, Tree},
    note::Checkpoint,
};

const ORIGIN: &str = "tenant/00000000-0000-4000-8000-000000000001";

/// The verifier on an export of many entries.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Verification {
    /// How many entries.
    pub entries: u64,
    /// The size of the export.
    pub export_bytes: u64,
    /// How long it took.
    pub secs: f64,
    /// The most memory this process ever had, where the system tells: what else it does counts too.
    pub memory_peak_bytes: Option<u64>,
}

/// Why the verifier could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum VerificationError {
    /// The export could not be written or read.
    #[error("the export of the benchmark cannot be used")]
    Io(#[from] io::Error),
    /// The verdict was another.
    #[error("the verifier does not verify what is right: {0}")]
    Verdict(String),
}

/// Writes an export of this many entries to the file, verifies it against a checkpoint of all, and deletes it.
pub fn verification(file: &Path, entries: u64) -> Result<Verification, VerificationError> {
    let checkpoint = write(file, entries)?;
    let export_bytes = fs::metadata(file)?.len();
    let begun = Instant::now();
    let mut reader = BufReader::with_capacity(1 << 16, fs::File::open(file)?);
    let verdict = chain::verify(&mut reader, &[checkpoint])?;
    let secs = begun.elapsed().as_secs_f64();
    fs::remove_file(file)?;
    if !matches!(verdict, Verdict::Verified(_)) {
        return Err(VerificationError::Verdict(format!("{verdict:?}")));
    }
    Ok(Verification { entries, export_bytes, secs, memory_peak_bytes: memory_peak_bytes() })
}

fn write(file: &Path, entries: u64) -> io::Result<Checkpoint> {
    let mut to = BufWriter::with_capacity(1 << 16, fs::File::create(file)?);
    to.write_all(chain::first_line(ORIGIN).as_bytes())?;
    let (mut head, mut tree) = (chain::genesis(ORIGIN), Tree::default());
    for seq in 1..=entries {
        let content = format!(
            "{{\"actor\":\"6f1c1f0e-5e0a-4a5c-9d57-0d5f6f1a2b3c\",\"at\":\"2026-11-21T14:00:00.000000Z\",\"body\":{},\"job\":\"{seq}\",\"kind\":\"receipt.issued\",\"seq\":{seq},\"tag\":\"tenure.audit.v1\"}}",
            super::BODY
        );
        head = chain::chain_hash(content.as_bytes(), &head);
        tree.push(merkle::leaf(&head));
        to.write_all(&chain::entry_line(content.as_bytes(), &head))?;
    }
    to.write_all(chain::last_line(entries, &head).as_bytes())?;
    to.flush()?;
    let (origin, at) = (ORIGIN.to_owned(), "2026-11-21T14:00:00.000000Z".to_owned());
    Ok(Checkpoint { origin, size: entries, root: tree.root(), head, at })
}

/// The most memory that this process ever took, where the system tells.
#[must_use]
pub fn memory_peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_verified_chain() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("export");
        let measured = verification(&file, 1_000).unwrap();
        assert!(measured.export_bytes > 300_000 && !file.exists(), "{measured:?}");
    }
}
