use proptest::prelude::*;
use serde_json::json;

use super::*;

fn text(value: &Value) -> String {
    to_text(value).unwrap()
}

#[test]
fn members_are_sorted_by_utf16_and_nothing_is_between_them() {
    let value = json!({"b": [1, true, null, "x"], "a": {"d": {}, "c": -2}, "\u{fb33}": 1, "\u{1f600}": 2});
    let expected = "{\"a\":{\"c\":-2,\"d\":{}},\"b\":[1,true,null,\"x\"],\"\u{1f600}\":2,\"\u{fb33}\":1}";
    assert_eq!(text(&value), expected);
}

#[test]
fn strings_have_the_escapes_of_ecmascript_and_no_others() {
    assert_eq!(
        text(&json!("\u{8}\t\n\u{c}\r\"\\/\u{1}\u{1f}\u{7f}é")),
        "\"\\b\\t\\n\\f\\r\\\"\\\\/\\u0001\\u001f\u{7f}é\""
    );
}

#[test]
fn only_integers_that_every_reader_keeps_are_numbers() {
    assert_eq!(text(&json!([9_007_199_254_740_991_i64, -9_007_199_254_740_991_i64, 0])).len(), 38);
    for refused in ["9007199254740992", "-9007199254740992", "1.0", "1e2", "18446744073709551616"] {
        let value: Value = serde_json::from_str(refused).unwrap();
        assert!(matches!(to_text(&value), Err(CanonicalError::Number(_))), "{refused}");
    }
    let minus_zero: Value = serde_json::from_str("-0").unwrap();
    assert!(to_text(&minus_zero).is_err() || text(&minus_zero) == "0");
}

#[test]
fn depth_is_bounded() {
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    assert!(to_text(&nested(DEPTH_MAX)).is_ok());
    assert!(matches!(to_text(&nested(DEPTH_MAX + 1)), Err(CanonicalError::TooDeep)));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_as_what_was_meant(value in any_value()) {
        let once = text(&value);
        let read: Value = serde_json::from_str(&once).unwrap();
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(text(&read), once);
    }
}
