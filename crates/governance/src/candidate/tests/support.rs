//! A tenant with cases that people have judged, and candidates that ran on them.

use database::{
    control::Tenant,
    tenant::{TenantDb, Write},
    testing::TestTenants,
};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use crate::{
    actor::{self, ActorId},
    approval,
    candidate::{
        Approvals, Candidate, CandidateError, Consent, ConsentError, Definition, ENGINE, Gate, Moved, Policy,
        Promotion, by_name, create, freeze as freeze_gate, promote, snapshot,
    },
    decision::Verdict,
    digest::Digest,
    shadow::{self, CaseId, NewCase, Ran, Said},
};

pub(crate) const PATH: &str = "contact-email";

pub(crate) struct Ground {
    pub(crate) tenants: TestTenants,
    pub(crate) tenant: Tenant,
    pub(crate) db: TenantDb,
    pub(crate) ada: ActorId,
    pub(crate) ben: ActorId,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let tenants = TestTenants::create().await;
        let tenant = tenants.add("acme").await;
        let db = tenants.for_request(&tenant).await.unwrap();
        let mut write = db.write().await.unwrap();
        let ada = actor::named(&mut write, "ada").await.unwrap().id;
        let ben = actor::named(&mut write, "ben").await.unwrap().id;
        write.commit().await.unwrap();
        Self { tenants, tenant, db, ada, ben }
    }

    /// A transaction of the tenant's role.
    pub(crate) async fn write(&self) -> Write {
        self.db.write().await.unwrap()
    }

    /// A connection past every privilege, but not past a trigger.
    pub(crate) async fn owner(&self) -> PgConnection {
        self.tenants.inside(&self.tenant).await
    }

    pub(crate) async fn candidate(&self, name: &str, version: i64) -> Candidate {
        let mut write = self.write().await;
        let made = create(&mut write, name, &definition(version), self.ada).await.unwrap();
        write.commit().await.unwrap();
        made
    }

    /// So many cases that Ada has judged, of which the first are scored: Ben said the same.
    pub(crate) async fn cases(&self, all: usize, scored: usize) -> Vec<CaseId> {
        let mut write = self.write().await;
        let mut ids = Vec::new();
        for number in 0..all {
            let id = case(&mut write, number).await;
            shadow::say(&mut write, id, &right(number), self.ada).await.unwrap();
            if number < scored {
                shadow::say(&mut write, id, &right(number), self.ben).await.unwrap();
            }
            ids.push(id);
        }
        write.commit().await.unwrap();
        ids
    }

    /// The candidate's runs on these cases: right in all but the last ones.
    pub(crate) async fn runs(&self, candidate: &Candidate, cases: &[CaseId], wrong: usize) {
        let ran: Vec<Ran> = cases
            .iter()
            .enumerate()
            .map(|(number, case)| {
                let is_right = number < cases.len() - wrong;
                let said = if is_right { right(number) } else { said(Verdict::Block) };
                let value = said.value.clone().map(Value::Object);
                Ran { case: *case, input: input_digest(number), end: Ok((said, value)) }
            })
            .collect();
        let mut write = self.write().await;
        shadow::record(&mut write, candidate, 1, &ran).await.unwrap();
        write.commit().await.unwrap();
    }

    /// A candidate in phase off that is eligible, with its snapshot.
    pub(crate) async fn eligible(&self, name: &str) -> (Candidate, Digest) {
        let candidate = self.candidate(name, 1).await;
        let cases = self.cases(30, 15).await;
        self.runs(&candidate, &cases, 4).await;
        let digest = self.freeze(name).await.digest;
        (candidate, digest)
    }

    pub(crate) async fn freeze(&self, name: &str) -> Gate {
        let mut write = self.write().await;
        let gate = freeze_gate(&mut write, name, 1).await.unwrap();
        write.commit().await.unwrap();
        gate
    }

    /// Ada has asked for the promotion on this evidence, and Ben has said yes.
    pub(crate) async fn approve(&self, name: &str, evidence: Digest) {
        let mut write = self.write().await;
        let candidate = by_name(&mut write, name).await.unwrap();
        let record = snapshot(&mut write, &candidate, Some(evidence)).await.unwrap().unwrap();
        let promotion = Promotion::of(candidate.digest, &record);
        let asked = Approvals(name).ask(&mut write, &promotion, self.ada).await.unwrap();
        approval::approve(&mut write, asked.id, &asked.digest, self.ben, Some(name)).await.unwrap();
        write.commit().await.unwrap();
    }

    pub(crate) async fn promote(&self, name: &str, evidence: Digest) -> Result<Moved, CandidateError> {
        let mut write = self.write().await;
        let moved = promote(&mut write, name, evidence, self.ada, &Yes).await?;
        write.commit().await.unwrap();
        Ok(moved)
    }

    /// Until a session of the database waits for a lock; false if the task ends before one does.
    pub(crate) async fn waits_for<T>(&self, task: &tokio::task::JoinHandle<T>) -> bool {
        let mut owner = self.owner().await;
        let waiting = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut owner).await.unwrap() == 0 {
            if task.is_finished() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }

    /// Whether nobody holds the chain's head row at this moment.
    pub(crate) async fn is_head_free(&self) -> bool {
        let mut owner = self.owner().await;
        sqlx::raw_sql("select from governance.audit_head for update nowait").execute(&mut owner).await.is_ok()
    }

    /// The kinds of the chain's entries, in order.
    pub(crate) async fn chain(&self) -> Vec<String> {
        let kinds =
            "select convert_from(content, 'UTF8')::json ->> 'kind' from governance.audit_entry order by seq";
        sqlx::query_scalar(kinds).fetch_all(&mut self.owner().await).await.unwrap()
    }
}

pub(crate) fn definition(version: i64) -> Definition {
    Definition {
        path: PATH.to_owned(),
        policy: Policy { version, digest: Digest::of(&version.to_be_bytes()) },
        model: None,
        prompt: None,
        tools: std::collections::BTreeMap::new(),
        redaction: None,
        engine: ENGINE,
    }
}

pub(crate) fn input_digest(number: usize) -> Digest {
    Digest::of(&number.to_be_bytes())
}

pub(crate) fn fields(email: &str) -> Map<String, Value> {
    Map::from_iter([("email".to_owned(), json!(email))])
}

pub(crate) fn said(verdict: Verdict) -> Said {
    Said { verdict, value: None, class: None }
}

pub(crate) fn fix(email: &str) -> Said {
    Said { verdict: Verdict::Fix, value: Some(fields(email)), class: Some("email_format".to_owned()) }
}

/// What is right for the case of this number.
pub(crate) fn right(number: usize) -> Said {
    if number.is_multiple_of(2) { fix(&format!("person{number}@example.com")) } else { said(Verdict::None) }
}

pub(crate) async fn case(conn: &mut PgConnection, number: usize) -> CaseId {
    let original = fields(&format!("Person{number}@Example.COM "));
    let case = NewCase {
        path: PATH,
        input_digest: input_digest(number),
        connector: "crm",
        stream: "contacts",
        key: &number.to_string(),
        original: &original,
        input: &json!({ "record": original }),
    };
    shadow::freeze(conn, &case).await.unwrap()
}

/// Says yes to everything.
pub(crate) struct Yes;

impl Consent for Yes {
    async fn consume(&self, _: &mut PgConnection, _: &Promotion, _: ActorId) -> Result<String, ConsentError> {
        Ok("approval".to_owned())
    }
}

/// Says yes to nothing.
pub(crate) struct No;

impl Consent for No {
    async fn consume(&self, _: &mut PgConnection, _: &Promotion, _: ActorId) -> Result<String, ConsentError> {
        Err(ConsentError("nobody approved".into()))
    }
}
