//! How Tenure's figures grow with the finished jobs that are kept and with the tenants that have ready work.
//!
//! The promise: no cost of a job grows faster than the logarithm of what it grows with. From `a` to `b` the logarithm,
//! taken as `1 + log10`, rises by a factor; a cost may rise by that factor and a stated tolerance, because the same
//! program on the same machine differs from minute to minute by more than a tenth.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    compare::{say, spreads},
    figure::{Figure, Spread, as_f64, thousands},
    report::cell,
    server::Server,
    system::System,
    trial::{Mode, Sizes, Trial},
};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Axis {
    FinishedJobs,
    Tenants,
}

impl Axis {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::FinishedJobs => "finished jobs kept",
            Self::Tenants => "tenants with ready work",
        }
    }
}

/// The figures whose growth is watched. The size of all tables is not among them: kept history is meant to grow.
pub(crate) const WATCHED: [Figure; 8] = [
    Figure::EnqueuePerSec,
    Figure::ClaimToFinishPerSec,
    Figure::LoneP50Ms,
    Figure::LoneP99Ms,
    Figure::WalBytesPerJob,
    Figure::PostgresCpuMsPer1000,
    Figure::WorkerCpuMsPer1000,
    Figure::TableBytesPerJob,
];

/// A cost may exceed its bound by this factor: the noise between rounds.
const TOLERANCE: f64 = 1.25;

/// A wait for a lone job may besides be longer by this: one poll more or less is chance.
const LONE_TOLERANCE_MS: f64 = 5.0;

/// The medians at each point of an axis.
pub(crate) type Line = BTreeMap<u64, BTreeMap<Figure, Spread>>;

/// Both axes.
pub(crate) type Growth = BTreeMap<Axis, Line>;

/// Measures every point of both axes, in rounds that alternate between the points.
pub(crate) async fn measure(
    server: &Server,
    finished: &[u64],
    tenants: &[u64],
    rounds: usize,
    sizes: &Sizes,
) -> Result<Growth> {
    let points = finished.iter().map(|&x| (Axis::FinishedJobs, x));
    let points: Vec<(Axis, u64)> = points.chain(tenants.iter().map(|&x| (Axis::Tenants, x))).collect();
    let mut taken: BTreeMap<(Axis, u64), Vec<_>> = BTreeMap::new();
    for round in 1..=rounds {
        for &(axis, x) in &points {
            eprintln!("round {round} of {rounds}: {} {}", thousands(as_f64(x)), axis.title());
            let sizes = match axis {
                Axis::FinishedJobs => Sizes { warm_up: sizes.warm_up.min(x), ..sizes.clone() },
                Axis::Tenants => Sizes { tenants: x, ..sizes.clone() },
            };
            let mut trial = Trial::prepare(server, System::Tenure, &sizes).await?;
            if axis == Axis::FinishedJobs {
                fill_history(&mut trial, x - sizes.warm_up).await.context("while history was filled")?;
            }
            let figures = trial.run(Mode::Clean).await?;
            trial.clean_up().await?;
            say(&figures);
            taken.entry((axis, x)).or_default().push(figures);
        }
    }
    let mut growth = Growth::new();
    for ((axis, x), figures) in taken {
        growth.entry(axis).or_default().insert(x, spreads(&figures));
    }
    Ok(growth)
}

/// Rows as the worker leaves them, all in today's partition, which is the one that jobs finish into. They are on disk when
/// this is done: how long it takes to keep jobs is measured, not how long it takes to load so many at once.
async fn fill_history(trial: &mut Trial<'_>, jobs: u64) -> Result<()> {
    let jobs = i64::try_from(jobs)?;
    sqlx::query(
        "insert into queue.job_history
            (id, fence, run_at, created_at, started_at, finished_at, worker, outcome, priority, attempt,
             attempts_max, failures, losses, crashes, queue, kind, payload)
         select nextval('queue.job_id'), nextval('queue.fence'), now(), now(), now(), now(), 1, 1, 2, 1,
             3, 0, 0, 0, 'bench', 'nothing', jsonb_build_object('n', n)
         from generate_series(1, $1) n",
    )
    .bind(jobs)
    .execute(trial.database())
    .await?;
    sqlx::raw_sql("vacuum analyze queue.job_history").execute(trial.database()).await?;
    sqlx::raw_sql("checkpoint").execute(trial.database()).await?;
    trial.count_passed(u64::try_from(jobs)?);
    Ok(())
}

/// A cost that grew faster than it may.
#[derive(Debug, Serialize)]
pub(crate) struct TooFast {
    pub(crate) axis: Axis,
    pub(crate) figure: Figure,
    /// From this point.
    pub(crate) from: u64,
    /// To this point.
    pub(crate) to: u64,
    /// By this factor.
    pub(crate) grew: f64,
    /// Where the logarithm grew by this factor.
    pub(crate) logarithm: f64,
}

/// The logarithm that costs are compared with; 1 at 1.
pub(crate) fn logarithm(x: u64) -> f64 {
    1.0 + as_f64(x.max(1)).log10()
}

/// Compares every two points of every axis.
pub(crate) fn too_fast(growth: &Growth) -> Vec<TooFast> {
    let mut found = Vec::new();
    for (&axis, line) in growth {
        for figure in WATCHED {
            let costs =
                line.iter().filter_map(|(&x, figures)| Some((x, figure.cost(figures.get(&figure)?.median))));
            let costs: Vec<(u64, f64)> = costs.collect();
            for (index, &(from, before)) in costs.iter().enumerate() {
                for &(to, after) in &costs[index + 1..] {
                    let logarithm = logarithm(to) / logarithm(from);
                    if after > before * logarithm * TOLERANCE + slack(figure) {
                        found.push(TooFast { axis, figure, from, to, grew: after / before, logarithm });
                    }
                }
            }
        }
    }
    found
}

fn slack(figure: Figure) -> f64 {
    match figure {
        Figure::LoneP50Ms | Figure::LoneP99Ms => LONE_TOLERANCE_MS,
        _ => 0.0,
    }
}

/// A table per axis, then the verdict.
pub(crate) fn markdown(growth: &Growth, found: &[TooFast], description: &str) -> String {
    let mut text = format!("{description}\n");
    for (axis, line) in growth {
        let _ = write!(text, "\n## {}\n\n| median (least–most) |", axis.title());
        for &x in line.keys() {
            let _ = write!(text, " {} |", thousands(as_f64(x)));
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(line.len()));
        for figure in WATCHED {
            let _ = write!(text, "| {} |", figure.title());
            for figures in line.values() {
                let _ = write!(text, " {} |", cell(figure, figures.get(&figure)));
            }
            text.push('\n');
        }
    }
    text.push('\n');
    if found.is_empty() {
        let _ = writeln!(
            text,
            "No cost grows faster than the logarithm of its axis (1 + log10, tolerance × {TOLERANCE}, \
             lone jobs besides {LONE_TOLERANCE_MS} ms)."
        );
    }
    for fast in found {
        let _ = writeln!(
            text,
            "- **{}** grows by × {:.2} from {} to {} {}, where the logarithm grows by × {:.2}",
            fast.figure.title(),
            fast.grew,
            thousands(as_f64(fast.from)),
            thousands(as_f64(fast.to)),
            fast.axis.title(),
            fast.logarithm
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figure: Figure, points: &[(u64, f64)]) -> Growth {
        let spread = |value| Spread { median: value, min: value, max: value };
        let line = points.iter().map(|&(x, value)| (x, BTreeMap::from([(figure, spread(value))])));
        Growth::from([(Axis::Tenants, line.collect())])
    }

    #[test]
    fn a_cost_that_grows_with_the_logarithm_passes() {
        let growth = line(Figure::WalBytesPerJob, &[(1, 100.0), (100, 300.0), (10_000, 500.0)]);
        assert!(too_fast(&growth).is_empty());
    }

    #[test]
    fn a_cost_that_grows_with_the_square_root_is_found() {
        let growth = line(Figure::WalBytesPerJob, &[(1, 100.0), (100, 1_000.0), (10_000, 10_000.0)]);
        assert_eq!(too_fast(&growth).len(), 3);
    }

    #[test]
    fn a_rate_that_falls_too_fast_is_found() {
        let growth = line(Figure::EnqueuePerSec, &[(1, 1_000.0), (100, 100.0)]);
        assert_eq!(too_fast(&growth).len(), 1);
    }

    #[test]
    fn a_late_rise_is_found_though_it_is_small_from_the_beginning() {
        let growth = line(Figure::WalBytesPerJob, &[(1, 100.0), (100, 100.0), (10_000, 300.0)]);
        assert_eq!(too_fast(&growth).len(), 1);
    }
}
