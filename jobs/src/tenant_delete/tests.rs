use std::{fs, path::Path, time::Duration};

use database::{
    control::{
        self, ControlError, TenantState,
        deletion::{self, DeletionId, DeletionState},
        hold,
    },
    tenant::TenantError,
    tombstone::TombstoneError,
};
use futures_util::{StreamExt, future::BoxFuture};
use governance::{actor, approval, audit, gate};
use queue::{NewJob, State};
use sqlx::{AssertSqlSafe, PgConnection};

use super::*;
use crate::testing::{Stage, Strike, Subject, battery, until};

/// Ada asks for the deletion of the stage's tenant, and Ben says yes.
async fn approved(stage: &Stage, cooling_off: Duration) -> DeletionId {
    let mut conn = stage.database.connect().await;
    let ada = actor::named(&mut conn, "ada").await.unwrap().id;
    let ben = actor::named(&mut conn, "ben").await.unwrap().id;
    let id = deletion::reserve(&mut conn).await.unwrap();
    let asked = request::enter(&mut conn, &stage.tenant, id, ada, cooling_off, None).await.unwrap();
    let seen = approval::get(&mut conn, asked).await.unwrap().unwrap();
    approval::approve(&mut conn, asked, &seen.digest, ben, Some("acme")).await.unwrap();
    id
}

/// Things of the tenant in the control database and in the data folder.
async fn furnish(stage: &Stage) {
    let tenant = stage.tenant.id;
    let payload = serde_json::value::to_raw_value("of acme").unwrap();
    for _ in 0..3 {
        let job = NewJob::raw("no_such_kind", payload.clone()).queue("elsewhere").tenant(tenant.0);
        stage.queue.enqueue(job).await.unwrap();
    }
    let gone = NewJob::raw("no_such_kind", payload).queue("elsewhere").tenant(tenant.0);
    let gone = stage.queue.enqueue(gone).await.unwrap().id;
    stage.queue.cancel(gone, "grace").await.unwrap();
    for schedule in crate::standing::schedules(&stage.tenant).unwrap() {
        stage.queue.put_schedule(&schedule).await.unwrap();
    }
    let cap = queue::Limit::Cap { queue: None, on: queue::CapOn::Tenant(tenant.0), running_max: 4 };
    stage.queue.set_limit(&cap).await.unwrap();
    let bundles = stage.folder.path().join("data folder/bundles");
    fs::create_dir_all(bundles.join(tenant.to_string())).unwrap();
    fs::write(bundles.join(tenant.to_string()).join("all.zip"), "of acme").unwrap();
    fs::write(bundles.join(format!("{tenant}.zip")), "of acme").unwrap();
    fs::write(bundles.join("another.zip"), "of nobody").unwrap();
}

async fn text(conn: &mut PgConnection, statement: impl Into<String>) -> String {
    sqlx::query_scalar(AssertSqlSafe(statement.into())).fetch_one(conn).await.unwrap()
}

async fn certificate_of(stage: &Stage) -> Certificate {
    let mut conn = stage.database.connect().await;
    let stone = deletion::tombstone(&mut conn, stage.tenant.id).await.unwrap().expect("a tombstone");
    verify(&stone.certificate.expect("a certificate"), &stage.checkpoints.key().public()).unwrap()
}

/// The names of the files that are left of the tenant, without what differs from run to run.
fn papers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .map(|name| {
            if name.starts_with("certificate-") {
                name.replace(|c: char| c.is_ascii_digit(), "0")
            } else {
                name
            }
        })
        .collect();
    names.sort();
    names
}

struct Gone;

impl Subject for Gone {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            furnish(stage).await;
            job(&stage.tenant, approved(stage, Duration::ZERO).await).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let mut conn = stage.database.connect().await;
            let tenant = control::by_id(&mut conn, stage.tenant.id).await.unwrap().unwrap();
            let left = tables::remains(&mut conn, tenant.id).await.unwrap();
            let server = format!(
                "select (select count(*) from pg_database where datname = '{0}')
                     || ' ' || (select count(*) from pg_roles where rolname = '{0}')",
                tenant.database_name
            );
            let kinds = "select string_agg(convert_from(content, 'UTF8')::json ->> 'kind', ' ' order by seq)
                from governance.audit_entry where convert_from(content, 'UTF8')::json ->> 'kind' like 'tenant.%'";
            let certificate = certificate_of(stage).await;
            let chain = certificate.chain.as_ref().unwrap();
            let size = (chain.size, &chain.file, chain.fault.is_some(), chain.checkpoint.is_some());
            let files =
                (certificate.removed.files, papers(&stage.deletions.tombstones().folder_of(tenant.id)));
            format!(
                "{} {left:?} {} {} {:?} {size:?} {files:?} {:?}",
                tenant.state,
                text(&mut conn, server).await,
                text(&mut conn, kinds).await,
                certificate.removed.rows,
                certificate.probed,
            )
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_a_deletion_killed_at_every_step_converges_in_the_battery() {
    battery(&Gone, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_a_deletion_leaves_a_certificate_and_nothing_else() {
    let stage = Stage::provisioned().await;
    let ended = stage.run(Gone.job(&stage).await).await;
    assert_eq!(ended.state, State::Succeeded, "{:?}", ended.note);
    let end = Gone.fingerprint(&stage).await;
    assert!(end.starts_with("deleted [] 0 0 tenant.deletion_begun tenant.deleted "), "{end}");
    let certificate = certificate_of(&stage).await;
    let rows = &certificate.removed.rows;
    assert_eq!((rows["queue.job"], rows["queue.job_history"], rows["queue.schedule"]), (3, 1, 3), "{rows:?}");
    assert_eq!(certificate.removed.files.unwrap().files, 2);
    assert!(stage.folder.path().join("data folder/bundles/another.zip").exists());
    let words = certificate.words().join("\n");
    assert!(words.contains("kept for 35 days") && words.contains("No key was kept"), "{words}");
    // The chain that was taken out verifies against the checkpoint that the certificate carries.
    let chain = certificate.chain.unwrap();
    let folder = stage.deletions.tombstones().folder_of(stage.tenant.id);
    let export = fs::read(folder.join(&chain.file)).unwrap();
    let note = verifier::note::Note::parse(&chain.checkpoint.unwrap()).unwrap();
    note.check(&stage.checkpoints.key().public()).unwrap();
    let verdict = verifier::chain::verify(&mut export.as_slice(), &[note.checkpoint]).unwrap();
    let verifier::chain::Verdict::Verified(intact) = verdict else { panic!("{verdict:?}") };
    assert_eq!((intact.size, intact.anchored), (chain.size.unsigned_abs(), chain.size.unsigned_abs()));
    let head = audit::head(&mut stage.database.connect().await).await.unwrap();
    assert!(head.size > 0);
}

#[tokio::test]
async fn e7_a_certificate_with_one_changed_byte_is_refused() {
    let stage = Stage::provisioned().await;
    stage.run(Gone.job(&stage).await).await;
    let mut conn = stage.database.connect().await;
    let note = deletion::tombstone(&mut conn, stage.tenant.id).await.unwrap().unwrap().certificate.unwrap();
    let key = stage.checkpoints.key().public();
    verify(&note, &key).unwrap();
    assert!(matches!(
        verify(&note.replace("\"acme\"", "\"acne\""), &key),
        Err(CertificateError::Signature(_))
    ));
    let tombstone = deletion::tombstone(&mut conn, stage.tenant.id).await.unwrap().unwrap().note;
    assert!(matches!(verify(&tombstone, &key), Err(CertificateError::OtherPaper)));
}

/// Hangs the deletion at this boundary of a clean run, places a hold, and lets it go on.
async fn held_at(boundary: usize) -> (String, bool, TenantState) {
    let stage = Stage::provisioned().await;
    let environment = stage.environment();
    let (mut struck, go_on) = environment.fault().plan(boundary, Strike::Hang);
    let job = Gone.job(&stage).await;
    let id = stage.queue.enqueue(job).await.unwrap().id;
    let _worker = stage.worker(environment.clone());
    struck.wait_for(|struck| *struck).await.expect("the boundary is reached");
    let mut conn = stage.database.connect().await;
    let ada = actor::named(&mut conn, "ada").await.unwrap().id;
    let placed = hold::place(&mut conn, stage.tenant.id, "a lawsuit", ada.0, None).await;
    go_on.notify_one();
    let ended = stage.at_rest(id).await;
    let tenant = control::by_id(&mut conn, stage.tenant.id).await.unwrap().unwrap();
    let seen = environment.fault().seen();
    let at = seen[boundary].clone();
    match placed {
        Ok(_) => {
            assert_eq!(
                (ended.state, tenant.state),
                (State::Cancelled, TenantState::Active),
                "{at}: {:?}",
                ended.note
            );
            stage.as_request().await.read().await.expect("its database is untouched");
            let refused = deletion::newest_of(&mut conn, tenant.id).await.unwrap().unwrap();
            assert_eq!(refused.state, DeletionState::Refused);
            (at, true, tenant.state)
        }
        Err(ControlError::WrongState { .. }) => {
            assert_eq!((ended.state, tenant.state), (State::Succeeded, TenantState::Deleted), "{at}");
            (at, false, tenant.state)
        }
        Err(error) => panic!("{at}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_a_hold_placed_at_any_boundary_wins_or_is_refused_in_a_battery_of_its_own() {
    let ends: Vec<_> =
        futures_util::stream::iter(0..Step::ALL.len() * 2).map(held_at).buffered(4).collect().await;
    let winning: Vec<_> = ends.iter().filter(|(_, won, _)| *won).map(|(at, ..)| at.as_str()).collect();
    assert_eq!(winning, ["Before approve", "After approve", "Before freeze"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_two_deleters_at_once_make_one_end() {
    let stage = Stage::provisioned().await;
    let first = Gone.job(&stage).await;
    // Another job for the same deletion, which no unique key keeps out.
    let payload = serde_json::from_str(first.payload()).unwrap();
    let second = NewJob::raw(TenantDelete::KIND, payload).queue(deletions_of(&stage.tenant.region));
    let (one, other) = (stage.worker(stage.environment()), stage.worker(stage.environment()));
    let ids: Vec<_> = stage.queue.enqueue_all(&[first, second]).await.unwrap().into_iter().collect();
    for enqueued in ids {
        let ended = until(async || {
            let record = stage.queue.get(enqueued.id).await.unwrap().unwrap();
            if record.state == State::Ready {
                // A failure of the slower one is tried again at once.
                let _may_be_running_again = stage.queue.retry(enqueued.id).await;
            }
            Some(record).filter(|record| record.state.is_final())
        })
        .await;
        assert_eq!(ended.state, State::Succeeded, "{:?}", ended.note);
    }
    drop((one, other));
    let end = Gone.fingerprint(&stage).await;
    assert!(end.starts_with("deleted [] 0 0 tenant.deletion_begun tenant.deleted "), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_what_a_step_could_not_remove_keeps_the_certificate_away() {
    let stage = Stage::provisioned().await;
    let job = Gone.job(&stage).await;
    // A trigger that puts a row of the tenant back whenever one goes.
    let haunted = "create function public.haunt() returns trigger language plpgsql as
            'begin insert into queue.weight (tenant, weight) values (old.tenant, 7); return null; end';
        create trigger haunt after delete on queue.weight for each row execute function public.haunt()";
    let mut conn = stage.database.connect().await;
    sqlx::raw_sql(haunted).execute(&mut conn).await.unwrap();
    let weight = queue::Limit::Weight { tenant: stage.tenant.id.0, weight: 7 };
    stage.queue.set_limit(&weight).await.unwrap();
    let ended = stage.run(job.attempts_max(1)).await;
    assert_eq!(ended.state, State::Failed);
    let why = stage.queue.attempts(ended.id).await.unwrap().pop().unwrap().error;
    assert!(why.contains("still there: queue.weight"), "{why}");
    assert!(deletion::tombstone(&mut conn, stage.tenant.id).await.unwrap().unwrap().certificate.is_none());
    sqlx::raw_sql("drop trigger haunt on queue.weight").execute(&mut conn).await.unwrap();
    stage.queue.retry(ended.id).await.unwrap();
    let _worker = stage.worker(stage.environment());
    until(async || {
        Some(stage.queue.get(ended.id).await.unwrap().unwrap()).filter(|job| job.state == State::Succeeded)
    })
    .await;
    assert!(Gone.fingerprint(&stage).await.starts_with("deleted [] 0 0 "));
}

#[tokio::test]
async fn e5_a_table_that_nobody_classified_refuses_a_deletion_by_name() {
    let stage = Stage::provisioned().await;
    let mut conn = stage.database.connect().await;
    assert_eq!(tables::unclassified(&mut conn).await.unwrap(), Vec::<String>::new());
    sqlx::raw_sql("create table control.favourite (tenant uuid)").execute(&mut conn).await.unwrap();
    let ada = actor::named(&mut conn, "ada").await.unwrap().id;
    let mut intervention = stage.queue.intervene().await.unwrap();
    let refused = request(&mut intervention, stage.tenant.id, ada, Duration::ZERO, None).await;
    assert!(
        matches!(&refused, Err(RequestError::Unclassified(names)) if *names == ["control.favourite"]),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_a_deletion_waits_for_the_yes_and_for_the_end_of_its_cooling_off_and_can_be_called_off_until_then()
{
    let stage = Stage::provisioned().await;
    let mut conn = stage.database.connect().await;
    let ada = actor::named(&mut conn, "ada").await.unwrap().id;
    let ben = actor::named(&mut conn, "ben").await.unwrap().id;
    let mut intervention = stage.queue.intervene().await.unwrap();
    let asked =
        request(&mut intervention, stage.tenant.id, ada, Duration::from_hours(24), None).await.unwrap();
    intervention.commit().await.unwrap();
    let _worker = stage.worker(stage.environment());
    let waits = async |reason: queue::WaitReason| {
        until(async || {
            let record = stage.queue.get(asked.job.id).await.unwrap().unwrap();
            (record.state == State::Ready && record.reason == reason).then_some(record)
        })
        .await
    };
    waits(queue::WaitReason::Approval).await;
    let seen = approval::get(&mut conn, asked.approval).await.unwrap().unwrap();
    let own = approval::approve(&mut conn, asked.approval, &seen.digest, ada, Some("acme")).await;
    assert!(matches!(own, Err(approval::DecideError::OwnRequest(_))), "{own:?}");
    let untyped = approval::approve(&mut conn, asked.approval, &seen.digest, ben, None).await;
    assert!(matches!(untyped, Err(approval::DecideError::NotConfirmed { .. })), "{untyped:?}");
    approval::approve(&mut conn, asked.approval, &seen.digest, ben, Some("acme")).await.unwrap();
    stage.queue.retry(asked.job.id).await.unwrap();
    let cooling = waits(queue::WaitReason::Snoozed).await;
    assert!(cooling.note.unwrap().contains("called off until"));
    let mut again = stage.queue.intervene().await.unwrap();
    let second = request(&mut again, stage.tenant.id, ada, Duration::ZERO, None).await.unwrap();
    assert!(!second.is_new && second.job.existing, "{second:?}");
    assert_eq!((second.deletion, second.job.id), (asked.deletion, asked.job.id));
    drop(again);
    let mut intervention = stage.queue.intervene().await.unwrap();
    let called_off = call_off(&mut intervention, stage.tenant.id, ben, "ben").await.unwrap();
    intervention.commit().await.unwrap();
    assert_eq!(called_off.state, DeletionState::CalledOff);
    assert_eq!(stage.at_rest(asked.job.id).await.state, State::Cancelled);
    let tenant = control::by_id(&mut conn, stage.tenant.id).await.unwrap().unwrap();
    assert_eq!(tenant.state, TenantState::Active);
    // It can be asked for anew; without a cooling-off left there is nothing to call off any more.
    let id = approved(&stage, Duration::ZERO).await;
    assert_eq!(stage.run(job(&stage.tenant, id).unwrap()).await.state, State::Succeeded);
    let mut intervention = stage.queue.intervene().await.unwrap();
    let late = call_off(&mut intervention, stage.tenant.id, ben, "ben").await;
    assert!(matches!(late, Err(RequestError::Nothing)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_a_denied_deletion_ends_and_is_not_called_off_once_it_has_begun() {
    let stage = Stage::provisioned().await;
    let mut conn = stage.database.connect().await;
    let ada = actor::named(&mut conn, "ada").await.unwrap().id;
    let ben = actor::named(&mut conn, "ben").await.unwrap().id;
    let id = deletion::reserve(&mut conn).await.unwrap();
    let asked = request::enter(&mut conn, &stage.tenant, id, ada, Duration::ZERO, None).await.unwrap();
    approval::deny(&mut conn, asked, ben).await.unwrap();
    let ended = stage.run(job(&stage.tenant, id).unwrap()).await;
    assert_eq!(ended.state, State::Cancelled, "{:?}", ended.note);
    let refused = deletion::by_id(&mut conn, id).await.unwrap();
    assert!(refused.state == DeletionState::Refused && refused.note.unwrap().contains("denied"));
    // One that has begun.
    let id = approved(&stage, Duration::ZERO).await;
    deletion::cool_off(&mut conn, id).await.unwrap();
    deletion::begin(&mut conn, id).await.unwrap();
    let mut intervention = stage.queue.intervene().await.unwrap();
    let late = call_off(&mut intervention, stage.tenant.id, ben, "ben").await;
    assert!(matches!(late, Err(RequestError::TooLate(_))), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_the_tenants_own_gate_is_not_passed_by() {
    let stage = Stage::provisioned().await;
    let mut inside = stage.tenant_connection().await;
    let ada = actor::named(&mut inside, "ada").await.unwrap().id;
    let class = gate::ActionClass::tenant_delete();
    let raised = gate::Gate { persons: 2, ..gate::get(&mut inside, &class).await.unwrap() };
    gate::set(&mut inside, &gate::Change::Gate(raised), ada, None).await.unwrap();
    let job = job(&stage.tenant, approved(&stage, Duration::ZERO).await).unwrap();
    let ended = stage.run(job).await;
    assert_eq!(ended.state, State::Failed);
    let why = stage.queue.attempts(ended.id).await.unwrap().pop().unwrap().error;
    assert!(why.contains("asks for 2 persons, the platform's for 1"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e8_a_tombstone_outside_forbids_a_tenant_that_the_catalogue_believes_alive() {
    let stage = Stage::provisioned().await;
    stage.run(Gone.job(&stage).await).await;
    // As a backup would have it.
    let restored = "set session_replication_role = replica;
        update control.tenant set state = 'active'; delete from control.tombstone;
        delete from control.deletion_step; delete from control.deletion; set session_replication_role = origin";
    sqlx::raw_sql(restored).execute(&mut stage.database.connect().await).await.unwrap();
    let environment = stage.environment();
    let opened = environment.as_request(stage.tenant.id).await.map(drop);
    assert!(matches!(opened, Err(TenantError::Tombstone(TombstoneError::Buried { .. }))), "{opened:?}");
    let provisioned = environment.provisioner().run(stage.tenant.id).await;
    assert!(
        matches!(provisioned, Err(ProvisionError::Tombstone(TombstoneError::Buried { .. }))),
        "{provisioned:?}"
    );
    // It is deleted once more, though its database may not be opened.
    let id = approved(&stage, Duration::ZERO).await;
    let ended = stage.run(job(&stage.tenant, id).unwrap()).await;
    assert_eq!(ended.state, State::Succeeded, "{:?}", ended.note);
    assert_eq!(certificate_of(&stage).await.chain, None);
    // A folder that is not there is not one without tombstones.
    sqlx::raw_sql(restored).execute(&mut stage.database.connect().await).await.unwrap();
    fs::rename(stage.deletions.tombstones().folder(), stage.folder.path().join("elsewhere")).unwrap();
    let opened = environment.as_request(stage.tenant.id).await.map(drop);
    assert!(matches!(opened, Err(TenantError::Tombstone(TombstoneError::Unreadable { .. }))), "{opened:?}");
}
