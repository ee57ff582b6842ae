use chrono::{TimeZone as _, Utc};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn fields() -> Fields {
    let kinds = [
        ("email", FieldKind::Text),
        ("phone", FieldKind::Text),
        ("age", FieldKind::Number),
        ("active", FieldKind::Boolean),
        ("tags", FieldKind::List),
        ("address", FieldKind::Object),
        ("note", FieldKind::Open),
    ];
    Fields::only(kinds.map(|(name, kind)| (name.to_owned(), kind)))
}

fn fault(source: &str, wanted: Wanted) -> ExpressionFault {
    Expression::compile(source, &fields(), wanted).expect_err(source).remove(0)
}

fn compiled(source: &str) -> Expression {
    Expression::compile(source, &Fields::any(), Wanted::Value)
        .or_else(|_| Expression::compile(source, &Fields::any(), Wanted::Boolean))
        .unwrap_or_else(|faults| panic!("{source}: {faults:?}"))
}

/// What the expression gives on a record; a boolean as such.
fn on(source: &str, record: &Value) -> Result<Value, EvaluationError> {
    let evidence = json!({
        "duplicates": [{"key": "7", "record": {"email": "ada@example.com"}}],
        "sources": [{"connector": "billing", "stream": "customers", "key": "c1", "record": {"mail": "x@y.org"}}],
        "orphaned": ["account"],
    });
    let expression = compiled(source);
    let evaluator = Evaluator::new(expression.patterns().clone());
    let now = Utc.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).unwrap();
    let variables = Variables {
        key: "42",
        record: record.as_object().unwrap(),
        evidence: evidence.as_object().unwrap(),
        changed_at: now,
        now,
    };
    let on = evaluator.on(&variables)?;
    on.boolean(&expression).map(Value::from).or_else(|error| match error {
        EvaluationError::Unfit(_) => on.value(&expression),
        other => Err(other),
    })
}

#[test]
fn a_fault_names_its_place_and_what_was_expected() {
    for (source, wanted, at, what, help) in [
        ("history[0].record.email", Wanted::Value, 0, "earlier states of a record are not kept", "show now"),
        ("record.email ==", Wanted::Boolean, 15, "end of the expression", "expected a value"),
        ("record.email\n  == 'a' &&& true", Wanted::Boolean, 24, "&", "CEL"),
        ("record.mail == 'x'", Wanted::Boolean, 6, "no field mail", "did you mean email?"),
        ("email == 'x'", Wanted::Boolean, 0, "email is unknown", "write record.email"),
        ("record.email", Wanted::Boolean, 6, "gives text", "expected a boolean"),
        ("email(record.email)", Wanted::Boolean, 5, "gives text", "expected a boolean"),
        ("record.email && true", Wanted::Boolean, 13, "text stands where a boolean", "comparison"),
        ("record.age == 'x'", Wanted::Boolean, 11, "number is compared with text", "one kind"),
        ("record.age + 'x'", Wanted::Value, 11, "cannot be put together", "convert"),
        ("emial(record.email) == null", Wanted::Boolean, 5, "no function emial", "did you mean email?"),
        ("lower(record.age) == 'x'", Wanted::Boolean, 5, "lower does not take (number)", "lower(text)"),
        ("record.email.lowerAscii() == 'x'", Wanted::Boolean, 23, "no function lowerAscii", "there is"),
        ("matches(record.email, record.note)", Wanted::Boolean, 7, "no literal", "compiled once"),
        ("matches(record.email, '(')", Wanted::Boolean, 7, "no regular expression", "unclosed"),
        ("matches(record.email, '((a{9}){99}){99}')", Wanted::Boolean, 7, "too large", "repeat less"),
        ("evidence.duplicate == []", Wanted::Boolean, 8, "no duplicate", "did you mean duplicates?"),
        ("record.email.exists(x, x == 'a')", Wanted::Boolean, 19, "cannot be gone through", "list"),
        ("'a'", Wanted::Integer, 0, "gives text", "whole number"),
        ("1.5", Wanted::Value, 0, "fractional", "field can hold"),
        ("has(record.emial)", Wanted::Boolean, 3, "no field emial", "did you mean email?"),
        ("record['emial'] == 'x'", Wanted::Boolean, 6, "no field emial", "did you mean email?"),
        ("Foo{a: 1} == 1", Wanted::Boolean, 3, "no expression", "protocol buffers"),
        ("record.?email == 1", Wanted::Boolean, 6, "unsupported", "CEL"),
    ] {
        let fault = fault(source, wanted);
        assert!(fault.what.contains(what), "{source}: {fault:?}");
        assert!(fault.help.contains(help), "{source}: {fault:?}");
        assert_eq!(fault.at, at, "{source}: {fault:?}");
    }
}

#[test]
fn what_is_too_large_to_compile_is_refused_quickly() {
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let loops = "[1].map(a, [1].map(b, [1].map(c, [1].map(d, a)))) == []";
    for source in [
        "'".to_owned() + &"x".repeat(5_000) + "'",
        nested("(", ")", 2_000),
        nested("[", "]", 60),
        "!".repeat(4_001) + "true && " + &"-".repeat(20),
        format!("record{}", ".a".repeat(2_000)),
        vec!["1"; 500].join("+"),
        "true ? 1 : ".repeat(300) + "2",
        loops.to_owned(),
    ] {
        let refused = Expression::compile(&source, &Fields::any(), Wanted::Value);
        assert!(refused.is_err() || source.starts_with('!'), "{}", &source[..40]);
    }
}

#[test]
fn rules_see_the_record_and_its_evidence() {
    let record = json!({"email": "Ada@Example.com", "age": 36, "tags": ["a", "b"], "gone": null,
        "address": {"city": "Paris"}, "amount": 1.5, "seen": "2026-11-01"});
    for (source, want) in [
        ("email(record.email)", json!("ada@example.com")),
        ("email(record.email) != record.email", json!(true)),
        ("record.missing == null && record.gone == null", json!(true)),
        ("has(record.missing) || has(record.gone)", json!(false)),
        ("has(record.email) && has(record.address.city)", json!(true)),
        ("record.address.city + '!'", json!("Paris!")),
        ("record['email'].size()", json!(15)),
        ("size(record.tags) == 2 && 'a' in record.tags", json!(true)),
        ("record.tags.exists(t, t == 'b')", json!(true)),
        ("record.tags.map(t, upper(t))", json!(["A", "B"])),
        ("record.tags.filter(t, t != 'a')", json!(["b"])),
        ("record.age >= 18 && record.amount < 2", json!(true)),
        ("matches(record.email, '^Ada@')", json!(true)),
        ("matches(record.missing, '.')", json!(false)),
        ("evidence.duplicates.all(d, d.record.email == email(record.email))", json!(true)),
        ("evidence.sources[0].record.mail", json!("x@y.org")),
        ("'account' in evidence.orphaned", json!(true)),
        ("days_since(record.seen)", json!(20)),
        ("now.getFullYear()", json!(2026)),
        ("days_since(changed_at)", json!(0)),
        ("phone('0171 123456', '+49')", json!("+49171123456")),
        ("country('Germany') + date('3.4.2026', 'dmy')", json!("DE2026-04-03")),
        ("key", json!("42")),
    ] {
        assert_eq!(on(source, &record), Ok(want), "{source}");
    }
}

#[test]
fn what_fails_on_a_record_says_why_without_quoting_it() {
    let record = json!({"email": "secret@example.com", "n": 0, "amount": 1.5, "o": {}});
    for (source, why) in [
        ("record.email > 3", "does not take"),
        ("1 / record.n", "division by zero"),
        ("record.email.city", "does not take"),
        ("days_since(record.email)", "no date"),
        ("record.amount", "fractional"),
        ("record.missing", "null"),
        ("record.email + 1", "cannot be applied"),
        ("date(record.email, 'ymd')", "date"),
        ("[1][3]", "list"),
        ("record.o", "nothing that a field can hold"),
    ] {
        let error = on(source, &record).expect_err(source).to_string();
        assert!(error.contains(why) && !error.contains("secret"), "{source}: {error}");
    }
}

#[test]
fn loops_that_take_too_many_turns_end() {
    let record = json!({"list": (0..1_000).collect::<Vec<_>>()});
    for source in [
        "record.list.all(a, record.list.all(b, record.list.all(c, a + b + c >= 0)))",
        "record.list.map(a, record.list.map(b, a * b)) == []",
        "record.list.exists(a, record.list.exists(b, record.list.exists(c, false))) || true",
        "record.list.filter(a, record.list.filter(b, b == a).size() > 0).size() > 0",
    ] {
        assert_eq!(on(source, &record), Err(EvaluationError::TooCostly), "{source}");
    }
    assert_eq!(on("record.list.all(a, a >= 0)", &record), Ok(json!(true)));
}

#[test]
fn values_that_double_end() {
    let record = json!({"s": "x".repeat(100)});
    let mut text = "record.s".to_owned();
    let mut list = "[1]".to_owned();
    for _ in 0..40 {
        text = format!("[{text}].map(x, x + x)[0]");
        list = format!("[{list}].map(x, [x, x])[0]");
    }
    // The bound on loops stops the longest chains before the meter does.
    for chain in [text, list] {
        assert!(Expression::compile(&chain, &Fields::any(), Wanted::Value).is_err());
    }
    let mut text = "record.s".to_owned();
    let mut list = "[1]".to_owned();
    for _ in 0..3 {
        text = format!("[{text}].map(x, {})[0]", ["x"; 8].join(" + "));
        list = format!("[{list}].map(x, [{}])[0]", ["x"; 30].join(", "));
    }
    assert_eq!(on(&text, &record), Err(EvaluationError::TooCostly));
    assert_eq!(on(&format!("size({list}) > 0"), &record), Err(EvaluationError::TooCostly));
}

#[test]
fn a_record_that_is_too_large_is_not_judged() {
    let record = json!({"s": "x".repeat(300_000)});
    assert_eq!(on("size(record.s) > 0", &record), Err(EvaluationError::TooLarge));
}

/// Texts that look like rules.
fn expressions() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "record",
        ".",
        "email",
        "age",
        "(",
        ")",
        "[",
        "]",
        "==",
        "&&",
        "||",
        "!",
        "'x'",
        "1",
        "2.5",
        "null",
        "map",
        "exists",
        "x",
        ",",
        "+",
        "-",
        "?",
        ":",
        "in",
        "has",
        "lower",
        "evidence",
        "duplicates",
        "tags",
        "{",
        "}",
        "\n",
        "\"",
        "size",
        "history",
        "0",
        "true",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.join(" "))
}

proptest! {
    /// Whatever is typed, it is refused with a place in the text or it ends on every record.
    #[test]
    fn no_text_ends_the_process(source in prop_oneof![expressions(), "\\PC{0,60}"]) {
        for wanted in [Wanted::Boolean, Wanted::Value] {
            match Expression::compile(&source, &fields(), wanted) {
                Err(faults) => prop_assert!(faults.iter().all(|it| it.at <= source.chars().count())),
                Ok(_) => drop(on_any(&source)),
            }
        }
    }

    /// Numbers of a record keep their value in comparisons and come back as they were.
    #[test]
    fn whole_numbers_come_back(number: i64) {
        let record = json!({ "n": number });
        prop_assert_eq!(on("record.n", &record), Ok(json!(number)));
    }
}

fn on_any(source: &str) -> Result<Value, EvaluationError> {
    let Ok(expression) = Expression::compile(source, &Fields::any(), Wanted::Value) else {
        return Ok(Value::Null);
    };
    let evaluator = Evaluator::new(expression.patterns().clone());
    let record = json!({"email": "a@b.co", "age": 3, "tags": ["x"], "x": 1});
    let evidence: Map<_, _> = [("duplicates".to_owned(), json!([]))].into_iter().collect();
    let now = Utc.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).unwrap();
    let record = record.as_object().unwrap();
    let variables = Variables { key: "k", record, evidence: &evidence, changed_at: now, now };
    evaluator.on(&variables)?.value(&expression)
}
