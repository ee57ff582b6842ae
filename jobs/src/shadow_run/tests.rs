use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use governance::{
    actor,
    candidate::{self, Definition, ENGINE, Policy},
    decision::{Evidence, Record, Verdict},
    digest::Digest,
    path::{self, NewPath},
    policy::{self, Fields},
    shadow::{Case, CaseId, Fault, Hands, Judge, NewCase, Said, freeze, say, shown},
};
use queue::State;
use serde_json::{Map, json};
use sqlx::{PgConnection, Row};

use super::*;
use crate::{
    judges::{BuiltIn, Judges},
    testing::{Stage, Subject, battery},
};

pub(crate) const CANDIDATE: &str = "lower-case";
const PATH: &str = "contact-email";

/// The engines of tests: the built-in one, and for policy version 2 one that wants to write.
pub(crate) struct Engines;

impl Judges for Engines {
    fn of<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        definition: &'a Definition,
    ) -> BoxFuture<'a, Result<Arc<dyn Judge>, NoJudge>> {
        if definition.policy.version == 2 {
            return std::future::ready(Ok(Arc::new(Writer) as Arc<dyn Judge>)).boxed();
        }
        BuiltIn.of(conn, definition)
    }
}

const POLICY: &str = r#"
path = "contact-email"

[[rules]]
name = "email_unnormalised"
when = 'email(record.email) != record.email'
verdict = "fix"
value = { email = 'email(record.email)' }
confidence = 95
class = "email_format"
"#;

struct Writer;

impl Judge for Writer {
    fn judge<'a, 'b: 'a>(
        &'a self,
        _: &'a Case,
        hands: &'a mut Hands<'b>,
    ) -> BoxFuture<'a, Result<Said, Fault>> {
        async {
            let planted = "insert into tenant.connector (name, definition) values ('planted', '')";
            sqlx::query(planted).execute(hands.reader()).await?;
            Ok(Said { verdict: Verdict::None, value: None, class: None })
        }
        .boxed()
    }
}

fn lower_case(email: &str) -> Said {
    let value = Map::from_iter([("email".to_owned(), json!(email.to_lowercase()))]);
    Said { verdict: Verdict::Fix, value: Some(value), class: Some("email_format".to_owned()) }
}

/// A candidate with this policy version, and so many cases that Ada judged as the rules do; of half of them Ben said the
/// same, so that they are scored.
pub(crate) async fn prepare(stage: &Stage, version: i64, cases: i64) {
    let db = stage.as_request().await;
    let mut write = db.write().await.unwrap();
    let actor = actor::named(&mut write, "ada").await.unwrap();
    let ada = actor.id;
    let ben = actor::named(&mut write, "ben").await.unwrap().id;
    let new = NewPath {
        name: PATH.to_owned(),
        connector: "crm".to_owned(),
        stream: "contacts".to_owned(),
        fields: vec!["email".to_owned()],
        daily_cap: 100,
        breaker_limit: 3,
    };
    let path = match path::by_name(&mut write, PATH).await {
        Ok(path) => path,
        Err(_) => path::create(&mut write, &new, &actor).await.unwrap(),
    };
    let policy = policy::Policy::compile(POLICY, "policy", &Fields::any(), None).unwrap();
    policy::add(&mut write, &path, &policy, &actor).await.unwrap();
    let definition = Definition {
        path: PATH.to_owned(),
        policy: Policy { version, digest: policy.digest() },
        model: None,
        prompt: None,
        tools: std::collections::BTreeMap::new(),
        redaction: None,
        engine: ENGINE,
    };
    candidate::create(&mut write, CANDIDATE, &definition, ada).await.unwrap();
    for number in 0..cases {
        let email = format!("Person{number}@Example.com");
        let id = case(&mut write, number, &email).await;
        say(&mut write, id, &lower_case(&email), ada).await.unwrap();
        if number % 2 == 0 {
            say(&mut write, id, &lower_case(&email), ben).await.unwrap();
        }
    }
    write.commit().await.unwrap();
}

async fn case(conn: &mut PgConnection, number: i64, email: &str) -> CaseId {
    let original = Map::from_iter([("email".to_owned(), json!(email))]);
    let changed_at = chrono::DateTime::UNIX_EPOCH;
    let record = Record {
        key: number.to_string(),
        digest: email.to_owned(),
        data: Some(original.clone()),
        changed_at,
    };
    let case = NewCase {
        path: PATH,
        input_digest: Digest::of(&number.to_be_bytes()),
        connector: "crm",
        stream: "contacts",
        key: &number.to_string(),
        original: &original,
        input: &shown(&record, &Evidence::none(), changed_at).unwrap(),
    };
    freeze(conn, &case).await.unwrap()
}

struct FiveCases;

impl Subject for FiveCases {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            prepare(stage, 1, 5).await;
            job(&stage.tenant, CANDIDATE).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let row = sqlx::query(
                "select string_agg(case_id || ' ' || verdict || ' ' || value, ', ' order by case_id) from tenant.shadow_run",
            )
            .fetch_one(&mut stage.tenant_connection().await)
            .await
            .unwrap();
            row.get(0)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_run_passes_the_battery() {
    battery(&FiveCases, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_candidate_that_wants_to_write_is_refused_case_by_case() {
    let stage = Stage::provisioned().await;
    prepare(&stage, 2, 3).await;
    let done = stage.run(job(&stage.tenant, CANDIDATE).unwrap()).await;
    assert_eq!(done.state, State::Succeeded, "{:?}", done.note);
    let output = json!({ "candidate": CANDIDATE, "runs": 3, "errors": 3, "refused": 3 });
    assert_eq!(done.output.unwrap(), output);
    let seen = sqlx::query(
        "select (select count(*) from tenant.connector),
            (select count(*) from tenant.shadow_run where error = 'write_refused'),
            (select sum(jsonb_array_length(convert_from(content, 'UTF8')::jsonb -> 'body' -> 'inputs'))
             from governance.audit_entry
             where convert_from(content, 'UTF8')::jsonb ->> 'kind' = 'shadow.write_refused')",
    );
    let seen = seen.fetch_one(&mut stage.tenant_connection().await).await.unwrap();
    assert_eq!([seen.get::<i64, _>(0), seen.get(1), seen.get(2)], [0, 3, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_nobody_can_be_is_refused() {
    let stage = Stage::provisioned().await;
    let unknown = stage.run(job(&stage.tenant, "nobody").unwrap()).await;
    assert_eq!(unknown.state, State::Failed);
    prepare(&stage, 3, 1).await;
    let foreign = stage.run(job(&stage.tenant, CANDIDATE).unwrap()).await;
    let attempts = stage.queue.attempts(foreign.id).await.unwrap();
    assert!(attempts[0].error.contains("no policy of version 3"), "{}", attempts[0].error);
}
