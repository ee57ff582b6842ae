//! Values of a path's fields.

use serde_json::{Map, Value, json};

use super::{Said, ShadowError};
use crate::{canonical::CanonicalError, decision::Verdict, digest::Digest};

/// The digest of fields' values. A number that canonical JSON does not take keeps its digits as a text that says so.
pub fn value_digest(value: &Value) -> Result<Digest, CanonicalError> {
    Digest::of_canonical(&without_fractions(value))
}

fn without_fractions(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none_or(|integer| integer.unsigned_abs() >= 1 << 53) => {
            json!({ "number": number.to_string() })
        }
        Value::Array(values) => values.iter().map(without_fractions).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), without_fractions(value))).collect()
        }
        other => other.clone(),
    }
}

/// The value of a verdict laid over the case's own: all fields of the path, so that who names one field and who names
/// all of them say the same. Refuses a fix of nothing or of foreign fields.
pub(super) fn whole(original: &Value, said: &Said) -> Result<Option<Value>, ShadowError> {
    let original = original.as_object().ok_or(ShadowError::BadValue)?;
    match (said.verdict, &said.value) {
        (Verdict::Fix, Some(patch)) if !patch.is_empty() => {
            if patch.keys().any(|field| !original.contains_key(field)) {
                return Err(ShadowError::BadValue);
            }
            let laid = original.clone().into_iter().chain(patch.clone());
            Ok(Some(Value::Object(laid.collect::<Map<_, _>>())))
        }
        (Verdict::Fix, _) | (_, Some(_)) => Err(ShadowError::BadValue),
        (_, None) => Ok(None),
    }
}
