//! From text to a tree of bounded size.

use cel::{
    IdedExpr, ParseError,
    common::ast::{EntryExpr, Expr, SourceInfo},
    parser::Parser,
};

use super::{BYTES_MAX, DEPTH_MAX, ExpressionFault, LOOPS_NESTED_MAX, NODES_MAX};

/// More faults of one expression help nobody.
const RECOVERIES_MAX: u32 = 3;
/// Of brackets within brackets while parsing; below what a thread's stack holds.
const BRACKETS_MAX: u16 = 48;

/// A tree and where its parts stand in the text.
pub(super) struct Parsed {
    pub(super) root: IdedExpr,
    places: SourceInfo,
}

impl Parsed {
    /// The character at which this part stands, from 0.
    pub(super) fn place(&self, part: &IdedExpr) -> Option<usize> {
        self.places.offset_for(part.id).map(|(start, _)| start as usize)
    }
}

pub(super) fn parse(source: &str) -> Result<Parsed, Vec<ExpressionFault>> {
    if source.len() > BYTES_MAX {
        return Err(fault("is too long", format!("write at most {BYTES_MAX} bytes; split the rule in two")));
    }
    let parser = Parser::new().max_recursion_depth(BRACKETS_MAX).error_recovery_limit(RECOVERIES_MAX);
    let (root, places) = parser
        .parse_with_source_info(source)
        .map_err(|errors| errors.errors.iter().map(|error| syntax(source, error)).collect::<Vec<_>>())?;
    let mut size = Size::default();
    size.measure(&root, 0, 0)?;
    Ok(Parsed { root, places })
}

fn fault(what: &str, help: String) -> Vec<ExpressionFault> {
    vec![ExpressionFault { at: 0, what: what.to_owned(), help }]
}

/// The parser's message, taken apart into what it met and what it expected.
fn syntax(source: &str, error: &ParseError) -> ExpressionFault {
    let text = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    if text.contains("Recursion limit") {
        let help = format!("write at most {BRACKETS_MAX} brackets within each other");
        return ExpressionFault { at: 0, what: "is nested too deep".to_owned(), help };
    }
    let (what, help) = match text.split_once(" expecting ") {
        Some((what, expected)) => (what, format!("expected {}", readable(expected))),
        None => (text, "the expression language is CEL; see the examples in config/policies".to_owned()),
    };
    let what = what.replace("'<EOF>'", "the end of the expression");
    ExpressionFault { at: character(source, error.pos), what, help }
}

/// The parser's names of tokens in words.
fn readable(expected: &str) -> String {
    let starts_a_value = ["IDENTIFIER", "NUM_INT", "STRING"].iter().all(|token| expected.contains(token));
    if starts_a_value {
        return "a value: a field such as record.email, a text, a number, a function or a bracket".to_owned();
    }
    expected.trim_matches(['{', '}']).replace("'<EOF>'", "the end").replace("IDENTIFIER", "a name")
}

/// The parser counts lines and columns from 1.
fn character(source: &str, (line, column): (isize, isize)) -> usize {
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let before: usize = source.split_inclusive('\n').take(line - 1).map(|line| line.chars().count()).sum();
    // The end is where the text ends, not where the blanks behind it do.
    (before + column - 1).min(source.trim_end().chars().count())
}

#[derive(Default)]
struct Size {
    nodes: usize,
}

impl Size {
    fn measure(&mut self, part: &IdedExpr, depth: usize, loops: usize) -> Result<(), Vec<ExpressionFault>> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(fault("has too many parts", format!("at most {NODES_MAX}; split the rule in two")));
        }
        if depth > DEPTH_MAX {
            return Err(fault("is nested too deep", format!("at most {DEPTH_MAX} parts within each other")));
        }
        if loops > LOOPS_NESTED_MAX {
            let help = format!("at most {LOOPS_NESTED_MAX} of map, filter, all and exists within each other");
            return Err(fault("nests too many loops", help));
        }
        let is_loop = usize::from(matches!(part.expr, Expr::Comprehension(_)));
        children(part).into_iter().try_for_each(|child| self.measure(child, depth + 1, loops + is_loop))
    }
}

/// The parts right below.
pub(super) fn children(part: &IdedExpr) -> Vec<&IdedExpr> {
    match &part.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(c) => {
            vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(message) => message.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
