//! Canonical JSON: one sequence of bytes for a value, so that a digest of it means something.
//!
//! A profile of RFC 8785: members sorted by the UTF-16 code units of their names, no white space, the escapes of
//! ECMAScript. Narrower than the RFC, so that two implementations cannot differ: integers within ±(2^53 − 1) are the
//! only numbers; larger ones, fractions and money are strings.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Number, Value};

/// The largest integer that every JSON reader keeps exactly.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Values nest at most so deep, so that no reader's stack is tried.
const DEPTH_MAX: usize = 64;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A number that is no integer within ±(2^53 − 1).
    #[error("the number {0} is no integer within 2^53: write it as a string")]
    Number(String),
    /// The value is nested too deeply.
    #[error("the value is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// The value cannot be written as JSON at all.
    #[error("the value cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The canonical bytes of a value; they are UTF-8.
pub fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    to_text(value).map(String::into_bytes)
}

/// The same as text.
pub fn to_text(value: &impl Serialize) -> Result<String, CanonicalError> {
    let mut text = String::new();
    write(&mut text, &serde_json::to_value(value)?, 0)?;
    Ok(text)
}

fn write(to: &mut String, value: &Value, depth: usize) -> Result<(), CanonicalError> {
    if depth > DEPTH_MAX {
        return Err(CanonicalError::TooDeep);
    }
    match value {
        Value::Null => to.push_str("null"),
        Value::Bool(truth) => to.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => write_number(to, number)?,
        Value::String(text) => write_string(to, text),
        Value::Array(values) => write_array(to, values, depth)?,
        Value::Object(members) => write_object(to, members, depth)?,
    }
    Ok(())
}

fn write_number(to: &mut String, number: &Number) -> Result<(), CanonicalError> {
    let integer = number.as_i64().filter(|integer| integer.unsigned_abs() <= INTEGER_MAX);
    let integer = integer.ok_or_else(|| CanonicalError::Number(number.to_string()))?;
    write!(to, "{integer}").expect("a string takes everything");
    Ok(())
}

fn write_array(to: &mut String, values: &[Value], depth: usize) -> Result<(), CanonicalError> {
    to.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        write(to, value, depth + 1)?;
    }
    to.push(']');
    Ok(())
}

fn write_object(to: &mut String, members: &Map<String, Value>, depth: usize) -> Result<(), CanonicalError> {
    let mut sorted: Vec<_> = members.iter().collect();
    // Not the order of the bytes: in UTF-16 a character beyond the basic plane comes before U+E000 to U+FFFF.
    sorted.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    to.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        write_string(to, name);
        to.push(':');
        write(to, value, depth + 1)?;
    }
    to.push('}');
    Ok(())
}

fn write_string(to: &mut String, text: &str) {
    to.push('"');
    for character in text.chars() {
        match character {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\u{8}' => to.push_str("\\b"),
            '\t' => to.push_str("\\t"),
            '\n' => to.push_str("\\n"),
            '\u{c}' => to.push_str("\\f"),
            '\r' => to.push_str("\\r"),
            control if control < ' ' => {
                write!(to, "\\u{:04x}", u32::from(control)).expect("a string takes everything");
            }
            other => to.push(other),
        }
    }
    to.push('"');
}
