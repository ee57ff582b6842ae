//! Whole files: good ones, and what is said about bad ones.

use std::time::Duration;

use super::*;

const POSTGRES: &str = include_str!("../../../../config/connectors/crm-postgres.toml");
const HTTP: &str = include_str!("../../../../config/connectors/people-http.toml");

fn fault(text: &str) -> String {
    Definition::parse(text, "crm.toml").unwrap_err().to_string()
}

/// A sound definition with this stream.
fn with_stream(stream: &str) -> String {
    format!(
        "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://reader@db/crm\"\n\
         [[streams]]\nname = \"contacts\"\ntable = \"contacts\"\n{stream}\n"
    )
}

fn with_http(http: &str, stream: &str) -> String {
    format!(
        "name = \"people\"\nkind = \"http\"\n[http]\nbase_url = \"https://api.example.com/v1\"\n{http}\n\
         [[streams]]\nname = \"people\"\npath = \"people\"\nkey = [\"id\"]\npagination = {{ type = \"none\" }}\n{stream}\n"
    )
}

#[test]
fn the_examples_are_sound_and_survive_being_stored() {
    for text in [POSTGRES, HTTP] {
        let definition = Definition::parse(text, "example.toml").unwrap_or_else(|error| panic!("{error}"));
        let again = Definition::parse(definition.text(), "stored").unwrap();
        assert_eq!(format!("{definition:?}"), format!("{again:?}"));
        assert!(definition.inline_secrets().is_empty());
        assert_eq!(definition.secret_files().len(), 2);
        assert!(definition.streams()[0].target().is_some());
    }
}

#[test]
fn defaults_are_as_documented() {
    let definition =
        Definition::parse(&with_stream("cursor = { field = \"at\", type = \"timestamp\" }"), "f").unwrap();
    let stream = definition.stream("contacts").unwrap();
    assert_eq!(stream.cursor().unwrap().settle, Settle::Time(Duration::from_secs(5)));
    assert_eq!((stream.record_bytes_max, stream.deletions_percent_max()), (1 << 20, 50));
    assert_eq!((stream.deletions(), stream.fields()), (&Deletions::None, None));
    let definition = Definition::parse(&with_http("", ""), "f").unwrap();
    let Kind::Http(http) = definition.kind() else { panic!("an HTTP source") };
    assert_eq!(http.base_url.as_str(), "https://api.example.com/v1/");
    assert_eq!((http.pages_max, http.page_bytes_max), (100_000, 32 << 20));
    assert_eq!(http.run_deadline, Duration::from_hours(6));
}

#[test]
fn an_unknown_key_names_the_nearest_and_its_line() {
    assert_eq!(
        fault(&with_stream("feilds = [\"id\"]")),
        "error: unknown key `streams.feilds`\n  --> crm.toml:8:1\n  = help: did you mean `fields`?"
    );
    assert!(fault(&with_stream("colour = 1")).contains("the keys known here are name, key"));
    assert!(fault(&with_stream("path = \"x\"")).contains("unknown key `streams.path`"));
    let inner = "cursor = { feld = \"at\", field = \"at\", type = \"timestamp\" }";
    assert!(fault(&with_stream(inner)).contains("did you mean `field`?"));
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    let text = "name = \"CRM\"\nkind = \"postgres\"\n[postgres]\nurl = \"mysql://x\"\nstatement_timeout = \"soon\"\n\
                [[streams]]\nname = \"a\"\ntable = 3\ndeletions_percent_max = 200\n[[streams]]\nname = \"b\"\n";
    let error = Definition::parse(text, "crm.toml").unwrap_err();
    let lines: Vec<_> = error.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 4, 5, 8, 9, 10], "{error}");
    assert_eq!(error.to_string().matches("= help: ").count(), 6);
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let error = Definition::parse("name = \"crm\"\nkind = \n", "crm.toml").unwrap_err();
    assert_eq!(error.faults[0].line, 2, "{error}");
    assert!(error.faults[0].what.starts_with("not TOML"), "{error}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (text, said) in [
        (with_stream("settle = \"5s\""), "has no cursor to belong to"),
        (with_stream("cursor = { field = \"v\", type = \"integer\" }\nsettle = \"5s\""), "whole number"),
        (with_stream("cursor = { field = \"v\", type = \"timestamp\" }\nsettle = 5"), "must be text"),
        (with_stream("cursor = { field = \"v\", type = \"text\" }\nsettle = \"1s\""), "no meaning"),
        (with_stream("cursor = { field = \"v\" }"), "`streams.cursor.type` is missing"),
        (with_stream("fields = [\"a\", \"a\"]"), "twice"),
        (with_stream("fields = [\"a..b\"]"), "names no field"),
        (with_stream("deletions = \"all\""), "cannot be \"all\""),
        (with_stream("record_bytes_max = \"1GiB\""), "too large"),
        (with_stream("[[streams]]\nname = \"contacts\"\ntable = \"x\""), "two streams are named"),
        (with_http("", "deletions = \"keys\""), "HTTP source"),
        (with_http("", "method = \"POST\"\nbody = 'x'"), "not a JSON object"),
        (with_http("", "body = '{}'"), "cannot be sent with GET"),
        (with_http("", "order = \"ascending\""), "no cursor to ascend by"),
        (with_http("", "format = \"ndjson\"\nrecords = \"data\""), "no meaning for ndjson"),
        (with_http("auth = { type = \"bearer\" }", ""), "token_file` is missing"),
        (
            with_http("auth = { type = \"bearer\", token = \"a\", token_file = \"b\" }", ""),
            "exclude each other",
        ),
        (
            with_http("auth = { type = \"bearer\", token_file = \"a\", token_credential = \"b\" }", ""),
            "exclude each other",
        ),
        (
            // The secret itself, typed into the wrong place, is not repeated.
            with_http("auth = { type = \"bearer\", token_credential = \"planted Token\" }", ""),
            "is no name of a credential",
        ),
        (with_http("headers = { Authorization = \"x\" }", ""), "belong into `auth`"),
        (with_http("rate_limit = { requests = 0, per = \"1s\" }", ""), "out of range"),
        (with_http("", "").replace("\"people\"\nkey", "\"https://evil.example/\"\nkey"), "more than a path"),
        (with_http("", "").replace("https://api", "https://u:planted@api"), "more than scheme"),
        (with_http("", "").replace("kind = \"http\"", "kind = \"postgres\""), "does not belong to kind"),
        (
            with_stream("").replace("kind = \"postgres\"", "kind = \"mysql\""),
            "write \"postgres\" or \"http\"",
        ),
    ] {
        let error = fault(&text);
        assert!(error.contains(said), "{said}\n{error}");
        assert!(!error.contains("planted"), "{error}");
    }
}

#[test]
fn i7_inline_secrets_are_named_and_never_shown() {
    let http = with_http("auth = { type = \"header\", name = \"X-Key\", value = \"planted\" }", "");
    let in_url = with_stream("").replace("reader@", "reader:planted@");
    let in_query = with_stream("").replace("db/crm", "db/crm?password=planted");
    let beside = with_stream("").replace("[[streams]]", "password = \"planted\"\n[[streams]]");
    for (text, key) in [
        (http, "http.auth.value"),
        (in_url, "postgres.url"),
        (in_query, "postgres.url"),
        (beside, "postgres.password"),
    ] {
        let definition = Definition::parse(&text, "f").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(definition.inline_secrets(), [key]);
        let said = format!("{definition:?}");
        assert!(!said.contains("planted"), "{said}");
        // A fault beside it must not show it either.
        let error = fault(&format!("unknown = 1\n{text}"));
        assert!(!error.contains("planted"), "{error}");
    }
}
