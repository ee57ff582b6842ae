//! A row, from what Postgres copies out to a line of JSON and a line of CSV, and back to what it copies in.
//!
//! Every value is Postgres's own text of it, under settings that lose nothing. In JSON a 64-bit or a decimal number is a
//! string, since readers with doubles lose its digits; so is a JSON value that has such a number in it, or that is a
//! string itself. Bytes are hexadecimal digits. In CSV an empty field is null and `""` an empty text, and a text that a
//! spreadsheet would take for a formula is given an apostrophe in front.

use std::{borrow::Cow, collections::HashMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    classification::Class,
    scrub::{Scrubber, without_url_passwords},
};

/// How a column's values are written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// `true` and `false`.
    Boolean,
    /// A number of at most 32 bits.
    Number,
    /// Postgres's text of a number that readers would round.
    Digits,
    /// Postgres's text of anything else.
    Text,
    /// Hexadecimal digits.
    Hex,
    /// A JSON value; a string holds the text of one.
    Json,
    /// A sealed value: `{"redacted": …}`.
    Sealed,
}

/// A column of a table in the bundle.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// As Postgres names it.
    pub(super) type_name: String,
    pub(super) form: Form,
    pub(super) class: Class,
    pub(super) is_required: bool,
}

/// Why a row cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowFault {
    /// Bytes that a digest is bound to hold a secret: they cannot be changed, and must not leave.
    #[error("holds a connector's secret in bytes that cannot be changed")]
    Secret(String),
    /// Postgres sent something else than a row of the table.
    #[error("is no row of the table")]
    Malformed(String),
}

/// Writes the rows of one table.
pub(super) struct Encoder<'a> {
    columns: &'a [Column],
    /// `{"name":` and `,"name":` of each.
    names: Vec<Vec<u8>>,
    scrubber: &'a Scrubber,
    scratch: Vec<u8>,
    pub(super) rows: u64,
    /// Sealed values that were left out.
    pub(super) sealed: u64,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(columns: &'a [Column], scrubber: &'a Scrubber) -> Self {
        let name = |(index, column): (usize, &Column)| {
            let mut text = vec![if index == 0 { b'{' } else { b',' }];
            json_string(column.name.as_bytes(), &mut text);
            text.push(b':');
            text
        };
        let names = columns.iter().enumerate().map(name).collect();
        Self { columns, names, scrubber, scratch: Vec::new(), rows: 0, sealed: 0 }
    }

    /// The first line of the CSV.
    pub(super) fn header(&self, csv: &mut Vec<u8>) {
        for (index, column) in self.columns.iter().enumerate() {
            separate(index, csv);
            csv_text(column.name.as_bytes(), csv);
        }
        csv.extend_from_slice(b"\r\n");
    }

    /// Writes a line that Postgres copied out, without its line feed.
    pub(super) fn row(&mut self, line: &[u8], json: &mut Vec<u8>, csv: &mut Vec<u8>) -> Result<(), RowFault> {
        let mut rest = Some(line);
        for (index, column) in self.columns.iter().enumerate() {
            let text = rest.ok_or_else(|| RowFault::Malformed(column.name.clone()))?;
            let (field, after) = match memchr::memchr(b'\t', text) {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            };
            rest = after;
            json.extend_from_slice(&self.names[index]);
            separate(index, csv);
            if field == b"\\N" {
                json.extend_from_slice(b"null");
                continue;
            }
            let value = unescaped(field, &mut self.scratch);
            if column.form == Form::Sealed {
                self.sealed += 1;
            }
            write(column, value, self.scrubber, json, csv)?;
        }
        if rest.is_some() {
            return Err(RowFault::Malformed("a further column".to_owned()));
        }
        json.extend_from_slice(b"}\n");
        csv.extend_from_slice(b"\r\n");
        self.rows += 1;
        Ok(())
    }
}

fn separate(index: usize, csv: &mut Vec<u8>) {
    if index > 0 {
        csv.push(b',');
    }
}

fn write(
    column: &Column,
    value: &[u8],
    scrubber: &Scrubber,
    json: &mut Vec<u8>,
    csv: &mut Vec<u8>,
) -> Result<(), RowFault> {
    match column.form {
        Form::Boolean => {
            let word: &[u8] = if value == b"t" { b"true" } else { b"false" };
            json.extend_from_slice(word);
            csv.extend_from_slice(word);
        }
        Form::Number => {
            json.extend_from_slice(value);
            csv.extend_from_slice(value);
        }
        Form::Digits => {
            json_string(value, json);
            csv.extend_from_slice(value);
        }
        Form::Hex => {
            let digits = value.strip_prefix(b"\\x").unwrap_or(value);
            if scrubber.is_in_hex(digits) {
                return Err(RowFault::Secret(column.name.clone()));
            }
            json_string(digits, json);
            csv.extend_from_slice(digits);
        }
        Form::Text => {
            let clean = clean(column.class, value, |text| scrubber.text(text));
            json_string(&clean, json);
            csv_text(&clean, csv);
        }
        Form::Json => {
            let clean = clean(column.class, value, |text| scrubber.json(text));
            if is_kept_by_readers(&clean) {
                json.extend_from_slice(&clean);
            } else {
                json_string(&clean, json);
            }
            csv_text(&clean, csv);
        }
        // Nothing of the value has come here.
        Form::Sealed => {
            json.extend_from_slice(b"{\"redacted\":\"sealed\"}");
            csv.extend_from_slice(b"[redacted]");
        }
    }
    Ok(())
}

/// A value without what may not leave.
fn clean<'v>(class: Class, value: &'v [u8], scrub: impl Fn(&'v [u8]) -> Cow<'v, [u8]>) -> Cow<'v, [u8]> {
    match class {
        Class::Data => scrub(value),
        Class::Note => match scrub(value) {
            Cow::Borrowed(text) => without_url_passwords(text),
            Cow::Owned(text) => Cow::Owned(without_url_passwords(&text).into_owned()),
        },
        Class::Definition => {
            Cow::Owned(connectors::redacted(&String::from_utf8_lossy(value)).text.into_bytes())
        }
    }
}

/// A field as Postgres's copy format writes it, in its own text.
fn unescaped<'t>(field: &'t [u8], scratch: &'t mut Vec<u8>) -> &'t [u8] {
    if memchr::memchr(b'\\', field).is_none() {
        return field;
    }
    scratch.clear();
    let mut rest = field;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        scratch.extend_from_slice(&rest[..at]);
        let Some(escaped) = rest.get(at + 1) else { break };
        scratch.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => *other,
        });
        rest = &rest[at + 2..];
    }
    scratch.extend_from_slice(rest);
    scratch
}

/// The opposite, for what is copied in.
fn escape(text: &[u8], to: &mut Vec<u8>) {
    let mut done = 0;
    for (at, byte) in text.iter().enumerate() {
        let escaped = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => continue,
        };
        to.extend_from_slice(&text[done..at]);
        to.extend_from_slice(&[b'\\', escaped]);
        done = at + 1;
    }
    to.extend_from_slice(&text[done..]);
}

fn json_string(text: &[u8], to: &mut Vec<u8>) {
    to.push(b'"');
    let mut done = 0;
    for (at, byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 | 0x7f => 0,
            _ => continue,
        };
        to.extend_from_slice(&text[done..at]);
        match short {
            0 => to.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            short => to.extend_from_slice(&[b'\\', short]),
        }
        done = at + 1;
    }
    to.extend_from_slice(&text[done..]);
    to.push(b'"');
}

/// A field of RFC 4180, always quoted: what is not quoted and empty is null. An apostrophe keeps a spreadsheet from taking it for a
/// formula; the lines of JSON have the text as it is.
fn csv_text(text: &[u8], to: &mut Vec<u8>) {
    to.push(b'"');
    if matches!(text.first(), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r')) {
        to.push(b'\'');
    }
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'"', rest) {
        to.extend_from_slice(&rest[..=at]);
        to.push(b'"');
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
    to.push(b'"');
}

/// Digits that every double keeps.
const DIGITS_MAX: usize = 15;

/// Whether a JSON text can stand in a line as it is: it is neither a string nor null, which stand for something else there,
/// it has no line break, and no number in it has more digits than a reader with doubles keeps.
fn is_kept_by_readers(text: &[u8]) -> bool {
    if matches!(text.first(), Some(b'"' | b'n') | None) {
        return false;
    }
    let mut in_string = false;
    let mut digits = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        if in_string {
            match byte {
                b'\\' => at += 1,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'0'..=b'9' => digits += 1,
            b'.' => {}
            b'e' | b'E' if digits > 0 => return false,
            b'"' => in_string = true,
            b'\n' | b'\r' => return false,
            _ => digits = 0,
        }
        if digits > DIGITS_MAX {
            return false;
        }
    }
    true
}

/// Appends a line of JSON as Postgres copies it in. What is sealed comes back as null.
pub(super) fn decode(line: &[u8], columns: &[Column], to: &mut Vec<u8>) -> Result<(), RowFault> {
    let malformed = |name: &str| RowFault::Malformed(name.to_owned());
    let members: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(line).map_err(|_| malformed("the line"))?;
    if members.len() != columns.len() {
        return Err(malformed("the line"));
    }
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            to.push(b'\t');
        }
        let text = members.get(column.name.as_str()).ok_or_else(|| malformed(&column.name))?.get();
        if text == "null" || column.form == Form::Sealed {
            to.extend_from_slice(b"\\N");
            continue;
        }
        let string = || serde_json::from_str::<String>(text).map_err(|_| malformed(&column.name));
        match column.form {
            Form::Digits | Form::Text => escape(string()?.as_bytes(), to),
            Form::Hex => {
                to.extend_from_slice(b"\\\\x");
                escape(string()?.as_bytes(), to);
            }
            Form::Json if text.starts_with('"') => escape(string()?.as_bytes(), to),
            Form::Boolean | Form::Number | Form::Json => escape(text.as_bytes(), to),
            Form::Sealed => {}
        }
    }
    to.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(name: &str, form: Form) -> Column {
        let name = name.to_owned();
        Column { name, type_name: String::new(), form, class: Class::Data, is_required: false }
    }

    fn encoded(form: Form, copied: &str) -> (String, String) {
        let (columns, scrubber) = ([column("a", form)], Scrubber::default());
        let (mut json, mut csv) = (Vec::new(), Vec::new());
        Encoder::new(&columns, &scrubber).row(copied.as_bytes(), &mut json, &mut csv).unwrap();
        (String::from_utf8(json).unwrap(), String::from_utf8(csv).unwrap())
    }

    #[test]
    fn values_are_written_so_that_no_reader_loses_a_digit() {
        for (form, copied, json, csv) in [
            (Form::Boolean, "t", "true", "true"),
            (Form::Number, "-7", "-7", "-7"),
            (Form::Digits, "9223372036854775807", "\"9223372036854775807\"", "9223372036854775807"),
            (Form::Hex, "\\\\x00ff", "\"00ff\"", "00ff"),
            (Form::Text, "a\\tb\\\\", r#""a\tb\\""#, "\"a\tb\\\""),
            (Form::Text, "", r#""""#, "\"\""),
            (Form::Text, "\\N", "null", ""),
            (Form::Json, r#"{"a": 1.5}"#, r#"{"a": 1.5}"#, r#""{""a"": 1.5}""#),
            (
                Form::Json,
                r#"{"a": 12345678901234567}"#,
                r#""{\"a\": 12345678901234567}""#,
                r#""{""a"": 12345678901234567}""#,
            ),
            (Form::Json, r#""text""#, r#""\"text\"""#, r#""""text""""#),
            (Form::Json, "null", r#""null""#, "\"null\""),
            (Form::Sealed, "", r#"{"redacted":"sealed"}"#, "[redacted]"),
        ] {
            assert_eq!(
                encoded(form, copied),
                (format!("{{\"a\":{json}}}\n"), format!("{csv}\r\n")),
                "{form:?} {copied}"
            );
        }
    }

    #[test]
    fn csv_is_no_formula() {
        for start in ["=", "+", "-", "@", "\\t", "\\r"] {
            let (_, csv) = encoded(Form::Text, &format!("{start}cmd|' /C calc'!A0"));
            assert!(csv.starts_with("\"'"), "{csv}");
        }
        assert_eq!(encoded(Form::Text, "a=b").1, "\"a=b\"\r\n");
    }

    #[test]
    fn e3_bytes_with_a_secret_are_refused_by_the_columns_name() {
        let columns = [column("plan", Form::Hex)];
        let scrubber = Scrubber::of(&["hunter22".into()]);
        let mut encoder = Encoder::new(&columns, &scrubber);
        let refused = encoder.row(b"\\\\x0068756e7465723232", &mut Vec::new(), &mut Vec::new());
        assert!(matches!(refused, Err(RowFault::Secret(name)) if name == "plan"));
    }

    proptest! {
        #[test]
        fn e1_a_row_comes_back_as_it_was(text in ".{0,40}", json in "[ -~\\n]{0,20}", bytes in prop::collection::vec(any::<u8>(), 0..9), number in any::<i64>()) {
            let text = text.replace('\0', "");
            let columns = [
                column("text", Form::Text), column("json", Form::Json), column("bytes", Form::Hex), column("number", Form::Digits),
            ];
            let json = serde_json::json!({ "a": json, "n": number }).to_string();
            let hex = super::super::scrub::hex(&bytes);
            let mut copied = Vec::new();
            for (index, value) in [text.as_str(), &json, &format!("\\x{hex}"), &number.to_string()].into_iter().enumerate() {
                if index > 0 {
                    copied.push(b'\t');
                }
                escape(value.as_bytes(), &mut copied);
            }
            let scrubber = Scrubber::default();
            let (mut line, mut csv) = (Vec::new(), Vec::new());
            Encoder::new(&columns, &scrubber).row(&copied, &mut line, &mut csv).unwrap();
            let mut back = Vec::new();
            decode(&line, &columns, &mut back).unwrap();
            copied.push(b'\n');
            prop_assert_eq!(back, copied);
        }
    }
}
