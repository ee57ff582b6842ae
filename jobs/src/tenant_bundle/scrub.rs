//! Keeps secrets out of what leaves: those that stand in definitions of connectors are looked for in everything else.

use std::borrow::Cow;

use connectors::REDACTED;
use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;

/// Shorter texts occur by chance: looking for them would spoil the customer's own records. Those are taken out of the
/// definition itself all the same.
const SECRET_BYTES_MIN: usize = 8;

/// Looks for secrets in values.
#[derive(Default)]
pub(super) struct Scrubber {
    /// The forms in which each may be written, the longest first.
    texts: Vec<memmem::Finder<'static>>,
    /// The same in hexadecimal digits, as bytes are written.
    hexes: Vec<memmem::Finder<'static>>,
}

impl Scrubber {
    pub(super) fn of(secrets: &[SecretString]) -> Self {
        let mut forms: Vec<_> = secrets
            .iter()
            .map(ExposeSecret::expose_secret)
            .filter(|secret| secret.len() >= SECRET_BYTES_MIN)
            .flat_map(forms)
            .collect();
        forms.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        forms.dedup();
        let finder = |needle: &[u8]| memmem::Finder::new(needle).into_owned();
        Self {
            texts: forms.iter().map(|form| finder(form.as_bytes())).collect(),
            hexes: forms.iter().map(|form| finder(hex(form.as_bytes()).as_bytes())).collect(),
        }
    }

    /// The text without any secret.
    pub(super) fn text<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.texts.iter().fold(Cow::Borrowed(text), replaced)
    }

    /// The JSON text without any secret, still JSON: where one was a number, nothing of the value stays.
    pub(super) fn json<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        match self.text(text) {
            Cow::Owned(clean) if serde_json::from_slice::<IgnoredAny>(&clean).is_err() => {
                Cow::Owned(format!("\"{REDACTED}\"").into_bytes())
            }
            clean => clean,
        }
    }

    /// Whether bytes, written as hexadecimal digits, hold a secret: they are bound to digests and cannot be changed.
    pub(super) fn is_in_hex(&self, digits: &[u8]) -> bool {
        self.hexes.iter().any(|finder| finder.find(digits).is_some())
    }
}

/// A secret as it is, and as JSON and URLs write it.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let url: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect();
    vec![json.replace('/', "\\/"), json, url, secret.to_owned()]
}

/// The digits in which Postgres writes bytes.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn replaced<'a>(text: Cow<'a, [u8]>, finder: &memmem::Finder<'_>) -> Cow<'a, [u8]> {
    let Some(mut at) = finder.find(&text) else { return text };
    let (mut clean, mut rest) = (Vec::with_capacity(text.len()), &*text);
    loop {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(REDACTED.as_bytes());
        rest = &rest[at + finder.needle().len()..];
        match finder.find(rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    clean.extend_from_slice(rest);
    Cow::Owned(clean)
}

/// The text with the passwords of URLs cut out, `scheme://user:password@host`.
pub(super) fn without_url_passwords(text: &[u8]) -> Cow<'_, [u8]> {
    const SCHEME: &[u8] = b"://";
    const CUT: &[u8] = b"redacted";
    let mut clean: Option<Vec<u8>> = None;
    let mut done = 0;
    for at in memmem::find_iter(text, SCHEME) {
        let authority = at + SCHEME.len();
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"/?#\"'<>\\,;()".contains(byte);
        let length = text[authority..].iter().position(ends).unwrap_or(text.len() - authority);
        let authority = &text[authority..authority + length];
        let Some(host) = authority.iter().rposition(|byte| *byte == b'@') else { continue };
        let Some(colon) = authority[..host].iter().position(|byte| *byte == b':') else { continue };
        let from = at + SCHEME.len() + colon + 1;
        let to = at + SCHEME.len() + host;
        if from == to || &text[from..to] == CUT {
            continue;
        }
        let clean = clean.get_or_insert_with(Vec::new);
        clean.extend_from_slice(&text[done..from]);
        clean.extend_from_slice(CUT);
        done = to;
    }
    match clean {
        None => Cow::Borrowed(text),
        Some(mut clean) => {
            clean.extend_from_slice(&text[done..]);
            Cow::Owned(clean)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn e3_a_secret_is_found_in_every_form_and_json_stays_json() {
        let scrubber = Scrubber::of(&["se\"cr/et+1".into(), "12345678".into(), "short".into()]);
        for form in ["se\"cr/et+1", "se\\\"cr/et+1", "se\\\"cr\\/et+1", "se%22cr%2Fet%2B1"] {
            let said = format!("before {form} and {form} after, short");
            let clean = scrubber.text(said.as_bytes());
            assert_eq!(text(&clean), "before [redacted] and [redacted] after, short", "{form}");
        }
        assert_eq!(text(&scrubber.json(br#"{"a": "12345678"}"#)), r#"{"a": "[redacted]"}"#);
        assert_eq!(text(&scrubber.json(br#"{"a": 123456789}"#)), r#""[redacted]""#);
        assert!(scrubber.is_in_hex(b"00003132333435363738ff"));
        assert!(!scrubber.is_in_hex(b"0000313233343536373cff"));
        assert!(matches!(scrubber.text(b"nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn e3_passwords_of_urls_are_cut_out_of_notes() {
        for (said, clean) in [
            ("no postgres://ada:pa:ss@w0rd@db/x here", "no postgres://ada:redacted@db/x here"),
            ("http://a:b@c and http://d:e@f/g@h", "http://a:redacted@c and http://d:redacted@f/g@h"),
            (r#"{"url":"x://y:z@w"}"#, r#"{"url":"x://y:redacted@w"}"#),
        ] {
            assert_eq!(text(&without_url_passwords(said.as_bytes())), clean);
            assert_eq!(text(&without_url_passwords(clean.as_bytes())), clean, "twice is once");
        }
        for said in ["http://host/a:b@c", "http://user@host", "at 10:30 a@b", "http://:@x", "://"] {
            assert!(matches!(without_url_passwords(said.as_bytes()), Cow::Borrowed(_)), "{said}");
        }
    }
}
