//! Changing gates: up at once, down with an approval.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{ActionClass, Change, Direction, Gate, GateError, change, get, is_single_admin};
use crate::{
    actor::ActorId,
    approval::{self, ApprovalId, Terms},
    audit::{self, Event},
};

/// A change beside what it starts from.
struct Step {
    direction: Direction,
    from: Value,
    to: Value,
}

/// Changes the gates. A lowering consumes the approval, which must be bound to the [`terms`] of this change *from the
/// present settings*. Begin a transaction for it: it takes the gates' lock first.
pub async fn set(
    conn: &mut PgConnection,
    change: &Change,
    by: ActorId,
    approval: Option<ApprovalId>,
) -> Result<Direction, GateError> {
    lock(conn).await?;
    let change = normal(change)?;
    let step = step(conn, &change).await?;
    match (step.direction, approval) {
        (Direction::Unchanged, _) => return Ok(Direction::Unchanged),
        (Direction::Raised, _) => {}
        (Direction::Lowered, None) => return Err(GateError::NeedsApproval(change.target().to_owned())),
        (Direction::Lowered, Some(id)) => {
            let digest = lowering(&change, &step).digest(conn).await?;
            // Its own entry says who approved; a change of gates has no receipt.
            let _consumed = approval::consume(conn, id, &digest, Some(by), None).await?;
        }
    }
    write(conn, &change).await?;
    let lowered = step.direction == Direction::Lowered;
    let mut body = json!({"target": change.target(), "from": step.from, "to": step.to});
    if let (true, Some(id)) = (lowered, approval) {
        body["approval"] = json!(id.to_string());
    }
    let kind = if lowered { "gate.lowered" } else { "gate.raised" };
    audit::append(conn, &Event { kind, actor: Some(by), job: None, body }).await?;
    Ok(step.direction)
}

/// What an approval of this change would be bound to; none if it needs none.
pub async fn terms(conn: &mut PgConnection, change: &Change) -> Result<Option<Terms>, GateError> {
    super::hold_all(conn).await?;
    let change = normal(change)?;
    let step = step(conn, &change).await?;
    Ok((step.direction == Direction::Lowered).then(|| lowering(&change, &step)))
}

/// Keeps out everybody who changes a gate or relies on one.
async fn lock(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- gate.lock
        select only_row from governance.gate_mode for update"
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// The same change with settings that a gate can have, the list of approvers in order and without doubles.
fn normal(change: &Change) -> Result<Change, GateError> {
    let Change::Gate(gate) = change else { return Ok(change.clone()) };
    let mut gate = gate.clone();
    if let Some(approvers) = &mut gate.approvers {
        approvers.sort_unstable();
        approvers.dedup();
    }
    gate.check()?;
    Ok(Change::Gate(gate))
}

async fn step(conn: &mut PgConnection, change: &Change) -> Result<Step, GateError> {
    Ok(match change {
        Change::Gate(to) => {
            let from = get(conn, &to.class).await?;
            Step { direction: change::direction(&from, to), from: settings(&from), to: settings(to) }
        }
        Change::SingleAdmin(to) => {
            let from = is_single_admin(conn).await?;
            let direction = match (from, to) {
                (false, true) => Direction::Lowered,
                (true, false) => Direction::Raised,
                _ => Direction::Unchanged,
            };
            Step { direction, from: json!({"single_admin": from}), to: json!({"single_admin": to}) }
        }
    })
}

fn settings(gate: &Gate) -> Value {
    json!({"persons": gate.persons, "window_secs": gate.window_secs, "approvers": gate.approvers})
}

fn lowering(change: &Change, step: &Step) -> Terms {
    let target = change.target().to_owned();
    let plan = json!({"change": "lower a gate", "target": target, "from": step.from, "to": step.to});
    Terms::new(ActionClass::gate_lower(), target.clone(), vec![target], plan)
}

async fn write(conn: &mut PgConnection, change: &Change) -> Result<(), GateError> {
    match change {
        Change::Gate(gate) => sqlx::query!(
            "-- gate.set
            insert into governance.gate (class, persons, window_secs, approvers) values ($1, $2, $3, $4)
            on conflict (class) do update
               set persons = excluded.persons, window_secs = excluded.window_secs, approvers = excluded.approvers",
            gate.class.as_str(),
            gate.persons,
            gate.window_secs,
            gate.approvers.as_deref() as Option<&[ActorId]>,
        )
        .execute(conn),
        Change::SingleAdmin(on) => sqlx::query!(
            "-- gate.set_mode
            update governance.gate_mode set single_admin = $1",
            on,
        )
        .execute(conn),
    }
    .await?;
    Ok(())
}
