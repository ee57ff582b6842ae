//! The queue on a real database, by the tenant's own role.

use database::tenant::Write;
use serde_json::json;

use super::*;
use crate::{
    actor,
    approval::{self, ApprovalId},
    candidate::tests::support::Ground,
    decision::{self, Verdict},
    path::{self, Path, tests::new},
    policy::{self, Fields, Policy},
    reading::{self, Reading},
    receipt::{self, Subject},
    wish::{self, WishId},
    writeback::{self, Asked, Intended, Intent, Move, NewWriteback, Plan, Writeback},
};

const RULES: &str = r#"
path = "crm-email"

[[rules]]
name = "invalid"
when = 'record.email != null && email(record.email) == null'
verdict = "review"

[[rules]]
name = "format"
when = 'email(record.email) != record.email'
verdict = "fix"
class = "email_format"
value = { email = 'email(record.email)' }
confidence = 70
"#;

/// A path with rules, and who sits before its queue.
struct Desk {
    ground: Ground,
    path: Path,
    ben: ActorId,
}

impl Desk {
    async fn new() -> Self {
        let ground = Ground::new().await;
        let mut write = ground.write().await;
        let ada = actor::by_id(&mut write, ground.ada).await.unwrap().unwrap();
        let ben = actor::named(&mut write, "ben").await.unwrap().id;
        let path = path::create(&mut write, &new("crm-email"), &ada).await.unwrap();
        write.commit().await.unwrap();
        let desk = Self { ground, path, ben };
        desk.rules(RULES).await;
        desk
    }

    async fn write(&self) -> Write {
        self.ground.write().await
    }

    async fn rules(&self, text: &str) {
        let mut write = self.write().await;
        let ada = actor::by_id(&mut write, self.ground.ada).await.unwrap().unwrap();
        let policy = Policy::compile(text, "p", &Fields::any(), None).unwrap();
        policy::add(&mut write, &self.path, &policy, &ada).await.unwrap();
        write.commit().await.unwrap();
    }

    /// What a sync brings; nothing is a deletion.
    async fn synced(&self, key: &str, email: Option<&str>) {
        let mut owner = self.ground.owner().await;
        sqlx::query(
            "insert into tenant.record (connector, stream, key, digest, data, deleted_at)
             values ('crm', 'contacts', $1, md5($2::text), $2, case when $3 then now() end)
             on conflict (connector, stream, key) do update
             set digest = excluded.digest, data = excluded.data, deleted_at = excluded.deleted_at",
        )
        .bind(key)
        .bind(json!({ "email": email }))
        .bind(email.is_none())
        .execute(&mut owner)
        .await
        .unwrap();
    }

    /// Opens what the newest rules give.
    async fn open(&self, fixes: bool) -> Opened {
        let mut write = self.write().await;
        let (stored, policy) = policy::load(&mut write, &self.path, None).await.unwrap();
        let page = decision::next_page(&mut write, &self.path, None, 100).await.unwrap();
        let opened = open(&mut write, &self.path, (stored.version, &policy), &page, fixes).await.unwrap();
        write.commit().await.unwrap();
        opened
    }

    /// One case, about a fix of this address.
    async fn case(&self, email: &str) -> Case {
        self.synced("1", Some(email)).await;
        let opened = self.open(true).await.opened;
        self.get(opened[0]).await
    }

    async fn get(&self, id: ReviewId) -> Case {
        get(&mut *self.write().await, id).await.unwrap().unwrap()
    }

    async fn says(&self, case: &Case, word: Word, by: ActorId) -> Result<Case, ReviewError> {
        let mut write = self.write().await;
        let decided = decide(&mut write, case.id, case.version, word, "looked it up", by).await?;
        write.commit().await.unwrap();
        Ok(decided)
    }

    async fn confirms(&self, id: ReviewId, word: Word, by: ActorId) -> Result<Agreement, ReviewError> {
        let mut write = self.write().await;
        let agreement = confirm(&mut write, id, word, "asked her", by).await?;
        write.commit().await.unwrap();
        Ok(agreement)
    }

    async fn eve(&self) -> ActorId {
        let mut write = self.write().await;
        let eve = actor::named(&mut write, "eve").await.unwrap().id;
        write.commit().await.unwrap();
        eve
    }

    /// A candidate in this phase, past every gate: how it comes there is others' to test.
    async fn activate(&self, phase: &'static str) {
        let mut owner = self.ground.owner().await;
        let insert = format!(
            "set session_replication_role = replica;
             insert into tenant.candidate (name, path, digest, definition, phase, generation, snapshot, created_by)
             values ('c', 'crm-email', sha256('{{}}'), '{{}}', '{phase}', 1, sha256(''), gen_random_uuid())"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut owner).await.unwrap();
    }

    /// The writeback of this case's word as its job enters it, and the request for its approval.
    async fn planned(&self, case: &Case) -> (Writeback, Asked) {
        let mut write = self.write().await;
        let (stored, _) = policy::load(&mut write, &self.path, None).await.unwrap();
        let plan = Plan {
            tenant: self.ground.tenant.id.0,
            path: case.path.clone(),
            connector: case.connector.clone(),
            stream: case.stream.clone(),
            key: case.key.clone(),
            class: "email_format".into(),
            before: case.original.clone().map(|it| it.into_iter().collect()),
            validator: None,
            desired: case.proposed.clone().unwrap().into_iter().collect(),
            policy: (stored.version, stored.digest),
            definition: None,
            compensates: None,
        };
        let by = self.ground.ada;
        let new = NewWriteback {
            plan,
            confidence: 70,
            evidence: case.input_digest,
            requested_by: by,
            accepted_by: Some(by),
        };
        let entered = writeback::enter(&mut write, &new).await.unwrap();
        wish::planned(&mut write, WishId(case.decision), entered.id).await.unwrap();
        let asked = writeback::ask(&mut write, &entered, None).await.unwrap();
        let entered = writeback::find(&mut write, entered.id).await.unwrap();
        write.commit().await.unwrap();
        (entered, asked)
    }

    async fn refresh(&self, id: ReviewId) -> Result<Refreshed, ReviewError> {
        let mut write = self.write().await;
        let refreshed = refresh(&mut write, id).await?;
        write.commit().await.unwrap();
        Ok(refreshed)
    }

    async fn said<T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin>(
        &self,
        sql: &'static str,
    ) -> Vec<T> {
        sqlx::query_scalar(sql).fetch_all(&mut self.ground.owner().await).await.unwrap()
    }
}

fn email(address: &str) -> serde_json::Map<String, serde_json::Value> {
    [("email".to_owned(), json!(address))].into_iter().collect()
}

#[tokio::test]
async fn what_is_for_people_becomes_a_case_and_is_asked_once() {
    let desk = Desk::new().await;
    for (key, email) in [("1", "Ada@Example.com"), ("2", "nobody"), ("3", "eve@example.com")] {
        desk.synced(key, Some(email)).await;
    }
    let first = desk.open(false).await;
    assert_eq!((first.opened.len(), first.known), (1, 0), "only what rules send to people");
    let doubtful = desk.get(first.opened[0]).await;
    assert_eq!(
        (doubtful.key.as_str(), doubtful.verdict, doubtful.rule.as_deref()),
        ("2", Verdict::Review, Some("invalid"))
    );
    assert_eq!((desk.open(false).await.opened.len(), desk.open(false).await.known), (0, 1));
    let fixes = desk.open(true).await;
    assert_eq!((fixes.opened.len(), fixes.known), (1, 1));
    let fix = desk.get(fixes.opened[0]).await;
    assert_eq!(fix.proposed, Some(email("ada@example.com")));
    assert_eq!(fix.original.as_ref().unwrap()["email"], "Ada@Example.com");
    assert_eq!(
        desk.open(false).await,
        Opened { known: 1, ..Opened::default() },
        "a fix that is asked stays asked"
    );
    desk.says(&fix, Word::Reject, desk.ben).await.unwrap();
    assert_eq!(
        desk.open(true).await,
        Opened { known: 2, ..Opened::default() },
        "what was answered is not asked again"
    );
    // Another version that asks the same is no reason to ask again; one that asks something else is.
    desk.rules(&RULES.replace("70", "71")).await;
    assert_eq!(desk.open(true).await, Opened { known: 2, ..Opened::default() });
    desk.rules(&RULES.replace("\"invalid\"", "\"unusable\"")).await;
    let other = desk.open(true).await;
    assert_eq!((other.stale.as_slice(), other.opened.len(), other.known), (&[doubtful.id][..], 1, 1));
    let old = desk.get(doubtful.id).await;
    assert_eq!((old.state, old.replaced_by), (State::Stale, Some(other.opened[0])));
}

#[tokio::test]
async fn what_the_rules_no_longer_ask_is_closed_as_stale() {
    let desk = Desk::new().await;
    desk.synced("2", Some("nobody")).await;
    let case = desk.open(false).await.opened[0];
    desk.rules(&RULES.replace("verdict = \"review\"", "verdict = \"block\"")).await;
    assert_eq!(desk.open(false).await.stale, [case]);
    assert_eq!(desk.get(case).await.replaced_by, None);
}

#[tokio::test]
async fn a_fix_that_is_not_sure_enough_is_for_people_and_keeps_its_value() {
    let desk = Desk::new().await;
    desk.rules(&RULES.replacen('\n', "\nreview_below = 80\n", 1)).await;
    desk.synced("1", Some("Ada@Example.com")).await;
    let case = desk.get(desk.open(false).await.opened[0]).await;
    assert_eq!((case.verdict, case.confidence), (Verdict::Review, 70));
    let accepted = desk.says(&case, Word::Accept, desk.ben).await.unwrap();
    assert_eq!((accepted.state, accepted.value), (State::Accepted, Some(email("ada@example.com"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_reviewers_one_is_refused_and_told_who_and_when() {
    let desk = std::sync::Arc::new(Desk::new().await);
    let case = desk.case("Ada@Example.com").await;
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let word = |by: ActorId, word: Word| {
        let (desk, case, barrier) = (desk.clone(), case.clone(), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            desk.says(&case, word, by).await
        })
    };
    let (ada, ben) = (word(desk.ground.ada, Word::Accept), word(desk.ben, Word::Reject));
    let (ada, ben) = (ada.await.unwrap(), ben.await.unwrap());
    let (won, lost) = if ada.is_ok() { (ada, ben) } else { (ben, ada) };
    let won = won.unwrap();
    let Err(ReviewError::Ended { state, by, at, .. }) = &lost else { panic!("{lost:?}") };
    assert_eq!((*state, by, Some(*at)), (won.state, &won.closed_by, won.closed_at));
    let name = won.closed_by.clone().unwrap().name.unwrap();
    let told = lost.unwrap_err().to_string();
    assert!(told.contains(&format!("decided by {name} at ")), "{told}");
    assert_eq!(desk.said::<i64>("select count(*) from tenant.shadow_baseline").await, [1]);
}

#[tokio::test]
async fn who_saw_an_older_version_is_refused() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    let mut write = desk.write().await;
    let ben = Some(desk.ben);
    let assigned = assign(&mut write, case.id, case.version, ben, desk.ground.ada).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(assigned.assignee.as_ref().unwrap().name.as_deref(), Some("ben"));
    let again = assign(&mut *desk.write().await, case.id, case.version, None, desk.ground.ada).await;
    assert!(matches!(again, Err(ReviewError::Changed { seen: 1, version: 2, .. })), "{again:?}");
    let late = desk.says(&case, Word::Accept, desk.ben).await;
    assert!(matches!(late, Err(ReviewError::Changed { .. })), "{late:?}");
    let other = desk.says(&assigned, Word::Accept, desk.ground.ada).await;
    assert!(matches!(&other, Err(ReviewError::NotYours { to, .. }) if to.id == desk.ben), "{other:?}");
    desk.says(&assigned, Word::Accept, desk.ben).await.unwrap();
}

#[tokio::test]
async fn a_case_whose_record_changed_says_so_and_is_decided_anew() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    assert!(matches!(desk.refresh(case.id).await, Err(ReviewError::NotStale(_))));
    desk.synced("1", Some("Ada@Example.org")).await;
    assert!(desk.get(case.id).await.is_stale);
    let refused = desk.says(&case, Word::Accept, desk.ben).await;
    assert!(matches!(refused, Err(ReviewError::Stale(_))), "{refused:?}");
    let next = desk.refresh(case.id).await.unwrap().by.unwrap();
    let (old, new) = (desk.get(case.id).await, desk.get(next).await);
    assert_eq!((old.state, old.closed_by, old.replaced_by), (State::Stale, None, Some(next)));
    assert_eq!(
        (new.proposed, new.replaces, new.is_stale),
        (Some(email("ada@example.org")), Some(case.id), false)
    );
    assert!(matches!(desk.refresh(case.id).await, Err(ReviewError::Ended { state: State::Stale, .. })));
    // And back to what it was: the decision is known, and its case is closed.
    desk.synced("1", Some("Ada@Example.com")).await;
    let again = desk.get(desk.refresh(next).await.unwrap().by.unwrap()).await;
    assert_eq!((again.decision, again.state), (case.decision, State::Open));
    desk.synced("1", Some("fine@example.com")).await;
    assert_eq!(desk.refresh(again.id).await.unwrap(), Refreshed { by: None }, "nothing is left to ask");
}

#[tokio::test]
async fn a_case_whose_record_vanished_is_closed() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    desk.synced("1", None).await;
    assert!(matches!(desk.says(&case, Word::Accept, desk.ben).await, Err(ReviewError::Stale(_))));
    let mut write = desk.write().await;
    let opened = refresh_all(&mut write, &desk.path, 10).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(opened, Opened { stale: vec![case.id], ..Opened::default() });
    assert_eq!(desk.get(case.id).await.state, State::Stale);
}

/// Until a session of the database waits for a lock.
async fn waits(desk: &Desk) {
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    while desk.said::<i64>(waiting).await == [0] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_record_that_changes_in_this_moment_is_not_decided_as_it_was() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    let mut owner = desk.ground.owner().await;
    let change = "begin; update tenant.record set digest = 'other'";
    sqlx::raw_sql(change).execute(&mut owner).await.unwrap();
    let (refused, ()) = tokio::join!(desk.says(&case, Word::Accept, desk.ben), async {
        waits(&desk).await;
        sqlx::raw_sql("commit").execute(&mut owner).await.unwrap();
    });
    assert!(matches!(refused, Err(ReviewError::Stale(_))), "{refused:?}");
}

#[tokio::test]
async fn g1_a_first_word_is_the_baseline_and_a_second_persons_makes_it_the_truth() {
    let desk = Desk::new().await;
    for (key, address) in [("1", "Ada@Example.com"), ("2", "Bob@Example.com"), ("3", "Eve@Example.com")] {
        desk.synced(key, Some(address)).await;
    }
    let cases = desk.open(true).await.opened;
    let words = [Word::Accept, Word::Correct(email("b@example.com")), Word::Reject];
    for (id, word) in cases.iter().zip(&words) {
        desk.says(&desk.get(*id).await, word.clone(), desk.ben).await.unwrap();
    }
    let said = "select format('%s %s %s %s', c.key, b.number, b.verdict, b.value ->> 'email')
        from tenant.shadow_case c join tenant.shadow_baseline b on b.case_id = c.id
        join tenant.decision d on d.input_digest = c.input_digest order by c.key";
    assert_eq!(
        desk.said::<String>(said).await,
        ["1 1 fix ada@example.com", "2 1 fix b@example.com", "3 1 none "]
    );
    assert_eq!(desk.said::<String>(TRUTHS).await, [""; 0], "one person's word is no truth");
    // The record has changed meanwhile: what is judged is the case as it was.
    desk.synced("1", Some("ada@example.com")).await;
    for (id, word) in cases.iter().zip(words) {
        assert_eq!(desk.confirms(*id, word, desk.ground.ada).await.unwrap(), Agreement::Settled);
    }
    // Ada's sync of case 1 was observed too.
    assert_eq!(
        desk.said::<String>(TRUTHS).await,
        [
            "1 observed fix ada@example.com",
            "1 reviewer fix ada@example.com",
            "2 reviewer fix b@example.com",
            "3 reviewer none "
        ]
    );
    let again = desk.confirms(cases[1], Word::Reject, desk.eve().await).await;
    assert!(matches!(again, Err(ReviewError::Settled(_))), "{again:?}");
}

const TRUTHS: &str = "select format('%s %s %s %s', c.key, t.source, t.verdict, t.value ->> 'email')
    from tenant.shadow_case c join tenant.shadow_truth t on t.case_id = c.id order by c.key, t.source";

#[tokio::test]
async fn g1_two_who_differ_settle_nothing_until_a_third_decides() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    desk.says(&case, Word::Accept, desk.ben).await.unwrap();
    assert_eq!(desk.confirms(case.id, Word::Reject, desk.ground.ada).await.unwrap(), Agreement::Open);
    assert_eq!(desk.said::<String>(TRUTHS).await, [""; 0]);
    let next = next(&mut *desk.write().await, None, Task::Confirm, desk.eve().await).await.unwrap();
    assert_eq!(next.unwrap().id, case.id);
    let third = Word::Correct(email("ada@example.com"));
    assert_eq!(desk.confirms(case.id, third, desk.eve().await).await.unwrap(), Agreement::Settled);
    assert_eq!(desk.said::<String>(TRUTHS).await, ["1 reviewer fix ada@example.com"]);
    let view = view(&mut *desk.write().await, case.id, desk.ben).await.unwrap().unwrap();
    let words: Vec<_> = view.confirmations.iter().map(|it| (it.by.name.as_deref(), it.word)).collect();
    assert_eq!(words, [(Some("ada"), State::Rejected), (Some("eve"), State::Corrected)]);
    assert_eq!(view.receipts.len(), 4, "of the decision and of three words");
}

#[tokio::test]
async fn g1_a_second_word_is_another_persons_and_blind() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    let (ada, ben, eve) = (desk.ground.ada, desk.ben, desk.eve().await);
    let refused = desk.confirms(case.id, Word::Accept, ada).await;
    assert!(matches!(refused, Err(ReviewError::NoWord(_))), "{refused:?}");
    desk.says(&case, Word::Accept, ben).await.unwrap();
    let refused = desk.confirms(case.id, Word::Accept, ben).await;
    assert!(matches!(refused, Err(ReviewError::SamePerson(_))), "{refused:?}");
    // Eve is shown the word, Ada the case as it was.
    let mut write = desk.write().await;
    assert!(next(&mut write, None, Task::Confirm, ben).await.unwrap().is_none(), "his own word");
    assert_eq!(view(&mut write, case.id, eve).await.unwrap().unwrap().case.state, State::Accepted);
    let shown = next(&mut write, Some("crm-email"), Task::Confirm, ada).await.unwrap().unwrap();
    assert_eq!(
        (shown.state, &shown.value, &shown.reason, &shown.closed_by),
        (State::Open, &None, &None, &None)
    );
    assert_eq!(shown.proposed, Some(email("ada@example.com")));
    assert_eq!(view_blind(&mut write, case.id, ada).await.unwrap().unwrap().state, State::Open);
    write.commit().await.unwrap();
    let refused = desk.confirms(case.id, Word::Accept, eve).await;
    assert!(matches!(refused, Err(ReviewError::NotBlind(_))), "{refused:?}");
    assert!(next(&mut *desk.write().await, None, Task::Confirm, eve).await.unwrap().is_none());
    // A list tells the word too.
    let mut write = desk.write().await;
    let kim = actor::named(&mut write, "kim").await.unwrap().id;
    list(&mut write, Filter::default(), 10, kim).await.unwrap();
    write.commit().await.unwrap();
    let refused = desk.confirms(case.id, Word::Accept, kim).await;
    assert!(matches!(refused, Err(ReviewError::NotBlind(_))), "{refused:?}");
    let bot = actor::service(&mut *desk.write().await, "bot", ada).await.unwrap().id;
    let refused = desk.confirms(case.id, Word::Accept, bot).await;
    assert!(matches!(refused, Err(ReviewError::UnknownActor(_) | ReviewError::NotAPerson(_))), "{refused:?}");
    desk.confirms(case.id, Word::Accept, ada).await.unwrap();
    let refused = desk.confirms(case.id, Word::Accept, ada).await;
    assert!(matches!(refused, Err(ReviewError::SamePerson(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_confirm_at_once_both_count_and_the_truth_is_one() {
    let desk = std::sync::Arc::new(Desk::new().await);
    let case = desk.case("Ada@Example.com").await;
    desk.says(&case, Word::Accept, desk.ben).await.unwrap();
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let word = |by: ActorId| {
        let (desk, barrier) = (desk.clone(), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            desk.confirms(case.id, Word::Accept, by).await
        })
    };
    let (ada, eve) = (word(desk.ground.ada), word(desk.eve().await));
    let (ada, eve) = (ada.await.unwrap(), eve.await.unwrap());
    let (won, lost) = if ada.is_ok() { (ada, eve) } else { (eve, ada) };
    assert_eq!(won.unwrap(), Agreement::Settled);
    assert!(matches!(lost, Err(ReviewError::Settled(_))), "{lost:?}");
    assert_eq!(desk.said::<i64>("select count(*) from tenant.shadow_truth").await, [1]);
}

#[tokio::test]
async fn what_a_person_wants_is_to_be_written_unless_the_path_is_off() {
    let desk = Desk::new().await;
    for (key, address) in [("1", "Ada@Example.com"), ("2", "Bob@Example.com"), ("3", "Eve@Example.com")] {
        desk.synced(key, Some(address)).await;
    }
    let cases = desk.open(true).await.opened;
    desk.says(&desk.get(cases[0]).await, Word::Accept, desk.ben).await.unwrap();
    desk.activate("assist").await;
    desk.says(&desk.get(cases[1]).await, Word::Correct(email("b@example.com")), desk.ben).await.unwrap();
    desk.says(&desk.get(cases[2]).await, Word::Reject, desk.ben).await.unwrap();
    let wishes = "select format('%s %s %s', d.key, w.state, w.requested_by = c.closed_by)
        from tenant.wish w join tenant.decision d on d.id = w.decision
        join tenant.review_case c on c.id = w.review_case order by d.key";
    assert_eq!(desk.said::<String>(wishes).await, ["1 off t", "2 due t"]);
    let mut owner = desk.ground.owner().await;
    let late = "update tenant.wish set state = 'due', settled_at = null where state = 'off'";
    let refused = sqlx::raw_sql(late).execute(&mut owner).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().constraint(), Some("wish_is_settled_once"));
}

#[tokio::test]
async fn a3_every_reading_and_every_word_is_in_the_chain_without_personal_data() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    let mut write = desk.write().await;
    let listed = list(&mut write, Filter::default(), 10, desk.ben).await.unwrap();
    assert!(listed[0].proposed.is_none() && listed[0].original.is_none());
    assert!(view(&mut write, case.id, desk.ben).await.unwrap().unwrap().wish.is_none());
    assert!(view(&mut write, ReviewId(-1), desk.ben).await.unwrap().is_none());
    write.commit().await.unwrap();
    desk.says(&case, Word::Correct(email("a@example.com")), desk.ben).await.unwrap();
    desk.confirms(case.id, Word::Correct(email("a@example.com")), desk.ground.ada).await.unwrap();
    let kinds = desk.ground.chain().await;
    let expected = [
        "receipt.issued",
        "review.opened",
        "review.listed",
        "review.viewed",
        "shadow.baseline",
        "receipt.issued",
        "review.decided",
        "shadow.baseline",
        "shadow.truth",
        "receipt.issued",
        "review.confirmed",
    ];
    assert_eq!(kinds[kinds.len() - expected.len()..], expected);
    let contents = desk
        .said::<String>("select convert_from(content, 'UTF8') from governance.audit_entry order by seq")
        .await;
    for content in &contents {
        let has_value = content.to_lowercase().contains("example");
        assert!(!has_value && !content.contains("looked") && !content.contains("asked"), "{content}");
    }
    assert!(contents.last().unwrap().contains(&desk.ground.ada.to_string()));
}

#[tokio::test]
async fn filters_find_what_is_meant_and_count_a_changed_record_as_stale() {
    let desk = Desk::new().await;
    desk.synced("2", Some("nobody")).await;
    let case = desk.case("Ada@Example.com").await;
    desk.says(&case, Word::Accept, desk.ben).await.unwrap();
    desk.synced("2", Some("nobody at all")).await;
    let mut write = desk.write().await;
    for (filter, keys) in [
        (Filter { state: Some(State::Open), ..Filter::default() }, &[][..]),
        (Filter { state: Some(State::Stale), ..Filter::default() }, &["2"]),
        (Filter { state: Some(State::Accepted), path: Some("crm-email"), ..Filter::default() }, &["1"]),
        (Filter { path: Some("other"), ..Filter::default() }, &[]),
        (Filter { assignee: Some(desk.ben), ..Filter::default() }, &[]),
    ] {
        let found = list(&mut write, filter, 10, desk.ben).await.unwrap();
        assert_eq!(found.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), keys, "{filter:?}");
    }
}

#[tokio::test]
async fn a_word_that_makes_no_sense_is_refused() {
    let desk = Desk::new().await;
    desk.synced("2", Some("nobody")).await;
    let doubtful = desk.get(desk.open(false).await.opened[0]).await;
    let nothing = desk.says(&doubtful, Word::Accept, desk.ben).await;
    assert!(matches!(nothing, Err(ReviewError::NothingProposed(_))), "{nothing:?}");
    let same = desk.says(&doubtful, Word::Correct(email("nobody")), desk.ben).await;
    assert!(matches!(same, Err(ReviewError::ChangesNothing(_))), "{same:?}");
    for value in [json!({}), json!({ "id": 1 })] {
        let foreign = Word::Correct(value.as_object().cloned().unwrap());
        let foreign = desk.says(&doubtful, foreign, desk.ben).await;
        assert!(matches!(&foreign, Err(ReviewError::BadValue(fields)) if fields.len() == 2), "{foreign:?}");
    }
    let mut write = desk.write().await;
    for reason in ["", " \n", &"x".repeat(REASON_LENGTH_MAX + 1)] {
        let bad = decide(&mut write, doubtful.id, 1, Word::Reject, reason, desk.ben).await;
        assert!(matches!(bad, Err(ReviewError::BadReason)), "{bad:?}");
    }
    let bot = actor::service(&mut write, "bot", desk.ben).await.unwrap().id;
    let bad = decide(&mut write, doubtful.id, 1, Word::Reject, "why", bot).await;
    assert!(matches!(bad, Err(ReviewError::NotAPerson(_))), "{bad:?}");
    let bad = assign(&mut write, doubtful.id, 1, Some(bot), desk.ben).await;
    assert!(matches!(bad, Err(ReviewError::NotAPerson(_))), "{bad:?}");
    let bad = decide(&mut write, ReviewId(-1), 1, Word::Reject, "why", desk.ben).await;
    assert!(matches!(bad, Err(ReviewError::NotFound(_))), "{bad:?}");
}

#[tokio::test]
async fn the_schema_lets_nobody_rewrite_what_was_said() {
    let desk = Desk::new().await;
    let case = desk.case("Ada@Example.com").await;
    let mut owner = desk.ground.owner().await;
    let mut refused = async |sql: &'static str| {
        let error = sqlx::raw_sql(sql).execute(&mut owner).await.expect_err(sql);
        error.as_database_error().unwrap().constraint().unwrap_or_default().to_owned()
    };
    assert_eq!(
        refused("update tenant.review_case set assignee = gen_random_uuid()").await,
        "review_case_version_rises"
    );
    let other = "update tenant.review_case set key = 'other', version = version + 1";
    assert_eq!(refused(other).await, "review_case_is_fixed");
    let unnamed =
        "update tenant.review_case set state = 'rejected', closed_at = now(), reason = 'x', version = 2";
    assert_eq!(refused(unnamed).await, "review_case_verdict_is_named");
    let empty =
        "update tenant.review_case set state = 'accepted', closed_at = now(), reason = 'x', version = 2,
        closed_by = gen_random_uuid()";
    assert_eq!(refused(empty).await, "review_case_value_where_wanted");
    desk.says(&case, Word::Accept, desk.ben).await.unwrap();
    let reopened = "update tenant.review_case set state = 'open', version = version + 1";
    assert_eq!(refused(reopened).await, "review_case_closed_stays");
    refused("delete from tenant.review_case").await;
}

#[tokio::test]
async fn a_record_too_large_for_rules_is_for_people_all_the_same() {
    let desk = Desk::new().await;
    let large = format!("{}@example.com", "x".repeat(300_000));
    desk.synced("1", Some(&large)).await;
    let case = desk.get(desk.open(false).await.opened[0]).await;
    assert!(case.shadow_case.is_none() && case.why.contains("too large"), "{}", case.why);
    desk.says(&case, Word::Correct(email("x@example.com")), desk.ben).await.unwrap();
}

#[tokio::test]
async fn g1_who_came_too_late_is_not_told_the_word() {
    let desk = Desk::new().await;
    let case = desk.case("A@B.org").await;
    desk.says(&case, Word::Accept, desk.ground.ada).await.unwrap();
    let eve = desk.eve().await;
    let late = desk.says(&case, Word::Accept, eve).await.unwrap_err().to_string();
    assert!(late.starts_with(&format!("case {} was decided by ada at ", case.id)), "{late}");
    assert_eq!(desk.confirms(case.id, Word::Accept, eve).await.unwrap(), Agreement::Settled);
}

#[tokio::test]
async fn g1_who_was_shown_what_is_written_for_a_word_gives_no_second_one() {
    let desk = Desk::new().await;
    desk.activate("assist").await;
    let case = desk.case("A@B.org").await;
    desk.says(&case, Word::Accept, desk.ground.ada).await.unwrap();
    let (written, Asked::Approval(approval)) = desk.planned(&case).await else { panic!("nobody is asked") };
    let mut write = desk.write().await;
    let receipt = receipt::about(&mut write, Subject::Review(case.id.0)).await.unwrap()[0];
    let mut who = Vec::new();
    for name in ["kim", "lea", "max", "tom", "uma"] {
        who.push(actor::named(&mut write, name).await.unwrap().id);
    }
    let seen = approval::view(&mut write, ApprovalId(approval), who[0]).await.unwrap().unwrap();
    reading::record(&mut write, &Reading::Writeback(written.id), who[1]).await.unwrap();
    reading::record(&mut write, &Reading::Writebacks(&[written.id]), who[2]).await.unwrap();
    reading::record(&mut write, &Reading::Receipt(receipt), who[3]).await.unwrap();
    approval::approve(&mut write, seen.id, &seen.digest, who[4], None).await.unwrap();
    write.commit().await.unwrap();
    for (way, by) in who.into_iter().enumerate() {
        let told = desk.confirms(case.id, Word::Accept, by).await;
        assert!(matches!(told, Err(ReviewError::NotBlind(_))), "way {way}: {told:?}");
    }
    assert_eq!(desk.confirms(case.id, Word::Accept, desk.ben).await.unwrap(), Agreement::Settled);
}

#[tokio::test]
async fn g1_another_case_over_the_same_input_is_no_way_around_blindness() {
    let desk = Desk::new().await;
    let case = desk.case("A@B.org").await;
    desk.says(&case, Word::Accept, desk.ground.ada).await.unwrap();
    let eve = desk.eve().await;
    let mut write = desk.write().await;
    view(&mut write, case.id, eve).await.unwrap();
    write.commit().await.unwrap();
    desk.rules(&RULES.replace("\"format\"", "\"spelling\"")).await;
    let second = desk.get(desk.open(true).await.opened[0]).await;
    assert_eq!(second.shadow_case, case.shadow_case, "the same input");
    desk.says(&second, Word::Accept, eve).await.unwrap();
    let truths = "select count(*) from tenant.shadow_truth";
    assert_eq!(desk.said::<i64>(truths).await, [0], "she knew the first word");
    let mut write = desk.write().await;
    let kim = actor::named(&mut write, "kim").await.unwrap().id;
    view(&mut write, second.id, kim).await.unwrap();
    let told = next(&mut write, None, Task::Confirm, kim).await.unwrap();
    assert!(told.is_none(), "{told:?}");
    write.commit().await.unwrap();
    let told = desk.confirms(case.id, Word::Accept, kim).await;
    assert!(matches!(told, Err(ReviewError::NotBlind(_))), "{told:?}");
    assert_eq!(desk.confirms(case.id, Word::Accept, desk.ben).await.unwrap(), Agreement::Settled);
}

#[tokio::test]
async fn what_is_wanted_already_is_no_question() {
    const WISH: &str = "insert into tenant.wish (decision, requested_by)
        select max(id), gen_random_uuid() from tenant.decision";
    let desk = Desk::new().await;
    desk.synced("1", Some("A@B.org")).await;
    assert_eq!(desk.open(false).await, Opened::default(), "the rules are sure");
    sqlx::raw_sql(WISH).execute(&mut desk.ground.owner().await).await.unwrap();
    let opened = desk.open(true).await;
    assert_eq!((opened.opened.len(), opened.known), (0, 1), "policy alone wants it");
    desk.synced("1", Some("C@D.org")).await;
    let case = desk.get(desk.open(true).await.opened[0]).await;
    sqlx::raw_sql(WISH).execute(&mut desk.ground.owner().await).await.unwrap();
    let refused = desk.says(&case, Word::Accept, desk.ben).await.unwrap_err().to_string();
    assert!(refused.contains("is wanted already"), "{refused}");
}

#[tokio::test]
async fn an_intent_takes_the_head_of_the_chain_after_the_cases() {
    let desk = Desk::new().await;
    desk.activate("assist").await;
    let certify = "set session_replication_role = replica; update tenant.path set state = 'certified'";
    sqlx::raw_sql(certify).execute(&mut desk.ground.owner().await).await.unwrap();
    let case = desk.case("A@B.org").await;
    desk.says(&case, Word::Accept, desk.ground.ada).await.unwrap();
    let (seen, Asked::Approval(approval)) = desk.planned(&case).await else { panic!("nobody is asked") };
    let mut write = desk.write().await;
    let asked = approval::get(&mut write, ApprovalId(approval)).await.unwrap().unwrap();
    approval::approve(&mut write, asked.id, &asked.digest, desk.ben, None).await.unwrap();
    let step = Move::by_job(1, writeback::State::Approved, "approved");
    let seen = writeback::advance(&mut write, &seen, &step).await.unwrap();
    write.commit().await.unwrap();

    let mut other = desk.ground.owner().await;
    let hold = "begin; select from tenant.shadow_case for no key update";
    sqlx::raw_sql(hold).execute(&mut other).await.unwrap();
    let mut write = desk.write().await;
    let intending = tokio::spawn(async move {
        let intent = Intent { plan: seen.digest, rest: None, job: 1 };
        let intended = writeback::intend(&mut write, &seen, intent).await;
        write.commit().await.unwrap();
        intended
    });
    assert!(desk.ground.waits_for(&intending).await, "for whoever gives a word on the case");
    assert!(desk.ground.is_head_free().await, "who gives the word takes it");
    sqlx::raw_sql("commit").execute(&mut other).await.unwrap();
    let intended = intending.await.unwrap().unwrap();
    assert!(matches!(intended, Intended::Intent(_)), "{intended:?}");
}
