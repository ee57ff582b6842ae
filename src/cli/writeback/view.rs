//! What the commands of writebacks answer.

use std::io;

use chrono::{DateTime, Utc};
use governance::{
    receipt::ReceiptId,
    writeback::{Drifting, State, Step, Writeback, WritebackId},
};
use queue::JobId;
use serde::Serialize;

use super::super::output::{Answer, Page, Table};

/// A writeback in one line.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    id: WritebackId,
    path: String,
    key: String,
    class: String,
    state: State,
    reason: Option<String>,
    detail: Option<String>,
    digest: String,
    approval: Option<String>,
    receipt: Option<ReceiptId>,
    sends: i32,
    accepted_by: Option<String>,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl Line {
    pub(super) fn of(row: &Writeback) -> Self {
        Self {
            id: row.id,
            path: row.plan.path.clone(),
            key: row.plan.key.clone(),
            class: row.plan.class.clone(),
            state: row.state,
            reason: row.reason.clone(),
            detail: row.detail.clone(),
            digest: row.digest.to_string(),
            approval: row.approval.map(|id| id.to_string()),
            receipt: row.receipt,
            sends: row.sends,
            accepted_by: row.accepted_by.map(|actor| actor.to_string()),
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

/// The plan as its bytes say it.
pub(super) fn plan(row: &Writeback) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::from_slice(&row.plan.to_bytes()?)?)
}

fn print_plan(page: &mut Page<'_>, plan: &serde_json::Value) -> io::Result<()> {
    for member in ["connector", "stream", "key", "class", "policy_version", "validator", "before", "desired"]
    {
        page.entry(WIDTH, member, &plan[member])?;
    }
    Ok(())
}

const WIDTH: usize = 14;

#[derive(Serialize)]
pub(super) struct Planned {
    pub(super) tenant: String,
    pub(super) writeback: Line,
    pub(super) plan: serde_json::Value,
    pub(super) approval: Option<String>,
    pub(super) job: Option<JobId>,
    pub(super) dry_run: bool,
}

impl Answer for Planned {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { writeback, tenant, .. } = self;
        print_plan(page, &self.plan)?;
        page.entry(WIDTH, "plan digest", &writeback.digest)?;
        if self.dry_run {
            return page.line(format_args!(
                "nothing was kept; {}",
                if self.approval.is_some() {
                    "it would have to be approved"
                } else {
                    "the gate asks for nobody"
                }
            ));
        }
        let id = writeback.id;
        match &self.approval {
            Some(approval) => page.line(format_args!(
                "writeback {id} waits for approval {approval}: `tenure approval show {approval} --tenant {tenant}`"
            ))?,
            None => page.line(format_args!("writeback {id} is on its way: the gate asks for nobody"))?,
        }
        page.line(format_args!("follow it with `tenure writeback show {id} --tenant {tenant}`"))
    }
}

#[derive(Serialize)]
pub(super) struct List {
    pub(super) writebacks: Vec<Line>,
}

impl Answer for List {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(["ID", "PATH", "KEY", "CLASS", "STATE", "REASON", "CREATED"]);
        for line in &self.writebacks {
            table.row(&[
                line.id.to_string(),
                line.path.clone(),
                line.key.clone(),
                line.class.clone(),
                line.state.to_string(),
                line.reason.clone().unwrap_or_default(),
                line.created_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            ]);
        }
        page.table(&table)
    }
}

#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) writeback: Line,
    pub(super) plan: serde_json::Value,
    pub(super) steps: Vec<Step>,
}

impl Answer for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let line = &self.writeback;
        page.entry(WIDTH, "writeback", line.id)?;
        page.entry(WIDTH, "state", line.state)?;
        if let Some(reason) = &line.reason {
            page.entry(WIDTH, "reason", reason)?;
        }
        print_plan(page, &self.plan)?;
        page.entry(WIDTH, "plan digest", &line.digest)?;
        if let Some(approval) = &line.approval {
            page.entry(WIDTH, "approval", approval)?;
        }
        if let Some(receipt) = line.receipt {
            page.entry(WIDTH, "receipt", receipt)?;
        }
        page.blank()?;
        let mut table = Table::new(["STEP", "TO", "REASON", "AT", "DETAIL"]);
        for step in &self.steps {
            table.row(&[
                step.number.to_string(),
                step.to.clone(),
                step.reason.clone().unwrap_or_default(),
                step.at.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
                step.detail.clone().unwrap_or_default(),
            ]);
        }
        page.table(&table)
    }
}

#[derive(Serialize)]
pub(super) struct Resumed {
    pub(super) writeback: WritebackId,
    pub(super) job: Option<JobId>,
    pub(super) dry_run: bool,
}

impl Answer for Resumed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        match self.job {
            Some(job) => page.line(format_args!("job {job} sees writeback {} through", self.writeback)),
            None => page.line(format_args!("a job would see writeback {} through", self.writeback)),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Accepted {
    pub(super) writeback: Line,
    pub(super) dry_run: bool,
}

impl Answer for Accepted {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (id, state) = (self.writeback.id, self.writeback.state);
        if self.dry_run {
            return page.line(format_args!("writeback {id} is {state}; nothing was changed"));
        }
        page.line(format_args!("writeback {id} is {state}"))
    }
}

#[derive(Serialize)]
pub(super) struct Drifts {
    pub(super) drifts: Vec<Drifting>,
}

impl Answer for Drifts {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(["WRITEBACK", "PATH", "KEY", "STANDING", "SINCE"]);
        for drift in &self.drifts {
            table.row(&[
                drift.writeback.to_string(),
                drift.path.clone(),
                drift.key.clone(),
                drift.standing.clone(),
                drift.first_seen_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            ]);
        }
        page.table(&table)
    }
}
