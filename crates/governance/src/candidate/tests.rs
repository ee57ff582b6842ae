//! Family G on a real database: the definition, the way up, the way down, and both at a time.

pub(crate) mod support;

use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, Connection};

use self::support::{Ground, No, Yes, definition, right};
use super::*;
use crate::{
    actor, approval,
    promotion::{Outcome, Rules, Snapshot},
    shadow,
};

/// What a statement of somebody who wants around the program is refused by.
async fn refusal(conn: &mut sqlx::PgConnection, statement: &str) -> String {
    let refused = sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await;
    let refused = refused.expect_err("the schema refuses it").into_database_error().unwrap();
    refused.constraint().map_or_else(|| refused.message().to_owned(), ToOwned::to_owned)
}

#[test]
fn every_change_of_a_definition_is_another_candidate() {
    let plain = definition(1);
    let digest = |text: &str| Some(Digest::of(text.as_bytes()));
    let model = |settings: &[(&str, &str)]| {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Some(Model { provider: "local".to_owned(), name: "m-1".to_owned(), settings })
    };
    let tool = |text: &str| BTreeMap::from([("look_up".to_owned(), Digest::of(text.as_bytes()))]);
    let changed = [
        plain.clone(),
        definition(2),
        Definition { path: "other".to_owned(), ..plain.clone() },
        Definition { policy: Policy { version: 1, digest: Digest::of(b"text") }, ..plain.clone() },
        Definition { model: model(&[]), ..plain.clone() },
        Definition { model: model(&[("temperature", "0")]), ..plain.clone() },
        Definition { model: model(&[("temperature", "0.0")]), ..plain.clone() },
        Definition { prompt: digest("a"), ..plain.clone() },
        Definition { prompt: digest("b"), ..plain.clone() },
        Definition { redaction: digest("a"), ..plain.clone() },
        Definition { tools: tool("a"), ..plain.clone() },
        Definition { tools: tool("b"), ..plain.clone() },
        Definition { engine: ENGINE + 1, ..plain.clone() },
    ];
    let digests: std::collections::BTreeSet<_> = changed.iter().map(|one| one.digest().unwrap()).collect();
    assert_eq!(digests.len(), changed.len());
    for one in &changed {
        assert_eq!(Definition::read(&one.to_bytes().unwrap()).unwrap(), *one);
    }
}

#[tokio::test]
async fn a_change_starts_at_zero_under_a_name_of_its_own() {
    let ground = Ground::new().await;
    let (first, _) = ground.eligible("first").await;
    let again = ground.candidate("first", 1).await;
    assert_eq!((again.id, again.generation), (first.id, 0), "harmless to repeat");
    let mut write = ground.write().await;
    let taken = create(&mut write, "first", &definition(2), ground.ada).await;
    assert!(matches!(taken, Err(CandidateError::NameTaken(name)) if name == "first"));
    let known = create(&mut write, "second", &definition(1), ground.ada).await;
    assert!(matches!(known, Err(CandidateError::DefinitionTaken(name)) if name == "first"));
    create(&mut write, "second", &definition(2), ground.ada).await.unwrap();
    assert_eq!(look(&mut write, "second").await.unwrap().evaluation.figures.runs, 0);
    assert_eq!(look(&mut write, "first").await.unwrap().evaluation.figures.runs, 30);
    let bad = create(&mut write, "No Name", &definition(3), ground.ada).await;
    assert!(matches!(bad, Err(CandidateError::BadName(_))));
}

#[tokio::test]
async fn g1_up_goes_by_an_eligible_snapshot_one_phase_at_a_time() {
    let ground = Ground::new().await;
    let (candidate, digest) = ground.eligible("c").await;
    let moved = ground.promote("c", digest).await.unwrap();
    assert_eq!((moved.from, moved.to, moved.generation), (Phase::Off, Phase::Assist, 1));
    let again = ground.promote("c", digest).await;
    assert!(matches!(again, Err(CandidateError::Overtaken(_))), "a snapshot promotes once: {again:?}");
    let higher = ground.freeze("c").await.digest;
    let second = ground.promote("c", higher).await.unwrap();
    assert_eq!((second.from, second.to, second.generation), (Phase::Assist, Phase::Autonomous, 2));
    let mut write = ground.write().await;
    assert!(matches!(look(&mut write, "c").await, Err(CandidateError::AtTheTop(_))));
    let history = super::moves(&mut write, &candidate, 10).await.unwrap();
    let seen: Vec<_> = history.iter().map(|one| (one.to, one.snapshot, one.approval.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (Phase::Autonomous, Some(higher), Some("approval")),
            (Phase::Assist, Some(digest), Some("approval"))
        ]
    );
    let mut chain = ground.chain().await;
    chain.retain(|kind| !kind.starts_with("shadow."));
    assert_eq!(
        chain,
        ["candidate.created", "gate.evaluated", "candidate.promoted", "gate.evaluated", "candidate.promoted"]
    );
}

#[tokio::test]
async fn g1_nothing_moves_up_without_evidence_or_without_a_yes() {
    let ground = Ground::new().await;
    let candidate = ground.candidate("c", 1).await;
    let cases = ground.cases(30, 14).await;
    ground.runs(&candidate, &cases, 4).await;
    let short = ground.freeze("c").await;
    let refused = ground.promote("c", short.digest).await;
    assert!(
        matches!(refused, Err(CandidateError::NotEligible(Answer::Insufficient))),
        "26 of 30 with 14 scored: {refused:?}"
    );
    let mut write = ground.write().await;
    shadow::say(&mut write, cases[14], &right(14), ground.ben).await.unwrap();
    write.commit().await.unwrap();
    let refused = ground.promote("c", short.digest).await;
    assert!(
        matches!(refused, Err(CandidateError::NotEligible(_))),
        "late truth does not reach back: {refused:?}"
    );
    let enough = ground.freeze("c").await;
    assert_eq!(enough.evaluation.answer, Answer::Eligible);
    let mut write = ground.write().await;
    let unapproved = promote(&mut write, "c", enough.digest, ground.ada, &No).await;
    assert!(matches!(unapproved, Err(CandidateError::Consent(_))));
    drop(write);
    let other = ground.promote("c", Digest::of(b"another")).await;
    assert!(matches!(other, Err(CandidateError::NoSnapshot { .. })));
    assert_eq!(ground.promote("c", enough.digest).await.unwrap().to, Phase::Assist);
}

#[tokio::test]
async fn g1_the_schema_counts_the_floors_itself() {
    let ground = Ground::new().await;
    let candidate = ground.candidate("c", 1).await;
    let cases = ground.cases(30, 30).await;
    ground.runs(&candidate, &cases, 5).await;
    let gate = ground.freeze("c").await;
    assert_eq!(gate.evaluation.answer, Answer::Disagree);
    let mut owner = ground.owner().await;
    // The same bytes, said to be eligible: as another row, since evidence cannot be changed.
    let changed = refusal(&mut owner, "update tenant.gate_snapshot set answer = 'eligible'").await;
    assert!(changed.contains("its rows are evidence"), "{changed}");
    let forge = "insert into tenant.gate_snapshot
        select sha256(b), candidate, from_phase, to_phase, generation, 'eligible', evaluation, b, frozen_at, job
        from (select *, bytes || ' '::bytea as b from tenant.gate_snapshot) as s";
    sqlx::raw_sql(forge).execute(&mut owner).await.unwrap();
    let forged = "update tenant.candidate set phase = 'assist', generation = generation + 1,
        snapshot = (select digest from tenant.gate_snapshot where answer = 'eligible')";
    assert_eq!(refusal(&mut owner, forged).await, "candidate_moves_up_on_evidence");
    let counted = "select tenant.gate_floors_hold(bytes) from tenant.gate_snapshot limit 1";
    assert!(!sqlx::query_scalar::<_, bool>(counted).fetch_one(&mut owner).await.unwrap());
}

#[tokio::test]
async fn g1_the_schema_and_the_gate_count_alike() {
    let ground = Ground::new().await;
    let candidate = ground.candidate("c", 1).await;
    let cases = ground.cases(30, 15).await;
    ground.runs(&candidate, &cases, 4).await;
    let gate = ground.freeze("c").await;
    let header = gate.snapshot.header().clone();
    let mut owner = ground.owner().await;
    let plain = gate.snapshot.runs();
    let agreeing = plain.iter().position(|run| run.candidate == run.baseline && run.truth.is_none()).unwrap();
    let scored = plain.iter().position(|run| run.truth.is_some()).unwrap();
    let mut variants = vec![plain.to_vec(), Vec::new(), plain[1..].to_vec(), [plain, plain].concat()];
    let mut vary = |change: &dyn Fn(&mut Vec<crate::promotion::Run>)| {
        let mut runs = plain.to_vec();
        change(&mut runs);
        variants.push(runs);
    };
    vary(&|runs| runs[agreeing].error = Some("timeout".to_owned()));
    vary(&|runs| runs[agreeing].baseline = None);
    vary(&|runs| (runs[agreeing].candidate, runs[agreeing].baseline) = (None, None));
    vary(&|runs| runs[scored].truth = None);
    vary(&|runs| runs[scored].truth.as_mut().unwrap().at = header.frozen_at + 1);
    vary(&|runs| runs[scored].truth.as_mut().unwrap().opinion.value = Some(Digest::of(b"other")));
    for runs in variants {
        let snapshot = Snapshot::new(header.clone(), runs).unwrap();
        let floors = crate::promotion::evaluate(&snapshot);
        let floors =
            floors.findings.iter().all(|one| matches!(one.outcome, Outcome::Passed | Outcome::Shown));
        let counted: bool = sqlx::query_scalar("select tenant.gate_floors_hold($1)")
            .bind(snapshot.freeze().unwrap().bytes)
            .fetch_one(&mut owner)
            .await
            .unwrap();
        assert_eq!(counted, floors, "{:?}", snapshot.runs());
    }
}

#[tokio::test]
async fn g7_the_schema_lets_no_phase_be_skipped() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("c").await;
    let mut owner = ground.owner().await;
    let snapshot = format!("snapshot = '\\x{digest}'");
    let up = |phase: &str, generation: &str| {
        format!("update tenant.candidate set phase = '{phase}', generation = {generation}, {snapshot}")
    };
    assert_eq!(refusal(&mut owner, &up("autonomous", "1")).await, "candidate_skips_no_phase");
    assert_eq!(refusal(&mut owner, &up("assist", "0")).await, "candidate_generation_rises");
    assert_eq!(
        refusal(&mut owner, "update tenant.candidate set phase = 'assist', generation = 1").await,
        "candidate_moves_up_on_evidence"
    );
    let born = "insert into tenant.candidate (name, path, digest, definition, phase, created_by)
        values ('x', 'p', sha256(''), '', 'assist', gen_random_uuid())";
    assert_eq!(refusal(&mut owner, born).await, "candidate_begins_off");
    let swapped = "update tenant.candidate set definition = 'x', digest = sha256('x')";
    assert_eq!(refusal(&mut owner, swapped).await, "candidate_is_fixed");
    sqlx::raw_sql(AssertSqlSafe(up("assist", "1")))
        .execute(&mut owner)
        .await
        .expect("with evidence one is let up");
    assert_eq!(
        refusal(&mut owner, &up("autonomous", "2")).await,
        "candidate_moves_up_on_evidence",
        "evidence for one phase is none for the next"
    );
}

#[tokio::test]
async fn g6_down_needs_nothing_and_waits_for_nobody() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("c").await;
    ground.promote("c", digest).await.unwrap();
    // An evaluator that hangs with its snapshot written, and everything but the candidate's row out of reach.
    let mut evaluator = ground.write().await;
    freeze_up_to_the_chain(&mut evaluator).await;
    let mut owner = ground.owner().await;
    let mut wall = owner.begin().await.unwrap();
    sqlx::raw_sql(
        "lock table tenant.promotion_rule, tenant.shadow_case, tenant.shadow_run, tenant.shadow_truth,
            tenant.shadow_baseline in access exclusive mode",
    )
    .execute(&mut *wall)
    .await
    .unwrap();
    let mut write = ground.write().await;
    let demoted = demote(&mut write, "c", Phase::Off, ground.ada, Some("it was wrong"));
    // Far more than it takes: what is shown is that it waits for none of these locks.
    let demoted = tokio::time::timeout(Duration::from_secs(1), demoted).await.expect("under a second");
    assert_eq!(demoted.unwrap().to, Phase::Off);
    write.commit().await.unwrap();
    wall.rollback().await.unwrap();
    drop(evaluator);
    assert_eq!(ground.chain().await.last().unwrap(), "candidate.demoted");
}

/// What `freeze` does before it appends to the chain.
async fn freeze_up_to_the_chain(conn: &mut sqlx::PgConnection) {
    let copy = "insert into tenant.gate_snapshot
        select sha256(b), candidate, from_phase, to_phase, generation, answer, evaluation, b, frozen_at, job
        from (select *, bytes || ' '::bytea as b from tenant.gate_snapshot) as s";
    sqlx::raw_sql(copy).execute(conn).await.unwrap();
}

#[tokio::test]
async fn g6_down_to_assist_or_off_and_never_up() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("c").await;
    ground.promote("c", digest).await.unwrap();
    ground.promote("c", ground.freeze("c").await.digest).await.unwrap();
    let mut write = ground.write().await;
    let down = demote(&mut write, "c", Phase::Assist, ground.ada, None).await.unwrap();
    assert_eq!((down.from, down.to), (Phase::Autonomous, Phase::Assist));
    let down = demote(&mut write, "c", Phase::Off, ground.ada, None).await.unwrap();
    assert_eq!((down.from, down.to), (Phase::Assist, Phase::Off));
    let still = demote(&mut write, "c", Phase::Autonomous, ground.ada, None).await.unwrap();
    assert_eq!((still.from, still.to, still.generation), (Phase::Off, Phase::Off, 5));
    assert!(by_name(&mut write, "c").await.unwrap().snapshot.is_none());
    let nobody = demote(&mut write, "nobody", Phase::Off, ground.ada, None).await;
    assert!(matches!(nobody, Err(CandidateError::NotFound(_))));
}

#[tokio::test]
async fn g8_a_demotion_that_came_first_voids_the_promotion() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("c").await;
    let mut down = ground.write().await;
    // It stands at the bottom already: the word counts all the same.
    demote(&mut down, "c", Phase::Off, ground.ada, None).await.unwrap();
    let mut up = ground.write().await;
    let promoted = promote(&mut up, "c", digest, ground.ada, &Yes);
    // The promotion has read the candidate as it was, and now waits for the row.
    let (promoted, ()) = tokio::join!(promoted, async {
        waits(&ground).await;
        down.commit().await.unwrap();
    });
    assert!(matches!(promoted, Err(CandidateError::Overtaken(_))), "{promoted:?}");
}

#[tokio::test]
async fn g8_a_demotion_that_came_second_ends_below() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("c").await;
    let mut up = ground.write().await;
    promote(&mut up, "c", digest, ground.ada, &Yes).await.unwrap();
    let mut down = ground.write().await;
    let demoted = demote(&mut down, "c", Phase::Off, ground.ada, None);
    let (demoted, ()) = tokio::join!(demoted, async {
        waits(&ground).await;
        up.commit().await.unwrap();
    });
    let demoted = demoted.unwrap();
    assert_eq!((demoted.from, demoted.to), (Phase::Assist, Phase::Off), "it sees what came before it");
    down.commit().await.unwrap();
    assert_eq!(by_name(&mut *ground.write().await, "c").await.unwrap().phase, Phase::Off);
}

/// Until a session of the database waits for a lock.
async fn waits(ground: &Ground) {
    let mut owner = ground.owner().await;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut owner).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
}

/// The approvals, and a demotion that comes in the moment after they said yes.
struct Overtaken<'a> {
    ground: &'a Ground,
    down: std::sync::Mutex<Option<tokio::task::JoinHandle<Result<Moved, CandidateError>>>>,
}

impl Consent for Overtaken<'_> {
    async fn consume(
        &self,
        conn: &mut sqlx::PgConnection,
        promotion: &Promotion,
        by: ActorId,
    ) -> Result<String, ConsentError> {
        let approval = Approvals("c").consume(conn, promotion, by).await?;
        let mut write = self.ground.write().await;
        let down = tokio::spawn(async move {
            let moved = demote(&mut write, "c", Phase::Off, by, None).await?;
            write.commit().await.unwrap();
            Ok(moved)
        });
        *self.down.lock().unwrap() = Some(down);
        waits(self.ground).await;
        Ok(approval)
    }
}

#[tokio::test]
async fn g8_a_demotion_is_no_victim_of_a_promotion_that_has_used_its_approval() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("c").await;
    ground.approve("c", digest).await;
    let consent = Overtaken { ground: &ground, down: std::sync::Mutex::default() };
    let mut up = ground.write().await;
    let promoted = promote(&mut up, "c", digest, ground.ada, &consent).await;
    match promoted {
        Ok(_) => up.commit().await.unwrap(),
        Err(_) => drop(up),
    }
    let down = consent.down.lock().unwrap().take().unwrap();
    let demoted = down.await.unwrap().expect("a demotion waits, and never fails for a promotion");
    assert_eq!((demoted.from, demoted.to), (Phase::Assist, Phase::Off));
    assert_eq!(by_name(&mut *ground.write().await, "c").await.unwrap().phase, Phase::Off);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g8_whoever_wins_a_race_the_end_is_below() {
    let ground = std::sync::Arc::new(Ground::new().await);
    let (candidate, _) = ground.eligible("c").await;
    for round in 0..20 {
        let digest = ground.freeze("c").await.digest;
        ground.approve("c", digest).await;
        let (one, other) = (ground.clone(), ground.clone());
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
        let at_once = barrier.clone();
        let up = tokio::spawn(async move {
            barrier.wait().await;
            let mut write = one.write().await;
            let moved = promote(&mut write, "c", digest, one.ada, &Approvals("c")).await?;
            write.commit().await.unwrap();
            Ok(moved)
        });
        let down = tokio::spawn(async move {
            at_once.wait().await;
            let mut write = other.write().await;
            let moved = demote(&mut write, "c", Phase::Off, other.ada, None).await.unwrap();
            write.commit().await.unwrap();
            moved
        });
        let (up, down) = (up.await.unwrap(), down.await.unwrap());
        let mut write = ground.write().await;
        assert_eq!(
            by_name(&mut write, "c").await.unwrap().phase,
            Phase::Off,
            "round {round}: {up:?}, {down:?}"
        );
        assert!(matches!(up, Ok(_) | Err(CandidateError::Overtaken(_))), "{up:?}");
        let latest = moves(&mut write, &candidate, 1).await.unwrap().remove(0);
        assert_eq!((latest.to, latest.generation), (Phase::Off, down.generation));
    }
}

#[tokio::test]
async fn two_candidates_of_a_path_are_not_active_at_a_time() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("first").await;
    let second = ground.candidate("second", 2).await;
    let cases = ground.cases(30, 15).await;
    ground.runs(&second, &cases, 0).await;
    let evidence = ground.freeze("second").await.digest;
    ground.promote("first", digest).await.unwrap();
    let refused = ground.promote("second", evidence).await;
    assert!(matches!(refused, Err(CandidateError::PathTaken(name)) if name == "second"));
    let mut write = ground.write().await;
    demote(&mut write, "first", Phase::Off, ground.ada, None).await.unwrap();
    write.commit().await.unwrap();
    ground.promote("second", evidence).await.unwrap();
}

#[tokio::test]
async fn p7_a_paths_rules_are_tightened_at_once_and_loosened_by_a_second_person() {
    let ground = Ground::new().await;
    let (_, digest) = ground.eligible("c").await;
    let strict = Rules { bound_percent_min: Some(80), ..Rules::default() };
    let set = async |rules: &Rules| {
        let mut write = ground.write().await;
        let set = set_rules(&mut write, support::PATH, rules, ground.ada).await;
        if set.is_ok() {
            write.commit().await.unwrap();
        }
        set
    };
    set(&strict).await.unwrap();
    assert!(matches!(set(&Rules::default()).await, Err(CandidateError::Laxer)));
    let below = set(&Rules { runs_min: 10, ..strict.clone() }).await;
    assert!(matches!(below, Err(CandidateError::Rules(_))));
    let mut write = ground.write().await;
    assert_eq!(rules(&mut write, support::PATH).await.unwrap(), strict);
    assert_eq!(look(&mut write, "c").await.unwrap().evaluation.answer, Answer::Insufficient);
    drop(write);
    let mut owner = ground.owner().await;
    let around = "update tenant.promotion_rule set rules = jsonb_set(rules, '{runs_min}', '3')";
    assert_eq!(refusal(&mut owner, around).await, "promotion_rule_is_no_laxer");
    let stale = ground.promote("c", digest).await;
    assert!(matches!(stale, Err(CandidateError::OlderRules(_))), "frozen under laxer rules: {stale:?}");

    let mut write = ground.write().await;
    let asked = ask_laxer(&mut write, support::PATH, &Rules::default(), ground.ada).await.unwrap();
    let ben = actor::named(&mut write, "ben").await.unwrap().id;
    approval::approve(&mut write, asked.id, &asked.digest, ben, None).await.unwrap();
    write.commit().await.unwrap();
    let other = Rules { agree_percent_min: 86, ..Rules::default() };
    assert!(matches!(set(&other).await, Err(CandidateError::Laxer)), "the yes was to other rules");
    set(&Rules::default()).await.unwrap();
    ground.promote("c", digest).await.unwrap();
    set(&strict).await.unwrap();
    assert!(matches!(set(&Rules::default()).await, Err(CandidateError::Laxer)), "a yes is used once");
}
