//! Key services: who keeps the keys that wrap ours, and what is asked of them.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use secrecy::SecretSlice;
use serde::{Deserialize, Serialize};

use crate::{
    aws::AccessError,
    keyring::KeyringError,
    sealed::{DekId, Owner},
};

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// A keyring file of our own.
    Local,
    /// AWS KMS.
    Aws,
    /// The transit engine of Vault or OpenBao.
    Vault,
    /// Google Cloud KMS.
    Gcp,
    /// Azure Key Vault.
    Azure,
}

/// The text names no vendor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key service: write local, aws, vault, gcp or azure")]
pub struct NoVendor(pub String);

impl Vendor {
    const ALL: [Self; 5] = [Self::Local, Self::Aws, Self::Vault, Self::Gcp, Self::Azure];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
            Self::Vault => "vault",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Vendor {
    type Err = NoVendor;

    fn from_str(text: &str) -> Result<Self, NoVendor> {
        Self::ALL.into_iter().find(|vendor| vendor.as_str() == text).ok_or_else(|| NoVendor(text.to_owned()))
    }
}

/// What a key of a service is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReference {
    /// Whose service.
    pub vendor: Vendor,
    /// Where the vendor keeps it; empty where that says nothing.
    pub region: String,
    /// What the vendor calls it.
    pub key_id: String,
}

impl fmt::Display for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.vendor, self.key_id)
    }
}

/// What a wrapped key is bound to: it unwraps for nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Wrapping<'a> {
    /// Whose it is.
    pub owner: Owner,
    /// The table whose values it seals.
    pub relation: &'a str,
    /// Its number.
    pub dek: DekId,
}

impl Wrapping<'_> {
    /// The parts by name, for services that take pairs.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, String); 3] {
        [
            ("tenure:owner", self.owner.to_string()),
            ("tenure:relation", self.relation.to_owned()),
            ("tenure:dek", self.dek.to_string()),
        ]
    }

    /// The same as bytes, each part behind its length.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"tenure.wrapped.v1".to_vec();
        for (_, part) in self.pairs() {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }
}

/// A key as a service has wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The version of the service's key.
    pub version: String,
    /// What only the service can unwrap.
    pub bytes: Vec<u8>,
}

/// A key service. Each call may be repeated; none is tried twice here.
pub trait KeyService: Send + Sync {
    /// Makes a key. Only a service of our own does; elsewhere a person makes it and names it here.
    fn create(&self) -> BoxFuture<'_, Result<KeyReference, ServiceError>>;

    /// Whether [`advance`](Self::advance) makes a version, or only says which is newest.
    fn makes_versions(&self) -> bool {
        false
    }

    /// The version under which [`wrap`](Self::wrap) wraps now.
    fn version<'a>(&'a self, key: &'a KeyReference) -> BoxFuture<'a, Result<String, ServiceError>>;

    /// Gives the key a new version, once for the same `request`, and says which one is newest. A service that makes
    /// versions by its owner's word alone says which is newest.
    fn advance<'a>(
        &'a self,
        key: &'a KeyReference,
        request: &'a str,
    ) -> BoxFuture<'a, Result<String, ServiceError>>;

    /// Wraps a key under the newest version.
    fn wrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        dek: &'a SecretSlice<u8>,
    ) -> BoxFuture<'a, Result<Wrapped, ServiceError>>;

    /// Unwraps a key; [`ServiceError::DoesNotUnwrap`] if it was wrapped by another key, for something else, or changed.
    fn unwrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        wrapped: &'a Wrapped,
    ) -> BoxFuture<'a, Result<SecretSlice<u8>, ServiceError>>;

    /// Destroys the key for good, where it is ours to destroy; says whether it did.
    fn destroy<'a>(&'a self, key: &'a KeyReference) -> BoxFuture<'a, Result<bool, ServiceError>>;
}

/// What a service's failure asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceClass {
    /// The same call may succeed later.
    Transient,
    /// It will, after a pause.
    Throttled(Duration),
    /// A person has to change something first.
    Configuration,
    /// This one key cannot be had; others can.
    Damaged,
}

/// Why a key service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It does not answer, or not sensibly.
    #[error("the key service {0} does not answer")]
    Unavailable(Vendor, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was asked too often.
    #[error("the key service {0} asks for a pause of {after}s", after = .1.as_secs())]
    Throttled(Vendor, Duration),
    /// The key is disabled, revoked, gone, or not for us.
    #[error("the key service refuses the key {key}: {why}; have its owner allow it again")]
    Refused {
        /// The key.
        key: KeyReference,
        /// The service's own word for it.
        why: String,
    },
    /// What was to be unwrapped was wrapped by another key, for something else, or was changed.
    #[error("the key {0} does not unwrap what it is given")]
    DoesNotUnwrap(KeyReference),
    /// A key of this service is named, and this process has no way to it.
    #[error("the key {0} is needed, and no key service {vendor} is configured: set `{setting}`", vendor = .0.vendor, setting = setting(.0.vendor))]
    NotConfigured(KeyReference),
    /// No key was named, and there is no keyring to make one in.
    #[error(
        "no key is named here and no keyring is configured: `tenure key set` names one, or set `keys.keyring_file`"
    )]
    NoKey,
    /// Keys of this service are made by their owner.
    #[error("a key of {0} is made by its owner: make it there and name it with `tenure key set`")]
    NotOurs(Vendor),
    /// There is no way to show a key service who asks.
    #[error(transparent)]
    Access(Box<AccessError>),
    /// The keyring file cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// What to set so that keys of this vendor can be used.
fn setting(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Local => "keys.keyring_file",
        Vendor::Aws => "keys.aws_credentials_file",
        Vendor::Vault | Vendor::Gcp | Vendor::Azure => "keys",
    }
}

impl ServiceError {
    /// What it asks of the caller.
    #[must_use]
    pub fn class(&self) -> ServiceClass {
        match self {
            Self::Unavailable(..) => ServiceClass::Transient,
            Self::Throttled(_, after) => ServiceClass::Throttled(*after),
            Self::DoesNotUnwrap(_) => ServiceClass::Damaged,
            Self::Refused { .. }
            | Self::NotConfigured(_)
            | Self::NoKey
            | Self::NotOurs(_)
            | Self::Access(_)
            | Self::Keyring(_) => ServiceClass::Configuration,
        }
    }
}

/// The services that this process has a way to; cheap to clone.
#[derive(Clone, Default)]
pub struct Services(Arc<HashMap<Vendor, Arc<dyn KeyService>>>);

impl Services {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The same and this one.
    #[must_use]
    pub fn with(self, vendor: Vendor, service: Arc<dyn KeyService>) -> Self {
        let mut services = (*self.0).clone();
        services.insert(vendor, service);
        Self(Arc::new(services))
    }

    /// The one that keeps this key.
    pub fn of(&self, key: &KeyReference) -> Result<&dyn KeyService, ServiceError> {
        self.0
            .get(&key.vendor)
            .map(|service| &**service)
            .ok_or_else(|| ServiceError::NotConfigured(key.clone()))
    }

    /// The one in which a key is made where nobody has named one.
    pub(crate) fn own(&self) -> Result<&dyn KeyService, ServiceError> {
        self.0.get(&Vendor::Local).map(|service| &**service).ok_or(ServiceError::NoKey)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
