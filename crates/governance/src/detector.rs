//! What is wrong with a value by itself, and the value that would be right.
//!
//! Owns: reading an e-mail address, a phone number, a country and a date in the forms that people write, and the one
//! form each is kept in. A detector returns that form, or nothing if the text is no such thing; so "invalid" is
//! nothing, and "unnormalised" is a form that differs from the text.
//!
//! Promises: pure, without a clock, a table of the machine or the network; time is linear in the text; normalising
//! what is normal changes nothing.
//!
//! Refuses: to guess. A date whose order of day and month is open, or a national phone number without a country, is
//! nothing unless the rule says which it is.

mod country;
mod date;
mod email;
mod phone;
#[cfg(test)]
mod tests;

pub use country::country;
pub use date::{DayOrder, date, moment};
pub use email::email;
pub use phone::phone;

/// Longer texts are no such value, whatever they say.
const CHARS_MAX: usize = 512;

/// The text without the blanks around it, unless there is nothing or too much.
fn plausible(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= CHARS_MAX).then_some(text)
}
