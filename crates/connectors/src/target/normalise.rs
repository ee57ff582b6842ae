//! How targets rewrite what they store, so that `" A@X.COM"` stored as `"a@x.com"` is no mismatch.

use serde_json::Value;

/// One rule, applied to what is wanted and to what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normaliser {
    /// Space around the text does not count.
    Trim,
    /// Case does not count.
    Case,
    /// Of a phone number only the digits count; `00` at the front is the `+` of a country code.
    Phone,
    /// A number is the same as a text, with or without exponent and zeros at its ends.
    Number,
    /// Empty text is the same as null.
    Empty,
}

/// Beyond this exponent a number is compared as it is written.
const EXPONENT_MAX: i64 = 1_000;

impl Normaliser {
    /// The names in a definition.
    pub(crate) const NAMES: [&'static str; 5] = ["trim", "case", "phone", "number", "empty"];

    pub(crate) fn named(name: &str) -> Option<Self> {
        const ALL: [Normaliser; 5] =
            [Normaliser::Trim, Normaliser::Case, Normaliser::Phone, Normaliser::Number, Normaliser::Empty];
        Self::NAMES.iter().zip(ALL).find(|(known, _)| **known == name).map(|(_, normaliser)| normaliser)
    }

    fn apply(self, value: Value) -> Value {
        match (self, value) {
            (Self::Trim, Value::String(text)) => Value::from(text.trim()),
            (Self::Case, Value::String(text)) => Value::from(text.to_lowercase()),
            (Self::Phone, Value::String(text)) => Value::from(phone(&text)),
            (Self::Number, Value::String(text)) => match decimal(text.trim()) {
                Some(number) => Value::from(number),
                None => Value::String(text),
            },
            (Self::Number, Value::Number(number)) => {
                decimal(&number.to_string()).map_or(Value::Number(number), Value::from)
            }
            (Self::Empty, Value::String(text)) if text.is_empty() => Value::Null,
            (_, value) => value,
        }
    }
}

/// Whether two values are one under these rules. Two numbers are one if they have one value.
pub(crate) fn same(a: &Value, b: &Value, rules: &[Normaliser]) -> bool {
    let plain = |value: &Value| rules.iter().fold(value.clone(), |value, rule| rule.apply(value));
    equal(&plain(a), &plain(b))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.to_string(), b.to_string());
            a == b || decimal(&a).is_some_and(|value| Some(value) == decimal(&b))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

fn phone(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.strip_prefix("00").map_or_else(|| digits.clone(), str::to_owned)
}

/// A decimal number in one form: sign, digits without zeros at either end, exponent. `None` for anything else.
fn decimal(text: &str) -> Option<String> {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let good = !whole.is_empty() && exponent.abs() <= EXPONENT_MAX;
    let digits = format!("{whole}{fraction}");
    if !good || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kept = digits.trim_end_matches('0');
    let exponent =
        exponent - i64::try_from(fraction.len()).ok()? + i64::try_from(digits.len() - kept.len()).ok()?;
    let kept = kept.trim_start_matches('0');
    Some(if kept.is_empty() { "0".to_owned() } else { format!("{sign}{kept}e{exponent}") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(a: &str, b: &str, rules: &[Normaliser]) -> bool {
        same(&json!(a), &json!(b), rules)
    }

    #[test]
    fn w8_what_a_target_only_rewrites_is_the_same_and_another_value_is_not() {
        use Normaliser::{Case, Empty, Number, Phone, Trim};
        assert!(
            one(" A@x.com ", "a@X.com", &[Trim, Case]) && !one(" a", "a", &[]) && !one("A", "a", &[Trim])
        );
        assert!(one("+49 (30) 123-45", "00493012345", &[Phone]));
        assert!(!one("030 12345", "+49 30 12345", &[Phone]));
        assert!(same(&json!("1.50"), &json!(1.5), &[Number]) && !same(&json!("1.5"), &json!(1.5), &[]));
        assert!(!one("1.5", "1.51", &[Number]) && !one("x", "y", &[Number]));
        assert!(same(&json!(""), &Value::Null, &[Empty]) && !same(&json!(""), &Value::Null, &[]));
    }

    #[test]
    fn numbers_are_compared_by_value_and_to_the_last_digit() {
        let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (a, b) in [("1.0", "1"), ("100", "1e2"), ("0.001", "1E-3"), ("-0", "0"), ("[1.0]", "[1]")] {
            assert!(same(&number(a), &number(b), &[]), "{a} {b}");
        }
        for (a, b) in [("12345678901234567890123", "12345678901234567890124"), ("1", "-1"), ("1e999999", "1")]
        {
            assert!(!same(&number(a), &number(b), &[]), "{a} {b}");
        }
    }
}
