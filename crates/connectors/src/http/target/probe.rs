//! What an API does, found out by trying.
//!
//! On a record that is named for it (`probe_key`) the owned fields are written as they were read a moment
//! before. On any other record only an empty merge patch is sent, which changes nothing even at a server that
//! ignores the precondition; with PUT nothing can be tried there, and nothing is proved.

use serde_json::Value;

use super::send::Precondition;
use super::{Found, HttpTargetDriver};
use crate::definition::{IdempotencyProbe, WriteMethod};
use crate::error::SourceError;
use crate::target::{Capability, Conflict, Fields, Probed, Validator, WriteAnswer};

impl HttpTargetDriver {
    pub(crate) async fn probe(&self, sample: Option<&str>) -> Probed {
        let blind = Probed::new(Capability::Blind);
        let designated = self.settings.probe_key.as_deref();
        let Some(key) = designated.or(sample) else {
            return blind.obstructed("there is no record to try it on: name one in `probe_key`");
        };
        let found = match self.find(key).await {
            Ok(Some(found)) => found,
            Ok(None) => return blind.obstructed("the record to try it on is not there"),
            Err(error) => return blind.obstructed(error.to_string()),
        };
        let mut probed = Probed::new(Capability::ReadCheck);
        self.try_condition(&mut probed, key, &found, designated.is_some()).await;
        if let Some(probe) = &self.target.idempotency_probe {
            match self.try_idempotency(&mut probed, probe).await {
                Ok(()) => {}
                Err(error) => probed.saw(format!("the idempotency key could not be tried: {error}")),
            }
        }
        probed
    }

    /// Whether an outdated `If-Match` is refused, and a right one is not.
    async fn try_condition(&self, probed: &mut Probed, key: &str, found: &Found, designated: bool) {
        let Some(validator) = &found.observed.validator else {
            return probed.saw("a read came without ETag: there is no version to make a write depend on");
        };
        let Some(stale) = outdated(validator) else {
            return probed.saw("the ETag has no letter or digit: no outdated one can be made of it");
        };
        let body = match (designated, self.target.write) {
            (true, _) => match self.target.body(&found.observed.fields, Some(&found.body)) {
                Ok(body) => body,
                Err(what) => return probed.saw(format!("the fields could not be sent as they are: {what}")),
            },
            (false, WriteMethod::MergePatch) => self.target.empty_patch(),
            (false, WriteMethod::Put) => {
                return probed.saw("nothing was sent: a PUT is only tried on a record named in `probe_key`");
            }
        };
        let answer = self.send(key, &body, &Precondition::Match(stale), None).await;
        let refused = matches!(answer, WriteAnswer::Conflict(Conflict::Precondition { .. }));
        probed.saw(format!("an unchanged write with an outdated If-Match: {}", told(&answer)));
        if !refused {
            return;
        }
        // What is refused whatever it says would be taken for a check of the version.
        if designated {
            let answer = self.send(key, &body, &Precondition::Match(validator.clone()), None).await;
            probed.saw(format!("an unchanged write with the right If-Match: {}", told(&answer)));
            if !matches!(answer, WriteAnswer::Accepted) {
                *probed = std::mem::replace(probed, Probed::new(Capability::Blind))
                    .obstructed("a write with the right version is refused too");
                return;
            }
        } else {
            probed.saw("a write with the right If-Match was not tried: no record is named in `probe_key`");
        }
        probed.proved(Capability::ConditionalWrite);
    }

    /// Whether a second write under one idempotency key is not stored.
    async fn try_idempotency(
        &self,
        probed: &mut Probed,
        probe: &IdempotencyProbe,
    ) -> Result<(), SourceError> {
        let [first, second] = &probe.values;
        // Fresh keys: the target may remember those of an earlier probe.
        let (one, other) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        let stored = self.put_scratch(probe, first, &one).await?;
        let repeated = self.put_scratch(probe, second, &one).await?;
        let afresh = self.put_scratch(probe, second, &other).await?;
        let honoured = stored == *first && repeated == *first && afresh == *second;
        probed.saw(format!(
            "a second write under one idempotency key was {}; under a key of its own it was {}",
            if repeated == *first { "not stored" } else { "stored" },
            if afresh == *second { "stored" } else { "not stored" },
        ));
        if honoured {
            probed.proved(Capability::IdempotencyKey);
        }
        Ok(())
    }

    /// Writes a text into the scratch record and reads what it then holds.
    async fn put_scratch(
        &self,
        probe: &IdempotencyProbe,
        value: &str,
        idempotency_key: &str,
    ) -> Result<Value, SourceError> {
        let gone = || self.place.configuration("the scratch record is not there", "create it");
        let found = self.find(&probe.key).await?.ok_or_else(gone)?;
        let fields = Fields::from([(probe.field.clone(), Value::from(value))]);
        let body = self
            .target
            .body(&fields, Some(&found.body))
            .map_err(|what| self.place.configuration(what, "name another field to probe with"))?;
        // Whatever it answers, what it holds afterwards counts.
        drop(self.send(&probe.key, &body, &Precondition::None, Some(idempotency_key)).await);
        let found = self.find(&probe.key).await?.ok_or_else(gone)?;
        Ok(found.observed.fields.get(&probe.field).cloned().unwrap_or_default())
    }
}

/// An `ETag` of the same form that is not current: a number is one less (some servers take a greater one for
/// newer), of anything else the last letter or digit is another.
fn outdated(validator: &Validator) -> Option<Validator> {
    let text = &validator.0;
    let at = text.rfind(|c: char| c.is_ascii_alphanumeric())?;
    let start = text[..=at].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |before| before + 1);
    let changed = match text[start..=at].parse::<u64>() {
        Ok(number) if number > 0 => {
            format!("{:0width$}", number - 1, width = at + 1 - start)
        }
        _ => {
            let other = if text[at..].starts_with('a') { 'b' } else { 'a' };
            format!("{}{other}", &text[start.min(at)..at])
        }
    };
    Some(Validator(format!("{}{changed}{}", &text[..start.min(at)], &text[at + 1..])))
}

fn told(answer: &WriteAnswer) -> String {
    match answer {
        WriteAnswer::Accepted | WriteAnswer::Already => "accepted".into(),
        WriteAnswer::Conflict(Conflict::Precondition { what }) => format!("refused ({what})"),
        WriteAnswer::Conflict(other) => format!("refused ({other:?})"),
        WriteAnswer::Refused { what } | WriteAnswer::Unknown { what } => what.clone(),
        WriteAnswer::Throttled { after } => format!("put off for {} s", after.as_secs()),
        WriteAnswer::NotApplied(error) => error.to_string(),
    }
}
