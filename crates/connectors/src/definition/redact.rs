//! A definition as it may leave the house: without secrets, and without comments, which may say anything.

use secrecy::SecretString;
use toml::{Table, Value};

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// The same within a URL, where brackets would mean something.
const REDACTED_IN_URL: &str = "redacted";

/// Keys of the vocabulary whose text is a secret.
const SECRET_KEYS: [&str; 2] = ["password", "token"];

/// Headers whose value may leave.
const PLAIN_HEADERS: [&str; 6] =
    ["accept", "accept-encoding", "accept-language", "content-type", "prefer", "user-agent"];

/// Parameters of a URL whose value may leave.
const PLAIN_PARAMETERS: [&str; 6] =
    ["application_name", "connect_timeout", "sslcert", "sslmode", "sslrootcert", "dbname"];

/// What the name of a header or a parameter says when its value is a secret.
const SECRET_WORDS: [&str; 9] =
    ["auth", "cookie", "credential", "key", "pass", "secret", "session", "sig", "token"];

/// A definition without its secrets.
#[derive(Debug)]
pub struct Redacted {
    /// The text, still a definition. As it was, to the byte, if it held neither a secret nor a comment.
    pub text: String,
    /// The secrets that were taken out, also as they are written in a URL, so that they can be looked for elsewhere.
    pub secrets: Vec<SecretString>,
}

/// Takes the secrets and the comments out of a definition's text. Denied by default: of what a definition sends along
/// with requests, headers, parameters and bodies, only well-known headers and what is no text stays. A text that is no
/// TOML goes as a whole. Doing it twice is doing it once.
#[must_use]
pub fn redacted(text: &str) -> Redacted {
    let Ok(mut table) = text.parse::<Table>() else {
        return Redacted { text: REDACTED.to_owned(), secrets: Vec::new() };
    };
    let mut walk = Walk { is_changed: false, secrets: Vec::new() };
    walk.table(&mut table, Part::Vocabulary);
    let may_comment = text.contains('#');
    let text = if walk.is_changed || may_comment {
        toml::to_string(&table).unwrap_or_else(|_| REDACTED.to_owned())
    } else {
        text.to_owned()
    };
    Redacted { text, secrets: walk.secrets.into_iter().map(SecretString::from).collect() }
}

/// In what part of a definition a text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Keys that we gave their names.
    Vocabulary,
    /// Within `auth`, where a `value` is a secret too.
    Auth,
    Headers,
    /// What is sent along, by names that we do not know.
    Sent,
}

struct Walk {
    is_changed: bool,
    secrets: Vec<String>,
}

impl Walk {
    fn table(&mut self, table: &mut Table, part: Part) {
        for (key, value) in table.iter_mut() {
            let below = match (part, key.as_str()) {
                (Part::Vocabulary, "auth") => Part::Auth,
                (Part::Vocabulary, "headers") => Part::Headers,
                (Part::Vocabulary, "params" | "body") => Part::Sent,
                (part, _) => part,
            };
            self.value(key, value, below);
        }
    }

    fn value(&mut self, key: &str, value: &mut Value, part: Part) {
        match value {
            Value::String(text) => self.text(key, text, part),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(key, value, part)),
            Value::Table(table) => self.table(table, part),
            _ => {}
        }
    }

    fn text(&mut self, key: &str, text: &mut String, part: Part) {
        let is_secret = SECRET_KEYS.contains(&key) || (part == Part::Auth && key == "value");
        match part {
            Part::Sent => self.replace(text, false),
            Part::Headers if PLAIN_HEADERS.contains(&key.to_lowercase().as_str()) => {}
            Part::Headers => self.replace(text, sounds_secret(key)),
            _ if is_secret => self.replace(text, true),
            _ => self.url(text),
        }
    }

    fn replace(&mut self, text: &mut String, is_secret: bool) {
        if text.is_empty() || text == REDACTED {
            return;
        }
        self.is_changed = true;
        let was = std::mem::replace(text, REDACTED.to_owned());
        if is_secret {
            self.secrets.push(was);
        }
    }

    /// Takes apart by hand what may be a URL, or the end of one: a parser would write the rest anew.
    fn url(&mut self, text: &mut String) {
        let (front, query) = match text.split_once('?') {
            Some((front, query)) => (front, Some(query)),
            None => (text.as_str(), None),
        };
        let mut clean = self.user(front);
        if let Some(query) = query {
            let pairs: Vec<_> = query.split('&').map(|pair| self.pair(pair)).collect();
            clean = format!("{clean}?{}", pairs.join("&"));
        }
        if clean != *text {
            self.is_changed = true;
            *text = clean;
        }
    }

    /// The part before the query, without what stands before `@` but the user's name. Of a web address that too: some
    /// services take a token there.
    fn user(&mut self, front: &str) -> String {
        let Some((scheme, rest)) = front.split_once("://") else { return front.to_owned() };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let Some((user, host)) = authority.rsplit_once('@') else { return front.to_owned() };
        let is_web = scheme.starts_with("http");
        let user = match user.split_once(':') {
            Some((name, password)) => {
                self.found(password);
                format!("{}:{REDACTED_IN_URL}", if is_web { self.found(name) } else { name })
            }
            None if is_web => self.found(user).to_owned(),
            None => user.to_owned(),
        };
        format!("{scheme}://{user}@{host}{path}")
    }

    fn pair(&mut self, pair: &str) -> String {
        match pair.split_once('=') {
            Some((name, value)) if !PLAIN_PARAMETERS.contains(&name) && !value.is_empty() => {
                if sounds_secret(name) {
                    self.found(value);
                }
                format!("{name}={REDACTED_IN_URL}")
            }
            _ => pair.to_owned(),
        }
    }

    /// Remembers a secret as a URL writes it and as it is, and gives what stands in its place.
    fn found(&mut self, written: &str) -> &'static str {
        if !written.is_empty() && written != REDACTED_IN_URL {
            self.secrets.push(written.to_owned());
            self.secrets.extend(percent_decoded(written).filter(|plain| plain != written));
        }
        REDACTED_IN_URL
    }
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// None if it is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn secrets(redacted: &Redacted) -> Vec<&str> {
        redacted.secrets.iter().map(ExposeSecret::expose_secret).collect()
    }

    #[test]
    fn e3_every_place_of_a_definition_that_can_hold_a_secret_loses_it() {
        let text = r#"
            name = "crm" # the old password was planted-00
            kind = "http"
            [http]
            base_url = "https://planted-01:planted%2D02@api.example.com/v1/?api_key=planted-03&page=7"
            auth = { type = "header", name = "X-Key", value = "planted-04" }
            headers = { Accept = "application/json", X-Api-Key = "planted-05", X-Way = "planted-06" }
            [target]
            url = "postgres://writer:planted-07@db.example.com/crm?sslmode=require&password=planted-08"
            password = "planted-09"
            auth = { type = "bearer", token = "planted-10" }
            [[streams]]
            name = "people"
            path = "people?token=planted-11"
            params = { active = true, sent = "planted-12", deep = ["planted-13"] }
            body = '{"key": "planted-14"}'
        "#;
        let redacted = redacted(text);
        assert!(!redacted.text.contains("planted"), "{}", redacted.text);
        assert!(redacted.text.contains("application/json") && redacted.text.contains("sslmode=require"));
        assert!(redacted.text.contains("writer:redacted@db.example.com/crm"), "{}", redacted.text);
        let found = secrets(&redacted);
        for number in ["01", "02", "03", "04", "05", "07", "08", "09", "10", "11"] {
            assert!(found.contains(&format!("planted-{number}").as_str()), "{number} is not in {found:?}");
        }
        // What is sent along need not be a secret, and would be looked for in everybody's records.
        assert!(!found.contains(&"planted-12"), "{found:?}");
    }

    #[test]
    fn what_holds_neither_secret_nor_comment_stays_to_the_byte_and_twice_is_once() {
        let plain = "name   = 'crm'\nkind='postgres'\n[postgres]\nurl = \"postgres://reader@db/crm\"\npassword_file='/run/crm'\n";
        let kept = redacted(plain);
        assert_eq!((kept.text.as_str(), kept.secrets.len()), (plain, 0));
        let once = redacted(&format!("# said\n{plain}password = \"hunter22\"\n"));
        let twice = redacted(&once.text);
        assert_eq!((&twice.text, twice.secrets.len()), (&once.text, 0));
        assert_eq!(secrets(&once), ["hunter22"]);
        assert_eq!(redacted("no = toml = at all").text, REDACTED);
    }
}
