//! The checks, in the order in which their causes lie on each other.

use chrono::{DateTime, TimeDelta, Utc};
use database::{
    health::{self, Hazards, Server},
    migrate::{self, MigrateError},
    roles,
};

use super::{super::follow, Findings};
use crate::{
    config::Environment,
    wiring::{Control, powers},
};

/// Connections that a worker holds beside its pools: claim, renewal, flushers, rescuer, presence and the like.
const WORKER_SESSIONS: i64 = 12;

/// How much of the server's sessions may be taken before that is worth a word; percent.
const SESSIONS_PERCENT_MAX: i64 = 80;

/// How far the clocks may differ: leases and due times follow the server's alone, but people compare them with logs.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(2);

/// From this age on a snapshot keeps vacuum from removing enough dead rows to be felt; seconds.
const SNAPSHOT_SECS_MAX: f64 = 600.0;

/// Days of history that should be prepared: workers prepare a week, and this leaves days to react.
const DAYS_AHEAD_MIN: i64 = 3;

pub(super) async fn all(control: &Control, findings: &mut Findings) {
    macro_rules! check {
        ($name:literal, $check:ident) => {
            if let Err(error) = $check(control, findings).await {
                findings.error($name, &error);
            }
        };
    }
    check!("server", server);
    check!("role", role);
    check!("schema", schema);
    check!("history", history);
    check!("workers", workers);
    check!("vacuum", hazards);
    check!("sessions", sessions);
}

async fn server(control: &Control, findings: &mut Findings) -> anyhow::Result<()> {
    let asked_at = this_machines_clock();
    let server = health::server(&mut *control.connection().await?).await?;
    findings.ok("version", format!("PostgreSQL {}", server.version));
    if server.is_standby {
        findings.fail("server", "the server is a standby and takes no writes", "name the primary");
    }
    durability(&server, findings);
    connections(control, &server, findings);
    skew(asked_at, server.now, findings);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this one is compared with the database's")]
fn this_machines_clock() -> DateTime<Utc> {
    Utc::now()
}

fn durability(server: &Server, findings: &mut Findings) {
    const NAME: &str = "durability";
    if !server.fsync || !server.full_page_writes {
        let what =
            "fsync or full_page_writes is off: a crash of the machine loses or corrupts committed jobs";
        return findings.fail(NAME, what, "turn both on in postgresql.conf");
    }
    match server.synchronous_commit.as_str() {
        "off" => findings.fail(
            NAME,
            "synchronous_commit is off: a crash loses the last commits, so an effect may happen twice",
            "turn it on for the role and the database",
        ),
        setting => findings.ok(NAME, format!("fsync on, synchronous_commit {setting}")),
    }
}

fn connections(control: &Control, server: &Server, findings: &mut Findings) {
    const NAME: &str = "connections";
    let config = control.config();
    let tenants = i64::try_from(config.tenants.backends_max).unwrap_or(i64::MAX);
    let needed =
        i64::from(config.database.connections_max).saturating_add(tenants).saturating_add(WORKER_SESSIONS);
    let (max, open) = (i64::from(server.max_connections), server.sessions);
    let what = format!("{open} of {max} sessions are open; a worker takes up to {needed}");
    if needed > max {
        let advice = "raise max_connections, or lower `tenants.backends_max` and `database.connections_max`";
        return findings.fail(NAME, what, advice);
    }
    if open * 100 > max * SESSIONS_PERCENT_MAX {
        return findings.warn(NAME, what, "raise max_connections, or run fewer processes");
    }
    findings.ok(NAME, what);
}

fn skew(asked_at: DateTime<Utc>, server: DateTime<Utc>, findings: &mut Findings) {
    // The server's answer was given between the question and now.
    let skew = if server < asked_at {
        asked_at - server
    } else {
        (server - this_machines_clock()).max(TimeDelta::zero())
    };
    let what = format!("this machine's clock and the server's differ by {:.1}s", skew.as_seconds_f64());
    if skew > SKEW_MAX {
        return findings.warn(
            "clock",
            what,
            "synchronize both with NTP; leases follow the server's clock alone",
        );
    }
    findings.ok("clock", what);
}

async fn role(control: &Control, findings: &mut Findings) -> anyhow::Result<()> {
    let found = roles::check(&mut *control.connection().await?).await?;
    let role = control.server().control().get_username().to_owned();
    if found.is_empty() {
        findings.ok("role", format!("{role} has no powers beyond its own tables"));
    } else if control.is_private() || control.config().environment == Environment::Development {
        findings.ok("role", format!("{role} is {}, which production refuses", powers(&found)));
    } else {
        findings.fail("role", format!("{role} is {}", powers(&found)), "use a role without these powers");
    }
    Ok(())
}

async fn schema(control: &Control, findings: &mut Findings) -> anyhow::Result<()> {
    let mut conn = control.direct_connection().await?;
    for (name, set) in Control::sets() {
        match migrate::status(&mut conn, set).await {
            Ok(status) if status.pending.is_empty() => {
                findings.ok("schema", format!("{name} is at version {}", migrate::newest(set)));
            }
            Ok(status) => {
                let what = format!("{name} lacks {} migrations", status.pending.len());
                findings.fail("schema", what, "run `tenure db migrate`");
            }
            Err(error @ (MigrateError::Newer(_) | MigrateError::Edited(_))) => {
                findings.fail(
                    "schema",
                    format!("{name}: {error}"),
                    "use the version of `tenure` that migrated it",
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn history(control: &Control, findings: &mut Findings) -> anyhow::Result<()> {
    let mut conn = control.connection().await?;
    let Some(until) = health::history_prepared_until(&mut conn).await? else {
        findings.fail("history", "no day is prepared to take finished jobs", "run `tenure db migrate`");
        return Ok(());
    };
    let ahead = (until - health::now(&mut conn).await?.date_naive()).num_days();
    let what = format!("days are prepared until {until}");
    match ahead {
        ..1 => findings.fail(
            "history",
            what,
            "start a worker, or run `tenure db migrate`: jobs will not finish without",
        ),
        1..DAYS_AHEAD_MIN => findings.warn("history", what, "start a worker: workers prepare a week ahead"),
        _ => findings.ok("history", what),
    }
    Ok(())
}

async fn workers(control: &Control, findings: &mut Findings) -> anyhow::Result<()> {
    for queue in control.queue().queues().await? {
        let waiting = queue.ready + queue.scheduled + queue.running;
        let is_open = queue.paused_at.is_none();
        if waiting > 0 && is_open && !follow::is_claimed(control, &queue.name).await? {
            let what = format!("no worker claims from the queue {}, which holds {waiting} jobs", queue.name);
            findings.warn("workers", what, format!("run `tenure work --queues {}`", queue.name));
        }
        if queue.quarantined > 0 {
            let what = format!("{} jobs of the queue {} are quarantined", queue.quarantined, queue.name);
            findings.warn(
                "workers",
                what,
                "look with `tenure job list --state quarantined`, bring back with `tenure job release ID`",
            );
        }
    }
    let living = control.queue().workers(false).await?.len();
    findings.ok("workers", format!("{living} registered"));
    Ok(())
}

async fn hazards(control: &Control, findings: &mut Findings) -> anyhow::Result<()> {
    let Hazards { oldest_snapshot_secs, oldest_snapshot_holder, prepared_transactions, idle_slots } =
        health::hazards(&mut *control.connection().await?).await?;
    let mut is_clear = true;
    if let Some(age) = oldest_snapshot_secs.filter(|age| *age > SNAPSHOT_SECS_MAX) {
        let holder = oldest_snapshot_holder.unwrap_or_else(|| "an unknown session".to_owned());
        let what =
            format!("a snapshot is held for {age:.0}s by {holder}: vacuum cannot remove finished jobs");
        findings.warn("vacuum", what, "end that transaction");
        is_clear = false;
    }
    if prepared_transactions > 0 {
        let what = format!("{prepared_transactions} prepared transactions hold locks and rows back");
        findings.warn("vacuum", what, "commit or roll them back; Tenure makes none");
        is_clear = false;
    }
    if idle_slots > 0 {
        let what = format!("{idle_slots} replication slots hold rows back while nobody reads them");
        findings.warn("vacuum", what, "start their readers or drop them");
        is_clear = false;
    }
    if is_clear {
        findings.ok("vacuum", "nothing keeps it from removing dead rows");
    }
    Ok(())
}

async fn sessions(control: &Control, findings: &mut Findings) -> anyhow::Result<()> {
    let sessions = health::check_sessions(control.direct()).await?;
    if !sessions.locks_hold {
        findings.fail(
            "sessions",
            "a session's lock does not hold: the way leads through a transaction pooler",
            "set `database.direct_url` to the server itself; without it a dead worker's jobs wait for their leases",
        );
    } else if !sessions.notifications_arrive {
        findings.warn(
            "sessions",
            "notifications do not arrive: workers find jobs by polling alone",
            "set `database.direct_url` to the server itself",
        );
    } else {
        findings.ok("sessions", "locks hold and notifications arrive");
    }
    Ok(())
}
