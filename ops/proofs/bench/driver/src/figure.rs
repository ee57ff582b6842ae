//! What is measured of a system.

use std::collections::BTreeMap;

use serde::Serialize;

/// One row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    EnqueuePerSec,
    ClaimToFinishPerSec,
    LoneP50Ms,
    LoneP99Ms,
    WalBytesPerJob,
    PostgresCpuMsPer1000,
    WorkerCpuMsPer1000,
    TableBytesPerJob,
    TableMib,
}

/// The figures of one trial.
pub(crate) type Figures = BTreeMap<Figure, f64>;

impl Figure {
    pub(crate) const ALL: [Self; 9] = [
        Self::EnqueuePerSec,
        Self::ClaimToFinishPerSec,
        Self::LoneP50Ms,
        Self::LoneP99Ms,
        Self::WalBytesPerJob,
        Self::PostgresCpuMsPer1000,
        Self::WorkerCpuMsPer1000,
        Self::TableBytesPerJob,
        Self::TableMib,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::EnqueuePerSec => "enqueue, jobs/s",
            Self::ClaimToFinishPerSec => "claim to finish, jobs/s",
            Self::LoneP50Ms => "lone job picked up, p50, ms",
            Self::LoneP99Ms => "lone job picked up, p99, ms",
            Self::WalBytesPerJob => "write-ahead log, bytes a job",
            Self::PostgresCpuMsPer1000 => "Postgres CPU, ms per 1,000 jobs",
            Self::WorkerCpuMsPer1000 => "worker CPU, ms per 1,000 jobs",
            Self::TableBytesPerJob => "tables after, bytes a job",
            Self::TableMib => "tables after, MiB",
        }
    }

    /// A rate is better the larger it is; everything else is a cost.
    pub(crate) fn is_rate(self) -> bool {
        matches!(self, Self::EnqueuePerSec | Self::ClaimToFinishPerSec)
    }

    /// As a cost for one job, whose growth can be watched.
    pub(crate) fn cost(self, value: f64) -> f64 {
        if self.is_rate() { 1.0 / value } else { value }
    }

    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Self::LoneP50Ms | Self::LoneP99Ms | Self::WorkerCpuMsPer1000 | Self::PostgresCpuMsPer1000 => {
                format!("{value:.1}")
            }
            _ => thousands(value),
        }
    }
}

/// Whole, with commas.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle one, and the range of all.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None of no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { median: percentile(&values, 50)?, min: *values.first()?, max: *values.last()? })
    }
}

/// Of sorted values, the one below which so many percent lie.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get(((sorted.len().max(1) - 1) * percent).div_ceil(100)).copied()
}

/// A count as a number for arithmetic.
#[expect(clippy::cast_precision_loss, reason = "counts of a measurement are far below 2^52")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
