//! What is said about faulty targets.

use std::time::Duration;

use super::super::Definition;

const TARGET: &str = "[target]\nurl = \"postgres://writer@db/crm\"\n";
const HTTP_TARGET: &str = "[target]\nbase_url = \"https://api.example.com/\"\nauth = { type = \"none\" }\n";

fn postgres(target: &str, stream: &str) -> String {
    format!(
        "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://reader@db/crm\"\n{target}\
         [[streams]]\nname = \"contacts\"\ntable = \"contacts\"\nkey = [\"id\"]\n[streams.target]\n{stream}\n"
    )
}

fn http(target: &str, stream: &str) -> String {
    format!(
        "name = \"crm\"\nkind = \"http\"\n[http]\nbase_url = \"https://api.example.com/\"\n\
         auth = {{ type = \"bearer\", token_file = \"/reader\" }}\n{target}\
         [[streams]]\nname = \"rows\"\npath = \"rows\"\nkey = [\"id\"]\npagination = {{ type = \"none\" }}\n\
         [streams.target]\nowned = [\"email\", \"at.city\"]\n{stream}\n"
    )
}

#[test]
fn what_does_not_fit_together_in_a_target_is_refused() {
    let owned = "owned = [\"email\"]";
    let path = "path = \"rows/{key}\"";
    for (text, said) in [
        (postgres("", owned), "`target` is missing"),
        (postgres(TARGET, ""), "`streams.target.owned` is missing"),
        (postgres(TARGET, "owned = []"), "is empty"),
        (postgres(TARGET, "owned = [\"id\"]"), "identifies the record"),
        (postgres(TARGET, "owned = [\"at.city\"]"), "a part of a column"),
        (postgres(TARGET, "owned = [\"at\", \"at.city\"]"), "a part of it"),
        (postgres(TARGET, &format!("{owned}\nstamped = [\"email\"]")), "which is owned"),
        (postgres(TARGET, &format!("{owned}\nversion = \"email\"")), "is an owned field"),
        (
            postgres(TARGET, &format!("{owned}\nnormalise = {{ emial = \"trim\" }}")),
            "did you mean \"email\"?",
        ),
        (postgres(TARGET, &format!("{owned}\nnormalise = {{ email = [\"trimm\"] }}")), "write trim, case"),
        (postgres(TARGET, &format!("{owned}\nnormalise = {{ email = 3 }}")), "must be a list of texts"),
        (postgres(TARGET, &format!("{owned}\nconvergence = {{ reads = 0 }}")), "out of range"),
        (postgres(TARGET, &format!("{owned}\npath = \"x\"")), "unknown key `streams.target.path`"),
        (postgres(&TARGET.replace("writer", "reader"), owned), "uses the credential that reads"),
        (
            postgres(&TARGET.replace("writer@db/crm", "x@db/crm?user=y&user=reader"), owned),
            "uses the credential that reads",
        ),
        (postgres(TARGET, owned).replace("[streams.target]\nowned = [\"email\"]", ""), "serves no stream"),
        (http(&HTTP_TARGET.replace("auth = { type = \"none\" }", ""), path), "a credential of its own"),
        (
            http(&HTTP_TARGET.replace("\"none\"", "\"bearer\", token_file = \"/reader\""), path),
            "uses the credential that reads",
        ),
        (http(HTTP_TARGET, ""), "`streams.target.path` is missing"),
        (http(HTTP_TARGET, "path = \"rows\""), "must hold {key} once"),
        (http(HTTP_TARGET, "path = \"https://evil.example/{key}\""), "more than a path"),
        (http(HTTP_TARGET, &format!("{path}\nwrite = \"post\"")), "cannot be \"post\""),
        (http(HTTP_TARGET, &format!("{path}\nidempotency_header = \"a b\"")), "not the name of a header"),
        (
            http(
                HTTP_TARGET,
                &format!("{path}\nidempotency_probe = {{ key = \"1\", field = \"n\", values = [\"a\"] }}"),
            ),
            "two different texts",
        ),
    ] {
        let error = Definition::parse(&text, "crm.toml").expect_err(said).to_string();
        assert!(error.contains(said), "{said}\n{error}");
    }
}

#[test]
fn i7_an_inline_secret_of_a_target_is_named_and_never_shown() {
    let inline = TARGET.replace("writer@", "writer:planted@");
    let beside = format!("{TARGET}password = \"planted\"\n");
    for (target, key) in [(inline, "target.url"), (beside, "target.password")] {
        let definition = Definition::parse(&postgres(&target, "owned = [\"email\"]"), "f").unwrap();
        assert_eq!(definition.inline_secrets(), [key]);
        assert!(!format!("{definition:?}").contains("planted"));
    }
}

#[test]
fn the_pauses_of_the_window_double_and_end() {
    let definition = Definition::parse(&postgres(TARGET, "owned = [\"email\"]"), "f").unwrap();
    let window = definition.streams()[0].target().unwrap().convergence();
    let pauses: Vec<_> = (0..).map_while(|read| window.pause_before(read)).collect();
    assert_eq!(pauses, [0, 500, 1_000, 2_000, 4_000, 8_000].map(Duration::from_millis));
}
