//! The battery over the stages in one job, whole runs on a real source, and what a report says of what failed.

use std::net::TcpListener;

use connectors::Definition;
use database::testing::TestDatabase;
use futures_util::{StreamExt, future::BoxFuture};
use governance::{
    actor, path,
    policy::{self, Fields, Policy},
    promotion::Answer,
};
use queue::State;
use sqlx::{AssertSqlSafe, Row};

use super::*;
use crate::{
    shadow_run::tests::{CANDIDATE, prepare},
    testing::{Stage, Strike, Subject, battery, until},
};

/// Of the path that [`prepare`] makes: something to block, something for people, something to fix.
const POLICY: &str = r#"
path = "contact-email"

[[rules]]
name = "gone"
when = 'record.gone == true'
verdict = "block"

[[rules]]
name = "no_email"
when = 'record.email == null'
verdict = "review"

[[rules]]
name = "email_unnormalised"
when = 'email(record.email) != record.email'
verdict = "fix"
value = { email = 'email(record.email)' }
confidence = 95
class = "email_format"
"#;

/// One to block, one for people, two to fix, and one that is right.
const CONTACTS: &str = "
create table contacts (id bigint primary key, email text, gone boolean not null default false);
insert into contacts values
    (1, 'Ada@Example.com', false), (2, 'BOB@example.com', false), (3, 'eve@example.com', false), (4, null, false),
    (5, 'Old@x.org', true)";

async fn sql(database: &TestDatabase, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&mut database.connect().await).await.unwrap();
}

async fn inside(stage: &Stage, statement: &str) {
    let mut conn = stage.tenant_connection().await;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
}

async fn text(stage: &Stage, statement: &str) -> String {
    let mut conn = stage.tenant_connection().await;
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut conn).await.unwrap();
    row.get::<Option<String>, _>(0).unwrap_or_default()
}

/// A policy with all verdicts as the newest of the path that [`prepare`] makes.
async fn govern(stage: &Stage, cases: i64) {
    prepare(stage, 1, cases).await;
    let mut write = stage.as_request().await.write().await.unwrap();
    let ada = actor::named(&mut write, "ada").await.unwrap();
    let path = path::by_name(&mut write, "contact-email").await.unwrap();
    let policy = Policy::compile(POLICY, "policy", &Fields::any(), None).unwrap();
    policy::add(&mut write, &path, &policy, &ada).await.unwrap();
    write.commit().await.unwrap();
}

/// A source, and a target beside it at which nobody may knock.
struct Crm {
    source: TestDatabase,
    target: TcpListener,
}

impl Crm {
    async fn new() -> Self {
        let source = TestDatabase::create().await;
        sql(&source, CONTACTS).await;
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        target.set_nonblocking(true).unwrap();
        Self { source, target }
    }

    async fn register(&self, stage: &Stage) {
        let port = self.target.local_addr().unwrap().port();
        let text = format!(
            "name = 'crm'\nkind = 'postgres'\n[postgres]\nurl = '{}'\n\
             [target]\nurl = 'postgres://writer@127.0.0.1:{port}/crm'\n\
             [[streams]]\nname = 'contacts'\ntable = 'contacts'\nkey = ['id']\ndeletions = 'keys'\ndeletions_percent_max = 50\n\
             [streams.target]\nowned = ['email']\n",
            self.source.url()
        );
        let definition =
            Definition::parse(&text, "crm.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        connector_registry::register(&stage.as_request().await, &definition, "ada").await.unwrap();
    }

    /// Whether anybody has connected to the target.
    fn is_untouched(&self) -> bool {
        matches!(self.target.accept(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

/// A whole run, and its report.
async fn night(stage: &Stage) -> Report {
    let id = stage.queue.enqueue(job(&stage.tenant).unwrap()).await.unwrap().id;
    let _worker = stage.worker(stage.environment());
    reported(stage, id).await
}

async fn reported(stage: &Stage, id: JobId) -> Report {
    let last = stage.at_the_end(id).await;
    assert_eq!(last.state, State::Succeeded, "{:?}", stage.queue.attempts(last.id).await.unwrap());
    let run = last.output.unwrap()["run"].as_str().unwrap().parse().unwrap();
    report(&stage.as_request().await, run).await.unwrap().unwrap()
}

/// Records that are there already: nothing to wait for, so that one job goes through every stage.
struct AtRest;

impl Subject for AtRest {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            govern(stage, 0).await;
            inside(
                stage,
                "delete from tenant.candidate;
                insert into tenant.record (connector, stream, key, digest, data)
                select 'crm', 'contacts', n::text, coalesce(md5(email), ''), jsonb_build_object('email', email, 'gone', false)
                from (values (1, 'A@x.org'), (2, null), (3, 'c@x.org')) as t (n, email)",
            )
            .await;
            job(&stage.tenant).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        // A run that was cancelled may have counted before; the one after it says the same of the path.
        let all = "select concat_ws('; ',
            (select string_agg(key || ' ' || verdict, ',' order by key) from tenant.decision),
            (select string_agg(key || ' ' || state, ',' order by key) from tenant.review_case),
            (select string_agg(distinct concat_ws(' ', report ->> 'outcome', path ->> 'records', path ->> 'fix',
                path ->> 'review', path ->> 'issue_rate_bp', path ->> 'rules'), ',')
             from tenant.baseline_run, jsonb_array_elements(report -> 'paths') as path),
            (select count(*) from governance.audit_entry
             where convert_from(content, 'UTF8')::json ->> 'kind' = 'review.opened'))";
        Box::pin(text(stage, all))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nightly_baseline_passes_the_battery() {
    battery(&AtRest, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_night_reads_decides_tries_and_reports_and_knocks_at_no_target() {
    let (crm, stage) = (Crm::new().await, Stage::provisioned().await);
    govern(&stage, 30).await;
    crm.register(&stage).await;
    let report = night(&stage).await;
    assert!(report.is_complete(), "{:?}", report.failures());
    assert_eq!(report.night, report.started_at.date_naive());

    let [stream] = &*report.streams else { panic!("{report:?}") };
    let counts = stream.counts.as_ref().unwrap();
    assert_eq!((stream.name().as_str(), counts.read, counts.written), ("crm/contacts", 5, 5));
    let [path] = &*report.paths else { panic!("{report:?}") };
    let PathCounts { records, changed, fix, review, block, opened, .. } = path.counts;
    assert_eq!((path.policy, path.issue_rate_bp), (Some(2), Some(8_000)));
    assert_eq!((records, changed, fix, review, block, opened), (5, 5, 2, 1, 1, 1));
    let rules: Vec<_> =
        path.counts.rules.iter().map(|it| (it.rule.as_deref().unwrap(), it.records)).collect();
    assert_eq!(rules, [("email_unnormalised", 2), ("gone", 1), ("no_email", 1)]);
    let [candidate] = &*report.candidates else { panic!("{report:?}") };
    let evaluation = candidate.evaluation.as_ref().unwrap();
    assert_eq!((candidate.ran, candidate.errors, evaluation.agreement_bp), (30, 0, Some(10_000)));
    assert_eq!((evaluation.answer, candidate.phase), (Answer::Eligible, Phase::Off), "nothing was promoted");

    assert!(crm.is_untouched(), "somebody connected to the target");
    let unwritten =
        "select count(*) || ' ' || (select count(*) from tenant.target_capability) from tenant.writeback";
    assert_eq!(text(&stage, unwritten).await, "0 0");
    let source = "select string_agg(id || coalesce(email, '') || gone, ',' order by id) from contacts";
    let left: String = sqlx::query_scalar(source).fetch_one(&mut crm.source.connect().await).await.unwrap();
    assert_eq!(
        left,
        "1Ada@Example.comfalse,2BOB@example.comfalse,3eve@example.comfalse,4false,5Old@x.orgtrue"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_run_of_a_night_stands_for_it_and_asks_nobody_twice() {
    let (crm, stage) = (Crm::new().await, Stage::provisioned().await);
    govern(&stage, 2).await;
    crm.register(&stage).await;
    let first = night(&stage).await;
    // Past midnight between the two, this would be two nights.
    inside(&stage, "update tenant.baseline_run set night = (now() at time zone 'UTC')::date").await;
    sql(
        &crm.source,
        "update contacts set email = 'ada@example.com' where id = 1; delete from contacts where id = 4",
    )
    .await;
    let second = night(&stage).await;
    let counts = |report: &Report| {
        let PathCounts { records, changed, fix, review, opened, stale, .. } = report.paths[0].counts;
        [records, changed, fix, review, opened, stale]
    };
    assert_eq!(counts(&first), [5, 5, 2, 1, 1, 0]);
    assert_eq!(counts(&second), [4, 1, 1, 0, 0, 1], "the case of the record that is gone is closed");
    assert_eq!(second.candidates[0].ran, 0, "a candidate runs once on a case");

    let window = window(&stage.as_request().await, 14).await.unwrap();
    let tonight = window.nights.last().unwrap();
    assert_eq!((window.nights.len(), tonight.runs), (14, 2));
    assert_eq!(window.latest().map(|report| report.run), Some(second.run));
    assert_eq!(window.paths[0].nights.iter().flatten().map(|point| point.records).collect::<Vec<_>>(), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_named_with_its_class_and_loses_nothing_else() {
    let (crm, stage) = (Crm::new().await, Stage::provisioned().await);
    govern(&stage, 2).await;
    crm.register(&stage).await;
    let down = "name = 'erp'\nkind = 'postgres'\n[postgres]\nurl = 'postgres://nobody@127.0.0.1:1/none'\n
        [[streams]]\nname = 'orders'\ntable = 'orders'\nkey = ['id']\n";
    let down = Definition::parse(down, "erp.toml").unwrap();
    connector_registry::register(&stage.as_request().await, &down, "ada").await.unwrap();
    inside(
        &stage,
        "insert into tenant.connector (name, definition) values ('junk', 'name = ');
        insert into tenant.path (name, connector, stream, fields, created_by)
        values ('bare', 'crm', 'contacts', '{id}', gen_random_uuid()),
            ('broken', 'crm', 'contacts', '{id}', gen_random_uuid());
        insert into tenant.policy (path, version, text, digest, created_by)
        select id, 1, 'x', sha256('x'), created_by from tenant.path where name = 'broken'",
    )
    .await;
    let report = night(&stage).await;
    assert_eq!(report.outcome, Outcome::Incomplete);
    let failures = report.failures();
    let [erp, junk, broken] = &*failures else { panic!("{failures:?}") };
    assert!(erp.starts_with("stream erp/orders: incomplete (transient): "), "{erp}");
    assert!(junk.starts_with("stream junk: failed (configuration): ") && junk.contains("line 1"), "{junk}");
    assert!(broken.starts_with("path broken: its stored policy is refused (line 1"), "{broken}");
    let of = |name: &str| report.paths.iter().find(|path| path.path == name).unwrap();
    assert_eq!((of("bare").policy, of("bare").why.as_deref(), of("bare").counts.records), (None, None, 0));
    assert_eq!(of("contact-email").counts.records, 5, "the source that is up was read and decided on");
    assert!(report.candidates[0].evaluation.is_some());

    // A sync that ends without a word of its own: the queue's word counts, over the report of the night before.
    sql(&crm.source, "update contacts set id = id + 1000").await;
    let failures = night(&stage).await.failures();
    let crm = failures.iter().find(|failure| failure.starts_with("stream crm/contacts")).unwrap();
    assert!(crm.contains("failed (configuration): job ") && crm.contains("deletions_percent_max"), "{crm}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_cannot_be_tried_is_named() {
    let stage = Stage::provisioned().await;
    // Nothing here can be a candidate of a version that its path does not have.
    prepare(&stage, 3, 1).await;
    let failures = night(&stage).await.failures();
    let [failure] = &*failures else { panic!("{failures:?}") };
    let named = format!("candidate {CANDIDATE}: shadow runs failed (configuration): job ");
    assert!(failure.starts_with(&named) && failure.contains("no policy of version 3"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_nothing_has_a_plain_report_of_one_job() {
    let stage = Stage::provisioned().await;
    let report = night(&stage).await;
    assert!(report.is_complete());
    assert!(report.streams.is_empty() && report.paths.is_empty() && report.candidates.is_empty());
    assert!(stage.queue.dependencies(report.run).await.unwrap().fanned_out_into.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_nobody_began_is_refused() {
    let stage = Stage::provisioned().await;
    let payload = NightlyBaseline { goes_on: Some(GoesOn { run: JobId(99), with: super::Stage::Report }) };
    let ended = stage.run(stage_job(&stage.tenant, &payload).unwrap()).await;
    assert_eq!(ended.state, State::Failed);
    assert!(ended.note.unwrap().contains("no run that job 99 began"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_comes_in_the_midst_of_a_path_decides_over_all_of_it() {
    let stage = Stage::provisioned().await;
    let begins = AtRest.job(&stage).await;
    let environment = stage.environment();
    // Begin, the first page, and then before the second one.
    let (mut struck, go_on) = environment.fault().plan(4, Strike::Hang);
    let id = stage.queue.enqueue(begins).await.unwrap().id;
    let _worker = stage.worker(environment.clone());
    struck.wait_for(|struck| *struck).await.expect("the boundary is reached");
    assert!(environment.fault().seen()[4].contains("page 2"), "{:?}", environment.fault().seen());
    let blocked = POLICY.replace("record.gone == true", "record.gone == false");
    let mut write = stage.as_request().await.write().await.unwrap();
    let ada = actor::named(&mut write, "ada").await.unwrap();
    let path = path::by_name(&mut write, "contact-email").await.unwrap();
    let policy = Policy::compile(&blocked, "policy", &Fields::any(), None).unwrap();
    policy::add(&mut write, &path, &policy, &ada).await.unwrap();
    write.commit().await.unwrap();
    go_on.notify_one();
    let report = reported(&stage, id).await;
    let PathCounts { records, fix, review, block, .. } = report.paths[0].counts;
    assert_eq!((report.paths[0].policy, records, fix, review, block), (Some(3), 3, 0, 0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_handed_back_goes_on_where_it_was() {
    let stage = Stage::provisioned().await;
    let begins = AtRest.job(&stage).await;
    let environment = stage.environment();
    let (mut struck, go_on) = environment.fault().plan(4, Strike::Hang);
    let id = stage.queue.enqueue(begins).await.unwrap().id;
    let first = stage.worker(environment);
    struck.wait_for(|struck| *struck).await.expect("the boundary is reached");
    first.stop();
    go_on.notify_one();
    let record = async || stage.queue.get(id).await.unwrap().filter(|job| job.state == State::Ready);
    let returned = until(record).await;
    assert_eq!((returned.reason, returned.failures), (queue::WaitReason::HandedBack, 0));
    let reached = "select pages || ' ' || is_done from tenant.baseline_path";
    assert_eq!(text(&stage, reached).await, "2 false", "the page that was under way is committed");
    let second = stage.environment();
    let _worker = stage.worker(second.clone());
    let report = reported(&stage, id).await;
    assert_eq!(report.paths[0].counts.records, 3);
    let decided = second.fault().seen().iter().filter(|name| name.contains(" decide ")).count();
    assert_eq!(decided, 2, "only the last page was left: {:?}", second.fault().seen());
    assert_eq!(text(&stage, "select count(*) || ' ' || count(report) from tenant.baseline_run").await, "1 1");
}

/// Kills the worker at this boundary of a whole run, lets another go on, and tells how it ended.
async fn killed(crm: &Crm, index: Option<usize>) -> (Vec<String>, String) {
    let stage = Stage::provisioned().await;
    govern(&stage, 2).await;
    crm.register(&stage).await;
    let environment = stage.environment();
    let struck = index.map(|index| environment.fault().plan(index, Strike::Kill).0);
    let id = stage.queue.enqueue(job(&stage.tenant).unwrap()).await.unwrap().id;
    let mut worker = stage.worker(environment.clone());
    if let Some(mut struck) = struck {
        struck.wait_for(|struck| *struck).await.expect("the boundary is reached");
        worker.kill();
        stage.expire_leases().await;
        worker = stage.worker(stage.environment());
    }
    let Report { outcome, streams, paths, candidates, .. } = reported(&stage, id).await;
    drop(worker);
    let runs = text(&stage, "select count(*) || ' of ' || count(report) from tenant.baseline_run").await;
    let streams: Vec<_> = streams.iter().map(|it| (it.name(), it.outcome.clone())).collect();
    let evaluated: Vec<_> =
        candidates.iter().map(|it| (it.ran, it.evaluation.as_ref().map(|it| it.runs))).collect();
    (environment.fault().seen(), format!("{runs} {outcome:?} {streams:?} {paths:?} {evaluated:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_at_any_stage_leaves_one_report_and_the_same() {
    let crm = Crm::new().await;
    let (boundaries, clean) = killed(&crm, None).await;
    let ours = |name: &str| {
        ["begin", "report"].iter().any(|it| name.ends_with(&format!(" {it}"))) || name.contains(" decide ")
    };
    let ours: Vec<_> = (0..).zip(&boundaries).filter(|(_, name)| ours(name)).collect();
    assert!(ours.len() >= 12, "{boundaries:?}");
    let mut ends = futures_util::stream::iter(ours)
        .map(async |(index, name)| (name, killed(&crm, Some(index)).await.1))
        .buffer_unordered(4);
    while let Some((name, end)) = ends.next().await {
        assert_eq!(end, clean, "killed at {name}");
    }
}
