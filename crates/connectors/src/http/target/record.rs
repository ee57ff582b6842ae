//! A record's text taken apart and put together: owned fields by value, everything else byte by byte (W5).

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::definition::{FieldPath, HttpTarget, StreamTarget, WriteMethod};
use crate::digest::hex;
use crate::json;
use crate::target::{Fields, Observed};

impl HttpTarget {
    /// What a body says of its record; the validator is not in it.
    pub(crate) fn observe(&self, settings: &StreamTarget, body: &str) -> Result<Observed, String> {
        let record = self.record_in(body)?;
        let mut fields = Fields::new();
        for field in &settings.owned {
            fields.insert(field.to_string(), value_at(record, field)?);
        }
        let left_out: Vec<_> = settings.owned.iter().chain(&settings.stamped).map(FieldPath::names).collect();
        let mut rest = Sha256::new();
        rest.update(without(record, &left_out)?);
        let rest = hex(&rest.finalize());
        Ok(Observed { fields, rest, validator: None })
    }

    /// What is sent: with `before`, a change of that body; without, a new record.
    pub(crate) fn body(&self, desired: &Fields, before: Option<&str>) -> Result<String, String> {
        let record = match (before, self.write) {
            (Some(before), WriteMethod::Put) => {
                let mut record = self.record_in(before)?.to_owned();
                for (name, value) in desired {
                    record = replaced(&record, &path(name), value)?;
                }
                record
            }
            (Some(_), WriteMethod::MergePatch) => patch(desired)?,
            (None, _) => nested(desired),
        };
        Ok(self.body_around(&record))
    }

    /// A patch that changes nothing.
    pub(super) fn empty_patch(&self) -> String {
        self.body_around("{}")
    }

    fn body_around(&self, record: &str) -> String {
        let names = self.record.as_ref().map(FieldPath::names).unwrap_or_default();
        names
            .iter()
            .rev()
            .fold(record.to_owned(), |inner, name| format!("{{{}:{inner}}}", Value::from(name.as_str())))
    }

    fn record_in<'a>(&self, body: &'a str) -> Result<&'a str, String> {
        let record = match &self.record {
            None => body,
            Some(field) => json::at(body, field.names())
                .map(RawValue::get)
                .ok_or_else(|| format!("the answer has no {field}"))?,
        };
        json::members(record).map_err(|flaw| flaw.detail)?;
        Ok(record)
    }
}

fn path(name: &str) -> Vec<String> {
    name.split('.').map(str::to_owned).collect()
}

/// The value of a field; null where it or what it lies in is missing. What lies in something that is no
/// object cannot be owned: writing it would destroy that.
fn value_at(record: &str, field: &FieldPath) -> Result<Value, String> {
    let mut at = record.to_owned();
    for name in field.names() {
        let Ok(members) = json::members(&at) else {
            return if at == "null" {
                Ok(Value::Null)
            } else {
                Err(format!("{field} lies in what is no object"))
            };
        };
        let Some((_, value)) = members.0.into_iter().rev().find(|(member, _)| member == name) else {
            return Ok(Value::Null);
        };
        at = value.get().to_owned();
    }
    serde_json::from_str(&at).map_err(|error| format!("{field} cannot be read: {error}"))
}

/// `record` in one form without these fields: members by name, values without space between their parts.
fn without(record: &str, fields: &[&[String]]) -> Result<String, String> {
    let mut kept = Vec::new();
    for (name, value) in json::members(record).map_err(|flaw| flaw.detail)?.0 {
        let below: Vec<_> =
            fields.iter().filter(|field| field.first() == Some(&name)).map(|field| &field[1..]).collect();
        if below.iter().any(|rest| rest.is_empty()) {
            continue;
        }
        let value = if below.is_empty() || !value.get().starts_with('{') {
            let value: Value = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
            value.to_string()
        } else {
            without(value.get(), &below)?
        };
        // An object of which only owned fields are left may come and go with them.
        if below.is_empty() || !matches!(value.as_str(), "{}" | "null") {
            kept.push(format!("{}:{value}", Value::from(name)));
        }
    }
    kept.sort();
    Ok(format!("{{{}}}", kept.join(",")))
}

/// `record` with another value at `path`, every other value as its own text.
fn replaced(record: &str, path: &[String], new: &Value) -> Result<String, String> {
    let Some((first, rest)) = path.split_first() else { return Ok(new.to_string()) };
    let members = json::members(record).map_err(|flaw| flaw.detail)?.0;
    let mut found = false;
    let mut parts = Vec::with_capacity(members.len() + 1);
    for (name, value) in members {
        let value = if name == *first {
            found = true;
            let inner = if value.get() == "null" && !rest.is_empty() { "{}" } else { value.get() };
            replaced(inner, rest, new)?
        } else {
            value.get().to_owned()
        };
        parts.push(format!("{}:{value}", Value::from(name)));
    }
    if !found {
        parts.push(format!("{}:{}", Value::from(first.as_str()), replaced("{}", rest, new)?));
    }
    Ok(format!("{{{}}}", parts.join(",")))
}

/// A merge patch. An object in it would be merged and not stored as it is, so it is refused.
fn patch(desired: &Fields) -> Result<String, String> {
    match desired.iter().find(|(_, value)| value.is_object()) {
        Some((name, _)) => Err(format!(
            "{name} is an object, which a merge patch cannot replace: own its fields, or use put"
        )),
        None => Ok(nested(desired)),
    }
}

fn nested(desired: &Fields) -> String {
    let mut root = Map::new();
    for (name, value) in desired {
        let path = path(name);
        let (last, above) = path.split_last().expect("a split has at least one part");
        let mut at = &mut root;
        for name in above {
            let inner = at.entry(name).or_insert_with(|| Value::Object(Map::new()));
            at = inner.as_object_mut().expect("owned fields do not overlap");
        }
        at.insert(last.clone(), value.clone());
    }
    Value::Object(root).to_string()
}
