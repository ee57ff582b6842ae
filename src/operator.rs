//! What a person does to jobs, queues, limits, schedules and the catalogue of tenants.
//!
//! Promises: each verb is one transaction of the control database, in which its entry in the platform's chain commits
//! or vanishes with it. An entry has ids and digests: what a person wrote freely, such as a reason, is a digest there.
//! Where nothing was changed there is no entry.
//!
//! The one way from commands to the engine's verbs; `tests/architecture.rs` looks for others.

mod actor;
mod deletion;
mod job;
mod queue;
mod schedule;
mod tenant;

use ::queue::Intervention;
use governance::{
    actor::{Actor, ActorError},
    audit::{self, Event},
    digest::Digest,
};
use serde_json::Value;
use sqlx::PgConnection;

use crate::{
    cli::exit::{Exit, Failure},
    wiring::Control,
};

/// A person at work on the control database.
pub(crate) struct Operator<'a> {
    control: &'a Control,
    /// The person's name.
    name: &'a str,
    /// The same with the way they came, for the record of a job or a queue.
    by: String,
}

/// What was done, as the chain says it.
struct Deed {
    kind: &'static str,
    body: Value,
}

impl<'a> Operator<'a> {
    pub(crate) fn new(control: &'a Control, name: &'a str) -> Self {
        Self { control, name, by: signature(name) }
    }

    /// Who is on record with a job or a queue: the name, and the way they came.
    pub(crate) fn signature(&self) -> &str {
        &self.by
    }

    async fn intervene(&self) -> anyhow::Result<Intervention> {
        Ok(self.control.queue().intervene().await?)
    }

    /// Puts the deeds on record and commits them with what was done.
    async fn commit(&self, mut intervention: Intervention, deeds: Vec<Deed>) -> anyhow::Result<()> {
        if !deeds.is_empty() {
            let conn = intervention.connection();
            let actor = named(conn, self.name).await?;
            for Deed { kind, body } in deeds {
                audit::append(conn, &Event { kind, actor: Some(actor.id), job: None, body }).await?;
            }
        }
        Ok(intervention.commit().await?)
    }
}

/// How the record of a job or a queue names a person who came this way.
fn signature(name: &str) -> String {
    format!("{name} by the command line")
}

/// The person of this name, entered at first sight.
pub(crate) async fn named(conn: &mut PgConnection, name: &str) -> anyhow::Result<Actor> {
    governance::actor::named(conn, name).await.map_err(|error| match error {
        ActorError::BadName => {
            Failure::new(Exit::Usage, format!("`{name}` is no name of an actor"), error.to_string()).into()
        }
        error => error.into(),
    })
}

/// What stands in the chain for a text that a person wrote.
fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}
