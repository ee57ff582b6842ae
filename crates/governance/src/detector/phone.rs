//! Phone numbers in the shape of E.164: a plus, the country's calling code, the number; 8 to 15 digits.
//!
//! The shape only. Which numbers a country has given out changes monthly; the library that knows (`phonenumber`) takes
//! 18 µs a number where a whole decision may take 20, and brings fourteen crates.

use super::plausible;

const DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// The number as `+` and digits, or nothing.
///
/// `home` is the calling code (`"+44"`) that a number without one belongs to; with an empty one such a number is
/// nothing. A zero in front of a national number is the trunk's and falls, except in Italy, San Marino and the Vatican.
#[must_use]
pub fn phone(text: &str, home: &str) -> Option<String> {
    let text = plausible(text)?;
    let text =
        text.get(..4).filter(|head| head.eq_ignore_ascii_case("tel:")).map_or(text, |_| &text[4..]).trim();
    let digits = digits(text)?;
    let number = if text.starts_with('+') {
        without_trunk_in_brackets(text, digits)
    } else if let Some(rest) = digits.strip_prefix("00") {
        rest.to_owned()
    } else {
        at_home(&digits, home)?
    };
    (DIGITS.contains(&number.len()) && !number.starts_with('0')).then(|| format!("+{number}"))
}

/// The digits, if nothing else is in the text than what people put between them.
fn digits(text: &str) -> Option<String> {
    let rest = text.strip_prefix('+').unwrap_or(text);
    let filler =
        |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '(' | ')' | '/' | '\u{2010}'..='\u{2013}');
    rest.chars().filter(|c| !filler(*c)).map(|c| c.is_ascii_digit().then_some(c)).collect()
}

/// `+44 (0)20 …`: the zero in brackets is for callers at home.
fn without_trunk_in_brackets(text: &str, digits: String) -> String {
    match text.split_once("(0)") {
        Some((before, after)) => before.chars().chain(after.chars()).filter(char::is_ascii_digit).collect(),
        None => digits,
    }
}

fn at_home(digits: &str, home: &str) -> Option<String> {
    let code = home.strip_prefix('+')?;
    if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let national = match code {
        // The zero belongs to the number.
        "39" | "378" | "379" => digits,
        // North America dials a 1 in front.
        "1" if digits.len() == 11 => digits.strip_prefix('1')?,
        _ => digits.strip_prefix('0').unwrap_or(digits),
    };
    Some(format!("{code}{national}"))
}
