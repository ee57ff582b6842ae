//! What the control database knows of a tenant.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ControlError;

/// A tenant's identity. It never changes and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct TenantId(pub Uuid);

impl TenantId {
    /// A new identity; its leading bits are the time, so that rows of one age lie together.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The name of this tenant's database and of its role.
    #[must_use]
    pub fn database_name(self) -> String {
        format!("tenant_{}", self.0.simple())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A tenant's name: a lower-case letter, then 1 to 39 lower-case letters, digits or hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(String);

/// Where a tenant's data lies and where a worker runs: like a tenant's name, but one letter suffices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// The pattern that both names share; the same one stands in the schema as a check.
fn is_name(text: &str, length_min: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (length_min..=40).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text.bytes().all(plain)
}

macro_rules! name {
    ($type:ident, $length_min:literal, $error:ident) => {
        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = ControlError;

            fn from_str(text: &str) -> Result<Self, ControlError> {
                if is_name(text, $length_min) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(ControlError::$error(text.to_owned()))
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = ControlError;

            fn try_from(text: String) -> Result<Self, ControlError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(TenantName, 2, BadName);
name!(Region, 1, BadRegion);

/// How far a tenant's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// Its database is being made; nothing may use it yet.
    Provisioning,
    /// In service.
    Active,
    /// Out of service for now, its data kept.
    Frozen,
    /// On its way out; there is no way back.
    Deleting,
    /// Gone; this row keeps its names from being used again.
    Deleted,
}

impl TenantState {
    /// The word for it in the schema.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Frozen => "frozen",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantState {
    type Err = ControlError;

    fn from_str(text: &str) -> Result<Self, ControlError> {
        [Self::Provisioning, Self::Active, Self::Frozen, Self::Deleting, Self::Deleted]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| ControlError::UnknownState(text.to_owned()))
    }
}

/// A row of the tenant catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its identity.
    pub id: TenantId,
    /// Its name, unique among all tenants that ever were.
    pub name: TenantName,
    /// Where its data lies.
    pub region: Region,
    /// How far its life has come.
    pub state: TenantState,
    /// Its database.
    pub database_name: String,
    /// The role that may connect to that database and to no other.
    pub role_name: String,
    /// The newest migration its database has; none before the first.
    pub schema_version: Option<i64>,
    /// When the row was made, by the database's clock.
    pub created_at: DateTime<Utc>,
    /// When it first went into service.
    pub active_since: Option<DateTime<Utc>>,
}
