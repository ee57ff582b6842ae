//! `tenure approval list|show`.

use std::{fmt::Write as _, io};

use chrono::{DateTime, Utc};
use governance::{
    actor::ActorId,
    approval::{self, Approval, ApprovalId, Decision, State, Verdict},
    digest::Digest,
    gate::ActionClass,
};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::Exit,
        output::{Answer, Page, Table, Tone},
        place::Place,
    },
    not_found, notice,
};
use crate::wiring::Control;

pub(super) async fn list(
    context: &Context,
    control: &Control,
    place: &Place,
    (all, limit): (bool, u16),
) -> anyhow::Result<Exit> {
    notice(context, control, place).await?;
    let mut tx = place.begin(context, control).await?;
    let approvals = approval::list(&mut tx, all, limit.into()).await?;
    tx.end(false).await?;
    context.output.answer(&Listed { approvals: approvals.iter().map(Line::of).collect() })?;
    Ok(Exit::Ok)
}

pub(super) async fn show(
    context: &Context,
    control: &Control,
    place: &Place,
    id: ApprovalId,
) -> anyhow::Result<Exit> {
    notice(context, control, place).await?;
    let mut tx = place.begin(context, control).await?;
    let by = tx.actor(context).await?.id;
    let approval = approval::view(&mut tx, id, by).await?.ok_or_else(|| not_found(id, place))?;
    tx.end(false).await?;
    context.output.answer(&Shown { approval: &approval })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed {
    approvals: Vec<Line>,
}

/// An approval without what it is for: whoever wants to know that asks for one, which is put on record.
#[derive(Serialize)]
struct Line {
    id: ApprovalId,
    class: ActionClass,
    name: String,
    digest: Digest,
    state: State,
    yeses: i64,
    needed: i16,
    requested_by: ActorId,
    requested_person: ActorId,
    asked_by: String,
    requested_at: DateTime<Utc>,
    waiting_job: Option<i64>,
    until: DateTime<Utc>,
}

impl Line {
    fn of(approval: &Approval) -> Self {
        Self {
            id: approval.id,
            class: approval.class.clone(),
            name: approval.name.clone(),
            digest: approval.digest,
            state: approval.state,
            yeses: approval.yeses,
            needed: approval.needed,
            requested_by: approval.requested_by,
            requested_person: approval.requested_person,
            asked_by: asker(approval),
            requested_at: approval.requested_at,
            waiting_job: approval.waiting_job,
            until: approval.until(),
        }
    }
}

impl Answer for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.approvals.is_empty() {
            return page.line("nothing waits for an approval");
        }
        let mut table = Table::new(["ID", "CLASS", "OF", "STATE", "YES", "ASKED BY", "UNTIL", "DIGEST"]);
        for approval in &self.approvals {
            let until = approval.state.is_live().then(|| time(approval.until));
            table.row(&[
                approval.id.to_string(),
                approval.class.to_string(),
                visible(&approval.name),
                approval.state.to_string(),
                format!("{} of {}", approval.yeses, approval.needed),
                approval.asked_by.clone(),
                until.unwrap_or_else(|| "-".to_owned()),
                approval.digest.to_string()[..12].to_owned(),
            ]);
        }
        page.table(&table)
    }
}

/// One approval in full.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    pub(super) approval: &'a Approval,
}

impl Answer for Shown<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 9;
        let approval = self.approval;
        let tone = match approval.state {
            State::Open => Tone::Doubtful,
            State::Approved | State::Consumed => Tone::Good,
            State::Denied | State::Withdrawn | State::Lapsed => Tone::Bad,
        };
        page.toned_line(tone, approval.state.as_str(), format_args!(": {}", fate(approval)))?;
        page.entry(WIDTH, "approval", approval.id)?;
        page.entry(WIDTH, "class", &approval.class)?;
        page.entry(WIDTH, "of", visible(&approval.name))?;
        page.entry(WIDTH, "asked by", format_args!("{}, {}", asker(approval), time(approval.requested_at)))?;
        if let Some(job) = approval.waiting_job {
            page.entry(WIDTH, "job", job)?;
        }
        page.entry(WIDTH, "yes", format_args!("{} of {}", approval.yeses, approval.needed))?;
        for decision in &approval.decisions {
            page.entry(WIDTH, "", decided(decision))?;
        }
        page.entry(WIDTH, "plan", visible(&approval.plan))?;
        page.entry(WIDTH, "bound to", visible(&approval.content))?;
        page.entry(WIDTH, "digest", approval.digest)
    }
}

/// What became of it or may.
fn fate(approval: &Approval) -> String {
    let by = approval.ended_by.map(|id| called(approval.ended_by_name.as_ref(), id)).unwrap_or_default();
    let at = approval.ended_at.map(time).unwrap_or_default();
    match approval.state {
        State::Open => {
            let from = match approval.alone {
                Some(_) => format!("; alone, its requester may from {}", time(approval.cooled_at)),
                None => String::new(),
            };
            format!("to be decided until {}{from}", time(approval.request_until))
        }
        State::Approved => format!("to be used until {}", time(approval.until())),
        State::Denied | State::Withdrawn => format!("by {by}, {at}"),
        State::Lapsed => format!("its time was over at {}", time(approval.until())),
        State::Consumed => match approval.consumed_by_job {
            Some(job) => format!("by job {job}, {at}"),
            None => format!("by {by}, {at}"),
        },
    }
}

fn decided(decision: &Decision) -> String {
    let verdict = if decision.verdict == Verdict::Yes { "yes" } else { "no" };
    let alone = if decision.alone { ", alone, after the cooling-off" } else { "" };
    let who = called(decision.name.as_ref(), decision.person);
    format!("{verdict} by {who}, {}{alone}", time(decision.given_at))
}

/// Who asked, and the person behind.
fn asker(approval: &Approval) -> String {
    let name = called(approval.requested_by_name.as_ref(), approval.requested_by);
    if approval.requested_by == approval.requested_person {
        return name;
    }
    format!("{name} for {}", called(approval.requested_person_name.as_ref(), approval.requested_person))
}

fn called(name: Option<&String>, id: governance::actor::ActorId) -> String {
    name.map_or_else(|| id.to_string(), |name| visible(name))
}

pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The text with what a reader would not see, or see in another order than it stands, written as JSON escapes it: a plan
/// must not look like another one.
fn visible(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            write!(shown, "\\u{:04x}", u32::from(c)).expect("a string takes everything");
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_cannot_look_like_another_one() {
        assert_eq!(visible("{\"to\":\"a\u{202e}b\u{200b}\"}"), "{\"to\":\"a\\u202eb\\u200b\"}");
        assert_eq!(visible("é 日本"), "é 日本");
    }
}
