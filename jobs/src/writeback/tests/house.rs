//! A tenant with a certified path, a policy, a candidate in assist, and a target.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use connectors::Definition;
use governance::{
    actor::{self, ActorId},
    approval::{self, ApprovalId},
    path::Fallen,
    writeback::{self as rows, Asked, Values, WritebackId},
};
use queue::{JobRecord, State as JobState};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::server::Server;
use crate::{
    connector_registry,
    testing::Stage,
    writeback::{PlanError, Wish, job, plan},
};

const CONTACTS: &str = "
create table contacts (id int primary key, email text, n numeric, seen timestamptz default now());
create table contacts_log (id int, email text);
create function note() returns trigger language plpgsql as $$
begin insert into contacts_log values (new.id, new.email); return new; end $$;
create trigger note after insert or update on contacts for each row execute function note();
alter table contacts disable trigger note;
insert into contacts values (1, 'OLD@x.org', 1.50), (2, 'B@x.org', 2), (3, 'C@x.org', 3), (4, 'D@x.org', 4);
alter table contacts enable trigger note";

/// Certified, with a policy and a candidate that assists: each by hand, since how they come about is others' to test.
pub(crate) const PATH: &str = "
set session_replication_role = replica;
insert into tenant.path (name, connector, stream, fields, state, created_by)
values ('email', 'crm', 'rows', '{email}', 'certified', gen_random_uuid());
insert into tenant.policy (path, version, text, digest, created_by)
select id, 1, 'text', sha256('text'), gen_random_uuid() from tenant.path;
insert into tenant.candidate (name, path, digest, definition, phase, generation, snapshot, created_by)
values ('cleaner', 'email', sha256('{}'), '{}', 'assist', 1, sha256(''), gen_random_uuid());
set session_replication_role = default";

/// The gate of the class asks for nobody.
pub(crate) const OPEN_GATE: &str =
    "insert into governance.gate (class, persons, window_secs) values ('writeback.email_format', 0, 86400)";

pub(crate) struct House {
    pub(crate) stage: Stage,
    pub(crate) server: Option<Arc<Server>>,
}

/// The definition of a connector whose target is this database.
fn postgres(url: &str) -> String {
    format!(
        "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://reader@db/crm\"\n[target]\nurl = \"{url}\"\n\
         [[streams]]\nname = \"rows\"\ntable = \"contacts\"\nkey = [\"id\"]\n\
         [streams.target]\nowned = [\"email\"]\nconvergence = {{ reads = 3, pause = \"10ms\" }}\n"
    )
}

impl House {
    /// Whose target is a table beside the control database's own.
    pub(crate) async fn postgres() -> Self {
        let stage = Stage::provisioned().await;
        furnish_postgres(&stage).await;
        Self { stage, server: None }
    }

    /// Whose target is this server.
    pub(crate) async fn http(server: Server) -> Self {
        let stage = Stage::provisioned().await;
        furnish_http(&stage, &server).await;
        Self { stage, server: Some(Arc::new(server)) }
    }

    /// Two verified changes on this stage, and a person's edit over the first.
    pub(crate) async fn verified(stage: &Stage) {
        furnish_postgres(stage).await;
        let mut conn = stage.tenant_connection().await;
        let ada = actor::named(&mut conn, "ada").await.unwrap().id;
        let db = stage.as_request().await;
        for key in ["1", "2"] {
            let (planned, asked) =
                plan(&db, &stage.vault, &wish(ada, key, "new@x.org"), false).await.unwrap();
            approve_asked(&mut conn, asked).await;
            let record = stage.run(job(&stage.tenant, planned.id).unwrap()).await;
            assert_eq!(record.state, JobState::Succeeded, "{:?}", record.note);
        }
        let edit = "update contacts set email = 'a person''s' where id = 1";
        run(&mut stage.database.connect().await, edit).await;
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Runs statements in the tenant's database as its owner, past every rule.
    pub(crate) async fn inside(&self, sql: &str) {
        run(&mut self.stage.tenant_connection().await, sql).await;
    }

    /// Runs statements at the Postgres target.
    pub(crate) async fn at_target(&self, sql: &str) {
        run(&mut self.stage.database.connect().await, sql).await;
    }

    /// A value at the Postgres target, as text.
    pub(crate) async fn target(&self, sql: &str) -> String {
        one(&mut self.stage.database.connect().await, sql).await
    }

    /// A value in the tenant's database, as text.
    pub(crate) async fn tenant(&self, sql: &str) -> String {
        one(&mut self.stage.tenant_connection().await, sql).await
    }

    pub(crate) async fn actor(&self, name: &str) -> ActorId {
        actor::named(&mut self.stage.tenant_connection().await, name).await.unwrap().id
    }

    /// Ada wants a new address.
    pub(crate) async fn wish(&self, key: &str, email: &str) -> Wish {
        let ada = self.actor("ada").await;
        wish(ada, key, email)
    }

    pub(crate) async fn plan(&self, wish: &Wish) -> Result<(WritebackId, Asked), PlanError> {
        let (planned, asked) = plan(&self.stage.as_request().await, &self.stage.vault, wish, false).await?;
        Ok((planned.id, asked))
    }

    /// Ada plans it and grace says yes.
    pub(crate) async fn approved(&self, key: &str, email: &str) -> WritebackId {
        let (id, asked) = self.plan(&self.wish(key, email).await).await.unwrap();
        self.approve(asked).await;
        id
    }

    pub(crate) async fn approve(&self, asked: Asked) {
        approve_asked(&mut self.stage.tenant_connection().await, asked).await;
    }

    /// The connector is defined anew, with this server as its target.
    pub(crate) async fn redefine(&self, server: &Server) -> Vec<Fallen> {
        let definition = Definition::parse(&server.definition(), "crm.toml").unwrap();
        connector_registry::register(&self.stage.as_request().await, &definition, "ada").await.unwrap()
    }

    /// The change was sent, whatever came of it: it is here now, and its window is over.
    pub(crate) async fn was_sent(&self, id: WritebackId, state: &str) {
        let key = self.row(id).await.plan.idempotency_key(id).unwrap();
        self.inside(&format!(
            "set session_replication_role = replica;
             update tenant.writeback set state = '{state}', steps = 3, sends = 1, reads = 100, intent_job = 1,
                 intent_at = now(), idempotency_key = '\\x{key}' where id = {id};
             set session_replication_role = default"
        ))
        .await;
    }

    /// The gate of the class asks for nobody.
    pub(crate) async fn open_gate(&self) {
        self.inside(OPEN_GATE).await;
    }

    /// Runs the job of a writeback to its rest, which is a good one.
    pub(crate) async fn run(&self, id: WritebackId) -> rows::Writeback {
        let record = self.stage.run(job(&self.stage.tenant, id).unwrap()).await;
        assert_eq!(record.state, JobState::Succeeded, "{:?}", record.note);
        self.row(id).await
    }

    /// Enqueues the job and lets a worker run it until it waits or rests.
    pub(crate) async fn run_until(&self, id: WritebackId, seen: impl Fn(&JobRecord) -> bool) -> JobRecord {
        let enqueued = self.stage.queue.enqueue(job(&self.stage.tenant, id).unwrap()).await.unwrap();
        let _worker = self.stage.worker(self.stage.environment());
        crate::testing::until(async || {
            let record = self.stage.queue.get(enqueued.id).await.unwrap().unwrap();
            seen(&record).then_some(record)
        })
        .await
    }

    pub(crate) async fn row(&self, id: WritebackId) -> rows::Writeback {
        rows::find(&mut self.stage.tenant_connection().await, id).await.unwrap()
    }

    /// What stands at the end, where it must be the same however it came about. The chain verifies.
    pub(crate) async fn end(&self, id: WritebackId) -> String {
        Self::end_on(&self.stage, self.server.as_deref(), id).await
    }

    pub(crate) async fn end_on(stage: &Stage, server: Option<&Server>, id: WritebackId) -> String {
        let mut conn = stage.tenant_connection().await;
        assert_eq!(one(&mut conn, CHAIN_HOLDS).await, "true", "the audit chain does not verify");
        let row = rows::find(&mut conn, id).await.unwrap();
        let receipts = one(&mut conn, RECEIPTS).await;
        let consumed = one(&mut conn, CONSUMED).await;
        let stored = match server {
            Some(server) => format!("{} {}", server.record("1"), server.stored()),
            None => one(&mut stage.database.connect().await, STORED).await,
        };
        format!("{} {receipts} {consumed} {stored}", row.state)
    }
}

const RECEIPTS: &str = "select string_agg(convert_from(content, 'UTF8')::json -> 'receipt' ->> 'outcome', ',') \
                        from tenant.receipt";
const CONSUMED: &str = "select count(*)::text from governance.approval where state = 'consumed'";
const STORED: &str =
    "select (select email from contacts where id = 1) || ' ' || (select count(*) from contacts_log)";

/// Numbers without a gap, each hash over its content and the hash before.
pub(crate) const CHAIN_HOLDS: &str = "
select (bool_and(hash = sha256(content || before) and seq = place)
    and max(seq) = (select size from governance.audit_tail))::text
from (
    select seq, content, hash, row_number() over (order by seq) as place,
        coalesce(lag(hash) over (order by seq), (select governance.genesis(origin) from governance.audit_head)) as before
    from governance.audit_entry) entries";

pub(crate) fn wish(by: ActorId, key: &str, email: &str) -> Wish {
    Wish {
        policy: None,
        path: "email".into(),
        key: key.into(),
        set: Values::from([("email".to_owned(), json!(email))]),
        class: "email_format".into(),
        creates: false,
        confidence: 97,
        evidence: None,
        requested_by: by,
        accepted_by: Some(by),
    }
}

/// Grace says yes.
pub(crate) async fn approve_asked(conn: &mut PgConnection, asked: Asked) {
    let Asked::Approval(id) = asked else { panic!("the gate asks for nobody") };
    let grace = actor::named(conn, "grace").await.unwrap().id;
    let digest = approval::get(conn, ApprovalId(id)).await.unwrap().unwrap().digest;
    approval::approve(conn, ApprovalId(id), &digest, grace, None).await.unwrap();
}

pub(crate) async fn furnish_postgres(stage: &Stage) {
    run(&mut stage.database.connect().await, CONTACTS).await;
    furnish(stage, &postgres(&stage.database.url())).await;
}

pub(crate) async fn furnish_http(stage: &Stage, server: &Server) {
    furnish(stage, &server.definition()).await;
}

async fn furnish(stage: &Stage, definition: &str) {
    let definition = Definition::parse(definition, "crm.toml").unwrap_or_else(|error| panic!("{error}"));
    connector_registry::register(&stage.as_request().await, &definition, "ada").await.unwrap();
    run(&mut stage.tenant_connection().await, PATH).await;
}

pub(crate) async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

pub(crate) async fn one(conn: &mut PgConnection, sql: &str) -> String {
    let found: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(conn).await.unwrap();
    found.unwrap_or_default()
}

/// The houses of a battery: one per stage.
#[derive(Default)]
pub(crate) struct Servers(Mutex<HashMap<String, Arc<Server>>>);

impl Servers {
    pub(crate) fn keep(&self, stage: &Stage, server: Arc<Server>) {
        self.0.lock().unwrap().insert(stage.tenant.database_name.clone(), server);
    }

    pub(crate) fn of(&self, stage: &Stage) -> Option<Arc<Server>> {
        self.0.lock().unwrap().get(&stage.tenant.database_name).cloned()
    }
}
