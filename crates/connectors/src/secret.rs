//! Credentials: where they come from, and how their text is kept out of everything that is said (I7).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Place, SourceError};

/// Whoever keeps the credentials that definitions only name.
pub trait CredentialKeeper: Send + Sync {
    /// The credential of this name.
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString, CredentialError>>;
}

/// Why a credential that is kept could not be had. Its texts hold nothing secret.
#[derive(Debug)]
pub enum CredentialError {
    /// It may be had later.
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// It may be had after a pause.
    Throttled(String, Duration),
    /// A person has to do something first.
    Refused {
        /// What is wrong.
        what: String,
        /// What to do.
        advice: String,
        /// The error below.
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// A credential as a definition gives it: a file to read at connect, the name under which a tenant keeps it, or the
/// text itself.
#[derive(Clone)]
pub enum SecretText {
    /// The file that holds it; one trailing line break is not part of it.
    File {
        /// The key in the definition, to name in messages.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// Kept by the tenant, under a name; opened at connect.
    Kept {
        /// The key in the definition, to name in messages.
        key: String,
        /// The name.
        name: String,
        /// Who opens it; none for a definition that was read from a file and is no tenant's.
        keeper: Option<Arc<dyn CredentialKeeper>>,
    },
    /// Written into the definition. `Definition::inline_secrets` names it, so that production can refuse.
    Inline {
        /// The key in the definition, to name in messages.
        key: String,
        /// The text.
        text: SecretString,
    },
}

impl SecretText {
    /// The key in the definition file, such as `http.auth.token_file`.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::File { key, .. } | Self::Kept { key, .. } | Self::Inline { key, .. } => key,
        }
    }

    /// The text itself.
    pub(crate) async fn read(&self, place: &Place) -> Result<SecretString, SourceError> {
        let (key, path) = match self {
            Self::Inline { text, .. } => return Ok(text.clone()),
            Self::Kept { key, name, keeper } => return kept(place, key, name, keeper.as_deref()).await,
            Self::File { key, path } => (key, path),
        };
        let text = tokio::fs::read_to_string(path).await.map_err(|error| {
            let what = format!("the secret file {} cannot be read", path.display());
            place.configuration_by(what, format!("make it readable or correct `{key}`"), error)
        })?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            let what = format!("the secret file {} is empty", path.display());
            return Err(place.configuration(what, format!("write the secret into it or correct `{key}`")));
        }
        Ok(SecretString::from(text))
    }
}

async fn kept(
    place: &Place,
    key: &str,
    name: &str,
    keeper: Option<&dyn CredentialKeeper>,
) -> Result<SecretString, SourceError> {
    let Some(keeper) = keeper else {
        let what = format!("`{key}` names the credential {name:?}, which a tenant keeps");
        return Err(place.configuration(what, "say whose with --tenant"));
    };
    let about = format!("the credential {name:?} of `{key}` cannot be opened");
    keeper.open(name).await.map_err(|error| match error {
        CredentialError::Unavailable(cause) => place.transient_by(about, cause),
        CredentialError::Throttled(why, after) => place.throttled(format!("{about}: {why}"), after),
        CredentialError::Refused { what, advice, cause: Some(cause) } => {
            place.configuration_by(format!("{about}: {what}"), advice, cause)
        }
        CredentialError::Refused { what, advice, cause: None } => {
            place.configuration(format!("{about}: {what}"), advice)
        }
    })
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { key, path } => write!(f, "File({key} = {path:?})"),
            Self::Kept { key, name, .. } => write!(f, "Kept({key} = {name:?})"),
            Self::Inline { key, .. } => write!(f, "Inline({key} = [secret])"),
        }
    }
}

/// Takes the secrets of a connector out of text that a source wrote: a server that answers 401 likes to
/// repeat the token it did not like.
#[derive(Clone, Default)]
pub(crate) struct Scrubber {
    secrets: Vec<SecretString>,
}

/// Shorter texts occur by chance; replacing them would make messages unreadable and reveal the secret.
const SECRET_CHARS_MIN: usize = 4;

impl Scrubber {
    /// Adds a secret, and the forms in which a server may repeat it: in a URL, in JSON.
    pub(crate) fn add(&mut self, secret: &SecretString) {
        let plain = secret.expose_secret();
        if plain.len() < SECRET_CHARS_MIN {
            return;
        }
        let json = serde_json::Value::from(plain).to_string();
        let json = json.trim_matches('"');
        let mut url = reqwest::Url::parse("http://invalid/").expect("a URL");
        url.query_pairs_mut().append_key_only(plain);
        let url = url.query().unwrap_or_default().to_owned();
        self.secrets.extend(
            [json.replace('/', "\\/"), json.to_owned(), url, plain.to_owned()].map(SecretString::from),
        );
    }

    /// `text` with every secret replaced.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), "[secret]"))
    }

    /// The beginning of `bytes` as one line of text, scrubbed. Scrubbed *before* it is cut: a cut through a
    /// secret would leave its first half standing.
    pub(crate) fn quote(&self, bytes: &[u8], chars_max: usize) -> String {
        let longest = self.secrets.iter().map(|secret| secret.expose_secret().len()).max().unwrap_or(0);
        // Enough that what is shown after cleaning was cleaned as a whole.
        let near = &bytes[..bytes.len().min((chars_max * 4 + longest) * 2)];
        let text = self.clean(&String::from_utf8_lossy(near));
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max).collect()
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scrubber({} secrets)", self.secrets.len())
    }
}

/// What is kept of an error that a library made: its chain of messages, scrubbed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Scrubbed(String);

impl Scrubber {
    /// The chain of messages of `error`, without secrets.
    pub(crate) fn cause(&self, error: &dyn std::error::Error) -> Scrubbed {
        let mut text = error.to_string();
        let mut below = error.source();
        while let Some(error) = below {
            let said = error.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            below = error.source();
        }
        Scrubbed(self.clean(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_a_secret_is_taken_out_in_every_form_and_before_the_text_is_cut() {
        let mut scrubber = Scrubber::default();
        let secret = format!("a/b\"c+{}", "x".repeat(9_000));
        scrubber.add(&SecretString::from(secret.as_str()));
        let forms =
            [secret.clone(), secret.replace('"', "\\\""), secret.replace('"', "\\\"").replace('/', "\\/")];
        for form in forms {
            let said = scrubber.quote(format!("{}{form} and more", "-".repeat(190)).as_bytes(), 200);
            assert!(!said.contains("a/b") && !said.contains("xxx") && said.contains("[secret]"), "{said}");
        }
    }
}
