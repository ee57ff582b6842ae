//! Every table of the control database, and what becomes of a tenant's rows in it.
//!
//! The list is closed: a table that does not stand here keeps every deletion from beginning, and is named. A partition goes
//! with its table.

use std::collections::BTreeMap;

use database::control::TenantId;
use sqlx::{AssertSqlSafe, PgConnection};

/// What becomes of a tenant's rows.
enum Fate {
    /// They go: those that this condition is true of; `$1` is the tenant, `JOBS` the ids of its jobs.
    Goes(&'static str),
    /// They stay, or there are none, because.
    Stays(&'static str),
}

use Fate::{Goes, Stays};

/// In the order of removal: what points to jobs before them.
const TABLES: [(&str, &str, Fate); 40] = [
    ("queue", "bulk_outcome", Goes("job in (JOBS) or operation in (JOBS)")),
    ("queue", "bulk", Goes("operation in (JOBS)")),
    ("queue", "idempotency_key", Goes("job in (JOBS)")),
    ("queue", "attempt", Goes("job in (JOBS)")),
    ("queue", "reason_change", Goes("job in (JOBS)")),
    ("queue", "crash_charge", Goes("job in (JOBS)")),
    // An edge of somebody else's job stays: it decides that job's fate, and knows of ours the number alone.
    ("queue", "dependency", Goes("waiter in (JOBS)")),
    ("queue", "fire", Goes("job in (JOBS) or schedule in (select id from queue.schedule where tenant = $1)")),
    ("queue", "schedule", Goes("tenant = $1")),
    ("queue", "cap", Goes("tenant = $1")),
    ("queue", "weight", Goes("tenant = $1")),
    ("queue", "turn", Goes("tenant = $1")),
    ("queue", "frozen_tenant", Goes("tenant = $1")),
    ("queue", "job_history", Goes("tenant = $1")),
    ("queue", "job", Goes("tenant = $1")),
    ("control", "legal_hold", Goes("tenant = $1")),
    ("control", "tenant", Stays("it keeps the names from being used again")),
    ("control", "deletion", Stays("what was asked for, by whom, and when")),
    ("control", "deletion_step", Stays("what the certificate is made of")),
    ("control", "tombstone", Stays("the tombstone and the certificate")),
    ("control", "migration", Stays("the schema's own")),
    ("queue", "worker", Stays("processes")),
    ("queue", "queue", Stays("queues, which are no tenant's")),
    ("queue", "pause", Stays("queues, which are no tenant's")),
    ("queue", "governed", Stays("queues, which are no tenant's")),
    ("queue", "rate", Stays("keys that operators chose, which are no tenant's")),
    ("queue", "migration", Stays("the schema's own")),
    ("governance", "actor", Stays("the platform's people")),
    ("governance", "audit_entry", Stays("the platform's chain: ids and digests")),
    ("governance", "audit_head", Stays("the platform's chain")),
    ("governance", "checkpoint", Stays("the platform's chain")),
    ("governance", "gate", Stays("the platform's gates")),
    ("governance", "gate_mode", Stays("the platform's gates")),
    ("governance", "approval", Stays("who agreed to the deletion")),
    ("governance", "approval_decision", Stays("who agreed to the deletion")),
    ("governance", "kek", Stays("the platform's keys")),
    ("governance", "dek", Stays("the platform's keys")),
    ("governance", "key_rotation", Stays("the platform's keys")),
    ("governance", "key_rotation_fault", Stays("the platform's keys")),
    ("governance", "migration", Stays("the schema's own")),
];

/// The tenant's jobs, living and finished.
const JOBS: &str = "select id from queue.job where tenant = $1
    union all select id from queue.job_history where tenant = $1";

/// The tables of the control database that nobody has classified.
pub(super) async fn unclassified(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let tables = sqlx::query_scalar!(
        r#"-- tenant_delete.tables
        select n.nspname || '.' || c.relname as "name!"
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'm', 'f') and not c.relispartition
           and n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
           -- A day of history that was taken out, and is about to be dropped.
           and not (n.nspname = 'queue' and c.relname ~ '^(job_history|attempt|reason_change)_[0-9]{8}$')
         order by 1"#
    )
    .fetch_all(conn)
    .await?;
    let known = |name: &String| TABLES.iter().any(|(schema, table, _)| *name == format!("{schema}.{table}"));
    Ok(tables.into_iter().filter(|name| !known(name)).collect())
}

/// How many rows would go, by table; tables with none are not named.
pub(super) async fn count(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let mut counts = BTreeMap::new();
    for (table, condition) in going() {
        let statement = format!("-- tenant_delete.count\nselect count(*) from {table} where {condition}");
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).fetch_one(&mut *conn).await?;
        if count > 0 {
            counts.insert(table, count);
        }
    }
    Ok(counts)
}

/// Removes the rows, and says how many of each table. One transaction: begin it before, commit it after.
pub(super) async fn remove(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let mut counts = BTreeMap::new();
    for (table, condition) in going() {
        let statement = format!("-- tenant_delete.remove\ndelete from {table} where {condition}");
        let removed = sqlx::query(AssertSqlSafe(statement)).bind(tenant).execute(&mut *conn).await?;
        if removed.rows_affected() > 0 {
            counts.insert(table, removed.rows_affected());
        }
    }
    Ok(counts)
}

/// The tables of which rows go, in that order, with the condition.
fn going() -> impl Iterator<Item = (String, String)> {
    TABLES.iter().filter_map(|(schema, table, fate)| match fate {
        Goes(condition) => Some((format!("{schema}.{table}"), condition.replace("JOBS", JOBS))),
        Stays(_) => None,
    })
}

/// Where rows of the tenant still are: by the list, and in any column that could hold its id, which nobody had to list.
pub(super) async fn remains(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<String>, sqlx::Error> {
    let mut places: Vec<_> = count(conn, tenant).await?.into_keys().collect();
    let columns = sqlx::query!(
        r#"-- tenant_delete.uuid_columns
        select n.nspname || '.' || c.relname as "table!", quote_ident(a.attname) as "column!"
          from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
         where a.atttypid = 'uuid'::regtype and not a.attisdropped
           and c.relkind in ('r', 'p') and not c.relispartition
           and n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
         order by 1, 2"#
    )
    .fetch_all(&mut *conn)
    .await?;
    for column in columns {
        let (table, column) = (column.table, column.column);
        if staying().any(|(name, _)| name == table) {
            continue;
        }
        let statement =
            format!("-- tenant_delete.probe\nselect exists (select from {table} where {column} = $1)");
        let found: bool =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).fetch_one(&mut *conn).await?;
        if found && !places.contains(&table) {
            places.push(table);
        }
    }
    Ok(places)
}

/// What stays in the control database, and why, for those who want to know before.
pub(super) fn staying() -> impl Iterator<Item = (String, &'static str)> {
    TABLES.iter().filter_map(|(schema, table, fate)| match fate {
        Stays(why) => Some((format!("{schema}.{table}"), *why)),
        Goes(_) => None,
    })
}
