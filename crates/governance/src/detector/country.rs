//! Countries by ISO 3166-1.

use std::{collections::HashMap, sync::LazyLock};

use super::plausible;

/// Names in daily use that the standard's list does not have.
const EVERYDAY: [(&str, &str); 14] = [
    ("uk", "GB"),
    ("great britain", "GB"),
    ("united kingdom", "GB"),
    ("england", "GB"),
    ("scotland", "GB"),
    ("wales", "GB"),
    ("usa", "US"),
    ("united states", "US"),
    ("united states of america", "US"),
    ("deutschland", "DE"),
    ("russia", "RU"),
    ("south korea", "KR"),
    ("czech republic", "CZ"),
    ("holland", "NL"),
];

static CODES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let mut codes = short_names();
    for country in rust_iso3166::ALL {
        for name in [country.alpha2, country.alpha3, country.name] {
            codes.insert(name.to_lowercase(), country.alpha2);
        }
    }
    codes.extend(EVERYDAY.map(|(name, code)| (name.to_owned(), code)));
    codes
});

/// "Netherlands (Kingdom of the)" is the Netherlands; "Korea (Republic of)" shares its short name and has none.
fn short_names() -> HashMap<String, &'static str> {
    let mut found: HashMap<String, Vec<&str>> = HashMap::new();
    for country in rust_iso3166::ALL {
        if let Some((short, _)) = country.name.split_once(" (") {
            found.entry(short.to_lowercase()).or_default().push(country.alpha2);
        }
    }
    let alone = found.into_iter().filter(|(_, codes)| codes.len() == 1);
    alone.map(|(name, codes)| (name, codes[0])).collect()
}

/// The two-letter code of a country given by its code (two or three letters) or its English name; nothing else is
/// guessed.
#[must_use]
pub fn country(text: &str) -> Option<&'static str> {
    let text = plausible(text)?;
    let plain = text.replace('.', "").split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    CODES.get(plain.strip_prefix("the ").unwrap_or(&plain)).copied()
}
