//! What a scan says.

use chrono::{DateTime, Utc};
use connectors::{Beside, DiscoveredField, Precision, Proof, Volume};
use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, with a drawback that is named.
    Warns,
    /// It stands in the way.
    Blocks,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, such as `crm/contacts`.
    pub about: String,
    /// What was found.
    pub what: String,
    /// What to do; none where there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The tenant's connectors.
    pub connectors: Vec<ConnectorReport>,
    /// The tenant's paths.
    pub paths: Vec<PathReport>,
    /// All findings, those of a connector together.
    pub findings: Vec<Finding>,
}

/// A connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorReport {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub kind: String,
    /// Its streams, as far as they were found.
    pub streams: Vec<StreamReport>,
    /// What its source has besides.
    pub beside: Vec<Beside>,
    /// What shows that nothing was written: at its source, then at each target that was looked at.
    pub proofs: Vec<Proof>,
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// How many records it has.
    pub volume: Option<Volume>,
    /// What its records have.
    pub fields: Vec<Field>,
    /// Agreed fields that are not there.
    pub missing: Vec<String>,
    /// Fields that are there and not agreed, which are not read; none where no list is agreed.
    pub extra: Option<Vec<String>>,
    /// Agreed fields that the credential may not read.
    pub refused: Vec<String>,
    /// Whether the credential that reads could write; none where nobody can say.
    pub may_write: Option<bool>,
    /// Its target, if it has one.
    pub target: Option<TargetReport>,
    /// The first records, judged as a sync would.
    pub sample: Option<SampleReport>,
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type in the source's words.
    pub kind: String,
    /// Whether it may be null or missing.
    pub nullable: bool,
}

impl From<DiscoveredField> for Field {
    fn from(DiscoveredField { name, kind, nullable }: DiscoveredField) -> Self {
        Self { name, kind, nullable }
    }
}

/// What is known of a target without trying it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// What it was seen to do when it was last tried as it is defined now; none if it never was.
    pub capability: Option<String>,
    /// Why no write could succeed then.
    pub obstacle: Option<String>,
    /// When that was.
    pub probed_at: Option<DateTime<Utc>>,
    /// Whether it lets its credential write the owned fields; none where only trying tells.
    pub may_write: Option<bool>,
    /// The owned fields that it does not let it write.
    pub refused: Vec<String>,
}

/// Records that were read and not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleReport {
    /// How many could be taken.
    pub records: u64,
    /// How many would be set aside.
    pub rejected: u64,
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// Its name.
    pub name: String,
    /// Its connector.
    pub connector: String,
    /// Its stream.
    pub stream: String,
    /// How far it has come.
    pub state: String,
    /// The newest version of its policy.
    pub policy: Option<i32>,
    /// Its fields that a rule reads.
    pub ruled: Vec<String>,
    /// Its fields that no rule reads.
    pub unruled: Vec<String>,
    /// What its policy says of a sample.
    pub issues: Option<Issues>,
}

/// What a policy says of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issues {
    /// `synced` for stored records with their evidence, `source` for records read just now, without any.
    pub of: String,
    /// How many were judged.
    pub records: u64,
    /// To be fixed.
    pub fix: u64,
    /// For people.
    pub review: u64,
    /// To be blocked.
    pub block: u64,
    /// Of all, those on which a rule failed.
    pub failed: u64,
}

impl Report {
    /// How many findings matter so much.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether every source and target that was looked at shows that nothing was written.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.connectors.iter().flat_map(|connector| &connector.proofs).all(Proof::holds)
    }

    pub(super) fn ok(&mut self, about: &str, what: impl Into<String>) {
        self.push(Severity::Ok, about, what.into(), None);
    }

    pub(super) fn warns(&mut self, about: &str, what: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Warns, about, what.into(), Some(help.into()));
    }

    pub(super) fn blocks(&mut self, about: &str, what: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Blocks, about, what.into(), Some(help.into()));
    }

    pub(super) fn push(&mut self, severity: Severity, about: &str, what: String, help: Option<String>) {
        self.findings.push(Finding { severity, about: about.to_owned(), what, help });
    }
}

/// A volume in words.
pub(super) fn told(volume: Volume) -> String {
    match volume.precision {
        Precision::Exact => format!("{} records", volume.records),
        Precision::Estimated => format!("about {} records", volume.records),
        Precision::AtLeast => format!("more than {} records", volume.records),
    }
}
