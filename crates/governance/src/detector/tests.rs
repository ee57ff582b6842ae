use proptest::prelude::*;

use super::*;

#[test]
fn addresses_are_lowered_and_what_is_none_is_nothing() {
    for (text, want) in [
        ("Ada@Example.COM", Some("ada@example.com")),
        ("  ada@example.com ", Some("ada@example.com")),
        ("mailto:ada@example.com", Some("ada@example.com")),
        ("<ada@example.com>;", Some("ada@example.com")),
        ("ada+tag@sub.example.co.uk", Some("ada+tag@sub.example.co.uk")),
        ("ada@localhost", None),
        ("ada@@example.com", None),
        ("ada example.com", None),
        ("ada@exam ple.com", None),
        ("Ada <ada@example.com>", None),
        ("", None),
        ("n/a", None),
        ("é@", None),
    ] {
        assert_eq!(email(text).as_deref(), want, "{text}");
    }
}

#[test]
fn numbers_take_the_shape_of_e164() {
    for (text, home, want) in [
        ("+44 (0)20 7946 0018", "", Some("+442079460018")),
        ("020 7946 0018", "+44", Some("+442079460018")),
        ("020 7946 0018", "", None),
        ("0049 171-123.45.67", "", Some("+491711234567")),
        ("(650) 253-0000", "+1", Some("+16502530000")),
        ("1 650 253 0000", "+1", Some("+16502530000")),
        ("06 6982", "+39", Some("+39066982")),
        ("tel:+1-650-253-0000", "", Some("+16502530000")),
        ("+1 650 253 0000 ext 5", "", None),
        ("12345", "+44", None),
        ("+1234567890123456", "", None),
        ("call me", "+44", None),
    ] {
        assert_eq!(phone(text, home).as_deref(), want, "{text}");
    }
}

#[test]
fn countries_are_two_letters() {
    for (text, want) in [
        ("Germany", Some("DE")),
        ("deu", Some("DE")),
        ("de", Some("DE")),
        ("U.K.", Some("GB")),
        ("the  Netherlands", Some("NL")),
        ("Korea", None),
        ("Congo", Some("CG")),
        ("Atlantis", None),
        ("", None),
    ] {
        assert_eq!(country(text), want, "{text}");
    }
}

#[test]
fn dates_are_years_first_and_never_guessed() {
    use DayOrder::{DayFirst, MonthFirst, Unknown};
    for (text, order, want) in [
        ("2026-04-03", Unknown, Some("2026-04-03")),
        ("2026/4/3", Unknown, Some("2026-04-03")),
        ("20260403", Unknown, Some("2026-04-03")),
        ("03.04.2026", DayFirst, Some("2026-04-03")),
        ("03/04/2026", MonthFirst, Some("2026-03-04")),
        ("03/04/2026", Unknown, None),
        ("3 Apr 2026", Unknown, Some("2026-04-03")),
        ("2026-04-03T23:30:00-05:00", Unknown, Some("2026-04-03")),
        ("2026-02-30", Unknown, None),
        ("03/04/26", DayFirst, None),
        ("0000-00-00", Unknown, None),
        ("soon", Unknown, None),
    ] {
        assert_eq!(date(text, order).as_deref(), want, "{text}");
    }
    assert_eq!(moment("2026-04-03 10:00:00+02").unwrap().to_rfc3339(), "2026-04-03T08:00:00+00:00");
}

proptest! {
    /// A value in its form is left alone, and no text ends the process.
    #[test]
    fn normalising_twice_is_normalising_once(text in "\\PC{0,40}", digits in "[+0-9 ()-]{0,20}") {
        for text in [&text, &digits] {
            if let Some(once) = email(text) { prop_assert_eq!(email(&once), Some(once.clone())); }
            if let Some(once) = phone(text, "+44") { prop_assert_eq!(phone(&once, "+44"), Some(once.clone())); }
            if let Some(once) = country(text) { prop_assert_eq!(country(once), Some(once)); }
            if let Some(once) = date(text, DayOrder::DayFirst) {
                prop_assert_eq!(date(&once, DayOrder::DayFirst), Some(once.clone()));
            }
            let _ = moment(text);
        }
    }
}
