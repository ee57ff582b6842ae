//! The systems that are compared: how each is started, and how its database says that jobs have finished.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

/// A queue of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    Tenure,
    Graphile,
    River,
    Awa,
    Apalis,
}

/// What a system's database is asked. Each statement has the queue's name as its first parameter.
pub(crate) struct Count {
    /// A text that stands for this moment.
    pub(crate) mark: &'static str,
    /// How many jobs enqueued since the mark, the second parameter, have finished, or have not.
    pub(crate) since: Since,
}

pub(crate) enum Since {
    Finished(&'static str),
    Unfinished(&'static str),
}

impl System {
    pub(crate) const ALL: [Self; 5] = [Self::Tenure, Self::Graphile, Self::River, Self::Awa, Self::Apalis];

    /// The name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Tenure => "Tenure",
            Self::Graphile => "graphile-worker 0.18.0",
            Self::River => "riverqueue 0.5.0",
            Self::Awa => "awa 0.6.9",
            Self::Apalis => "apalis-postgres 1.0.0",
        }
    }

    /// The name of files, databases and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tenure => "tenure",
            Self::Graphile => "graphile",
            Self::River => "river",
            Self::Awa => "awa",
            Self::Apalis => "apalis",
        }
    }

    /// What it keeps and checks beyond running the job, and what it leaves out.
    pub(crate) fn does(self) -> &'static str {
        match self {
            Self::Tenure => {
                "history row per job; fence checked at every end; lease per job, renewed; crashed worker's jobs again within about a second"
            }
            Self::Graphile => {
                "no history (a finished job is deleted); no fence (a job ends by id alone); no lease: jobs of a crashed worker stay locked 4 h"
            }
            Self::River => {
                "history in the same table; end checks the state but no attempt; no lease: jobs of a crashed worker again after 1 h; unique jobs, cron"
            }
            Self::Awa => {
                "history as arrays of a batch, truncated with its slot; end checks the attempt; heartbeat per attempt; jobs of a crashed worker again after 90 to 120 s"
            }
            Self::Apalis => {
                "last result in the same table, never cleaned; end checks the worker's name; no lease per job: jobs of a crashed worker again after 5 min"
            }
        }
    }

    /// The program and its first arguments.
    pub(crate) fn program(self) -> Result<Vec<PathBuf>> {
        let here = env::current_exe().context("while this program was looked for")?;
        let folder = here.parent().context("a program lies in a folder")?;
        Ok(match self {
            Self::Graphile => {
                let package = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../graphile"));
                vec![package.join("node_modules/.bin/node"), package.join("adapter.js")]
            }
            _ => vec![folder.join(format!("bench-{}", self.name()))],
        })
    }

    pub(crate) fn count(self) -> Count {
        match self {
            Self::Tenure => Count {
                mark: "select (last_value - (not is_called)::int)::text from queue.job_id where $1 <> ''",
                since: Since::Finished(
                    "select count(*) from queue.job_history where queue = $1 and id > $2::bigint and outcome = 1",
                ),
            },
            Self::Graphile => Count {
                mark: "select coalesce(max(id), 0)::text from graphile_worker._private_jobs where $1 <> ''",
                since: Since::Unfinished(
                    "select count(*) from graphile_worker._private_jobs where $1 <> '' and id > $2::bigint",
                ),
            },
            Self::River => Count {
                mark: "select coalesce(max(id), 0)::text from river_job where $1 <> ''",
                since: Since::Finished(
                    "select count(*) from river_job where queue = $1 and id > $2::bigint and state = 'completed'",
                ),
            },
            Self::Awa => Count { mark: AWA_MARK, since: Since::Finished(AWA_FINISHED) },
            Self::Apalis => Count {
                mark: "select coalesce(max(id), '') from apalis.jobs where $1 <> ''",
                since: Since::Finished(
                    "select count(*) from apalis.jobs where job_type = $1 and id > $2 and status = 'Done'",
                ),
            },
        }
    }
}

const AWA_MARK: &str = "
    select (coalesce((select sum(completed_count) from awa.receipt_completion_batches where queue = $1), 0)
          + (select count(*) from awa.done_entries where queue = $1 and state = 'completed')
          + coalesce((select sum(pruned_completed_count) from awa.queue_terminal_rollups where queue = $1), 0))::text";
const AWA_FINISHED: &str = "
    select (coalesce((select sum(completed_count) from awa.receipt_completion_batches where queue = $1), 0)
          + (select count(*) from awa.done_entries where queue = $1 and state = 'completed')
          + coalesce((select sum(pruned_completed_count) from awa.queue_terminal_rollups where queue = $1), 0)
          - $2::bigint)::bigint";
