//! `tenure job explain`: the one reason, its evidence, and the waits of before.

use std::io;

use chrono::{DateTime, TimeDelta, Utc};
use queue::{Explanation, JobId, Span};
use serde::Serialize;
use serde_json::Value;

use super::{
    super::{
        Context,
        exit::Exit,
        follow,
        output::{Answer, Page, Table, age},
    },
    Control,
};

pub(super) async fn run(id: JobId, context: &Context, control: &Control) -> anyhow::Result<Exit> {
    let queue = control.queue();
    let explanation = queue.explain(id).await?.ok_or_else(|| follow::missing(id))?;
    let timeline = queue.timeline(id).await?;
    let now = database::health::now(&mut *control.connection().await?).await?;
    context.output.answer(&Explained { said: explanation.to_string(), explanation, timeline, now })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    /// The same in one sentence.
    said: String,
    timeline: Vec<Span>,
    #[serde(skip)]
    now: DateTime<Utc>,
}

/// Spans shorter than this are left out of the text: they explain nothing.
const SPAN_MIN: TimeDelta = TimeDelta::milliseconds(100);

impl Answer for Explained {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        const WIDTH: usize = 8;
        let Explanation { job, state, since, until, reason, .. } = &self.explanation;
        page.entry(WIDTH, "job", format_args!("{job}, {state}"))?;
        if let Some(reason) = reason {
            page.entry(WIDTH, "reason", named(reason))?;
        }
        page.entry(WIDTH, "because", &self.said)?;
        if let Some(since) = since {
            page.entry(WIDTH, "since", time(*since))?;
        }
        let changes = match (reason, until) {
            (None, _) => None,
            (Some(_), Some(until)) => Some(format!("not before {}{}", time(*until), self.away(*until))),
            (Some(_), None) => Some("may change at any moment".to_owned()),
        };
        if let Some(changes) = changes {
            page.entry(WIDTH, "changes", changes)?;
        }
        let spans: Vec<&Span> =
            self.timeline.iter().filter(|span| span.until - span.since >= SPAN_MIN).collect();
        if spans.is_empty() {
            return Ok(());
        }
        page.blank()?;
        let mut table = Table::new(["FROM", "FOR", "REASON", "EVIDENCE"]);
        for span in spans {
            table.row(&[
                time(span.since),
                age(seconds(span.until - span.since)),
                span.reason.clone(),
                facts(&span.evidence),
            ]);
        }
        page.table(&table)
    }
}

impl Explained {
    fn away(&self, until: DateTime<Utc>) -> String {
        let left = seconds(until - self.now);
        if left > 0.0 { format!(", in {}", age(left)) } else { String::new() }
    }
}

fn named(reason: &impl Serialize) -> String {
    serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn seconds(span: TimeDelta) -> f64 {
    span.as_seconds_f64()
}

/// `{"note": "x", "by": null}` as `note: x`.
fn facts(evidence: &Value) -> String {
    let members = evidence.as_object().into_iter().flatten().filter(|(_, fact)| !fact.is_null());
    let facts: Vec<String> = members
        .map(|(name, fact)| match fact {
            Value::String(text) => format!("{name}: {text}"),
            other => format!("{name}: {other}"),
        })
        .collect();
    facts.join("; ")
}
