//! The evaluation of an expression on one record.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use cel::{
    Context, Env, ExecutionError, Value,
    common::{
        types::{CelBool, CelInt, CelString, CelTimestamp},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use chrono::{DateTime, Utc};
use regex::Regex;
use serde_json::{Map, Value as Json};

use super::{
    Expression, functions,
    meter::{self, Meter},
    values::{self, Object},
};

/// What the rules can see of one record.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// The record's key.
    pub key: &'a str,
    /// The record.
    pub record: &'a Map<String, Json>,
    /// `{duplicates, sources, orphaned}`, each a list.
    pub evidence: &'a Map<String, Json>,
    /// When it last changed at the source, as far as syncs have seen.
    pub changed_at: DateTime<Utc>,
    /// The time of the run, from the database.
    pub now: DateTime<Utc>,
}

impl Variables<'_> {
    fn weight(&self) -> usize {
        values::weight_of(self.record) + values::weight_of(self.evidence)
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        Some(match name {
            "record" => CowVal::owned(Object(self.record)),
            "key" => CowVal::owned(CelString::from(self.key)),
            "evidence" => CowVal::owned(Object(self.evidence)),
            "now" => CowVal::owned(CelTimestamp::from(self.now.fixed_offset())),
            "changed_at" => CowVal::owned(CelTimestamp::from(self.changed_at.fixed_offset())),
            _ => return None,
        })
    }
}

/// Why an expression gave nothing that can be used. The texts never hold a value of the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The loops or the values were more than an evaluation may cost.
    #[error("costs too much: its loops take too many turns or its values grow too large")]
    TooCostly,
    /// The record and its evidence are larger than an evaluation takes.
    #[error("the record and its evidence are too large to be judged by rules")]
    TooLarge,
    /// The evaluation failed.
    #[error("failed: {0}")]
    Failed(String),
    /// It gave something else than what is needed.
    #[error("{0}")]
    Unfit(&'static str),
}

/// Larger records go to people.
pub(crate) const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Evaluates the expressions of one policy, on one thread at a time. Making one costs some microseconds.
pub struct Evaluator {
    root: Context<'static, 'static>,
    meter: Arc<Meter>,
    now: Arc<AtomicI64>,
}

impl Evaluator {
    /// `patterns` are those of all expressions that will be evaluated.
    pub(crate) fn new(patterns: BTreeMap<String, Regex>) -> Self {
        let (meter, now) = (Arc::new(Meter::default()), Arc::default());
        let mut root = Context::with_env(Arc::new(Env::stdlib()));
        functions::register(&mut root, patterns, Arc::clone(&now))
            .expect("our functions have names of their own");
        meter::register(&mut root, &meter).expect("no expression can write such names");
        Self { root, meter, now }
    }

    /// Looks at one record. Every expression evaluated on it has a meter of its own.
    pub(crate) fn on<'a>(&'a self, variables: &'a Variables<'a>) -> Result<OnRecord<'a>, EvaluationError> {
        let weight = variables.weight();
        if weight > RECORD_BYTES_MAX {
            return Err(EvaluationError::TooLarge);
        }
        self.now.store(variables.now.timestamp(), Ordering::Relaxed);
        let root: &'a Context<'_, 'a> = &self.root;
        let mut scope = root.new_inner_scope();
        scope.set_variable_resolver(variables);
        Ok(OnRecord { scope, meter: &self.meter, weight })
    }
}

/// One record, ready to be judged.
pub(crate) struct OnRecord<'a> {
    scope: Context<'a, 'a>,
    meter: &'a Meter,
    weight: usize,
}

impl OnRecord<'_> {
    pub(crate) fn boolean(&self, expression: &Expression) -> Result<bool, EvaluationError> {
        self.evaluate(expression, |value| {
            value.downcast_ref::<CelBool>().map(|it| *it.inner()).ok_or("gives no boolean")
        })
    }

    pub(crate) fn integer(&self, expression: &Expression) -> Result<i64, EvaluationError> {
        self.evaluate(expression, |value| {
            value.downcast_ref::<CelInt>().map(|it| *it.inner()).ok_or("gives no whole number")
        })
    }

    pub(crate) fn value(&self, expression: &Expression) -> Result<Json, EvaluationError> {
        self.evaluate(expression, values::to_json)
    }

    fn evaluate<T>(
        &self,
        expression: &Expression,
        read: impl FnOnce(&dyn Val) -> Result<T, &'static str>,
    ) -> Result<T, EvaluationError> {
        self.meter.start(self.weight);
        let value = Value::resolve_val(&expression.metered, &self.scope);
        if self.meter.is_spent() {
            return Err(EvaluationError::TooCostly);
        }
        let value = value.map_err(|error| EvaluationError::Failed(without_values(&error)))?;
        read(value.as_ref()).map_err(EvaluationError::Unfit)
    }
}

/// What failed, without what it failed on: an error's own text quotes the record.
fn without_values(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchOverload(overload) => {
            format!("{} does not take ({})", overload.function(), overload.argument_types().join(", "))
        }
        ExecutionError::FunctionError { function, message } if function == functions::DAYS_SINCE => {
            format!("{function}: {message}")
        }
        ExecutionError::FunctionError { function, .. } => format!("{function} cannot take its argument"),
        ExecutionError::UndeclaredReference(name) => format!("{name} is unknown"),
        ExecutionError::NoSuchKey(name) => format!("there is no {name}"),
        ExecutionError::UnexpectedType { want, .. } => format!("a value is no {want}"),
        ExecutionError::UnsupportedBinaryOperator(operator, ..) | ExecutionError::Overflow(operator, ..) => {
            format!("{operator} cannot be applied")
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::IndexOutOfBounds(_) => "there is no such place in the list".to_owned(),
        _ => "a value is not of the kind that is needed".to_owned(),
    }
}
