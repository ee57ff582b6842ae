//! A page taken apart: its records, and what follows it.
//!
//! A record is judged alone wherever the page around it can be read; only a page that is not JSON at all
//! fails as a whole.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::answer::Answer;
use super::attempt::Trouble;
use super::{HttpSource, Next};
use crate::definition::{FieldPath, Format, HttpStream, Pagination, TokenPlace};
use crate::digest::Digest;
use crate::error::Place;
use crate::json::{self, Flaw, Scalar};
use crate::record::RejectReason;

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// What the source says follows; page numbers and offsets are counted by the reader.
    pub(super) follows: Follows,
    /// A fingerprint of the records.
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    /// The source's clock when it began to answer.
    pub(super) began: DateTime<Utc>,
}

/// What the page itself says about the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    Nothing,
    Unsaid,
    Page(Next),
}

/// A record as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Json(String),
    /// What it was, as far as it can be shown, and why it cannot be read.
    Broken(String, Flaw),
}

impl HttpSource {
    /// Takes an answer apart.
    pub(super) fn page(
        &self,
        place: &Place,
        http: &HttpStream,
        answer: &Answer,
        waited: Duration,
    ) -> Result<Page, Trouble> {
        self.judge_media(place, answer)?;
        let (items, follows) = match http.format {
            Format::Ndjson => (lines(&answer.body)?, self.follows(place, http, answer, "")?),
            Format::Json => self.list(place, http, answer)?,
        };
        let mut content = Vec::new();
        for item in &items {
            let (Item::Json(text) | Item::Broken(text, _)) = item;
            content.extend_from_slice(Digest::of(text).0.as_slice());
        }
        let answered = answer.date().unwrap_or_else(SystemTime::now);
        let began = answered.checked_sub(waited).unwrap_or(answered);
        Ok(Page {
            items,
            follows,
            digest: Digest::of(content),
            bytes: answer.body.len() as u64,
            began: DateTime::<Utc>::from(began),
        })
    }

    /// Refuses what is not meant to be data: a login page, a text in another encoding.
    fn judge_media(&self, place: &Place, answer: &Answer) -> Result<(), Trouble> {
        let (media, charset) = answer.media_type();
        let begins = answer.body.iter().find(|byte| !byte.is_ascii_whitespace());
        if media == "text/html" || (begins == Some(&b'<') && !media.contains("json")) {
            let said = self.quote(&answer.body);
            return Err(Trouble::Final(place.configuration(
                format!("the source answered {} with a page of HTML or XML{said}", answer.status),
                "correct base_url and `path`; an expired login often shows like this",
            )));
        }
        match charset.as_deref() {
            None | Some("utf-8" | "utf8" | "us-ascii") => Ok(()),
            Some(charset) => Err(Trouble::Final(place.configuration(
                format!("the source answers in the charset {charset:?}"),
                "ask it for UTF-8 (header Accept-Charset), the only encoding of JSON (RFC 8259)",
            ))),
        }
    }

    /// One JSON text with a list of records.
    fn list(
        &self,
        place: &Place,
        http: &HttpStream,
        answer: &Answer,
    ) -> Result<(Vec<Item>, Follows), Trouble> {
        let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
        if body.iter().all(u8::is_ascii_whitespace) {
            // 204, or a body that says nothing: there is no list in it and none after it.
            return if answer.status.as_u16() == 204 {
                Ok((Vec::new(), Follows::Nothing))
            } else {
                Err(Trouble::again("the answer is empty"))
            };
        }
        let text = String::from_utf8_lossy(body);
        let damaged = matches!(text, std::borrow::Cow::Owned(_));
        serde_json::from_str::<&RawValue>(&text).map_err(|error| self.not_json(place, &error, body))?;
        let list = match &http.records {
            None => text.trim(),
            Some(path) => match json::at(text.trim(), path.names()) {
                Some(found) => found.get(),
                None => return Err(self.no_list(place, path, body)),
            },
        };
        let items: Vec<&RawValue> = match list.as_bytes().first() {
            Some(b'[') => serde_json::from_str(list).map_err(|error| self.not_json(place, &error, body))?,
            // What some servers write for an empty list.
            Some(b'n') => Vec::new(),
            _ => {
                let root = FieldPath(vec!["(the body itself)".to_owned()]);
                return Err(self.no_list(place, http.records.as_ref().unwrap_or(&root), body));
            }
        };
        let items = items.into_iter().map(|item| json_item(item.get(), damaged)).collect();
        Ok((items, self.follows(place, http, answer, text.trim())?))
    }

    fn not_json(&self, place: &Place, error: &serde_json::Error, body: &[u8]) -> Trouble {
        if error.is_eof() {
            return Trouble::again(format!("the answer is cut off ({error})"));
        }
        let said = self.quote(body);
        Trouble::Final(place.poison(
            format!("the answer is not JSON ({error}){said}"),
            "report it to the API's owner: no record of the page can be told from the others",
        ))
    }

    fn no_list(&self, place: &Place, path: &FieldPath, body: &[u8]) -> Trouble {
        let said = self.quote(body);
        Trouble::Final(place.configuration(
            format!("the answer has no list of records at {path}{said}"),
            "correct `records`; if the answer is an error message, do what it says",
        ))
    }

    fn follows(
        &self,
        place: &Place,
        http: &HttpStream,
        answer: &Answer,
        text: &str,
    ) -> Result<Follows, Trouble> {
        let token = match &http.pagination {
            Pagination::None => return Ok(Follows::Nothing),
            Pagination::Page { .. } | Pagination::Offset { .. } => return Ok(Follows::Unsaid),
            Pagination::Link => {
                let Some(link) = answer.next_link() else { return Ok(Follows::Nothing) };
                let link = self.judge_link(place, &answer.url, &link).map_err(Trouble::Final)?;
                return Ok(Follows::Page(Next::Link(link)));
            }
            Pagination::Cursor { token: TokenPlace::Header(name), .. } => {
                answer.header(name).map(str::to_owned)
            }
            Pagination::Cursor { token: TokenPlace::Body(path), .. } => match json::at(text, path.names()) {
                None => None,
                Some(value) => match json::scalar(value) {
                    Some(Scalar::Text(token)) => Some(token),
                    Some(Scalar::Plain(token)) if token != "false" => Some(token),
                    Some(Scalar::Plain(_) | Scalar::Null) => None,
                    None => {
                        let what = format!("the page token at {path} is not one plain value");
                        return Err(Trouble::Final(place.configuration(what, "correct `pagination.token`")));
                    }
                },
            },
        };
        Ok(match token {
            Some(token) if !token.is_empty() => Follows::Page(Next::Token(token)),
            _ => Follows::Nothing,
        })
    }
}

/// A record per line. Each is judged alone; a last line that is cut off fails the page, to be read again.
fn lines(body: &[u8]) -> Result<Vec<Item>, Trouble> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut items = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        let Ok(text) = std::str::from_utf8(line) else {
            let shown = String::from_utf8_lossy(line).into_owned();
            items.push(Item::Broken(shown, Flaw::new(RejectReason::InvalidUtf8, "the line is not UTF-8")));
            continue;
        };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(value) => items.push(Item::Json(value.get().to_owned())),
            Err(error) if error.is_eof() && body.ends_with(line) => {
                return Err(Trouble::again(format!("the last line is cut off ({error})")));
            }
            Err(error) => {
                let flaw = Flaw::new(RejectReason::InvalidJson, format!("not JSON: {error}"));
                items.push(Item::Broken(text.to_owned(), flaw));
            }
        }
    }
    Ok(items)
}

/// In a page with bytes that are not UTF-8 every record that shows the mark of a replaced byte is set aside:
/// one that holds the mark by itself goes with them, which is better than keeping a damaged one.
fn json_item(text: &str, damaged: bool) -> Item {
    if damaged && text.contains('\u{fffd}') {
        let flaw = Flaw::new(RejectReason::InvalidUtf8, "the record holds bytes that are not UTF-8");
        return Item::Broken(text.to_owned(), flaw);
    }
    Item::Json(text.to_owned())
}
