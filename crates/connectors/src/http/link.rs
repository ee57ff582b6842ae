//! `Link` headers (RFC 8288): where the next page is.

/// The target of the first link whose relation is `next`.
pub(super) fn next<'h>(headers: impl IntoIterator<Item = &'h str>) -> Option<String> {
    headers.into_iter().find_map(|header| {
        let mut rest = header;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, after) = after.split_once('>')?;
            let (params, after) = split_link(after);
            if is_next(params) {
                return Some(target.trim().to_owned());
            }
            rest = after;
        }
        None
    })
}

/// The parameters of a link, up to the comma that ends it; commas in quotes belong to them.
fn split_link(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

/// `rel` may hold several relations and may be quoted.
fn is_next(params: &str) -> bool {
    params.split(';').filter_map(|param| param.split_once('=')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("rel")
            && value
                .trim()
                .trim_matches('"')
                .split_ascii_whitespace()
                .any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        let header =
            r#"<https://a/1>; rel="prev first", <https://a/3?a=1,2>; title="x, y; z"; REL="last NEXT""#;
        assert_eq!(next([header]), Some("https://a/3?a=1,2".into()));
        assert_eq!(next(["<b>; rel=prev", "<c>; rel=next"]), Some("c".into()));
    }

    #[test]
    fn without_a_next_link_there_is_none() {
        for header in
            ["", "<a>", "<a>; rel=nextish", "<a; rel=next", "a; rel=next", r#"<a>; title="rel=next""#]
        {
            assert_eq!(next([header]), None, "{header}");
        }
    }
}
