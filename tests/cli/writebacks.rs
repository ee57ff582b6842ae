//! Changes of records at a target, as operators and scripts make them: from a plan to its end, and from a reviewer's word.

use database::testing::TestDatabase;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use crate::support::{Bench, Running, object};

/// Certified, with rules and a candidate that assists: each by hand, since how they come about is others' to test.
const GOVERNED: &str = r#"
    set session_replication_role = replica;
    insert into tenant.path (name, connector, stream, fields, state, created_by)
    values ('email', 'crm', 'people', '{email}', 'certified', gen_random_uuid());
    insert into tenant.policy (path, version, text, digest, created_by)
    select id, 1, text, sha256(convert_to(text, 'UTF8')), created_by from tenant.path, (values (
        e'path = "email"\n[[rules]]\nname = "format"\nwhen = \'email(record.email) != record.email\'\n'
        'verdict = "fix"\nvalue = { email = \'email(record.email)\' }\nclass = "email_format"\n'
    )) as t (text);
    insert into tenant.candidate (name, path, digest, definition, phase, generation, snapshot, created_by)
    values ('rules', 'email', sha256('{}'), '{}', 'assist', 1, sha256(''), gen_random_uuid());
"#;

/// A tenant, a table that it writes to, and what a sync has read of it.
struct House {
    /// Before the bench: it ends first.
    _worker: Running,
    bench: Bench,
    table: TestDatabase,
}

impl House {
    async fn new() -> Self {
        let bench = Bench::with_database().await;
        bench.ok(&["tenant", "create", "acme", "--wait"]);
        let table = TestDatabase::create().await;
        let rows = "create table people (id int primary key, email text);
            insert into people values (1, 'Ada@Example.com'), (2, 'Bob@Example.com'), (3, 'Eve@Example.com');
            -- Roles are the server's, which several tests share.
            do $$ begin create role people_reader login; exception when duplicate_object or unique_violation then end $$;
            grant select on people to people_reader";
        sqlx::raw_sql(rows).execute(&mut table.connect().await).await.unwrap();
        let url = table.url();
        let file = bench.file(
            "crm.toml",
            &format!(
                "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"{url}&user=people_reader\"\n[target]\nurl = \"{url}\"\n\
                 [[streams]]\nname = \"people\"\ntable = \"people\"\nkey = [\"id\"]\n\
                 [streams.target]\nowned = [\"email\"]\nconvergence = {{ reads = 2, pause = \"10ms\" }}\n"
            ),
        );
        bench.ok(&["connector", "sync", &file]);
        let house = Self { _worker: bench.start(&["work"]), bench, table };
        house.inside(GOVERNED).await;
        house
    }

    /// Runs SQL in the tenant's database, past every rule.
    async fn inside(&self, sql: &str) {
        let control = "select database_name from control.tenant";
        let name: String =
            sqlx::query_scalar(control).fetch_one(&mut self.bench.database().connect().await).await.unwrap();
        let options: PgConnectOptions = self.bench.database().options().database(&name);
        let mut conn = PgConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    }

    async fn at_target(&self, sql: &'static str) -> String {
        sqlx::query_scalar(sql).fetch_one(&mut self.table.connect().await).await.unwrap()
    }

    fn plan(&self, key: &str, email: &str, more: &[&str]) -> Value {
        let set = format!("email={email}");
        let plan =
            ["writeback", "plan", "--path", "email", "--class", "email_format", "--key", key, "--set", &set];
        self.bench.json(&[&plan[..], more].concat())
    }

    /// Ben says yes to this approval.
    fn approve(&self, id: &str) {
        let shown = self.bench.json(&["approval", "show", id, "--tenant", "acme"]);
        let digest = shown["approval"]["digest"].as_str().unwrap().to_owned();
        self.bench.ok(&["approval", "approve", id, "--digest", &digest, "--tenant", "acme", "--as", "ben"]);
    }

    /// Sees a job to its end, without the pause in which it waits for people.
    fn wait(&self, job: &Value) {
        let job = job.as_str().unwrap();
        let retried = self.bench.run(&["job", "retry", job]);
        assert!(matches!(retried.code, Some(0 | 4)), "{retried:#?}");
        self.bench.ok(&["job", "wait", job, "--timeout", "60s"]);
    }

    fn refused(&self, arguments: &[&str], code: i32, says: &str) {
        let ran = self.bench.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
        assert!(ran.stderr.contains(says), "{arguments:?}: {ran:#?}");
        let ran = self.bench.run(&[arguments, &["--json"]].concat());
        assert!(object(&ran.stdout)["error"]["code"].is_string(), "{arguments:?}: {ran:#?}");
    }
}

#[tokio::test]
async fn w2_a_change_is_planned_approved_sent_and_taken_back() {
    let house = House::new().await;
    let bench = &house.bench;
    let dry = house.plan("1", "ada@example.com", &["--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["job"]), (&true.into(), &Value::Null), "{dry}");
    assert_eq!(dry["plan"]["before"]["email"], "\"Ada@Example.com\"");
    let tried = "do $$ begin assert exists (select from governance.audit_entry
        where convert_from(content, 'UTF8')::json ->> 'kind' = 'writeback.tried'); end $$";
    house.inside(tried).await;
    assert_eq!(bench.json(&["writeback", "list", "--all"])["writebacks"], serde_json::json!([]));

    let planned = house.plan("1", "ada@example.com", &[]);
    let (id, approval) =
        (planned["writeback"]["id"].as_str().unwrap(), planned["approval"].as_str().unwrap());
    assert_eq!(planned["writeback"]["state"], "planned");
    assert!(bench.ok(&["writeback", "list"]).contains("planned"));
    house.refused(
        &[
            "writeback",
            "plan",
            "--path",
            "email",
            "--class",
            "c",
            "--key",
            "1",
            "--set",
            "email=x@example.com",
        ],
        4,
        "another change of the record",
    );
    house.approve(approval);
    house.wait(&planned["job"]);
    let shown = bench.json(&["writeback", "show", id]);
    assert_eq!(shown["writeback"]["state"], "verified", "{shown}");
    let arrows: Vec<_> =
        shown["steps"].as_array().unwrap().iter().map(|step| step["to"].as_str().unwrap()).collect();
    assert_eq!(arrows, ["planned", "approved", "intent", "sent", "verified"]);
    assert!(bench.ok(&["writeback", "show", id]).contains("read_back"));
    assert_eq!(house.at_target("select email from people where id = 1").await, "ada@example.com");
    assert_eq!(bench.json(&["writeback", "list"])["writebacks"].as_array().unwrap().len(), 0, "it has ended");
    let listed = bench.json(&["writeback", "list", "--state", "verified", "--path", "email"]);
    assert_eq!(listed["writebacks"][0]["id"], id);
    house.refused(&["writeback", "run", id], 4, "is verified");

    let dry = bench.json(&["writeback", "compensate", id, "--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["job"]), (&true.into(), &Value::Null));
    let undo = bench.json(&["writeback", "compensate", id]);
    house.refused(&["writeback", "compensate", id], 4, "");
    house.approve(undo["approval"].as_str().unwrap());
    house.wait(&undo["job"]);
    assert_eq!(bench.json(&["writeback", "show", id])["writeback"]["state"], "compensated");
    assert_eq!(house.at_target("select email from people where id = 1").await, "Ada@Example.com");
    assert_eq!(
        bench.run(&["audit", "verify", "--tenant", "acme"]).code,
        Some(9),
        "whole, without a checkpoint"
    );
}

#[tokio::test]
async fn w4_a_change_that_loses_to_a_person_is_a_conflict_that_a_person_accepts() {
    let house = House::new().await;
    let bench = &house.bench;
    let planned = house.plan("2", "bob@example.com", &[]);
    let id = planned["writeback"]["id"].as_str().unwrap();
    let resumed = bench.json(&["writeback", "run", id, "--dry-run"]);
    assert_eq!((&resumed["dry_run"], &resumed["job"]), (&true.into(), &Value::Null));
    assert_eq!(bench.json(&["writeback", "run", id])["job"], planned["job"], "its job lives");
    house.refused(&["writeback", "accept", id, "--because", "x"], 4, "only a mismatch or a conflict");
    let edit = "update people set email = 'b@elsewhere.org' where id = 2 returning email";
    house.at_target(edit).await;
    house.approve(planned["approval"].as_str().unwrap());
    house.wait(&planned["job"]);
    let shown = bench.json(&["writeback", "show", id]);
    assert_eq!(
        (&shown["writeback"]["state"], &shown["writeback"]["reason"]),
        (&"conflict".into(), &"plan_changed".into())
    );
    let accept = ["writeback", "accept", id, "--because", "he is right"];
    assert_eq!(bench.json(&[&accept[..], &["--dry-run"]].concat())["writeback"]["state"], "conflict");
    assert_eq!(bench.json(&accept)["writeback"]["state"], "accepted");
    house.refused(&accept, 4, "is accepted");
    assert_eq!(house.at_target("select email from people where id = 2").await, "b@elsewhere.org");
}

#[tokio::test]
async fn w3_a_change_that_does_not_last_is_listed_as_drift() {
    let house = House::new().await;
    let bench = &house.bench;
    assert_eq!(bench.json(&["writeback", "drift"])["drifts"], serde_json::json!([]));
    let planned = house.plan("3", "eve@example.com", &[]);
    house.approve(planned["approval"].as_str().unwrap());
    house.wait(&planned["job"]);
    house.at_target("update people set email = 'e@elsewhere.org' where id = 3 returning email").await;
    bench.ok(&["job", "enqueue", "drift_check", "--tenant", "acme", "--payload", "{}", "--wait"]);
    let drifts = bench.json(&["writeback", "drift"]);
    assert_eq!(drifts["drifts"][0]["standing"], "other", "{drifts}");
    assert!(bench.ok(&["writeback", "drift"]).contains("other"));
}

#[tokio::test]
async fn what_cannot_be_planned_is_refused_with_its_code() {
    let house = House::new().await;
    let refuse = |path: &str, key: &str, set: &str, code, says: &str| {
        let plan = ["writeback", "plan", "--path", path, "--class", "c", "--key", key, "--set", set];
        house.refused(&plan, code, says);
    };
    refuse("nowhere", "1", "email=x@example.com", 3, "there is no path");
    refuse("email", "99", "email=x@example.com", 3, "no record");
    refuse("email", "1", "id=7", 4, "does not govern");
    refuse("email", "1", "email=Ada@Example.com", 4, "already");
    house.refused(&["writeback", "show", "99"], 3, "no writeback 99");
    assert_eq!(house.bench.run(&["writeback", "show", "x"]).code, Some(2));
    let bad = ["writeback", "plan", "--path", "email", "--class", "c", "--key", "1", "--set", "email"];
    assert_eq!(house.bench.run(&bad).code, Some(2));
    house.inside("update tenant.candidate set phase = 'off', generation = 2, snapshot = null").await;
    refuse("email", "1", "email=x@example.com", 4, "is off");
    house.inside("update tenant.path set state = 'probed'").await;
    refuse("email", "1", "email=x@example.com", 4, "only certified paths may write");
}

#[tokio::test]
async fn w2_what_a_reviewer_accepts_is_written_once_another_person_has_approved_it() {
    let house = House::new().await;
    let bench = &house.bench;
    bench.ok(&["review", "open", "--path", "email", "--fixes"]);
    let case = bench.json(&["review", "next", "--path", "email", "--as", "ada"])["case"].clone();
    let (id, key) = (case["id"].as_str().unwrap(), case["key"].as_str().unwrap());
    assert_eq!(key, "1");
    let word = ["review", "accept", id, "--seen", "1", "--reason", "as in the contract", "--as", "ada"];
    let dry = bench.json(&[&word[..], &["--dry-run"]].concat());
    assert_eq!((&dry["wish"]["state"], &dry["job"]), (&"due".into(), &Value::Null), "{dry}");
    let accepted = bench.json(&word);
    house.wait(&accepted["job"]);
    let shown = bench.json(&["review", "show", id, "--as", "ada"]);
    assert_eq!(
        (&shown["wish"]["state"], &shown["wish"]["writeback_state"]),
        (&"planned".into(), &"planned".into())
    );
    assert_eq!(shown["receipts"].as_array().unwrap().len(), 2, "of the decision and of her word");
    let receipt = shown["receipts"][1].as_str().unwrap();
    assert_eq!(bench.json(&["receipt", "show", receipt])["content"]["receipt"]["outcome"], "accepted");
    bench.ok(&["receipt", "verify", receipt]);
    assert_eq!(bench.json(&["receipt", "show", "--review", id])["id"], receipt);
    let writeback = shown["wish"]["writeback"].as_str().unwrap();
    house.approve(shown["wish"]["approval"].as_str().unwrap());
    house.wait(&bench.json(&["writeback", "run", writeback])["job"]);
    let told = bench.ok(&["review", "show", id, "--as", "ada"]);
    assert!(told.contains(&format!("accepted; writeback {writeback} is verified")), "{told}");
    assert_eq!(house.at_target("select email from people where id = 1").await, "ada@example.com");

    // Another's record changed meanwhile; a third path is off.
    house.at_target("update people set email = 'b@elsewhere.org' where id = 2 returning email").await;
    let case = bench.json(&["review", "next"])["case"]["id"].as_str().unwrap().to_owned();
    let accepted = bench.json(&["review", "accept", &case, "--seen", "1", "--reason", "sure"]);
    house.wait(&accepted["job"]);
    let told = bench.ok(&["review", "show", &case]);
    assert!(told.contains("nothing is written: the record \"2\" has changed"), "{told}");
    bench.ok(&["candidate", "demote", "rules", "--reason", "to be sure"]);
    let case = bench.json(&["review", "next"])["case"]["id"].as_str().unwrap().to_owned();
    let told = bench.ok(&["review", "accept", &case, "--seen", "1", "--reason", "sure"]);
    assert!(told.contains("accepted; the path email is off: nothing will be written"), "{told}");
    assert_eq!(bench.json(&["review", "next"])["case"], Value::Null);
}
