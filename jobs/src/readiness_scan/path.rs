//! Paths: which fields have rules, and how often rules find something.

use connectors::Batch;
use database::tenant::{Read, TenantDb, TenantError};
use governance::{
    decision::{self, Decider, Evidence, Record, Tally, Verdict},
    path::{self, Path, PathError},
    policy::{self, Policy, PolicyError},
};
use queue::{FailureClass, JobError};

use super::{Issues, PathReport, Report, SAMPLE, connector::Sample};
use crate::environment::into_job_error;

pub(super) async fn scan(db: &TenantDb, samples: &[Sample], report: &mut Report) -> Result<(), JobError> {
    let mut read = db.read().await.map_err(into_job_error)?;
    let paths = path::list(&mut read).await.map_err(of_path)?;
    for path in &paths {
        let sample = samples.iter().find(|it| (&it.connector, &it.stream) == (&path.connector, &path.stream));
        let seen = one(&mut read, path, sample.map(|it| &it.batch), report).await?;
        report.paths.push(seen);
    }
    read.finish().await.map_err(into_job_error)?;
    ungoverned(&paths, report);
    Ok(())
}

async fn one(
    read: &mut Read,
    path: &Path,
    batch: Option<&Batch>,
    report: &mut Report,
) -> Result<PathReport, JobError> {
    let about = format!("path {}", path.name);
    let mut seen = PathReport {
        name: path.name.clone(),
        connector: path.connector.clone(),
        stream: path.stream.clone(),
        state: path.state.to_string(),
        policy: None,
        ruled: Vec::new(),
        unruled: path.fields.clone(),
        issues: None,
    };
    is_there(path, &about, report);
    let (stored, policy) = match policy::load(read, path, None).await {
        Ok(found) => found,
        Err(PolicyError::Unknown { .. }) => {
            report.warns(&about, "it has no policy", "`tenure policy add FILE`");
            return Ok(seen);
        }
        Err(PolicyError::Refused(faults)) => {
            report.blocks(&about, faults.to_string(), "`tenure policy check FILE` says where");
            return Ok(seen);
        }
        Err(error) => return Err(of_policy(error)),
    };
    seen.policy = Some(stored.version);
    let rules = policy.fields_read();
    (seen.ruled, seen.unruled) =
        path.fields.iter().cloned().partition(|field| rules.contains(field.as_str()));
    if seen.unruled.is_empty() {
        report.ok(&about, format!("version {} of its policy has rules for every field", stored.version));
    } else {
        let what = format!("no rule reads {}", seen.unruled.join(", "));
        report.warns(&about, what, "add a rule, or leave the field to people");
    }
    seen.issues = issues(read, path, &policy, batch).await?;
    match &seen.issues {
        None => report.warns(&about, "there is no record to try its rules on", "`tenure connector sync`"),
        Some(issues) => tell(issues, &about, report),
    }
    Ok(seen)
}

/// Whether the source has what the path governs, as far as it was seen.
fn is_there(path: &Path, about: &str, report: &mut Report) {
    let Some(connector) = report.connectors.iter().find(|it| it.name == path.connector) else {
        let what = format!("its connector {} is not registered, or could not be looked at", path.connector);
        return report.blocks(about, what, "`tenure connector sync FILE` registers it");
    };
    let Some(stream) = connector.streams.iter().find(|it| it.name == path.stream) else {
        let what = format!("its stream {} is not defined, or could not be looked at", path.stream);
        return report.blocks(about, what, "look at what is said of the connector");
    };
    let is_known = |field: &&String| !stream.fields.iter().any(|it| it.name == **field);
    let missing: Vec<_> = path.fields.iter().filter(is_known).cloned().collect();
    let has_target = stream.target.is_some();
    if !missing.is_empty() && !stream.fields.is_empty() {
        let what = format!("it governs fields that the source does not have: {}", missing.join(", "));
        report.blocks(about, what, "correct the definition, or make a path of fields that are there");
    }
    if !has_target {
        let help = "add `[target]` and `[streams.target]` to the connector to write corrections back";
        report.warns(about, "its stream has no target: nothing can be written back", help);
    }
}

/// What the policy says of the first records: of stored ones with their evidence, else of those read just now.
async fn issues(
    read: &mut Read,
    path: &Path,
    policy: &Policy,
    batch: Option<&Batch>,
) -> Result<Option<Issues>, JobError> {
    let now = decision::now(read).await.map_err(of_database)?;
    let decider = Decider::new(path, policy, now);
    let limit = i64::try_from(SAMPLE).unwrap_or(i64::MAX);
    let stored = decision::next_page(read, path, None, limit).await.map_err(of_database)?;
    let mut tally = Tally::default();
    let of = if stored.is_empty() {
        let Some(batch) = batch else { return Ok(None) };
        for record in batch.records.iter().filter(|record| !record.deleted) {
            let data = serde_json::from_str(record.data.get()).ok();
            let (key, digest) = (record.key.clone(), record.digest.clone());
            tally.add(&decider.decide(&Record { key, digest, data, changed_at: now }, &Evidence::none()));
        }
        "source"
    } else {
        let decisions = decision::decide_page(read, path, &decider, &stored).await.map_err(of_database)?;
        for decision in &decisions {
            tally.add(decision);
        }
        "synced"
    };
    if tally.records() == 0 {
        return Ok(None);
    }
    let rules: Vec<_> = policy.rules().collect();
    Ok(Some(Issues {
        of: of.to_owned(),
        records: tally.records(),
        fix: tally.of(Verdict::Fix),
        review: tally.of(Verdict::Review),
        block: tally.of(Verdict::Block),
        failed: tally.rows(&rules).iter().map(|row| row.failed).sum(),
    }))
}

fn tell(issues: &Issues, about: &str, report: &mut Report) {
    let Issues { of, records, fix, review, block, failed } = issues;
    let of = if of == "synced" { "synced" } else { "sampled" };
    let found = fix + review + block;
    report.ok(
        about,
        format!(
            "its rules find something on {found} of {records} {of} records: {fix} to fix, {review} for people, {block} \
             to block"
        ),
    );
    if *failed > 0 {
        let help = "`tenure policy check FILE` shows where; a path with failing rules is not certified";
        report.warns(about, format!("a rule fails on {failed} of them"), help);
    }
}

fn ungoverned(paths: &[Path], report: &mut Report) {
    let mut streams = Vec::new();
    for connector in &report.connectors {
        for stream in &connector.streams {
            let is_governed =
                |path: &Path| (&path.connector, &path.stream) == (&connector.name, &stream.name);
            if !paths.iter().any(is_governed) {
                streams.push((connector.name.clone(), stream.name.clone()));
            }
        }
    }
    for (connector, stream) in streams {
        let help =
            format!("`tenure path create NAME --connector {connector} --stream {stream} --field FIELD`");
        report.warns(&format!("{connector}/{stream}"), "no path governs it", help);
    }
}

fn of_database(error: sqlx::Error) -> JobError {
    into_job_error(TenantError::from(error))
}

fn of_path(error: PathError) -> JobError {
    match error {
        PathError::Database(error) => of_database(error),
        other => JobError::fail(other, FailureClass::Poison),
    }
}

fn of_policy(error: PolicyError) -> JobError {
    match error {
        PolicyError::Database(error) => of_database(error),
        other => JobError::fail(other, FailureClass::Poison),
    }
}
