use chrono::DateTime;
use serde_json::{Value, json};

use super::*;
use crate::decision::{Evidence, Verdict};

const HEAD: &str = "path = \"crm-email\"\n";

fn fields() -> Fields {
    let text = |name: &str| (name.to_owned(), FieldKind::Text);
    Fields::only([text("email"), text("phone"), ("n".to_owned(), FieldKind::Number)])
}

fn compile(rest: &str) -> Result<Policy, PolicyFaults> {
    Policy::compile(&format!("{HEAD}{rest}"), "crm.toml", &fields(), Some(&["email".to_owned()]))
}

fn judge(policy: &Policy, record: &Value) -> Judgement {
    let (evaluator, evidence) = (policy.evaluator(), Evidence::none());
    let at = DateTime::UNIX_EPOCH;
    let variables = Variables {
        key: "1",
        record: record.as_object().unwrap(),
        evidence: evidence.members(),
        changed_at: at,
        now: at,
    };
    policy.judge(&evaluator, &variables)
}

const RULES: &str = r#"
review_below = 80
risky = ["email_guess"]

[[rules]]
name = "protected"
when = 'record.email == "ceo@example.com"'
verdict = "block"
reason = "nobody touches it"

[[rules]]
name = "invalid"
when = 'record.email != null && email(record.email) == null'
verdict = "review"

[[rules]]
name = "guess"
when = 'record.email == null && record.n == 7'
verdict = "fix"
value = { email = '"seven@example.com"' }
class = "email_guess"

[[rules]]
name = "format"
when = 'record.email != null'
verdict = "fix"
value = { email = 'email(record.email)' }
confidence = 'record.n'
class = "email_format"
"#;

#[test]
fn the_first_rule_that_applies_decides() {
    let policy = compile(RULES).unwrap();
    for (record, verdict, rule) in [
        (json!({"email": "ceo@example.com", "n": 90}), Verdict::Block, Some("protected")),
        (json!({"email": "nobody", "n": 90}), Verdict::Review, Some("invalid")),
        (json!({"email": "A@example.com", "n": 90}), Verdict::Fix, Some("format")),
        // Not sure enough.
        (json!({"email": "A@example.com", "n": 79}), Verdict::Review, Some("format")),
        // Its class always goes to a person.
        (json!({"n": 7}), Verdict::Review, Some("guess")),
        // Already as it should be.
        (json!({"email": "a@example.com", "n": 90}), Verdict::None, Some("format")),
        (json!({"n": 8}), Verdict::None, None),
    ] {
        let judged = judge(&policy, &record).judged;
        assert_eq!((judged.verdict, judged.rule.as_deref()), (verdict, rule), "{record}: {judged:?}");
    }
    let fix = judge(&policy, &json!({"email": "A@example.com", "n": 90})).judged;
    assert_eq!(Value::from(fix.proposed.unwrap()), json!({"email": "a@example.com"}));
    assert_eq!(fix.confidence, 90);
    let held = judge(&policy, &json!({"n": 7})).judged;
    assert_eq!(Value::from(held.proposed.unwrap()), json!({"email": "seven@example.com"}), "people see it");
}

#[test]
fn a_rule_that_fails_on_a_record_sends_it_to_a_person() {
    let policy = compile(RULES).unwrap();
    for (record, what) in [
        (json!({"email": "A@example.com"}), "`confidence`"),
        (json!({"email": "A@example.com", "n": 101}), "`confidence`"),
        (json!({"email": "A@example.com", "n": -1}), "`confidence`"),
    ] {
        let judgement = judge(&policy, &record);
        assert_eq!(judgement.judged.verdict, Verdict::Review, "{record}");
        assert!(judgement.failed.is_some() && judgement.judged.proposed.is_none());
        let reason = judgement.judged.reason;
        assert!(reason.contains("rule format") && reason.contains(what), "{reason}");
    }
    let emptying = compile(
        "[[rules]]\nname = \"empty\"\nverdict = \"fix\"\nclass = \"c\"\nvalue = { email = 'email(record.email)' }",
    );
    let judged = judge(&emptying.unwrap(), &json!({"email": "nobody"})).judged;
    assert_eq!(judged.verdict, Verdict::Review, "a field is not emptied: {judged:?}");
}

#[test]
fn a_rule_that_loops_or_explodes_is_named_and_ends() {
    let rule = "[[rules]]\nname = \"loops\"\nverdict = \"review\"\nwhen = '''[1,2,3,4,5,6,7,8,9].exists(a, \
        size(record.list.map(b, record.list.map(c, [b, c]))) == a)'''";
    let policy = Policy::compile(&format!("{HEAD}{rule}"), "p", &Fields::any(), None).unwrap();
    let list: Vec<_> = (0..1_000).collect();
    let judgement = judge(&policy, &json!({ "list": list }));
    assert_eq!(judgement.failed, Some(EvaluationError::TooCostly));
    assert!(judgement.judged.reason.contains("rule loops"), "{}", judgement.judged.reason);
    assert_eq!(judgement.judged.verdict, Verdict::Review);
}

#[test]
fn every_fault_is_told_with_its_line_column_and_rule() {
    let text = r#"
review_below = 101
risky = ["nothing"]

[[rules]]
name = "one"
when = 'record.emial == null'
verdict = "review"

[[rules]]
name = "one"
when = """
record.email ==
"""
verdict = "fix"
value = { phone = "record.phone" }

[[rules]]
name = "Three"
when = "size(record.email)"
verdict = "none"
value = { email = '1.5' }
confidence = 200
"#;
    let faults = compile(text).unwrap_err();
    let told: Vec<_> = faults
        .faults
        .iter()
        .map(|it| (it.line, it.column, it.rule.as_deref().unwrap_or("-"), it.what.as_str(), it.help.as_str()))
        .collect();
    for (line, column, rule, what, help) in [
        (3, 16, "-", "101 is no percentage", "0 to 100"),
        (4, 10, "-", "no rule has the class", "`class` of a rule"),
        (8, 15, "one", "no field emial", "did you mean email?"),
        (12, 8, "-", "another rule", "of its own"),
        (14, 16, "one", "end of the expression", "expected a value"),
        (16, 11, "one", "has no class", "approvals"),
        (17, 19, "one", "does not govern the field phone", "email"),
        (20, 8, "Three", "no name of a rule", "a letter first"),
        (21, 13, "Three", "gives an integer", "expected a boolean"),
        (22, 11, "Three", "only a fix proposes", "remove `value`"),
        (23, 20, "Three", "fractional", "text"),
        (24, 14, "Three", "200 is no percentage", "0 to 100"),
    ] {
        let found = told.iter().any(|it| {
            (it.0, it.2) == (line, rule)
                && it.1.abs_diff(column) <= 1
                && it.3.contains(what)
                && it.4.contains(help)
        });
        assert!(found, "{line}:{column} {rule}: {what} is not among {told:#?}");
    }
    assert_eq!(told.len(), 12, "{told:#?}");
}

#[test]
fn what_is_no_policy_file_is_refused_with_a_place() {
    for (text, line, what) in [
        ("rules = 3", 2, "sequence"),
        ("[[rules]]\nname = \"a\"\nverdict = \"maybe\"", 4, "maybe"),
        ("[[rules]]\nname = \"a\"\nverdict = \"none\"\nwehn = 'true'", 5, "wehn"),
        ("[[rules]\n", 2, "array"),
        ("", 2, "0 rules"),
        (
            "[evidence]\nhistory = 2\n[[rules]]\nname = \"a\"\nverdict = \"none\"",
            3,
            "states of a record are not kept",
        ),
    ] {
        let faults = compile(text).unwrap_err();
        assert_eq!(faults.faults[0].line, line, "{faults}");
        assert!(faults.to_string().contains(what), "{faults}");
    }
}

#[test]
fn the_examples_compile() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/policies");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let compiled = Policy::compile(&text, &file.display().to_string(), &Fields::any(), None);
        seen += compiled.map_or_else(|faults| panic!("{faults}"), |it| it.rules().count());
    }
    assert!(seen > 0);
}
