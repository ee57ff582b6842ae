use std::fs;

use futures_util::future::BoxFuture;
use governance::{actor, approval::Terms, audit::Event};
use queue::{NewJob, State};
use verifier::{
    chain::{self, Verdict},
    note::Note,
};

use super::*;
use crate::testing::{Stage, Subject, battery};

async fn append(conn: &mut PgConnection, entries: i64) {
    for n in 0..entries {
        let event = Event { kind: "test.happened", actor: None, job: None, body: json!({ "n": n }) };
        audit::append(conn, &event).await.unwrap();
    }
}

/// The checkpoints in the stage's folder for the chain of this origin, each of which must fit the chain.
async fn fitting(stage: &Stage, conn: &mut PgConnection) -> Vec<u64> {
    let mut export = Vec::new();
    let head = audit::export(conn, &mut export).await.unwrap();
    let folder = stage.checkpoints.folder().join(head.origin.replace('/', "-"));
    let notes = fs::read_dir(folder).into_iter().flatten().map(|file| {
        let note = Note::parse(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
        note.check(&stage.checkpoints.key().public()).unwrap();
        note.checkpoint
    });
    let notes: Vec<_> = notes.collect();
    let verdict = chain::verify(&mut export.as_slice(), &notes).unwrap();
    assert!(matches!(verdict, Verdict::Verified(_)), "{verdict:?}");
    notes.into_iter().map(|note| note.size).collect()
}

struct OfTenant;

impl Subject for OfTenant {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            append(&mut stage.tenant_connection().await, 7).await;
            NewJob::of(&AuditCheckpoint {}).unwrap().queue("local").tenant(stage.tenant.id.0)
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async { format!("{:?}", fitting(stage, &mut stage.tenant_connection().await).await) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_checkpoint_passes_the_battery() {
    battery(&OfTenant, true).await;
}

struct OfPlatform;

impl Subject for OfPlatform {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            append(&mut stage.database.connect().await, 3).await;
            NewJob::of(&AuditCheckpoint {}).unwrap().queue("local")
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async { format!("{:?}", fitting(stage, &mut stage.database.connect().await).await) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_checkpoint_of_the_platform_passes_the_battery() {
    battery(&OfPlatform, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_a_chain_that_was_tampered_with_ends_the_job_and_is_not_signed() {
    let stage = Stage::provisioned().await;
    let job = OfTenant.job(&stage).await;
    let mut inside = stage.tenant_connection().await;
    let tamper = "alter table governance.audit_entry disable trigger all;
        update governance.audit_entry set content = set_byte(content, 20, 1) where seq = 3";
    sqlx::raw_sql(tamper).execute(&mut inside).await.unwrap();
    let ended = stage.run(job).await;
    assert_eq!((ended.state, ended.attempt), (State::Failed, 1));
    assert!(checkpoint::latest(&mut inside).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_an_approval_that_nobody_looked_at_lapses_on_record_before_the_checkpoint() {
    let stage = Stage::provisioned().await;
    let mut inside = stage.tenant_connection().await;
    let ada = actor::named(&mut inside, "ada").await.unwrap().id;
    let class = "promotion".parse().unwrap();
    let terms = Terms::new(class, "fixer".to_owned(), vec!["fixer".to_owned()], json!({ "to": "assist" }));
    let asked = approval::request(&mut inside, &terms, ada, None).await.unwrap();
    let age = "set session_replication_role = replica;
        update governance.approval set requested_at = clock_timestamp() - interval '1 day';
        set session_replication_role = origin";
    sqlx::raw_sql(age).execute(&mut inside).await.unwrap();
    let before = audit::head(&mut inside).await.unwrap().size;
    let ended = stage.run(job(&stage.tenant).unwrap()).await;
    assert_eq!(ended.state, State::Succeeded, "{:?}", ended.note);
    assert_eq!(ended.output.unwrap()["size"], before + 1, "the lapse is among what is signed");
    let left = approval::get(&mut inside, asked.id).await.unwrap().unwrap();
    assert!(left.ended_at.is_some(), "{left:?}");
}
