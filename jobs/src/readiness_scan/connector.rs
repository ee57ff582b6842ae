//! One connector: its source, its streams, and what is known of their targets.

use std::sync::Arc;

use connectors::{
    Batch, Check, Definition, Outcome, Precision, Proof, RequestBudget, Scan, ScannedStream, Source, Stream,
    Target,
};
use database::tenant::TenantDb;
use queue::JobError;
use vault::Vault;

use super::{
    ConnectorReport, Report, SAMPLE, SampleReport, Severity, StreamReport, TargetReport, report::told,
};
use crate::{
    connector_registry::{self, RegistryError},
    connector_sync::budget::TenantBudget,
    target_capability,
};

/// Records of a stream that were read and are not stored.
pub(super) struct Sample {
    pub(super) connector: String,
    pub(super) stream: String,
    pub(super) batch: Batch,
}

/// Scans a connector into the report, and gives the records that policies may be tried on.
pub(super) async fn scan(
    db: &TenantDb,
    vault: &Vault,
    name: &str,
    report: &mut Report,
) -> Result<Vec<Sample>, JobError> {
    let definition = match connector_registry::open(db, vault, name).await {
        Ok(definition) => definition,
        Err(RegistryError::Definition(error)) => {
            report.blocks(name, error.to_string(), "correct its file and register it again");
            return Ok(Vec::new());
        }
        Err(error) => return Err(connector_registry::into_job_error(error)),
    };
    let budget: Arc<dyn RequestBudget> = Arc::new(TenantBudget::new(db.clone(), name));
    let scan = match Source::connect(&definition, Arc::clone(&budget)).await {
        Ok(source) => source.scan(definition.streams(), SAMPLE).await,
        Err(error) => {
            report.blocks(name, crate::describe(&error), "correct the connector's credential");
            return Ok(Vec::new());
        }
    };
    tell(&definition, &scan, report);
    let Scan { streams, beside, proof, .. } = scan;
    let mut kept = ConnectorReport {
        name: name.to_owned(),
        kind: definition.kind().name().to_owned(),
        streams: Vec::new(),
        beside,
        proofs: vec![proof],
    };
    let mut samples = Vec::new();
    for mut seen in streams {
        let Some(stream) = definition.stream(&seen.name) else { continue };
        let about = format!("{name}/{}", seen.name);
        let target = look(db, &definition, stream, &budget, &about, report).await?;
        let target = target.map(|(target, proof)| {
            kept.proofs.extend(proof);
            target
        });
        let sample = seen.sample.take();
        kept.streams.push(of_stream(seen, target, sample.as_ref(), &about, report));
        if let Some(batch) = sample {
            samples.push(Sample { connector: name.to_owned(), stream: stream.name().to_owned(), batch });
        }
    }
    proven(&kept, report);
    report.connectors.push(kept);
    Ok(samples)
}

/// What the source itself said.
fn tell(definition: &Definition, scan: &Scan, report: &mut Report) {
    let name = definition.name();
    for check in &scan.report.checks {
        let Check { name: checked, stream, outcome, message, advice } = check;
        // Told below, with what is known of every stream.
        if *checked == "privileges" {
            continue;
        }
        let about = stream.as_ref().map_or_else(|| name.to_owned(), |stream| format!("{name}/{stream}"));
        let (severity, help) = match outcome {
            Outcome::Ok => (Severity::Ok, None),
            Outcome::Warning => (Severity::Warns, advice.clone()),
            Outcome::Failed => {
                let general = "remove the cause; `tenure connector check` looks again".to_owned();
                (Severity::Blocks, Some(advice.clone().unwrap_or(general)))
            }
        };
        report.push(severity, &about, format!("{checked}: {message}"), help);
    }
    if !scan.beside.is_empty() {
        let refused = scan.beside.iter().filter(|it| !it.may_read).count();
        let names: Vec<_> = scan.beside.iter().take(10).map(|it| it.name.as_str()).collect();
        let more = if scan.beside.len() > names.len() { ", …" } else { "" };
        report.ok(
            name,
            format!(
                "beside the definition it has {} more tables and views ({refused} not readable): {}{more}",
                scan.beside.len(),
                names.join(", ")
            ),
        );
    }
}

fn of_stream(
    seen: ScannedStream,
    target: Option<TargetReport>,
    sample: Option<&Batch>,
    about: &str,
    report: &mut Report,
) -> StreamReport {
    if let Some(volume) = seen.volume {
        match volume.precision {
            Precision::Exact if volume.records == 0 => {
                report.warns(about, "it has no records", "check that this is the right place");
            }
            _ => report.ok(about, told(volume)),
        }
    }
    if !seen.missing.is_empty() {
        let what = format!("agreed fields are not there: {}", seen.missing.join(", "));
        report.blocks(about, what, "correct `fields`, or ask the owner of the source for them");
    }
    match &seen.extra {
        None => report.warns(
            about,
            "no list of fields is agreed: every field is read",
            "name the agreed ones in `fields`; `tenure connector discover` prints them",
        ),
        Some(extra) if !extra.is_empty() => {
            report.ok(about, format!("fields that are not agreed, and not read: {}", extra.join(", ")));
        }
        Some(_) => {}
    }
    if !seen.refused.is_empty() {
        let what = format!("the credential may not read {}", seen.refused.join(", "));
        report.blocks(
            about,
            what,
            "grant select on the whole table, or read from a view that has the agreed columns",
        );
    }
    match seen.may_write {
        Some(true) => report.warns(
            about,
            "the credential that reads could also write",
            "give the connector a role that may only select",
        ),
        Some(false) => report.ok(about, "the credential that reads may not write"),
        None => {
            report
                .ok(about, "whether the credential that reads could write is unknown: the API does not say");
        }
    }
    let sample = sample.map(|batch| SampleReport {
        records: batch.records.len() as u64,
        rejected: batch.rejected.len() as u64,
    });
    if let Some(SampleReport { records, rejected }) = sample.clone().filter(|sample| sample.rejected > 0) {
        let what = format!("{rejected} of {} sampled records would be set aside", records + rejected);
        report.warns(about, what, "`tenure connector rejected` shows why once the stream is synced");
    }
    StreamReport {
        name: seen.name,
        volume: seen.volume,
        fields: seen.fields.into_iter().map(Into::into).collect(),
        missing: seen.missing,
        extra: seen.extra,
        refused: seen.refused,
        may_write: seen.may_write,
        target,
        sample,
    }
}

/// What is known of the stream's target without trying it: what was kept when it was, and its own word.
async fn look(
    db: &TenantDb,
    definition: &Definition,
    stream: &Stream,
    budget: &Arc<dyn RequestBudget>,
    about: &str,
    report: &mut Report,
) -> Result<Option<(TargetReport, Option<Proof>)>, JobError> {
    let target = match Target::connect(definition, stream, Arc::clone(budget)).await {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(None),
        Err(error) => {
            report.blocks(about, format!("target: {}", crate::describe(&error)), "correct `[target]`");
            return Ok(Some((TargetReport::default(), None)));
        }
    };
    let mut seen = TargetReport::default();
    let mut proof = None;
    match target.examine().await {
        Ok(look) => {
            if !look.refused.is_empty() {
                let what = format!("the target's credential may not write {}", look.refused.join(", "));
                report.blocks(about, what, "grant update on these columns");
            }
            (seen.may_write, seen.refused, proof) = (look.may_write, look.refused, Some(look.proof));
        }
        Err(error) => {
            let help = "remove the cause; `tenure connector check` looks again";
            report.blocks(about, format!("target: {}", crate::describe(&error)), help);
        }
    }
    let check_it = format!("`tenure connector check {}`", definition.name());
    let kept = target_capability::load(db, definition, stream.name())
        .await
        .map_err(connector_registry::into_job_error)?;
    match kept {
        None => report.warns(about, "its target was never tried as it is defined now", check_it),
        Some(kept) => {
            let class = kept.probed.capability.name();
            match &kept.probed.obstacle {
                Some(obstacle) => report.blocks(about, format!("no write can succeed: {obstacle}"), check_it),
                None => report.ok(about, format!("its target was seen to do {class}")),
            }
            seen.capability = Some(class.to_owned());
            seen.obstacle = kept.probed.obstacle;
            seen.probed_at = Some(kept.probed_at);
        }
    }
    Ok(Some((seen, proof)))
}

/// Says how it was shown that nothing was written.
fn proven(connector: &ConnectorReport, report: &mut Report) {
    // The source's own comes first.
    for (index, proof) in connector.proofs.iter().enumerate() {
        let place = if index == 0 { "the source" } else { "a target" };
        let what = match proof {
            Proof::Transactions { begun, unwritten, broken } => format!(
                "{begun} transactions, all begun read-only and none committed; {unwritten} were read-only and without \
                 a transaction id at their end, {broken} ended in an error before"
            ),
            Proof::Requests { sent } if sent.is_empty() => "no request was sent".to_owned(),
            Proof::Requests { sent } => {
                let counts: Vec<_> = sent.iter().map(|(method, count)| format!("{count} {method}")).collect();
                format!("requests sent: {}", counts.join(", "))
            }
        };
        if proof.holds() {
            report.ok(&connector.name, format!("nothing was written at {place}: {what}"));
        } else {
            let help = "what is read there executes something: ask its owner, and do not sync it before";
            report.blocks(
                &connector.name,
                format!("it is not shown that nothing was written at {place}: {what}"),
                help,
            );
        }
    }
}
