use std::{fs, os::unix::fs::PermissionsExt as _};

use futures_util::future::BoxFuture;
use governance::actor;
use queue::{JobRecord, State as JobState};
use sqlx::Connection as _;
use verifier::chain;

use super::*;
use crate::{
    tenant_bundle::{full, tests::populate, verify},
    testing::{Stage, Subject, battery, until},
};

/// Asks for an export and has another person approve it, or not.
async fn asked(stage: &Stage, to: Option<&Path>, verdict: Option<bool>) -> ApprovalId {
    let mut conn = stage.tenant_connection().await;
    let mut tx = conn.begin().await.unwrap();
    let ada = actor::named(&mut tx, "ada").await.unwrap().id;
    let ben = actor::named(&mut tx, "ben").await.unwrap().id;
    let Requested { id, digest, .. } = ask(&mut tx, &stage.tenant, to, ada).await.unwrap();
    match verdict {
        Some(true) => drop(approval::approve(&mut tx, id, &digest, ben, None).await.unwrap()),
        Some(false) => drop(approval::deny(&mut tx, id, ben).await.unwrap()),
        None => {}
    }
    tx.commit().await.unwrap();
    id
}

async fn exported(stage: &Stage, to: Option<&Path>) -> JobRecord {
    let approval = asked(stage, to, Some(true)).await;
    stage.run(job(&stage.tenant, approval, to).unwrap()).await
}

/// The kinds of entries about exports and what they say, in order.
async fn entries(stage: &Stage) -> Vec<(String, serde_json::Value)> {
    let contents: Vec<Vec<u8>> =
        sqlx::query_scalar("select content from governance.audit_entry order by seq")
            .fetch_all(&mut stage.tenant_connection().await)
            .await
            .unwrap();
    let entries =
        contents.iter().map(|content| serde_json::from_slice::<serde_json::Value>(content).unwrap());
    entries.map(|entry| (entry["kind"].as_str().unwrap().to_owned(), entry["body"].clone())).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

struct Export;

impl Subject for Export {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            populate(stage).await;
            job(&stage.tenant, asked(stage, None, Some(true)).await, None).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let folder = stage.exports.of(stage.tenant.id);
            let mut names = names(&folder);
            for name in &mut names {
                *name = name.replace(&stage.tenant.id.to_string()[..8], "id");
            }
            // An attempt that was overtaken may take its time to put away what it had begun.
            names.retain(|name| !name.starts_with('.'));
            let bundle = &stage.exports.list(stage.tenant.id).unwrap()[0];
            let verified = verify(&bundle.path, &[], None).unwrap();
            let entries = entries(stage).await;
            let used = entries.iter().filter(|(kind, _)| kind == "approval.consumed").count();
            let is_on_record = entries
                .iter()
                .any(|(kind, body)| kind == "tenant.exported" && body["bundle"] == verified.digest);
            let sweeps: i64 = sqlx::query_scalar(
                "select count(*) from queue.job where kind = 'export_sweep' and run_at > now()",
            )
            .fetch_one(stage.queue.pool())
            .await
            .unwrap();
            let records = verified.manifest.file("tenant/tenant.record.ndjson").unwrap().rows;
            format!("{names:?} {used} {is_on_record} {} {records}", sweeps > 0)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_export_passes_the_battery() {
    battery(&Export, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_an_approved_export_is_on_record_under_the_digest_it_ends_with_for_its_owner_alone() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let folder = tempfile::tempdir().unwrap();
    let ended = exported(&stage, Some(folder.path())).await;
    assert_eq!(ended.state, JobState::Succeeded, "{:?}", ended.note);
    let output = ended.output.unwrap();
    let file = Path::new(output["file"].as_str().unwrap());
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(folder.path()), [file.file_name().unwrap().to_str().unwrap()], "nothing else is left");
    let verified = verify(file, &[], Some(&stage.checkpoints.key().public())).unwrap();
    assert_eq!((output["sha256"].as_str().unwrap(), verified.is_anchored), (verified.digest.as_str(), true));
    assert_eq!(output["keep_secs"], serde_json::Value::Null, "a bundle that was put somewhere is not swept");
    let entries = entries(&stage).await;
    let [.., (consumed, _), (kind, body)] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((consumed.as_str(), kind.as_str()), ("approval.consumed", "tenant.exported"));
    assert_eq!(
        (&body["bundle"], &body["size"]),
        (&output["sha256"], &serde_json::json!(verified.manifest.audit.size))
    );

    let mut lines = Vec::new();
    audit::export(&mut stage.tenant_connection().await, &mut lines).await.unwrap();
    assert!(!matches!(chain::verify(&mut lines.as_slice(), &[]).unwrap(), chain::Verdict::Broken(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_nothing_is_exported_without_the_yes_that_is_for_it() {
    let stage = Stage::provisioned().await;
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = Some(folder.path());

    let denied = asked(&stage, to, Some(false)).await;
    let ended = stage.run(job(&stage.tenant, denied, to).unwrap()).await;
    assert_eq!((ended.state, ended.attempt), (JobState::Failed, 1));

    let approval = asked(&stage, to, Some(true)).await;
    let ended = stage.run(job(&stage.tenant, approval, Some(elsewhere.path())).unwrap()).await;
    assert_eq!((ended.state, ended.attempt), (JobState::Failed, 1), "it is for another folder");
    let ended = stage.run(job(&stage.tenant, ApprovalId(999), to).unwrap()).await;
    assert_eq!((ended.state, ended.attempt), (JobState::Failed, 1), "there is none");
    assert_eq!((names(folder.path()).len(), names(elsewhere.path()).len()), (0, 0));

    // One yes, one bundle: a second job finds it, and once it is gone there is no other.
    let first = stage.run(job(&stage.tenant, approval, to).unwrap()).await;
    let second = stage.run(job(&stage.tenant, approval, to).unwrap()).await;
    assert_eq!((first.state, second.state), (JobState::Succeeded, JobState::Succeeded));
    assert_eq!(first.output.unwrap()["sha256"], second.output.unwrap()["sha256"]);
    fs::remove_file(folder.path().join(&names(folder.path())[0])).unwrap();
    let third = stage.run(job(&stage.tenant, approval, to).unwrap()).await;
    assert_eq!((third.state, names(folder.path()).len()), (JobState::Failed, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_job_whose_export_nobody_has_approved_waits_and_writes_nothing() {
    let stage = Stage::provisioned().await;
    let folder = tempfile::tempdir().unwrap();
    let open = asked(&stage, Some(folder.path()), None).await;
    let id = stage.queue.enqueue(job(&stage.tenant, open, Some(folder.path())).unwrap()).await.unwrap().id;
    let _worker = stage.worker(stage.environment());
    let waiting = until(async || {
        let record = stage.queue.get(id).await.unwrap().unwrap();
        (record.reason == queue::WaitReason::Approval).then_some(record)
    })
    .await;
    assert_eq!((waiting.state, waiting.failures), (JobState::Ready, 0));
    assert!(names(folder.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_midway_leaves_nothing_but_a_clear_error() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let folder = tempfile::tempdir().unwrap();
    full::after(60_000);
    let approval = asked(&stage, Some(folder.path()), Some(true)).await;
    let new = job(&stage.tenant, approval, Some(folder.path())).unwrap();
    let ended = stage.run(new.clone()).await;
    assert_eq!((ended.state, ended.attempt), (JobState::Failed, 1), "a person has to make room");
    let error = stage.queue.attempts(ended.id).await.unwrap().remove(0).error;
    let place = folder.path().display().to_string();
    assert!(error.contains(&place) && error.contains("no storage space"), "{error}");
    assert!(names(folder.path()).is_empty());
    assert!(!entries(&stage).await.iter().any(|(kind, _)| kind == "tenant.exported"));
    // The yes was not used up by that.
    full::after(u64::MAX);
    assert_eq!(stage.run(new).await.state, JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_used_is_told_before_anybody_is_asked() {
    let stage = Stage::provisioned().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for to in [folder.path().join("missing"), file, PathBuf::from("relative")] {
        let approval = asked(&stage, Some(&to), None).await;
        let ended = stage.run(job(&stage.tenant, approval, Some(&to)).unwrap()).await;
        assert_eq!((ended.state, ended.attempt), (JobState::Failed, 1), "{}", to.display());
        let error = stage.queue.attempts(ended.id).await.unwrap().remove(0).error;
        assert!(error.contains(&*to.to_string_lossy()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_a_new_table_fails_the_job_by_its_name_and_says_what_to_do() {
    let stage = Stage::provisioned().await;
    let mut inside = stage.tenant_connection().await;
    sqlx::raw_sql("create table tenant.added (id int)").execute(&mut inside).await.unwrap();
    let ended = exported(&stage, None).await;
    assert_eq!((ended.state, ended.attempt), (JobState::Failed, 1));
    let error = stage.queue.attempts(ended.id).await.unwrap().remove(0);
    assert_eq!(error.class, "configuration");
    assert!(
        error.error.contains("tenant.added") && error.error.contains("classification.rs"),
        "{}",
        error.error
    );
    assert!(stage.exports.list(stage.tenant.id).unwrap().is_empty());
}
