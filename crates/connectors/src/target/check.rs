//! What `connector check` finds out about targets: each is probed, with what it was seen to do.

use std::sync::Arc;

use serde::Serialize;

use super::{Capability, Probed, Target};
use crate::budget::RequestBudget;
use crate::definition::{Definition, Stream};
use crate::error::SourceError;
use crate::report::CheckReport;
use crate::source::{ReadOptions, Source};
use crate::state::State;

/// A stream's target, as probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbedTarget {
    /// The stream.
    pub stream: String,
    /// What was found.
    #[serde(flatten)]
    pub probed: Probed,
}

/// Probes the target of each of `streams` that has one; `source` gives a record where none is named for it.
/// The checks go to `report`.
pub async fn check_targets(
    definition: &Definition,
    source: &Source,
    streams: &[Stream],
    budget: &Arc<dyn RequestBudget>,
    report: &mut CheckReport,
) -> Vec<ProbedTarget> {
    let mut found = Vec::new();
    for stream in streams {
        match probe_target(definition, source, stream, budget).await {
            Ok(Some(probed)) => {
                tell(stream, &probed, report);
                found.push(ProbedTarget { stream: stream.name.clone(), probed });
            }
            Ok(None) => {}
            Err(error) => report.fail("target", Some(&stream.name), &error),
        }
    }
    found
}

/// Probes the target of a stream, on the record that is named for it, else on one of the source; `None` if it has
/// none.
pub async fn probe_target(
    definition: &Definition,
    source: &Source,
    stream: &Stream,
    budget: &Arc<dyn RequestBudget>,
) -> Result<Option<Probed>, SourceError> {
    let Some(target) = Target::connect(definition, stream, Arc::clone(budget)).await? else {
        return Ok(None);
    };
    let named = stream.target.as_ref().is_some_and(|target| target.probe_key.is_some());
    let sample = if named { None } else { first_key(source, stream).await? };
    Ok(Some(target.probe(sample.as_deref()).await))
}

/// The key of some record, as a sync would store it.
async fn first_key(source: &Source, stream: &Stream) -> Result<Option<String>, SourceError> {
    let options = ReadOptions { batch_records: 1, ..ReadOptions::default() };
    let batch = source.read(stream, &State::default(), options).await?.next().await?;
    let record = batch.and_then(|batch| batch.records.into_iter().find(|record| !record.deleted));
    Ok(record.map(|record| record.key))
}

fn tell(stream: &Stream, probed: &Probed, report: &mut CheckReport) {
    let name = Some(stream.name.as_str());
    let class = match probed.capability {
        Capability::ConditionalWrite => "refuses writes that rest on an outdated record",
        Capability::IdempotencyKey => "stores a write once under its idempotency key",
        Capability::ReadCheck => "is only known to be readable before and after a write",
        Capability::Blind => "could not be tried",
    };
    let message = [class].into_iter().chain(probed.evidence.iter().map(String::as_str));
    let message = message.collect::<Vec<_>>().join("; ");
    match (&probed.obstacle, probed.capability) {
        (Some(obstacle), _) => report.failed("target", name, format!("{obstacle}; it {message}")),
        (None, Capability::Blind) => report.failed("target", name, format!("it {message}")),
        (None, Capability::ReadCheck) => {
            let advice = "somebody else's edit in the moment of a write would be overwritten; name a `probe_key` if the target has versions";
            report.warn("target", name, format!("it {message}"), advice);
        }
        (None, _) => report.ok("target", name, format!("it {message}")),
    }
}
