//! A table of the file as it is walked: every key asked for once, every key not asked for reported.
//!
//! A reader never stops at a fault. It notes it and answers `None`, so that one pass finds them all.

use std::ops::Range;
use std::time::Duration;

use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::FieldPath;
use super::fault::{Faults, nearest};
use super::units;
use crate::secret::SecretText;

/// One table.
pub(super) struct Section<'t> {
    table: &'t DeTable<'t>,
    /// Its path from the top, with a dot at the end; empty at the top.
    path: String,
    span: Range<usize>,
    asked: Vec<&'static str>,
    faults: &'t Faults,
}

impl<'t> Section<'t> {
    pub(super) fn new(table: &'t DeTable<'t>, path: String, span: Range<usize>, faults: &'t Faults) -> Self {
        Self { table, path, span, asked: Vec::new(), faults }
    }

    pub(super) const fn faults(&self) -> &'t Faults {
        self.faults
    }

    /// Where the value of `key` is, or the table if it has none.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// The name of a key as a person would write it.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// Notes that the value of `key` is wrong.
    pub(super) fn wrong(&self, key: &str, what: impl AsRef<str>, help: impl Into<String>) {
        self.faults.add(&self.span_of(key), format!("`{}` {}", self.name(key), what.as_ref()), help);
    }

    pub(super) fn missing(&self, key: &str, help: impl Into<String>) {
        self.faults.add(&self.span, format!("`{}` is missing", self.name(key)), help);
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong(key, "must be text", "write it in quotes");
        }
        text.map(str::to_owned)
    }

    pub(super) fn required(&mut self, key: &'static str, help: &str) -> Option<String> {
        if !self.has(key) {
            self.asked.push(key);
            self.missing(key, help);
            return None;
        }
        self.string(key)
    }

    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let Some(text) = self.string(key) else { return default };
        units::duration(&text).filter(|duration| !duration.is_zero()).unwrap_or_else(|| {
            self.wrong(key, "is not a duration", "write a number and ms, s, m, h or d, such as \"30s\"");
            default
        })
    }

    pub(super) fn bytes(&mut self, key: &'static str, default: u64) -> u64 {
        let Some(text) = self.string(key) else { return default };
        units::bytes(&text).filter(|bytes| *bytes > 0).unwrap_or_else(|| {
            self.wrong(
                key,
                "is not a size",
                "write a whole number and B, KiB, MiB or GiB, such as \"32MiB\"",
            );
            default
        })
    }

    pub(super) fn integer(&mut self, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        let number =
            value.get_ref().as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        if number.is_none_or(|number| !range.contains(&number)) {
            let help = format!("write a whole number from {} to {}", range.start(), range.end());
            self.wrong(key, "is out of range", help);
            return None;
        }
        number
    }

    /// One of a closed set of words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let Some(word) = self.string(key) else { return default };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return *value;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.wrong(key, format!("cannot be {word:?}"), format!("write {}", names.join(" or ")));
        default
    }

    /// A list of texts.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let list: Option<Vec<String>> = value
            .get_ref()
            .as_array()
            .and_then(|items| items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect());
        if list.is_none() {
            self.wrong(key, "must be a list of texts", "write it like [\"id\", \"email\"]");
        }
        list
    }

    /// A list of fields.
    pub(super) fn fields(&mut self, key: &'static str) -> Option<Vec<FieldPath>> {
        let texts = self.strings(key)?;
        let fields: Vec<_> = texts.iter().filter_map(|text| self.path_of(key, text)).collect();
        for (index, field) in fields.iter().enumerate() {
            if fields[..index].contains(field) {
                self.wrong(key, format!("names {field} twice"), "name each field once");
            }
        }
        Some(fields)
    }

    pub(super) fn field(&mut self, key: &'static str, help: &str) -> Option<FieldPath> {
        let text = self.required(key, help)?;
        self.path_of(key, &text)
    }

    fn path_of(&self, key: &str, text: &str) -> Option<FieldPath> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        if names.iter().any(|name| name.is_empty() || name.contains('\0')) {
            self.wrong(key, format!("holds {text:?}, which names no field"), "write names joined by dots");
            return None;
        }
        Some(FieldPath(names))
    }

    /// A map of texts, such as headers; numbers and booleans count as their text.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let text = |value: &DeValue<'_>| match value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Boolean(yes) => Some(yes.to_string()),
            _ => None,
        };
        let mut texts = Vec::new();
        for (name, value) in section.table {
            match text(value.get_ref()) {
                Some(text) => texts.push((name.get_ref().to_string(), text)),
                None => self.faults.add(
                    &value.span(),
                    format!("`{}{}` must be text", section.path, name.get_ref()),
                    "write it in quotes",
                ),
            }
        }
        texts
    }

    /// A map of texts or lists of them; one text counts as a list of one.
    pub(super) fn lists(&mut self, key: &'static str) -> Vec<(String, Vec<String>)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let mut lists = Vec::new();
        for (name, value) in section.table {
            let words: Option<Vec<String>> = match value.get_ref() {
                DeValue::String(text) => Some(vec![text.to_string()]),
                DeValue::Array(items) => {
                    items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
                }
                _ => None,
            };
            match words {
                Some(words) => lists.push((name.get_ref().to_string(), words)),
                None => self.faults.add(
                    &value.span(),
                    format!("`{}{}` must be a list of texts", section.path, name.get_ref()),
                    "write it like [\"trim\", \"lower\"]",
                ),
            }
        }
        lists
    }

    /// A table within this one.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'t>> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, "must be a table", format!("write [{0}] or {0} = {{ … }}", self.name(key)));
            return None;
        };
        Some(Section::new(table, format!("{}.", self.name(key)), value.span(), self.faults))
    }

    /// A secret: in the definition (`<key>`), in a file (`<key>_file`) or kept by the tenant (`<key>_credential`), one
    /// of them.
    pub(super) fn secret(&mut self, [key, file_key, kept_key]: [&'static str; 3]) -> Option<SecretText> {
        let inline = self.string(key);
        let file = self.string(file_key);
        let kept = self.string(kept_key).filter(|name| self.is_credential(kept_key, name));
        let given: Vec<_> = [key, file_key, kept_key].into_iter().filter(|key| self.has(key)).collect();
        if let [first, other, ..] = given[..] {
            self.wrong(first, format!("and `{other}` exclude each other"), format!("keep `{other}`"));
            return None;
        }
        if let Some(name) = kept {
            return Some(SecretText::Kept { key: self.name(kept_key), name, keeper: None });
        }
        if let Some(path) = file {
            return Some(SecretText::File { key: self.name(file_key), path: path.into() });
        }
        inline.map(|text| SecretText::Inline { key: self.name(key), text: SecretString::from(text) })
    }

    fn is_credential(&self, key: &str, name: &str) -> bool {
        let good = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= 63
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if !good {
            // It may be the secret itself, typed into the wrong place: it is not repeated.
            let help = "write the name that `connector credential set` was given: a letter a-z, then a-z, 0-9, - and _, at most 63 in all";
            self.wrong(key, "is no name of a credential", help);
        }
        good
    }

    pub(super) fn required_secret(&mut self, keys: [&'static str; 3]) -> Option<SecretText> {
        if !keys.iter().any(|key| self.has(key)) {
            self.asked.extend(keys);
            let [_, file_key, kept_key] = keys;
            let help = format!(
                "write the secret into a file and name that file here, or give it to `connector credential set` and write `{kept_key}`"
            );
            self.missing(file_key, help);
            return None;
        }
        self.secret(keys)
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(&name) {
                let help = nearest(name, self.asked.iter().copied()).map_or_else(
                    || format!("the keys known here are {}", self.asked.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.faults.add(&key.span(), format!("unknown key `{}{name}`", self.path), help);
            }
        }
    }
}
