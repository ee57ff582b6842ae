//! Reads canonical JSON and nothing else: whoever wrote the same value in other bytes is found out.
//!
//! The profile: members sorted by the UTF-16 code units of their names and each once, no white space, the shortest
//! escapes, integers within ±(2^53 − 1) the only numbers, at most 64 levels.

use std::{borrow::Cow, str};

const DEPTH_MAX: usize = 64;
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The members of an object's text with their values' texts, in their order; none if the text is not canonical.
pub(crate) fn members(text: &[u8]) -> Option<Vec<(&str, &str)>> {
    let text = str::from_utf8(text).ok()?;
    let mut scanner = Scanner { text, at: 0 };
    let mut members = Vec::with_capacity(8);
    scanner.object(0, |name, value| members.push((name, value)))?;
    (scanner.at == text.len()).then_some(members)
}

/// The integer that a value's text is.
pub(crate) fn integer(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The string that a value's text is, if nothing in it is escaped.
pub(crate) fn plain_string(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"').filter(|inner| !inner.contains('\\'))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, expected: &str) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        rest.starts_with(expected).then(|| self.at += expected.len())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth, |_, _| ()),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b't' => self.take("true"),
            b'f' => self.take("false"),
            b'n' => self.take("null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize, mut member: impl FnMut(&'a str, &'a str)) -> Option<()> {
        self.take("{")?;
        if self.take("}").is_some() {
            return Some(());
        }
        let mut before: Option<Cow<'a, str>> = None;
        loop {
            let (start, name) = (self.at + 1, self.string()?);
            let raw = &self.text[start..self.at - 1];
            if before.is_some_and(|before| !before.encode_utf16().lt(name.encode_utf16())) {
                return None;
            }
            self.take(":")?;
            let start = self.at;
            self.value(depth + 1)?;
            member(raw, &self.text[start..self.at]);
            before = Some(name);
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take("}"),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take("[")?;
        if self.take("]").is_some() {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take("]"),
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        let is_negative = self.take("-").is_some();
        let digits = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = &self.text[digits..self.at];
        let magnitude: u64 = digits.parse().ok()?;
        let is_shortest = !digits.starts_with('0') || (digits == "0" && !is_negative);
        (is_shortest && magnitude <= INTEGER_MAX && start < self.at).then_some(())
    }

    /// A string and what it stands for.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take("\"")?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => return self.escaped_string(start),
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
        let plain = &self.text[start..self.at];
        self.at += 1;
        Some(Cow::Borrowed(plain))
    }

    /// The rest of a string from its first escape on.
    fn escaped_string(&mut self, start: usize) -> Option<Cow<'a, str>> {
        let mut meant = self.text[start..self.at].to_owned();
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => meant.push(self.escape()?),
                0..=0x1f => return None,
                _ => {
                    let character = self.text[self.at..].chars().next()?;
                    self.at += character.len_utf8();
                    meant.push(character);
                }
            }
        }
        self.at += 1;
        Some(Cow::Owned(meant))
    }

    fn escape(&mut self) -> Option<char> {
        self.take("\\")?;
        let short = match self.peek()? {
            b'"' => '"',
            b'\\' => '\\',
            b'b' => '\u{8}',
            b't' => '\t',
            b'n' => '\n',
            b'f' => '\u{c}',
            b'r' => '\r',
            _ => return self.control(),
        };
        self.at += 1;
        Some(short)
    }

    /// `\u00` and two lower-case digits, for a control character that has no short escape.
    fn control(&mut self) -> Option<char> {
        self.take("u00")?;
        let digits = self.text.get(self.at..self.at + 2)?;
        let is_lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let code = u8::from_str_radix(digits, 16).ok().filter(|code| *code < 0x20 && is_lower)?;
        self.at += 2;
        (!matches!(code, 8 | 9 | 10 | 12 | 13)).then_some(char::from(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_canonical(text: &str) -> bool {
        members(text.as_bytes()).is_some()
    }

    #[test]
    fn canonical_objects_are_taken_apart() {
        let text = "{\"a\":{\"b\":[1,-2,true,null]},\"c\":\"\\n\\u0001é\",\"\u{1f600}\":0,\"\u{fb33}\":9007199254740991}";
        let members = members(text.as_bytes()).unwrap();
        assert_eq!(members[0], ("a", "{\"b\":[1,-2,true,null]}"));
        assert_eq!(members.len(), 4);
        assert!(is_canonical("{}"));
    }

    #[test]
    fn other_ways_to_write_the_same_are_refused() {
        for text in [
            "",
            "1",
            "[]",
            "{",
            "{}}",
            "{} ",
            " {}",
            "{\"a\": 1}",
            "{\"b\":1,\"a\":1}",
            "{\"a\":1,\"a\":1}",
            "{\"a\":1,}",
            "{\"a\":1.0}",
            "{\"a\":1e2}",
            "{\"a\":01}",
            "{\"a\":-0}",
            "{\"a\":-}",
            "{\"a\":}",
            "{\"a\":9007199254740992}",
            "{\"a\":\"\\u000a\"}",
            "{\"a\":\"\\u001F\"}",
            "{\"a\":\"\\u0041\"}",
            "{\"a\":\"\\/\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"x}",
            "{\"a\":[1,]}",
            "{\"a\":[1 ]}",
            "{\"a\":tru}",
            "{\"\u{fb33}\":1,\"\u{1f600}\":1}",
            "{\"a\":\"\\u00e9\"}",
        ] {
            assert!(!is_canonical(text), "{text:?}");
        }
        let nested = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_canonical(&nested(63)) && !is_canonical(&nested(64)));
        assert!(members(b"{\"a\":\"\xff\"}").is_none());
    }
}
