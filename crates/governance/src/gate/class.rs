//! The classes of action that a gate can stand before.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A class of action, such as `promotion` or `writeback.email_format`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ActionClass(String);

/// The text names no class of action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no class of action: write promotion, certification, key_rotation, tenant_export, tenant_delete, gate_lower, or \
     writeback. and a policy's class"
)]
pub struct NoActionClass(pub String);

/// What a writeback's class begins with.
const WRITEBACK: &str = "writeback.";

/// A policy's class is at most so long, as the table's check says.
const NAME_LENGTH_MAX: usize = 40;

impl ActionClass {
    /// The classes that are always there.
    pub const FIXED: [&'static str; 6] =
        ["promotion", "certification", "key_rotation", "tenant_export", "tenant_delete", "gate_lower"];

    /// A candidate's move one phase up.
    #[must_use]
    pub fn promotion() -> Self {
        Self("promotion".to_owned())
    }

    /// A path's step to certified.
    #[must_use]
    pub fn certification() -> Self {
        Self("certification".to_owned())
    }

    /// A rotation of keys, another key of a key service, or a key taken out of use.
    #[must_use]
    pub fn key_rotation() -> Self {
        Self("key_rotation".to_owned())
    }

    /// Taking everything out that is held on a tenant.
    #[must_use]
    pub fn tenant_export() -> Self {
        Self("tenant_export".to_owned())
    }

    /// Lowering a gate.
    #[must_use]
    pub fn gate_lower() -> Self {
        Self("gate_lower".to_owned())
    }

    /// The deletion of a tenant, for good.
    #[must_use]
    pub fn tenant_delete() -> Self {
        Self("tenant_delete".to_owned())
    }

    /// The writeback class of a policy's own class.
    pub fn writeback(name: &str) -> Result<Self, NoActionClass> {
        format!("{WRITEBACK}{name}").parse()
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one that policies name.
    #[must_use]
    pub fn is_writeback(&self) -> bool {
        self.0.starts_with(WRITEBACK)
    }

    /// Whether even an approval wants the name of the thing typed: what is done cannot be undone.
    #[must_use]
    pub fn is_severe(&self) -> bool {
        self.0 == "tenant_delete"
    }
}

fn is_name(text: &str) -> bool {
    let is_rest = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    text.len() <= NAME_LENGTH_MAX
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && text.bytes().all(is_rest)
}

impl FromStr for ActionClass {
    type Err = NoActionClass;

    fn from_str(text: &str) -> Result<Self, NoActionClass> {
        let is_class = match text.strip_prefix(WRITEBACK) {
            Some(name) => is_name(name),
            None => Self::FIXED.contains(&text),
        };
        if is_class { Ok(Self(text.to_owned())) } else { Err(NoActionClass(text.to_owned())) }
    }
}

impl TryFrom<String> for ActionClass {
    type Error = NoActionClass;

    fn try_from(text: String) -> Result<Self, NoActionClass> {
        text.parse()
    }
}

impl From<ActionClass> for String {
    fn from(class: ActionClass) -> Self {
        class.0
    }
}

impl fmt::Display for ActionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
