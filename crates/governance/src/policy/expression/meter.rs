//! What keeps an expression from running away.
//!
//! The evaluator of the library has no bounds of its own, so the tree is given some before it runs:
//!
//! - around the range of every loop, [`RANGE`]: it takes the loop's work, elements times parts of the body, off the
//!   meter before the first turn. The work counts more with a large record, since a turn may look at all of it.
//! - around what grows, `a + b` and the elements that `map` makes, [`GROWN`]: it takes the value's size off the meter
//!   and refuses a value that is too large. So a text that doubles in every loop ends at [`GROWN_MAX`].
//!
//! Everything else is at most linear in the record and there are at most so many parts.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use cel::{
    Context, DeclarationError, ExecutionError, FunctionContext, IdedExpr,
    common::{
        ast::{CallExpr, EntryExpr, Expr, ListExpr, LiteralValue, operators},
        types::{CelBytes, CelInt, CelList, CelMap, CelString},
        value::{CowVal, Val},
    },
    extractors::IntoFunction,
};

use super::parse::children;

/// Units of work of one evaluation: a few milliseconds as rules are, some tenths of a second at the worst.
pub(super) const WORK_MAX: i64 = 100_000;
/// The size of a value that an expression makes, in bytes or elements.
pub(super) const GROWN_MAX: i64 = 16_384;
/// A turn of a loop counts once more for every so many bytes of the record and its evidence.
const BYTES_A_TURN: usize = 4096;
/// A unit of work copies about so many bytes.
const BYTES_A_UNIT: i64 = 16;

const RANGE: &str = "@range";
const GROWN: &str = "@grown";

/// The meter of one evaluator.
#[derive(Debug, Default)]
pub(super) struct Meter {
    left: AtomicI64,
    weight: AtomicI64,
}

impl Meter {
    /// Sets the meter for a record of so many bytes.
    pub(super) fn start(&self, bytes: usize) {
        let weight = i64::try_from(bytes / BYTES_A_TURN).unwrap_or(i64::MAX).saturating_add(1);
        self.weight.store(weight, Ordering::Relaxed);
        self.left.store(WORK_MAX, Ordering::Relaxed);
    }

    /// Whether more was asked for than there was. `||` and `exists` may have hidden the error.
    pub(super) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }

    fn take(&self, units: i64) -> bool {
        // One evaluator serves one thread at a time.
        let left = self.left.load(Ordering::Relaxed).saturating_sub(units);
        self.left.store(left, Ordering::Relaxed);
        left >= 0
    }
}

/// The tree with its meter.
pub(super) fn metered(part: &IdedExpr) -> IdedExpr {
    let expr = match &part.expr {
        Expr::Comprehension(loop_) => {
            let mut metered = (**loop_).clone();
            let body = parts(&loop_.loop_step) + parts(&loop_.loop_cond);
            metered.iter_range = call(RANGE, vec![self::metered(&loop_.iter_range), literal(body)], part.id);
            metered.loop_cond = self::metered(&loop_.loop_cond);
            metered.loop_step = step(&loop_.loop_step, &loop_.accu_var);
            metered.result = self::metered(&loop_.result);
            Expr::Comprehension(Box::new(metered))
        }
        Expr::Call(it) => {
            let target = it.target.as_deref().map(|target| Box::new(metered(target)));
            let args = it.args.iter().map(metered).collect();
            let grows = it.func_name == operators::ADD && it.target.is_none();
            let expr = Expr::Call(CallExpr { func_name: it.func_name.clone(), target, args });
            if !grows {
                return IdedExpr { id: part.id, expr };
            }
            return call(GROWN, vec![IdedExpr { id: part.id, expr }], part.id);
        }
        Expr::List(list) => Expr::List(ListExpr {
            elements: list.elements.iter().map(metered).collect(),
            optional_indices: list.optional_indices.clone(),
        }),
        // Present is what is there and not null; the library asks only whether reading works.
        Expr::Select(select) if select.test => {
            let name = LiteralValue::String(CelString::from(select.field.clone()));
            let name = IdedExpr { id: part.id, expr: Expr::Literal(name) };
            return call(operators::IN, vec![name, metered(&select.operand)], part.id);
        }
        Expr::Select(select) => {
            let mut select = select.clone();
            *select.operand = metered(&select.operand);
            Expr::Select(select)
        }
        Expr::Map(map) => {
            let mut map = map.clone();
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    entry.key = metered(&entry.key);
                    entry.value = metered(&entry.value);
                }
            }
            Expr::Map(map)
        }
        other => other.clone(),
    };
    IdedExpr { id: part.id, expr }
}

/// The step of a loop. The list that `map` and `filter` add to is the library's, which knows its shape and does not
/// copy it; the range has paid for it. What is added pays for its size.
fn step(part: &IdedExpr, accumulator: &str) -> IdedExpr {
    let Expr::Call(it) = &part.expr else { return metered(part) };
    let adds = it.func_name == operators::ADD
        && matches!(it.args.first(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name == accumulator);
    let args = match (&*it.func_name, adds) {
        (operators::CONDITIONAL, _) => it.args.iter().map(|arg| step(arg, accumulator)).collect(),
        (_, true) => it.args.iter().map(grown_elements).collect(),
        _ => return metered(part),
    };
    let expr = Expr::Call(CallExpr { func_name: it.func_name.clone(), target: None, args });
    IdedExpr { id: part.id, expr }
}

fn grown_elements(part: &IdedExpr) -> IdedExpr {
    let Expr::List(list) = &part.expr else { return part.clone() };
    let elements =
        list.elements.iter().map(|element| call(GROWN, vec![metered(element)], element.id)).collect();
    let expr = Expr::List(ListExpr { elements, optional_indices: Vec::new() });
    IdedExpr { id: part.id, expr }
}

fn call(name: &str, args: Vec<IdedExpr>, id: u64) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

fn literal(number: i64) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(CelInt::from(number))) }
}

fn parts(part: &IdedExpr) -> i64 {
    1 + children(part).into_iter().map(parts).sum::<i64>()
}

/// Gives the context the functions that the tree calls.
pub(super) fn register(
    context: &mut Context<'static, 'static>,
    meter: &Arc<Meter>,
) -> Result<(), DeclarationError> {
    let range = meter.clone();
    add(context, RANGE, Box::new(move |call| ranged(call, &range)))?;
    let grown = meter.clone();
    add(context, GROWN, Box::new(move |call| bounded(call, &grown)))
}

/// The library's form of a function that hands its argument on as it is.
type PassOn = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        ) -> Result<CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

fn add(context: &mut Context<'static, 'static>, name: &str, f: PassOn) -> Result<(), DeclarationError> {
    context.add_function(name, f.into_function())
}

fn first<'b, 'v>(call: &mut FunctionContext<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    if call.args.is_empty() {
        return Err(ExecutionError::missing_argument_or_target());
    }
    Ok(call.args.remove(0))
}

fn ranged<'b, 'v>(
    call: &mut FunctionContext<'b, 'v>,
    meter: &Meter,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let range = first(call)?;
    let body = call.args.first().and_then(|body| body.downcast_ref::<CelInt>()).map_or(1, |it| *it.inner());
    let elements = range.as_sizer().map_or(1, |sizer| *sizer.size().inner());
    let work = elements.saturating_mul(body).saturating_mul(meter.weight.load(Ordering::Relaxed));
    if meter.take(work) { Ok(range) } else { Err(too_much("the loops take too many turns")) }
}

fn bounded<'b, 'v>(
    call: &mut FunctionContext<'b, 'v>,
    meter: &Meter,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = first(call)?;
    let size = size(value.as_ref(), GROWN_MAX);
    if size > GROWN_MAX {
        // Whatever comes next, this evaluation is over.
        meter.take(WORK_MAX.saturating_mul(2));
        return Err(too_much("a value grows too large"));
    }
    if meter.take(size / BYTES_A_UNIT) {
        Ok(value)
    } else {
        Err(too_much("the values it makes are too many"))
    }
}

fn too_much(what: &str) -> ExecutionError {
    ExecutionError::function_error("the meter", what)
}

/// The size of a value, looked at no further than needed to know that it is above `max`.
fn size(value: &dyn Val, max: i64) -> i64 {
    let length = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return length(text.inner().len());
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        return length(bytes.inner().len());
    }
    let mut sum = 1;
    let mut add = |value: &dyn Val| {
        if sum <= max {
            sum += size(value, max - sum);
        }
    };
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().iter().for_each(|value| add(value.as_ref()));
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        map.inner().values().for_each(|value| add(value.as_ref()));
    }
    sum
}
