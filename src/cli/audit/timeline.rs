//! `tenure audit timeline`.

use std::io;

use governance::audit::{self, Recorded};
use serde::Serialize;

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        output::{Answer, Page, Table},
    },
    Door,
};

pub(super) async fn run(context: &Context, mut door: Door, approval: &str) -> anyhow::Result<Exit> {
    let found = audit::of_approval(&mut door, approval).await?;
    door.close().await?;
    if found.is_empty() {
        let what = format!("the chain has nothing of an approval {approval}");
        let help = "`tenure approval list --all --tenant NAME` shows a tenant's, `--platform` the platform's";
        return Err(Failure::not_found(what, help).into());
    }
    let events = found.into_iter().map(Event::from).collect();
    context.output.answer(&Timeline { approval: approval.to_owned(), events })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Timeline {
    approval: String,
    events: Vec<Event>,
}

#[derive(Serialize)]
struct Event {
    seq: i64,
    at: String,
    kind: String,
    actor: Option<String>,
    name: Option<String>,
    job: Option<String>,
    body: serde_json::Value,
}

impl From<Recorded> for Event {
    fn from(entry: Recorded) -> Self {
        let Recorded { seq, at, kind, actor, name, job, body } = entry;
        Self { seq, at, kind, actor, name, job, body }
    }
}

impl Answer for Timeline {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(["ENTRY", "AT", "WHAT", "WHO", "JOB", "MORE"]);
        for event in &self.events {
            let who = event.name.clone().or_else(|| event.actor.clone());
            table.row(&[
                event.seq.to_string(),
                event.at.clone(),
                event.kind.clone(),
                who.unwrap_or_else(|| "the service".to_owned()),
                event.job.clone().unwrap_or_else(|| "-".to_owned()),
                more(&event.body),
            ]);
        }
        page.table(&table)
    }
}

/// The body's members but the approval, which is the same in all; digests are cut.
fn more(body: &serde_json::Value) -> String {
    const SHOWN: usize = 16;
    let members = body.as_object().into_iter().flatten().filter(|(name, _)| *name != "approval");
    let shown = members.map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let cut: String = text.chars().take(SHOWN).collect();
        format!("{name}={cut}{}", if cut.len() < text.len() { "…" } else { "" })
    });
    shown.collect::<Vec<_>>().join(" ")
}
