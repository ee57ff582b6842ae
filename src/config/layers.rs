//! The layers of the configuration, laid over each other: defaults, a file, the environment.
//!
//! Knows where each value came from. Refuses keys and variables that do not exist, naming the nearest that does.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    fault::Faults,
    keys::{self, KEYS, Key},
};

/// The defaults: a file that people read and the program too, so that the two cannot differ.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// A value before its key's type is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<String>),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `config/default.toml`, compiled in.
    Default,
    /// A line, counted from 1, of a configuration file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// The values in force, by the path of their key.
pub(crate) type Settings = BTreeMap<&'static str, Setting>;

/// The settings of the defaults alone.
pub(super) fn defaults() -> Settings {
    let (mut settings, mut faults) = (Settings::new(), Faults::default());
    lay_text(&mut settings, DEFAULTS, |_line| Origin::Default, &mut faults);
    assert!(faults.0.is_empty(), "config/default.toml is compiled in and tested: {:?}", faults.0);
    settings
}

/// Lays a file's text over the settings.
pub(super) fn lay_file(settings: &mut Settings, path: &std::path::Path, text: &str, faults: &mut Faults) {
    lay_text(settings, text, |line| Origin::File(path.to_owned(), line), faults);
}

fn lay_text(settings: &mut Settings, text: &str, origin: impl Fn(usize) -> Origin, faults: &mut Faults) {
    let origin_at = |at: usize| origin(text.get(..at).unwrap_or(text).matches('\n').count() + 1);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        faults.add(origin_at(at), format!("this is not TOML: {}", error.message()), "correct the syntax");
    }
    if errors.is_empty() {
        lay_table(settings, table.get_ref(), "", &origin_at, faults);
    }
}

fn lay_table(
    settings: &mut Settings,
    table: &DeTable<'_>,
    prefix: &str,
    origin: &impl Fn(usize) -> Origin,
    faults: &mut Faults,
) {
    for (name, value) in table {
        let path = format!("{prefix}{}", name.get_ref());
        let at = name.span().start;
        if let (Some(inner), true) = (value.get_ref().as_table(), is_section(&path)) {
            lay_table(settings, inner, &format!("{path}."), origin, faults);
            continue;
        }
        let Some(key) = keys::by_path(&path) else {
            faults.add(origin(at), format!("there is no key `{path}`"), suggestion(&path));
            continue;
        };
        match read(value) {
            Some(value) => drop(settings.insert(key.path, Setting { value, origin: origin(at) })),
            None => faults.add(
                origin(at),
                format!("`{path}` has a value of the wrong type"),
                "see config/default.toml for an example",
            ),
        }
    }
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn suggestion(path: &str) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let sections = KEYS.iter().filter_map(|key| Some(key.path.split_once('.')?.0));
    let nearest = keys::nearest(path, KEYS.iter().map(|key| key.path).chain(sections)).map(str::to_owned);
    // A key in the wrong section is as likely as a slip of the hand.
    let elsewhere = KEYS.iter().map(|key| key.path).find(|key| last(key) == last(path)).map(str::to_owned);
    match elsewhere.or(nearest) {
        Some(nearest) => format!("did you mean `{nearest}`? config/default.toml lists every key"),
        None => "remove it; config/default.toml lists every key".to_owned(),
    }
}

fn read(value: &Spanned<DeValue<'_>>) -> Option<Value> {
    match value.get_ref() {
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Boolean(value) => Some(Value::Boolean(*value)),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Integer)
        }
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().map(Value::List)
        }
        _ => None,
    }
}

/// Lays the environment over the settings. An empty variable is the same as none.
pub(super) fn lay_environment(
    settings: &mut Settings,
    variables: impl Iterator<Item = (String, String)>,
    faults: &mut Faults,
) {
    for (name, value) in variables {
        match KEYS.iter().find(|key| key.variable == name) {
            Some(_) if value.is_empty() => {}
            Some(key) => lay_variable(settings, key, value),
            None if !name.starts_with(keys::PREFIX) || keys::OTHER_VARIABLES.contains(&name.as_str()) => {}
            None => {
                let known = KEYS.iter().map(|key| key.variable).chain(keys::OTHER_VARIABLES);
                let help = match keys::nearest(&name, known) {
                    Some(nearest) => format!("did you mean {nearest}? otherwise unset it"),
                    None => "unset it; config/default.toml lists every variable".to_owned(),
                };
                faults.add(format!("variable {name}"), "there is no such setting", help);
            }
        }
    }
}

fn lay_variable(settings: &mut Settings, key: &'static Key, value: String) {
    let origin = Origin::Variable(key.variable);
    // A variable that names a secret's file stands against a file's secret, and the other way round.
    let rival = match key.path.strip_suffix("_file") {
        Some(plain) => keys::by_path(plain),
        None => keys::by_path(&format!("{}_file", key.path)),
    };
    if let Some(rival) = rival
        && settings.get(rival.path).is_some_and(|held| !matches!(held.origin, Origin::Variable(_)))
    {
        settings.remove(rival.path);
    }
    settings.insert(key.path, Setting { value: Value::Text(value), origin });
}
