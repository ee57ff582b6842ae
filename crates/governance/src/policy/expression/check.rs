//! Names and types, before any record is seen.
//!
//! Only what is certainly wrong is refused: a field whose kind is open may be anything, and shows at run time.

use std::collections::{BTreeMap, BTreeSet};

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators},
};
use regex::{Regex, RegexBuilder};

use super::{
    ExpressionFault, Wanted,
    functions::{DAYS_SINCE, MATCHES, SIGNATURES, Signature, Style},
    parse::Parsed,
    types::{Fields, TYPE_NAMES, Ty, VARIABLES},
};
use crate::policy::nearest;

/// A compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 18;

const COMPARISONS: [&str; 6] = [
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
];
const ARITHMETIC: [&str; 5] =
    [operators::ADD, operators::SUBSTRACT, operators::MULTIPLY, operators::DIVIDE, operators::MODULO];

/// What an expression uses.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) patterns: BTreeMap<String, Regex>,
    pub(super) fields: BTreeSet<String>,
    pub(super) uses_clock: bool,
}

pub(super) fn check(parsed: &Parsed, fields: &Fields, wanted: Wanted) -> Result<Found, Vec<ExpressionFault>> {
    let mut check =
        Check { parsed, fields, locals: Vec::new(), found: Found::default(), faults: Vec::new(), at: 0 };
    let ty = check.infer(&parsed.root);
    if check.faults.is_empty() {
        check.at = parsed.place(&parsed.root).unwrap_or_default();
        check.result(ty, wanted);
    }
    if check.faults.is_empty() { Ok(check.found) } else { Err(check.faults) }
}

struct Check<'a> {
    parsed: &'a Parsed,
    fields: &'a Fields,
    locals: Vec<(&'a str, Ty)>,
    found: Found,
    faults: Vec<ExpressionFault>,
    /// Where the nearest part with a known place stands: what macros write has none.
    at: usize,
}

impl<'a> Check<'a> {
    fn fault(&mut self, what: impl Into<String>, help: impl Into<String>) -> Ty {
        self.faults.push(ExpressionFault { at: self.at, what: what.into(), help: help.into() });
        Ty::Any
    }

    fn result(&mut self, ty: Ty, wanted: Wanted) {
        let (fits, expected) = match wanted {
            Wanted::Boolean => {
                (ty.fits(Ty::Bool), "expected a boolean: compare with ==, !=, < or a function")
            }
            Wanted::Integer => (ty.fits(Ty::Int), "expected a whole number from 0 to 100"),
            Wanted::Value => {
                (is_storable(ty), "expected what a field can hold: a text, a whole number, a boolean")
            }
        };
        if !fits {
            self.fault(format!("gives {}", with_article(ty)), expected);
        }
    }

    fn infer(&mut self, part: &'a IdedExpr) -> Ty {
        let outer = self.at;
        self.at = self.parsed.place(part).unwrap_or(outer);
        let ty = match &part.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                for element in &list.elements {
                    self.infer(element);
                }
                Ty::List(&Ty::Any)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.infer(&entry.key);
                        self.infer(&entry.value);
                    }
                }
                Ty::Map
            }
            Expr::Comprehension(loop_) => self.loop_(loop_),
            Expr::Struct(_) | Expr::Unspecified => {
                self.fault("is no expression of a rule", "messages of protocol buffers are not known here")
            }
        };
        self.at = outer;
        ty
    }

    fn name(&mut self, name: &str) -> Ty {
        if let Some((_, ty)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return *ty;
        }
        if let Some((_, ty)) = VARIABLES.iter().find(|(variable, _)| *variable == name) {
            self.found.uses_clock |= name == "now";
            return *ty;
        }
        if TYPE_NAMES.contains(&name) {
            return Ty::Type;
        }
        if name == "history" {
            let help = "decide on what the record and its evidence show now";
            return self.fault("the earlier states of a record are not kept", help);
        }
        let known: Vec<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
        let help = match self.fields.kind(name) {
            Ok(_) if self.fields.kind("").is_err() => format!("write record.{name}"),
            _ => expected(name, &known, "a rule can speak of"),
        };
        self.fault(format!("{name} is unknown"), help)
    }

    fn select(&mut self, select: &'a SelectExpr) -> Ty {
        let object = self.infer(&select.operand);
        self.member(object, &select.field)
    }

    /// The member of this name of an object of this type.
    fn member(&mut self, object: Ty, name: &str) -> Ty {
        match object {
            Ty::Record => match self.fields.kind(name) {
                Ok(kind) => {
                    self.found.fields.insert(name.to_owned());
                    Ty::of_field(kind)
                }
                Err(known) => {
                    let help = expected(name, &known, "the stream has");
                    self.fault(format!("the stream has no field {name}"), help)
                }
            },
            Ty::Members(members) => {
                if let Some((_, ty)) = members.iter().find(|(member, _)| *member == name) {
                    return *ty;
                }
                let known: Vec<_> = members.iter().map(|(name, _)| *name).collect();
                self.fault(format!("there is no {name}"), expected(name, &known, "there is"))
            }
            Ty::Any | Ty::Map => Ty::Any,
            other => self
                .fault(format!("{} has no members", with_article(other)), format!(".{name} needs an object")),
        }
    }

    fn loop_(&mut self, loop_: &'a ComprehensionExpr) -> Ty {
        let element = match self.infer(&loop_.iter_range) {
            Ty::List(element) => *element,
            Ty::Any => Ty::Any,
            Ty::Map => Ty::Text,
            other => self.fault(
                format!("{} cannot be gone through", with_article(other)),
                "expected a list, such as evidence.duplicates",
            ),
        };
        let initial = self.infer(&loop_.accu_init);
        let before = self.locals.len();
        self.locals.push((&loop_.iter_var, element));
        self.locals.push((&loop_.accu_var, Ty::Any));
        self.infer(&loop_.loop_cond);
        self.infer(&loop_.loop_step);
        self.infer(&loop_.result);
        self.locals.truncate(before);
        match initial {
            // exists_one counts.
            Ty::Bool | Ty::Int => Ty::Bool,
            other => other,
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Ty {
        let target = call.target.as_deref().map(|target| self.infer(target));
        let args: Vec<_> = target.into_iter().chain(call.args.iter().map(|arg| self.infer(arg))).collect();
        if let (None, Some(ty)) = (target, self.operator(call, &args)) {
            return ty;
        }
        let style = if target.is_some() { Style::Method } else { Style::Plain };
        let name = &*call.func_name;
        let named: Vec<_> = SIGNATURES.iter().filter(|it| it.name == name).collect();
        if named.is_empty() {
            let known: BTreeSet<_> = SIGNATURES.iter().map(|it| it.name).collect();
            let known: Vec<_> = known.into_iter().collect();
            return self.fault(format!("there is no function {name}"), expected(name, &known, "there is"));
        }
        let Some(signature) = named.iter().find(|it| it.style == style && takes(it, &args)) else {
            let forms: Vec<_> = named.iter().map(|it| form(it)).collect();
            let given: Vec<_> = args.iter().map(ToString::to_string).collect();
            let what = format!("{name} does not take ({})", given.join(", "));
            return self.fault(what, format!("expected {}", forms.join(" or ")));
        };
        self.found.uses_clock |= name == DAYS_SINCE;
        if name == MATCHES {
            self.pattern(&call.args);
        }
        signature.result
    }

    /// The second argument as a pattern, compiled now.
    fn pattern(&mut self, args: &'a [IdedExpr]) {
        let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(text)), .. }) = args.get(1) else {
            self.fault("the pattern is no literal", "expected a text in quotes: patterns are compiled once");
            return;
        };
        match RegexBuilder::new(text.inner()).size_limit(PATTERN_BYTES_MAX).build() {
            Ok(pattern) => {
                self.found.patterns.insert(text.inner().to_owned(), pattern);
            }
            Err(regex::Error::CompiledTooBig(_)) => {
                self.fault("the pattern is too large", "repeat less, or write two rules");
            }
            Err(error) => {
                let reason = error.to_string();
                let reason =
                    reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.fault("the pattern is no regular expression", reason);
            }
        }
    }

    /// The type of an operator's result; none if it is no operator.
    fn operator(&mut self, call: &CallExpr, args: &[Ty]) -> Option<Ty> {
        let name = &*call.func_name;
        Some(match (name, args) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [..])
            | (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [_]) => self.booleans(args),
            (operators::CONDITIONAL, [condition, a, b]) => {
                self.booleans(&[*condition]);
                a.join(*b)
            }
            // Null may be asked for of anything.
            (operators::EQUALS | operators::NOT_EQUALS, [Ty::Null, _] | [_, Ty::Null]) => Ty::Bool,
            (name, [a, b]) if COMPARISONS.contains(&name) => self.comparison(*a, *b),
            (name, [a, b]) if ARITHMETIC.contains(&name) => self.arithmetic(*a, *b),
            (operators::NEGATE, [a]) => *a,
            (operators::IN, [_, within]) => self.within(*within),
            (operators::INDEX, [object, _]) => self.index(*object, call.args.get(1).map(|arg| &arg.expr)),
            _ => return None,
        })
    }

    fn comparison(&mut self, a: Ty, b: Ty) -> Ty {
        let both_numbers = a.is_number() && b.is_number();
        if !(both_numbers || a.fits(b)) {
            self.fault(format!("{a} is compared with {b}"), "expected both to be of one kind");
        }
        Ty::Bool
    }

    fn arithmetic(&mut self, a: Ty, b: Ty) -> Ty {
        let is_time = |ty| matches!(ty, Ty::Moment | Ty::Duration);
        if is_time(a) || is_time(b) {
            return Ty::Any;
        }
        if !a.fits(b) {
            let help = "expected both to be of one kind: int(…), double(…) and string(…) convert";
            return self.fault(format!("{a} and {b} cannot be put together"), help);
        }
        if a == Ty::Any { b } else { a }
    }

    fn within(&mut self, within: Ty) -> Ty {
        if !(within.fits(Ty::List(&Ty::Any)) || within.fits(Ty::Map)) {
            self.fault(format!("nothing is in {}", with_article(within)), "expected a list or an object");
        }
        Ty::Bool
    }

    fn index(&mut self, object: Ty, index: Option<&Expr>) -> Ty {
        match (object, index) {
            (Ty::List(element), _) => *element,
            (Ty::Record | Ty::Members(_), Some(Expr::Literal(LiteralValue::String(name)))) => {
                self.member(object, name.inner())
            }
            (Ty::Record | Ty::Members(_), _) => {
                self.fault("the field is not named", "expected a name in quotes: record[\"e-mail\"]")
            }
            _ => Ty::Any,
        }
    }

    fn booleans(&mut self, types: &[Ty]) -> Ty {
        for ty in types.iter().filter(|ty| !ty.fits(Ty::Bool)) {
            self.fault(
                format!("{} stands where a boolean belongs", with_article(*ty)),
                "expected a comparison",
            );
        }
        Ty::Bool
    }
}

fn takes(signature: &Signature, args: &[Ty]) -> bool {
    signature.parameters.len() == args.len()
        && signature.parameters.iter().zip(args).all(|(parameter, arg)| arg.fits(*parameter))
}

/// `contains` as `text.contains(text)`.
fn form(signature: &Signature) -> String {
    let parameters: Vec<_> = signature.parameters.iter().map(ToString::to_string).collect();
    match (signature.style, &*parameters) {
        (Style::Method, [receiver, rest @ ..]) => {
            format!("{receiver}.{}({})", signature.name, rest.join(", "))
        }
        _ => format!("{}({})", signature.name, parameters.join(", ")),
    }
}

fn is_storable(ty: Ty) -> bool {
    matches!(ty, Ty::Any | Ty::Text | Ty::Bool | Ty::Int | Ty::Uint | Ty::Number | Ty::List(_))
}

fn of_literal(literal: &LiteralValue) -> Ty {
    match literal {
        LiteralValue::Boolean(_) => Ty::Bool,
        LiteralValue::Bytes(_) => Ty::Bytes,
        LiteralValue::Double(_) => Ty::Double,
        LiteralValue::Int(_) => Ty::Int,
        LiteralValue::Null => Ty::Null,
        LiteralValue::String(_) => Ty::Text,
        LiteralValue::UInt(_) => Ty::Uint,
    }
}

fn with_article(ty: Ty) -> String {
    match ty {
        Ty::Any | Ty::Null | Ty::Bytes | Ty::Text => ty.to_string(),
        Ty::Int | Ty::Uint | Ty::Members(_) | Ty::Map => format!("an {ty}"),
        _ => format!("a {ty}"),
    }
}

/// The name that was probably meant, else all there are.
fn expected(name: &str, known: &[&str], there_is: &str) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("{there_is} {}", known.join(", ")),
    }
}
