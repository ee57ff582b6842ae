//! Targets as they are: a Postgres with a role of its own, a real HTTP server, and servers that lie.

mod kinto;
mod lying;
mod postgres;
mod probing;
mod refusals;
mod server;
mod untouched;

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::LocalBudget;

/// The target of the only stream.
pub(super) async fn target(text: &str) -> Target {
    let definition = Definition::parse(text, "crm.toml").unwrap_or_else(|error| panic!("{error}"));
    let connected = Target::connect(&definition, &definition.streams()[0], Arc::new(LocalBudget::default()));
    let mut target = connected.await.unwrap().expect("a stream with a target");
    target.without_pauses();
    target
}

pub(super) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Target {
    /// What must be there.
    async fn seen(&self, key: &str) -> Observed {
        self.read(key).await.unwrap().expect("a record")
    }

    /// A change of what is there now.
    async fn change<const N: usize>(&self, key: &str, desired: [(&str, Value); N]) -> Change {
        let desired = fields(desired);
        let seen = self.seen(key).await;
        let before = seen.fields.into_iter().filter(|(name, _)| desired.contains_key(name)).collect();
        let expected = Expected::Present { before, validator: seen.validator };
        Change { key: key.to_owned(), expected, desired, idempotency_key: "a key".into() }
    }

    async fn standing(&self, change: &Change) -> Standing {
        self.compare(change, self.read(&change.key).await.unwrap().as_ref())
    }
}
