//! Names of tables and columns: taken apart from a definition, quoted for a statement.

/// `name` as an SQL identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Schema and table of `contacts`, `crm.contacts` or `"odd.schema"."Odd ""Table"""`. Names are taken as they
/// are written: nothing is folded to lower case, so what `discover` prints is what is found again.
pub(super) fn split(table: &str) -> Option<(Option<String>, String)> {
    let mut parts = vec![String::new()];
    let mut chars = table.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("there is always a part");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => part.push(c),
        }
    }
    if quoted || parts.iter().any(String::is_empty) {
        return None;
    }
    match parts.len() {
        1 => Some((None, parts.remove(0))),
        2 => {
            let table = parts.remove(1);
            Some((Some(parts.remove(0)), table))
        }
        _ => None,
    }
}

/// The name of a table as a definition would write it.
pub(super) fn written(schema: &str, table: &str) -> String {
    let part = |name: &str| {
        if name.contains(['.', '"']) { identifier(name) } else { name.to_owned() }
    };
    format!("{}.{}", part(schema), part(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together_again() {
        for (schema, table) in [("public", "contacts"), ("odd.schema", "Odd \"Table\"")] {
            assert_eq!(split(&written(schema, table)), Some((Some(schema.into()), table.into())));
        }
        assert_eq!(split("contacts"), Some((None, "contacts".into())));
        for bad in ["", "a.", ".a", "a.b.c", "\"a", "a..b"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_identifier_cannot_leave_its_quotes() {
        assert_eq!(identifier(r#"a"; drop table b; --"#), r#""a""; drop table b; --""#);
    }
}
