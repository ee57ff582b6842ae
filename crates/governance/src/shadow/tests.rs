//! Cases, runs and truth on a real database.

use std::time::Duration;

use database::tenant::Read;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use sqlx::Connection;

use super::*;
use crate::{
    candidate::{
        self,
        tests::support::{Ground, case, fields, fix, said},
    },
    decision::Verdict,
    digest::Digest,
    writeback::{NewWriteback, Plan, enter},
};

const TIME_MAX: Duration = Duration::from_secs(20);

/// Does with each case what its number says.
struct Scripted<F>(F);

impl<F: for<'a> Fn(&'a Case, &'a mut Hands<'_>) -> BoxFuture<'a, Result<Said, Fault>> + Send + Sync> Judge
    for Scripted<F>
{
    fn judge<'a, 'b: 'a>(
        &'a self,
        case: &'a Case,
        hands: &'a mut Hands<'b>,
    ) -> BoxFuture<'a, Result<Said, Fault>> {
        (self.0)(case, hands)
    }
}

const INSERT: &str = "insert into tenant.connector (name, definition) values ('planted', '')";

fn misbehave<'a>(case: &'a Case, hands: &'a mut Hands<'_>) -> BoxFuture<'a, Result<Said, Fault>> {
    async move {
        match case.key.as_str() {
            "0" => {
                sqlx::query(INSERT).execute(hands.reader()).await?;
            }
            "1" => return Err(hands.write()),
            "2" => {
                let _forgotten = hands.write();
            }
            "3" => {
                let _forgotten = sqlx::query(INSERT).execute(hands.reader()).await;
            }
            "4" => panic!("as a broken rule does"),
            "5" => std::future::pending::<()>().await,
            "6" => return Err(Fault::Failed("broken".into())),
            "7" => return Ok(Said { verdict: Verdict::Fix, value: None, class: None }),
            _ => {}
        }
        Ok(said(Verdict::None))
    }
    .boxed()
}

async fn read(ground: &Ground) -> Read {
    ground.db.read().await.unwrap()
}

fn errors(ran: &[Ran]) -> Vec<Option<&'static str>> {
    ran.iter().map(|ran| ran.end.as_ref().err().map(|error| error.name())).collect()
}

#[tokio::test]
async fn g5_a_run_that_wants_to_write_is_refused_and_put_on_record() {
    let ground = Ground::new().await;
    let candidate = ground.candidate("c", 1).await;
    ground.cases(9, 0).await;
    let mut reader = read(&ground).await;
    let cases = pending(&mut reader, &candidate, 100).await.unwrap();
    assert_eq!(cases.len(), 9);
    let judge = Scripted(misbehave);
    let ran = attempt(&mut reader, &judge, &cases, Duration::from_millis(500)).await.unwrap();
    let refused = Some("write_refused");
    assert_eq!(
        errors(&ran),
        [
            refused,
            refused,
            refused,
            Some("failed"),
            Some("panicked"),
            Some("timeout"),
            Some("failed"),
            Some("failed"),
            None
        ]
    );
    reader.finish().await.unwrap();
    let mut write = ground.write().await;
    assert_eq!(record(&mut write, &candidate, 1, &ran).await.unwrap(), 9);
    write.commit().await.unwrap();
    assert_eq!(ground.chain().await.last().unwrap(), "shadow.write_refused");
    let mut owner = ground.owner().await;
    let entry =
        "select convert_from(content, 'UTF8')::jsonb -> 'body' -> 'inputs' from governance.audit_entry
        order by seq desc limit 1";
    let inputs: Value = sqlx::query_scalar(entry).fetch_one(&mut owner).await.unwrap();
    assert_eq!(inputs, json!([ran[0].input, ran[1].input, ran[2].input]));
    let planted = sqlx::query_scalar::<_, i64>("select count(*) from tenant.connector");
    assert_eq!(planted.fetch_one(&mut owner).await.unwrap(), 0);
    let figures = candidate::look(&mut *ground.write().await, "c").await.unwrap().evaluation.figures;
    assert_eq!((figures.runs, figures.errors, figures.agree), (9, 8, 0));
}

#[tokio::test]
async fn g5_a_run_is_given_no_transaction_that_can_write() {
    let ground = Ground::new().await;
    let judge = Scripted(misbehave);
    let refused = attempt(&mut *ground.write().await, &judge, &[], TIME_MAX).await;
    assert!(matches!(refused, Err(ShadowError::Database(_))), "{refused:?}");
}

#[tokio::test]
async fn g4_the_first_run_on_a_case_stands() {
    let ground = Ground::new().await;
    let candidate = ground.candidate("c", 1).await;
    let cases = ground.cases(3, 0).await;
    ground.runs(&candidate, &cases, 3).await;
    ground.runs(&candidate, &cases, 0).await;
    let mut write = ground.write().await;
    let figures = candidate::look(&mut write, "c").await.unwrap().evaluation.figures;
    assert_eq!((figures.runs, figures.agree), (3, 0));
    assert!(pending(&mut write, &candidate, 10).await.unwrap().is_empty());
    let again = case(&mut write, 1).await;
    assert_eq!(again, cases[1], "the same input is the same case");
    drop(write);
    let mut owner = ground.owner().await;
    let changed = sqlx::raw_sql("update tenant.shadow_run set verdict = 'none'").execute(&mut owner).await;
    assert!(changed.unwrap_err().to_string().contains("its rows are evidence"));
}

#[tokio::test]
async fn only_what_a_person_judged_is_run() {
    let ground = Ground::new().await;
    let candidate = ground.candidate("c", 1).await;
    let mut write = ground.write().await;
    let id = case(&mut write, 0).await;
    assert!(pending(&mut write, &candidate, 10).await.unwrap().is_empty());
    assert_eq!(say(&mut write, id, &fix("a@example.com"), ground.ada).await.unwrap(), 1);
    assert_eq!(pending(&mut write, &candidate, 10).await.unwrap()[0].id, id);
    assert_eq!(say(&mut write, id, &said(Verdict::None), ground.ada).await.unwrap(), 2);
    for bad in [
        Said { value: Some(fields("x")), ..said(Verdict::Block) },
        Said { value: None, ..fix("x") },
        Said { value: Some(serde_json::Map::new()), ..fix("x") },
        Said { value: Some([("phone".to_owned(), json!(1))].into_iter().collect()), ..fix("x") },
    ] {
        assert!(matches!(say(&mut write, id, &bad, ground.ada).await, Err(ShadowError::BadValue)), "{bad:?}");
    }
    assert!(matches!(
        say(&mut write, CaseId(-1), &said(Verdict::None), ground.ada).await,
        Err(ShadowError::NoCase(CaseId(-1)))
    ));
}

/// What a sync brings: the record of case 0 as it was, then with these data.
async fn synced(ground: &Ground, data: &[Value]) {
    let mut owner = ground.owner().await;
    for data in data {
        sqlx::query(
            "insert into tenant.record (connector, stream, key, digest, data)
             values ('crm', 'contacts', '0', md5($1::text), $1)
             on conflict (connector, stream, key) do update set data = excluded.data, digest = excluded.digest",
        )
        .bind(data)
        .execute(&mut owner)
        .await
        .unwrap();
    }
}

async fn truths(ground: &Ground) -> Vec<(String, String, Option<Value>)> {
    let all = "select source, verdict, value from tenant.shadow_truth order by source";
    sqlx::query_as(all).fetch_all(&mut ground.owner().await).await.unwrap()
}

#[tokio::test]
async fn what_people_change_in_the_source_is_seen_by_the_next_sync() {
    let ground = Ground::new().await;
    ground.cases(1, 0).await;
    let before = json!({ "email": "Person0@Example.COM ", "name": "P" });
    synced(&ground, &[before.clone(), json!({ "email": "Person0@Example.COM ", "name": "Q" })]).await;
    assert_eq!(truths(&ground).await, [], "another field is not the path's");
    synced(&ground, &[json!({ "email": "person0@example.com", "name": "Q" })]).await;
    let seen = [("observed".to_owned(), "fix".to_owned(), Some(json!({ "email": "person0@example.com" })))];
    assert_eq!(truths(&ground).await, seen);
    synced(&ground, &[json!({ "email": "new@example.com" })]).await;
    assert_eq!(truths(&ground).await, seen, "a later change is news");
    let candidate = ground.candidate("c", 1).await;
    let cases = ground.cases(1, 0).await;
    ground.runs(&candidate, &cases, 0).await;
    let figures = candidate::look(&mut *ground.write().await, "c").await.unwrap().evaluation.figures;
    assert_eq!((figures.scored, figures.right), (1, 1));
}

#[tokio::test]
async fn what_we_wrote_ourselves_is_no_truth() {
    let ground = Ground::new().await;
    ground.cases(1, 0).await;
    synced(&ground, &[json!({ "email": "Person0@Example.COM " })]).await;
    let mut write = ground.write().await;
    assert_eq!(written(&mut write, "crm", "contacts", "0").await.unwrap(), 1);
    assert_eq!(written(&mut write, "crm", "contacts", "nobody").await.unwrap(), 0);
    write.commit().await.unwrap();
    synced(&ground, &[json!({ "email": "person0@example.com" })]).await;
    assert_eq!(truths(&ground).await, []);
}

#[tokio::test]
async fn what_we_wrote_is_no_truth_about_a_case_that_is_frozen_in_the_same_moment() {
    const SENT: &str = "set session_replication_role = replica;
        update tenant.writeback set idempotency_key = sha256(''), intent_at = clock_timestamp(), intent_job = 1,
            sends = 1, state = 'sent' where state = 'planned'";
    for is_sent_first in [false, true] {
        let ground = Ground::new().await;
        synced(&ground, &[json!({ "email": "Person0@Example.COM " })]).await;
        let mut owner = ground.owner().await;
        let mut sending = owner.begin().await.unwrap();
        let plan = Plan {
            tenant: ground.tenant.id.0,
            path: "another".into(),
            connector: "crm".into(),
            stream: "contacts".into(),
            key: "0".into(),
            class: "email_format".into(),
            before: None,
            validator: None,
            desired: [("email".to_owned(), json!("person0@example.com"))].into(),
            policy: (1, Digest::of(b"policy")),
            definition: None,
            compensates: None,
        };
        let new = NewWriteback {
            plan,
            confidence: 97,
            evidence: Digest::of(b"case"),
            requested_by: ground.ada,
            accepted_by: Some(ground.ada),
        };
        // Neither transaction sees what the other one does.
        let mut freezing = ground.write().await;
        if !is_sent_first {
            case(&mut freezing, 0).await;
        }
        enter(&mut sending, &new).await.unwrap();
        sqlx::raw_sql(SENT).execute(&mut *sending).await.unwrap();
        written(&mut sending, "crm", "contacts", "0").await.unwrap();
        if is_sent_first {
            drop(freezing);
            freezing = ground.write().await;
            case(&mut freezing, 0).await;
        }
        sending.commit().await.unwrap();
        freezing.commit().await.unwrap();
        synced(&ground, &[json!({ "email": "person0@example.com" })]).await;
        assert_eq!(truths(&ground).await, [], "sent first: {is_sent_first}");
    }
}

#[tokio::test]
async fn a_change_long_after_the_case_is_no_truth_about_it() {
    let ground = Ground::new().await;
    ground.cases(1, 0).await;
    synced(&ground, &[json!({ "email": "a" })]).await;
    let aged = "update tenant.shadow_case set frozen_at = now() - interval '14 days 1 second'";
    sqlx::raw_sql(aged).execute(&mut ground.owner().await).await.unwrap();
    synced(&ground, &[json!({ "email": "b" })]).await;
    assert_eq!(truths(&ground).await, []);
}

#[tokio::test]
async fn reviewers_count_before_an_observation() {
    let ground = Ground::new().await;
    let cases = ground.cases(1, 0).await;
    synced(&ground, &[json!({ "email": "a" }), json!({ "email": "b" })]).await;
    let mut write = ground.write().await;
    let eve = crate::actor::named(&mut write, "eve").await.unwrap().id;
    for person in [ground.ben, eve] {
        say(&mut write, cases[0], &said(Verdict::Block), person).await.unwrap();
    }
    write.commit().await.unwrap();
    assert_eq!(truths(&ground).await.len(), 2);
    let candidate = ground.candidate("c", 1).await;
    ground.runs(&candidate, &cases, 1).await;
    let figures = candidate::look(&mut *ground.write().await, "c").await.unwrap().evaluation.figures;
    assert_eq!(
        (figures.scored, figures.right, figures.agree),
        (1, 1, 0),
        "right against the person still differs"
    );
}

/// The truth about a case after these persons said these words of it, in this order.
async fn after(words: &[(&str, Said)]) -> Option<(String, Option<Value>)> {
    let ground = Ground::new().await;
    let mut write = ground.write().await;
    let id = case(&mut write, 0).await;
    for (person, word) in words {
        let person = crate::actor::named(&mut write, person).await.unwrap().id;
        say(&mut write, id, word, person).await.unwrap();
    }
    write.commit().await.unwrap();
    truths(&ground).await.pop().map(|(source, verdict, value)| {
        assert_eq!(source, "reviewer");
        (verdict, value)
    })
}

#[tokio::test]
async fn g1_ground_truth_is_what_two_persons_said_alike() {
    let (right, none) = (|| fix("a@example.com"), || said(Verdict::None));
    let truth = || Some(("fix".to_owned(), Some(json!({ "email": "a@example.com" }))));
    assert_eq!(after(&[("ada", right())]).await, None, "one word");
    assert_eq!(after(&[("ada", right()), ("ada", right())]).await, None, "one person twice");
    assert_eq!(after(&[("ada", right()), ("ben", right())]).await, truth());
    assert_eq!(after(&[("ada", right()), ("ben", none())]).await, None, "they differ");
    assert_eq!(after(&[("ada", right()), ("ben", fix("b@example.com"))]).await, None, "in the value");
    assert_eq!(
        after(&[("ada", right()), ("ben", none()), ("eve", right())]).await,
        truth(),
        "a third decides"
    );
    let against = after(&[("ada", right()), ("ben", none()), ("eve", none())]).await;
    assert_eq!(against, Some(("none".to_owned(), None)), "against the baseline too");
    let swayed = [("ada", right()), ("ben", none()), ("ada", none()), ("ben", right())];
    assert_eq!(after(&swayed).await, None, "a person counts by the first word");
    let late = [("ada", right()), ("ben", right()), ("eve", none()), ("kim", none())];
    assert_eq!(after(&late).await, truth(), "what is settled stays so");
}

#[tokio::test]
async fn g1_the_schema_takes_no_truth_from_one_person() {
    let ground = Ground::new().await;
    ground.cases(1, 0).await;
    let mut owner = ground.owner().await;
    let alone = "insert into tenant.shadow_truth (case_id, source, verdict, value, actor)
        select case_id, 'reviewer', verdict, value, actor from tenant.shadow_baseline";
    let refused = sqlx::raw_sql(alone).execute(&mut owner).await.unwrap_err();
    let constraint = refused.as_database_error().unwrap().constraint().map(ToOwned::to_owned);
    assert_eq!(constraint.as_deref(), Some("shadow_truth_needs_two_persons"));
}

#[test]
fn values_have_one_digest_each() {
    let digest = |value: Value| value_digest(&value).unwrap();
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(digest(json!({ "a": 1, "b": 2 })), digest(json!({ "b": 2, "a": 1 })));
    let different = ["1", "1.0", "\"1\"", "9007199254740993", "9007199254740992", "1e400", "[1]", "null"]
        .map(|text| digest(number(text)));
    let distinct: std::collections::BTreeSet<_> = different.into_iter().collect();
    assert_eq!(distinct.len(), different.len());
}
