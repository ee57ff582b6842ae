//! E-mail addresses.

use email_address::{EmailAddress, Options};

use super::plausible;

/// The address in lower case without blanks around it, a `mailto:` or trailing punctuation; nothing if it is no
/// address of RFC 5321 with a domain that has a dot.
///
/// The local part is lowered too: mail systems that tell its case apart are not met outside of that standard, and
/// duplicates by case are.
#[must_use]
pub fn email(text: &str) -> Option<String> {
    let text = plausible(text)?;
    let text = text.get(..7).filter(|head| head.eq_ignore_ascii_case("mailto:")).map_or(text, |_| &text[7..]);
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '<' | '>'));
    let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
    EmailAddress::parse_with_options(text, options).ok()?;
    Some(text.to_lowercase())
}
