//! The evidence that a gate looks at, frozen: canonical bytes, and their digest.

use serde::{Deserialize, Serialize};

use super::rules::{BadRules, Rules};
use crate::{
    candidate::Phase,
    canonical::{self, CanonicalError},
    decision::Verdict,
    digest::Digest,
};

/// A snapshot holds at most so many runs; it is kept whole, at about 400 bytes a run.
pub const RUNS_MAX: usize = 50_000;

/// What this version of the format is called, among the members.
const TAG: &str = "tenure.gate.snapshot.v1";

/// What somebody said of a case: a person, a candidate, or reality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opinion {
    /// The verdict.
    pub verdict: Verdict,
    /// Of a fix, the digest of the fields' values.
    pub value: Option<Digest>,
}

/// Where ground truth comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A person looked at the outcome.
    Reviewer,
    /// A later sync showed what people had changed.
    Observed,
}

/// What turned out right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// It.
    pub opinion: Opinion,
    /// How it is known.
    pub source: Source,
    /// Since when it is known: microseconds since 1970, of the database's clock.
    pub at: i64,
}

/// One evaluation of the candidate on a case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The case: its input's digest. First, since runs are ordered by it.
    pub input: Digest,
    /// When it ran: microseconds since 1970. Second, since of several the first counts.
    pub at: i64,
    /// What the candidate said; nothing if it failed.
    pub candidate: Option<Opinion>,
    /// The action class that it named.
    pub class: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// What a person said of the same case.
    pub baseline: Option<Opinion>,
    /// What a person said who was asked a second time.
    pub again: Option<Opinion>,
    /// What turned out right.
    pub truth: Option<Truth>,
}

/// What a snapshot is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The candidate's digest.
    pub candidate: Digest,
    /// Where it stood: a promotion starts there.
    pub from: Phase,
    /// Where it would go.
    pub to: Phase,
    /// How often its phase had been set: a promotion must find the same number.
    pub generation: i64,
    /// When it was frozen: microseconds since 1970, of the database's clock.
    pub frozen_at: i64,
    /// What is asked.
    pub rules: Rules,
}

/// Evidence in its one form: runs ordered by their inputs, each input once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    header: Header,
    runs: Vec<Run>,
}

/// A snapshot's bytes, which are kept, and what a promotion's approval is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub digest: Digest,
}

/// Why something is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The rules are laxer than the floors.
    #[error("the rules are refused")]
    Rules(#[from] BadRules),
    /// It leads nowhere, down, or past a phase.
    #[error("a snapshot leads one phase up, not from {from} to {to}")]
    NotOneUp {
        /// From here.
        from: Phase,
        /// To there.
        to: Phase,
    },
    /// More runs than can be kept.
    #[error("{0} runs are more than {RUNS_MAX}")]
    TooManyRuns(usize),
    /// The bytes are no snapshot of this version.
    #[error("the bytes are no snapshot of the version {TAG}")]
    Malformed(#[from] serde_json::Error),
    /// The bytes have a snapshot's meaning in another form than the canonical one.
    #[error("the bytes are not the canonical form of what they say")]
    NotCanonical,
    /// A member cannot be written.
    #[error("the snapshot has no canonical form")]
    Canonical(#[from] CanonicalError),
}

/// The snapshot as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<R> {
    candidate: Digest,
    from: Phase,
    to: Phase,
    generation: i64,
    frozen_at: i64,
    rules: Rules,
    runs: R,
    tag: Tag,
}

#[derive(Serialize, Deserialize)]
enum Tag {
    #[serde(rename = "tenure.gate.snapshot.v1")]
    V1,
}

impl Snapshot {
    /// Brings runs into the one form: in the order of their inputs, of each input the first.
    pub fn new(header: Header, mut runs: Vec<Run>) -> Result<Self, SnapshotError> {
        header.rules.check()?;
        if header.from.up() != Some(header.to) {
            return Err(SnapshotError::NotOneUp { from: header.from, to: header.to });
        }
        // By input, then by time; what is the same in both is ordered by the rest, so that any order gives one form.
        runs.sort_unstable();
        runs.dedup_by(|later, first| later.input == first.input);
        if runs.len() > RUNS_MAX {
            return Err(SnapshotError::TooManyRuns(runs.len()));
        }
        Ok(Self { header, runs })
    }

    /// Its bytes and their digest.
    pub fn freeze(&self) -> Result<Frozen, SnapshotError> {
        let Header { candidate, from, to, generation, frozen_at, rules } = self.header.clone();
        let document =
            Document { candidate, from, to, generation, frozen_at, rules, runs: &self.runs, tag: Tag::V1 };
        let bytes = canonical::to_bytes(&document)?;
        Ok(Frozen { digest: Digest::of(&bytes), bytes })
    }

    /// Reads what [`freeze`](Self::freeze) wrote, and nothing else.
    pub fn read(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let Document { candidate, from, to, generation, frozen_at, rules, runs, tag: Tag::V1 } =
            serde_json::from_slice::<Document<Vec<Run>>>(bytes)?;
        let snapshot = Self::new(Header { candidate, from, to, generation, frozen_at, rules }, runs)?;
        if snapshot.freeze()?.bytes == bytes { Ok(snapshot) } else { Err(SnapshotError::NotCanonical) }
    }

    /// What it is about.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The runs, in the order of their inputs.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}
