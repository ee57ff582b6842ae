//! From the text of a policy file to compiled rules.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use super::{
    Policy,
    expression::{Expression, Fields, Wanted},
    fault::{Gathered, PolicyFaults},
    rule::{Confidence, Rule},
};
use crate::{decision::Verdict, digest::Digest};

/// A policy file, in bytes.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Rules of a policy.
const RULES_MAX: usize = 200;
const NAME_LENGTH_MAX: usize = 63;
const REASON_LENGTH_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: Spanned<String>,
    #[serde(default)]
    review_below: Option<Spanned<i64>>,
    #[serde(default)]
    risky: Vec<Spanned<String>>,
    #[serde(default)]
    evidence: EvidenceNeeds,
    #[serde(default)]
    rules: Vec<RuleSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSection {
    name: Spanned<String>,
    when: Option<Spanned<String>>,
    verdict: Spanned<Verdict>,
    #[serde(default)]
    value: BTreeMap<String, Spanned<String>>,
    confidence: Option<Spanned<toml::Value>>,
    class: Option<Spanned<String>>,
    reason: Option<Spanned<String>>,
}

/// What must be known beside the record before the rules can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceNeeds {
    /// How many earlier states: none, since they are not kept.
    #[serde(default)]
    history: Option<Spanned<i64>>,
    /// The field whose value identifies: other records of the stream with the same one are duplicates.
    pub duplicates: Option<OfDuplicates>,
    /// Streams that hold the same identities.
    #[serde(default)]
    pub sources: Vec<OfSource>,
    /// Fields that refer to records of other streams.
    #[serde(default)]
    pub references: Vec<OfReference>,
}

/// How duplicates are found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfDuplicates {
    /// The field, at the top of the record.
    pub field: String,
    /// How its values are compared.
    #[serde(default)]
    pub compare: Compare,
}

/// How the same identity is found in another stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfSource {
    /// The connector of the other stream.
    pub connector: String,
    /// The other stream.
    pub stream: String,
    /// Our field.
    pub field: String,
    /// Theirs.
    pub matches: String,
    /// How the values are compared.
    #[serde(default)]
    pub compare: Compare,
}

/// A field that holds the key of a record elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfReference {
    /// What `evidence.orphaned` calls it.
    pub name: String,
    /// Our field.
    pub field: String,
    /// The connector of the other stream.
    pub connector: String,
    /// The stream whose records are referred to.
    pub stream: String,
}

/// When two values are one identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// When they are the same to the letter.
    Exact,
    /// When they are the same but for case and blanks around them.
    #[default]
    Text,
    /// When their digits are the same.
    Digits,
}

impl Compare {
    /// As SQL knows it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Text => "text",
            Self::Digits => "digits",
        }
    }
}

pub(super) fn compile(
    text: &str,
    file_name: &str,
    fields: &Fields,
    governed: Option<&[String]>,
) -> Result<Policy, PolicyFaults> {
    let mut faults = Gathered::new(text);
    if text.len() > TEXT_BYTES_MAX {
        faults.add(0, "the file is too long", format!("a policy has at most {TEXT_BYTES_MAX} bytes"));
        return Err(faults.into_faults(file_name));
    }
    let file: File = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            faults.add(at, error.message(), "see the examples in config/policies");
            return Err(faults.into_faults(file_name));
        }
    };
    let mut reader = Reader { fields, governed, faults };
    let policy = reader.policy(file, text);
    if reader.faults.is_empty() { Ok(policy) } else { Err(reader.faults.into_faults(file_name)) }
}

struct Reader<'a> {
    fields: &'a Fields,
    governed: Option<&'a [String]>,
    faults: Gathered<'a>,
}

impl Reader<'_> {
    fn policy(&mut self, file: File, text: &str) -> Policy {
        self.name(&file.path, "a path");
        let review_below = file.review_below.map_or(0, |it| self.percent(it.span().start, *it.get_ref()));
        self.evidence(&file.evidence);
        if file.rules.is_empty() || file.rules.len() > RULES_MAX {
            let help = format!("write 1 to {RULES_MAX} sections [[rules]]");
            self.faults.add(text.len(), format!("the policy has {} rules", file.rules.len()), help);
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for section in file.rules {
            if !names.insert(section.name.get_ref().clone()) {
                self.faults.add(
                    section.name.span().start,
                    "another rule has this name",
                    "give it one of its own",
                );
            }
            self.faults.rule = Some(section.name.get_ref().clone());
            rules.push(self.rule(section));
            self.faults.rule = None;
        }
        for class in &file.risky {
            if !rules.iter().any(|rule| rule.class() == Some(class.get_ref())) {
                let help = "a class in `risky` is the `class` of a rule";
                self.faults.add(
                    class.span().start,
                    format!("no rule has the class {:?}", class.get_ref()),
                    help,
                );
            }
        }
        Policy {
            path: file.path.into_inner(),
            text: text.to_owned(),
            digest: Digest::of(text.as_bytes()),
            review_below,
            risky: file.risky.into_iter().map(Spanned::into_inner).collect(),
            evidence: file.evidence,
            rules,
        }
    }

    fn name(&mut self, name: &Spanned<String>, whose: &str) {
        let text = name.get_ref();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || !text.chars().all(plain) || text.len() > NAME_LENGTH_MAX {
            let help = format!("1 to {NAME_LENGTH_MAX} of a to z, 0 to 9, _ and -, a letter first");
            self.faults.add(name.span().start, format!("{text:?} is no name of {whose}"), help);
        }
    }

    fn percent(&mut self, at: usize, number: i64) -> u8 {
        let percent = u8::try_from(number).ok().filter(|percent| *percent <= 100);
        percent.unwrap_or_else(|| {
            self.faults.add(
                at,
                format!("{number} is no percentage"),
                "expected a whole number from 0 to 100",
            );
            0
        })
    }

    fn evidence(&mut self, evidence: &EvidenceNeeds) {
        if let Some(history) = evidence.history.as_ref().filter(|it| *it.get_ref() != 0) {
            let help = "remove the line: rules decide on what the record and its evidence show now";
            self.faults.add(history.span().start, "the earlier states of a record are not kept", help);
        }
        let duplicates = evidence.duplicates.iter().map(|it| &it.field);
        let sources = evidence.sources.iter().map(|it| &it.field);
        let references = evidence.references.iter().map(|it| &it.field);
        for field in duplicates.chain(sources).chain(references) {
            if let Err(known) = self.fields.kind(field) {
                let help = format!("the stream has {}", known.join(", "));
                self.faults.add(
                    0,
                    format!("[evidence] names the field {field}, which the stream has not"),
                    help,
                );
            }
        }
    }

    fn rule(&mut self, section: RuleSection) -> Rule {
        self.name(&section.name, "a rule");
        let verdict = *section.verdict.get_ref();
        let at = section.verdict.span().start;
        let is_fix = verdict == Verdict::Fix;
        if is_fix && section.value.is_empty() {
            self.faults.add(at, "a fix proposes no value", "write value = { FIELD = 'EXPRESSION' }");
        }
        if is_fix && section.class.is_none() {
            self.faults.add(at, "a fix has no class", "write class = \"…\": approvals are given by class");
        }
        if !is_fix && !section.value.is_empty() {
            self.faults.add(at, "only a fix proposes values", "remove `value`, or write verdict = \"fix\"");
        }
        if let Some(class) = &section.class {
            self.name(class, "a class");
        }
        if let Some(reason) = section.reason.as_ref().filter(|it| it.get_ref().len() > REASON_LENGTH_MAX) {
            let help = format!("at most {REASON_LENGTH_MAX} bytes");
            self.faults.add(reason.span().start, "the reason is too long", help);
        }
        let when = section.when.as_ref().and_then(|when| self.expression(when, Wanted::Boolean));
        let values = section.value.iter().filter_map(|(field, value)| {
            self.governed(field, value.span().start);
            Some((field.clone(), self.expression(value, Wanted::Value)?))
        });
        let values = values.collect();
        let confidence = self.confidence(section.confidence.as_ref());
        let name = section.name.into_inner();
        let reason = section.reason.map_or_else(|| name.replace(['_', '-'], " "), Spanned::into_inner);
        Rule {
            name,
            when,
            verdict,
            values,
            confidence,
            class: section.class.map(Spanned::into_inner),
            reason,
        }
    }

    fn governed(&mut self, field: &str, at: usize) {
        let Some(governed) = self.governed else { return };
        if !governed.iter().any(|it| it == field) {
            let help = format!("the path governs {}", governed.join(", "));
            self.faults.add(at, format!("the path does not govern the field {field}"), help);
        }
    }

    fn confidence(&mut self, given: Option<&Spanned<toml::Value>>) -> Confidence {
        let Some(given) = given else { return Confidence::Fixed(100) };
        match given.get_ref() {
            toml::Value::Integer(number) => Confidence::Fixed(self.percent(given.span().start, *number)),
            toml::Value::String(source) => {
                let source = Spanned::new(given.span(), source.clone());
                let compiled = self.expression(&source, Wanted::Integer);
                compiled.map_or(Confidence::Fixed(0), |it| Confidence::Computed(Box::new(it)))
            }
            other => {
                let help = "expected a whole number from 0 to 100, or an expression in quotes that gives one";
                self.faults.add(given.span().start, format!("a {} is no confidence", other.type_str()), help);
                Confidence::Fixed(0)
            }
        }
    }

    fn expression(&mut self, source: &Spanned<String>, wanted: Wanted) -> Option<Expression> {
        match Expression::compile(source.get_ref(), self.fields, wanted) {
            Ok(expression) => Some(expression),
            Err(faults) => {
                for fault in faults {
                    let at = self.faults.inside(&source.span(), source.get_ref(), fault.at);
                    self.faults.add(at, fault.what, fault.help);
                }
                None
            }
        }
    }
}
