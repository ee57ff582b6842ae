//! Evidence for whoever wants to recompute the gate's answer.

use serde::Serialize;

use super::{Answer, Evaluation, Figures, Finding, Frozen, SnapshotError};
use crate::{canonical, digest::Digest};

/// What the gate said, beside the evidence.
#[derive(Serialize)]
struct Claim<'a> {
    answer: Answer,
    figures: &'a Figures,
    findings: &'a [Finding],
    snapshot: Digest,
    tag: &'static str,
}

/// Two lines: what the gate said, and the snapshot to the byte. `ops/proofs/gate` reads them.
pub fn export(frozen: &Frozen, evaluation: &Evaluation) -> Result<Vec<u8>, SnapshotError> {
    let Evaluation { answer, findings, figures } = evaluation;
    let claim =
        Claim { answer: *answer, figures, findings, snapshot: frozen.digest, tag: "tenure.gate.export.v1" };
    let mut lines = canonical::to_bytes(&claim)?;
    lines.push(b'\n');
    // Canonical JSON has no line breaks of its own.
    lines.extend_from_slice(&frozen.bytes);
    lines.push(b'\n');
    Ok(lines)
}
