//! The functions that a rule may call, and those of them that are the product's own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use cel::{Context, DeclarationError, ExecutionError, FunctionContext, Value};
use regex::Regex;

use super::types::Ty;
use crate::detector::{self, DayOrder};

/// How a function is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `f(x)`
    Plain,
    /// `x.f()`
    Method,
}

/// A function's name, style, parameters (the receiver first) and result.
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) style: Style,
    pub(super) parameters: &'static [Ty],
    pub(super) result: Ty,
}

const fn plain(name: &'static str, parameters: &'static [Ty], result: Ty) -> Signature {
    Signature { name, style: Style::Plain, parameters, result }
}

const fn method(name: &'static str, parameters: &'static [Ty], result: Ty) -> Signature {
    Signature { name, style: Style::Method, parameters, result }
}

const ONE: &[Ty] = &[Ty::Any];
const TEXT: &[Ty] = &[Ty::Text];
const TEXTS: &[Ty] = &[Ty::Text, Ty::Text];
const MOMENT: &[Ty] = &[Ty::Moment];

/// Every function there is. What is not here is unknown, even if the library had it.
pub(super) const SIGNATURES: &[Signature] = &[
    plain("size", ONE, Ty::Int),
    method("size", ONE, Ty::Int),
    method("contains", TEXTS, Ty::Bool),
    method("startsWith", TEXTS, Ty::Bool),
    method("endsWith", TEXTS, Ty::Bool),
    plain("int", ONE, Ty::Int),
    plain("uint", ONE, Ty::Uint),
    plain("double", ONE, Ty::Double),
    plain("string", ONE, Ty::Text),
    plain("dyn", ONE, Ty::Any),
    plain("type", ONE, Ty::Type),
    plain("timestamp", ONE, Ty::Moment),
    plain("duration", ONE, Ty::Duration),
    method("getFullYear", MOMENT, Ty::Int),
    method("getMonth", MOMENT, Ty::Int),
    method("getDate", MOMENT, Ty::Int),
    method("getDayOfWeek", MOMENT, Ty::Int),
    method("getHours", ONE, Ty::Int),
    // Ours. Their texts may be null, as a field's may.
    plain(MATCHES, TEXTS, Ty::Bool),
    plain("lower", TEXT, Ty::Text),
    plain("upper", TEXT, Ty::Text),
    plain("trim", TEXT, Ty::Text),
    plain("collapse", TEXT, Ty::Text),
    plain("digits", TEXT, Ty::Text),
    plain("email", ONE, Ty::Text),
    plain("phone", ONE, Ty::Text),
    plain("phone", &[Ty::Any, Ty::Text], Ty::Text),
    plain("country", ONE, Ty::Text),
    plain("date", ONE, Ty::Text),
    plain("date", &[Ty::Any, Ty::Text], Ty::Text),
    plain(DAYS_SINCE, ONE, Ty::Int),
];

/// Its second argument must be a literal.
pub(super) const MATCHES: &str = "matches";
/// It reads the clock.
pub(super) const DAYS_SINCE: &str = "days_since";

const SECONDS_A_DAY: i64 = 86_400;

/// Gives the context our functions. `now` is in seconds since 1970.
pub(super) fn register(
    context: &mut Context<'static, 'static>,
    patterns: BTreeMap<String, Regex>,
    now: Arc<AtomicI64>,
) -> Result<(), DeclarationError> {
    context.add_function(MATCHES, move |text: Value, pattern: Arc<String>| match text {
        // What is not there matches nothing.
        Value::Null => Ok(Value::Bool(false)),
        text => Ok(Value::Bool(patterns.get(&*pattern).is_some_and(|it| it.is_match(text_of(&text))))),
    }
        as Result<Value, ExecutionError>)?;
    context.add_function("lower", |text: Value| map_text(&text, |text| Some(text.to_lowercase())))?;
    context.add_function("upper", |text: Value| map_text(&text, |text| Some(text.to_uppercase())))?;
    context.add_function("trim", |text: Value| map_text(&text, |text| Some(text.trim().to_owned())))?;
    context.add_function("collapse", |text: Value| map_text(&text, |text| Some(collapse(text))))?;
    context.add_function("digits", |text: Value| map_text(&text, |text| Some(digits(text))))?;
    context.add_function("email", |text: Value| map_text(&text, detector::email))?;
    context.add_function("country", |text: Value| {
        map_text(&text, |text| detector::country(text).map(str::to_owned))
    })?;
    context.add_function("phone", phone)?;
    context.add_function("date", date)?;
    context.add_function(DAYS_SINCE, move |moment: Value| days_since(&moment, now.load(Ordering::Relaxed)))
}

/// Null stays null; what is no text is no e-mail address, no country and so on.
fn map_text(value: &Value, map: impl FnOnce(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) => map(text).map_or(Value::Null, Value::from),
        _ => Value::Null,
    }
}

fn text_of(value: &Value) -> &str {
    match value {
        Value::String(text) => text,
        _ => "",
    }
}

fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The second argument, if one is given.
fn second<'a>(call: &'a FunctionContext<'_, '_>) -> &'a str {
    let given = call.args.get(1).and_then(|arg| arg.downcast_ref::<cel::common::types::CelString<'_>>());
    given.map_or("", |text| text.inner())
}

#[expect(clippy::needless_pass_by_value, reason = "the library hands values over")]
fn phone(call: &FunctionContext, value: Value) -> Value {
    map_text(&value, |text| detector::phone(text, second(call)))
}

#[expect(clippy::needless_pass_by_value, reason = "the library hands values over")]
fn date(call: &FunctionContext, value: Value) -> Result<Value, ExecutionError> {
    let order = match second(call) {
        "" => DayOrder::Unknown,
        "dmy" => DayOrder::DayFirst,
        "mdy" => DayOrder::MonthFirst,
        _ => return Err(call.error("the order of a date is \"dmy\" or \"mdy\"")),
    };
    Ok(map_text(&value, |text| detector::date(text, order)))
}

fn days_since(value: &Value, now: i64) -> Result<Value, ExecutionError> {
    let then = match value {
        Value::Timestamp(moment) => moment.timestamp(),
        Value::String(text) => match detector::moment(text) {
            Some(moment) => moment.timestamp(),
            None => return Err(ExecutionError::function_error(DAYS_SINCE, "the text is no date")),
        },
        _ => return Err(ExecutionError::function_error(DAYS_SINCE, "there is no date")),
    };
    Ok(Value::Int((now - then).div_euclid(SECONDS_A_DAY)))
}
