//! Whether `jsonb` can hold a JSON text. One record that it cannot hold would otherwise fail a whole batch.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::{DEPTH_MAX, Flaw, members};
use crate::record::RejectReason;

/// Digits before the point that `numeric`, and with it `jsonb`, can hold.
const DIGITS_BEFORE_POINT_MAX: i64 = 131_072;
/// Digits behind the point that it can hold.
const DIGITS_BEHIND_POINT_MAX: i64 = 16_383;

/// Judges `text`, which is syntactically JSON.
pub(crate) fn storable(text: &str) -> Result<(), Flaw> {
    value(text.trim(), 1)
}

fn value(text: &str, depth: usize) -> Result<(), Flaw> {
    if depth > DEPTH_MAX {
        return Err(Flaw::new(RejectReason::TooDeep, format!("nested deeper than {DEPTH_MAX} levels")));
    }
    match text.as_bytes().first() {
        Some(b'{') => object(text, depth),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)
                .map_err(|error| Flaw::new(RejectReason::InvalidJson, format!("not JSON: {error}")))?;
            items.iter().try_for_each(|item| value(item.get(), depth + 1))
        }
        Some(b'"') => string(text),
        Some(b'-' | b'0'..=b'9') => number(text),
        _ => Ok(()),
    }
}

fn object(text: &str, depth: usize) -> Result<(), Flaw> {
    let members = members(text)?.0;
    let mut names = HashSet::with_capacity(members.len());
    for (name, member) in &members {
        if name.contains('\0') {
            return Err(Flaw::new(RejectReason::BadText, "a field's name holds NUL"));
        }
        if !names.insert(name) {
            let detail = format!("the field {name:?} occurs twice in one object");
            return Err(Flaw::new(RejectReason::DuplicateField, detail));
        }
        value(member.get(), depth + 1)?;
    }
    Ok(())
}

/// Looks for `\u0000` and for halves of surrogate pairs.
fn string(text: &str) -> Result<(), Flaw> {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        rest = &rest[at + 1..];
        let Some(hex) = rest.strip_prefix('u') else {
            // Past the escaped character, which may be a backslash itself.
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        rest = hex.get(4..).unwrap_or_default();
        match unit(hex) {
            Some(0) => return Err(Flaw::new(RejectReason::BadText, "a text holds \\u0000")),
            Some(0xD800..=0xDBFF) => match rest.strip_prefix("\\u").and_then(unit) {
                Some(0xDC00..=0xDFFF) => rest = &rest[6..],
                _ => return Err(lone()),
            },
            Some(0xDC00..=0xDFFF) => return Err(lone()),
            _ => {}
        }
    }
    Ok(())
}

fn unit(hex: &str) -> Option<u32> {
    u32::from_str_radix(hex.get(..4)?, 16).ok()
}

fn lone() -> Flaw {
    Flaw::new(RejectReason::BadText, "a text holds half of a surrogate pair")
}

fn number(text: &str) -> Result<(), Flaw> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // An exponent that is no i64 has so many digits that the number is out of range whatever it is.
    let exponent = exponent.trim_start_matches('+').parse::<i64>().unwrap_or(i64::MAX / 4);
    let whole = whole.trim_start_matches(['-', '0']);
    // Zeros behind the point shrink the number below one: they count as missing digits before it.
    let leading = if whole.is_empty() { fraction.len() - fraction.trim_start_matches('0').len() } else { 0 };
    let before = length(whole).saturating_add(exponent).saturating_sub(count(leading));
    let behind = length(fraction).saturating_sub(exponent);
    if before > DIGITS_BEFORE_POINT_MAX || behind > DIGITS_BEHIND_POINT_MAX {
        let shown: String = text.chars().take(40).collect();
        let detail = format!("the number {shown} is outside the range of jsonb");
        return Err(Flaw::new(RejectReason::NumberOutOfRange, detail));
    }
    Ok(())
}

fn length(digits: &str) -> i64 {
    count(digits.len())
}

fn count(digits: usize) -> i64 {
    i64::try_from(digits).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const BAD: [(&str, RejectReason); 13] = [
        (r#"{"a":"x\u0000y"}"#, RejectReason::BadText),
        (r#"{"a":"\ud800"}"#, RejectReason::BadText),
        (r#"{"a":"\ud800\u0041"}"#, RejectReason::BadText),
        (r#"{"a":"\udc00"}"#, RejectReason::BadText),
        (r#"{"a\u0000":1}"#, RejectReason::BadText),
        (r#"{"\ud800":1}"#, RejectReason::BadText),
        (r#"{"a":[{"b":"\\\u0000"}]}"#, RejectReason::BadText),
        (r#"{"a":1e400000}"#, RejectReason::NumberOutOfRange),
        (r#"{"a":-1e131072}"#, RejectReason::NumberOutOfRange),
        (r#"{"a":1e-16384}"#, RejectReason::NumberOutOfRange),
        (r#"{"a":1e99999999999999999999}"#, RejectReason::NumberOutOfRange),
        (r#"{"a":1e-99999999999999999999}"#, RejectReason::NumberOutOfRange),
        (r#"{"a":1,"b":{"c":1,"c":2}}"#, RejectReason::DuplicateField),
    ];

    const GOOD: [&str; 8] = [
        r#"{"a":"\\u0000 is text here"}"#,
        r#"{"a":"\ud83d\ude00"}"#,
        r#"{"a":1e131071}"#,
        r#"{"a":1e-16383}"#,
        r#"{"a":0.00001e131076}"#,
        r#"{"a":-0.5E+3}"#,
        r#"{"a":123456789012345678901234567890.123456789}"#,
        r#"{"a":[],"b":{},"c":null,"d":true,"e":""}"#,
    ];

    #[test]
    fn what_jsonb_cannot_hold_is_named() {
        for (text, reason) in BAD {
            assert_eq!(storable(text).unwrap_err().reason, reason, "{text}");
        }
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
        assert_eq!(storable(&deep).unwrap_err().reason, RejectReason::TooDeep);
    }

    #[test]
    fn what_jsonb_holds_is_let_through() {
        for text in GOOD {
            assert_eq!(storable(text), Ok(()), "{text}");
        }
    }

    #[tokio::test]
    async fn postgres_agrees_with_every_verdict() {
        let mut database = testing::Database::new().await;
        for text in GOOD {
            assert!(database.holds_jsonb(text).await, "{text}");
        }
        for (text, reason) in BAD {
            // Two fields of one name are refused although `jsonb` would take the last: that loses data.
            let lossy = reason == RejectReason::DuplicateField;
            assert_eq!(database.holds_jsonb(text).await, lossy, "{text}");
        }
    }
}
