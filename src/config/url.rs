//! A database's address, which may hold a password and therefore never shows itself whole.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// What stands in the place of a password.
const HIDDEN: &str = "…";

/// Passwords that are no secret.
const DEFAULT_PASSWORDS: [&str; 7] = ["", "postgres", "password", "admin", "changeme", "tenure", "secret"];

/// The URL of a database, with the options it stands for.
#[derive(Clone)]
pub(crate) struct DatabaseUrl {
    text: SecretString,
    options: PgConnectOptions,
}

impl DatabaseUrl {
    /// Reads a Postgres URL; the error never repeats it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is not a URL")?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.cannot_be_a_base() {
            return Err("is not a Postgres URL");
        }
        let options = database::connect::parse(text).map_err(|_| "is not a URL that Postgres understands")?;
        Ok(Self { text: text.into(), options: options.application_name("tenure") })
    }

    /// The way to the database.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Whether what is sent to it could be read on the way: encryption is not insisted on, and the way is no socket.
    pub(crate) fn is_plaintext(&self) -> bool {
        !self.is_local_socket()
            && matches!(
                self.options.get_ssl_mode(),
                PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
            )
    }

    /// Whether its password is empty, a usual default, or the role's own name.
    pub(crate) fn has_default_password(&self) -> bool {
        let url = self.url();
        let explicit_empty = url.password().is_none() && self.text.expose_secret().contains(":@");
        self.password().is_some_and(|password| {
            DEFAULT_PASSWORDS.contains(&password.as_str()) || password == self.options.get_username()
        }) || explicit_empty
    }

    /// Its password, decoded.
    pub(crate) fn password(&self) -> Option<String> {
        let url = self.url();
        let query =
            url.query_pairs().find(|(name, _)| name == "password").map(|(_, value)| value.into_owned());
        let inside = || url.password().map(percent_decoded);
        query.or_else(inside)
    }

    /// The same server and role, but another database, and the password taken out; for a file that others may read.
    pub(crate) fn of_database(&self, database: &str) -> String {
        let mut url = self.url();
        url.set_path(database);
        let pairs: Vec<_> =
            url.query_pairs().filter(|(name, _)| name != "password" && name != "dbname").map(own).collect();
        url.set_query(None);
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        // Refused only for URLs that cannot hold a password.
        if url.set_password(None).is_err() {
            return url.to_string();
        }
        url.to_string()
    }

    fn is_local_socket(&self) -> bool {
        self.options.get_socket().is_some() || self.options.get_host().starts_with('/')
    }

    fn url(&self) -> Url {
        Url::parse(self.text.expose_secret()).expect("it was parsed when it was made")
    }
}

fn own((name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)) -> (String, String) {
    (name.into_owned(), value.into_owned())
}

/// A user info part as its author meant it.
fn percent_decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(self.text.expose_secret()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A URL without its password; a text that is no URL is hidden whole.
pub(crate) fn redacted(text: &str) -> String {
    // Without `//` a URL has no place for a password, so what looks like one stays in its text.
    let Some(mut url) = Url::parse(text).ok().filter(|url| !url.cannot_be_a_base()) else {
        return HIDDEN.to_owned();
    };
    let has_password = url.password().is_some();
    let pairs: Vec<_> = url.query_pairs().map(own).collect();
    if pairs.iter().any(|(name, _)| name == "password") {
        let hidden = pairs.into_iter().map(|(name, value)| {
            let value = if name == "password" { "hidden".to_owned() } else { value };
            (name, value)
        });
        url.query_pairs_mut().clear().extend_pairs(hidden);
    }
    if has_password && url.set_password(Some("hidden")).is_err() {
        return HIDDEN.to_owned();
    }
    url.to_string().replacen(":hidden@", &format!(":{HIDDEN}@"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_a_password_is_shown_nowhere() {
        for text in [
            "postgres://ada:hunter2@db/app",
            "postgres://db/app?user=ada&password=hunter2",
            "postgres://ada:hunter2@db/app?password=hunter2",
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            let shown = format!("{url} {url:?} {}", url.of_database("other"));
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("/app") && shown.contains("/other"), "{shown}");
        }
        assert_eq!(redacted("postgres:hunter2 @ nowhere://"), "…");
        assert_eq!(redacted("postgres://ada:hunter2@db/app"), "postgres://ada:…@db/app");
    }

    #[test]
    fn a_password_is_decoded() {
        let password = |text| DatabaseUrl::parse(text).unwrap().password();
        assert_eq!(password("postgres://ada:a%40b%2Bc+d@db/app").as_deref(), Some("a@b+c+d"));
        assert_eq!(password("postgres://ada@db/app?password=a%40b").as_deref(), Some("a@b"));
        assert_eq!(password("postgres://ada@db/app"), None);
    }

    #[test]
    fn only_insisting_on_encryption_counts_and_a_socket_needs_none() {
        let plaintext = |text| DatabaseUrl::parse(text).unwrap().is_plaintext();
        assert!(plaintext("postgres://ada@db/app?sslmode=prefer"));
        assert!(plaintext("postgres://ada@db/app?sslmode=disable"));
        assert!(!plaintext("postgres://ada@db/app?sslmode=require"));
        assert!(!plaintext("postgres://ada@db/app?sslmode=verify-full"));
        assert!(!plaintext("postgres:///app?host=/run/postgresql&sslmode=disable"));
    }

    #[test]
    fn default_passwords_are_known() {
        let default = |text| DatabaseUrl::parse(text).unwrap().has_default_password();
        assert!(default("postgres://postgres:postgres@db/app"));
        assert!(default("postgres://ada:ada@db/app"));
        assert!(default("postgres://ada:@db/app"));
        assert!(!default("postgres://ada:b3tter-than-that@db/app"));
        assert!(!default("postgres://ada@db/app"));
    }
}
