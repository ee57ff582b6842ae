//! A sealed value: what its bytes are, and what it is bound to.
//!
//! ```text
//! version 1 | algorithm 1 | kek 16 | dek 16 | nonce 12 | ciphertext and its tag of 16
//! ```
//!
//! The first 34 bytes and the [`Cell`] are authenticated with the text: a value opens only where it was sealed (K6).

use std::fmt;

use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef},
};
use uuid::Uuid;

use crate::cipher::{NONCE_BYTES, TAG_BYTES};

/// The first byte of every sealed value.
const VERSION: u8 = 1;

/// AES-256-GCM-SIV (RFC 8452): a nonce that is drawn twice tells no more than that two texts are equal.
const AES_256_GCM_SIV: u8 = 1;

/// All that stands before the nonce.
const HEADER_BYTES: usize = 34;

/// As the domain's check says.
const BYTES_MAX: usize = 1 << 20;

/// The longest text that can be sealed, in bytes.
pub const TEXT_BYTES_MAX: usize = BYTES_MAX - HEADER_BYTES - NONCE_BYTES - TAG_BYTES;

/// The number of a key that seals values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DekId(pub Uuid);

/// The number under which a key service's key is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct KekId(pub Uuid);

macro_rules! id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(DekId);
id!(KekId);

/// Whose value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The platform's, in the control database.
    Platform,
    /// A tenant's, in its own database.
    Tenant(Uuid),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Tenant(id) => write!(f, "tenant/{id}"),
        }
    }
}

/// Where a value lies: it opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// Whose database it is in.
    pub owner: Owner,
    /// The table, as `schema.table`.
    pub relation: &'a str,
    /// The column.
    pub column: &'a str,
    /// The primary key, in its order, each value as Postgres writes it as text.
    pub key: &'a [String],
}

impl Cell<'_> {
    /// What is authenticated beside the text: each part behind its length, so that no two cells look the same.
    fn bound(&self, header: &[u8]) -> Vec<u8> {
        let owner = self.owner.to_string();
        let fixed = ["tenure.sealed.v1", &owner, self.relation, self.column];
        let parts = fixed.into_iter().chain(self.key.iter().map(String::as_str));
        let mut bound = header.to_vec();
        for part in parts {
            bound.extend((part.len() as u64).to_be_bytes());
            bound.extend(part.as_bytes());
        }
        bound
    }
}

/// A value as it rests in a column of the type `governance.sealed`. Holds nothing that must be kept secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed(Vec<u8>);

/// The bytes are no sealed value that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no sealed value of version {VERSION}")]
pub struct NotSealed;

/// The parts of a sealed value.
pub(crate) struct Parts<'a> {
    pub(crate) nonce: [u8; NONCE_BYTES],
    /// With the tag at its end.
    pub(crate) ciphertext: &'a [u8],
    pub(crate) bound: Vec<u8>,
}

impl Sealed {
    /// Begins a value under these keys: its header and nonce, and what is to be authenticated beside the text.
    pub(crate) fn begin(
        kek: KekId,
        dek: DekId,
        nonce: &[u8; NONCE_BYTES],
        cell: &Cell<'_>,
    ) -> (Self, Vec<u8>) {
        let mut bytes = vec![VERSION, AES_256_GCM_SIV];
        bytes.extend(kek.0.as_bytes());
        bytes.extend(dek.0.as_bytes());
        let bound = cell.bound(&bytes);
        bytes.extend(nonce);
        (Self(bytes), bound)
    }

    /// Ends it with the ciphertext and its tag.
    pub(crate) fn end(mut self, ciphertext: &[u8]) -> Self {
        self.0.extend(ciphertext);
        self
    }

    /// The key that it says it is sealed under.
    #[must_use]
    pub fn dek(&self) -> DekId {
        DekId(self.uuid(18))
    }

    /// The key service's key that wrapped that key when the value was sealed; it may have been wrapped anew since.
    #[must_use]
    pub fn kek(&self) -> KekId {
        KekId(self.uuid(2))
    }

    fn uuid(&self, at: usize) -> Uuid {
        Uuid::from_slice(&self.0[at..at + 16]).expect("a sealed value is longer than its header")
    }

    /// The bytes, as they rest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its parts, for this cell; [`NotSealed`] for an algorithm that this program does not know.
    pub(crate) fn parts(&self, cell: &Cell<'_>) -> Result<Parts<'_>, NotSealed> {
        let (header, rest) = self.0.split_at(HEADER_BYTES);
        if header[1] != AES_256_GCM_SIV {
            return Err(NotSealed);
        }
        let (nonce, ciphertext) = rest.split_first_chunk().ok_or(NotSealed)?;
        Ok(Parts { nonce: *nonce, ciphertext, bound: cell.bound(header) })
    }
}

impl TryFrom<Vec<u8>> for Sealed {
    type Error = NotSealed;

    fn try_from(bytes: Vec<u8>) -> Result<Self, NotSealed> {
        let fits = (HEADER_BYTES + NONCE_BYTES + TAG_BYTES..=BYTES_MAX).contains(&bytes.len());
        if fits && bytes[0] == VERSION { Ok(Self(bytes)) } else { Err(NotSealed) }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes under {})", self.0.len(), self.dek())
    }
}

/// As bytes: a domain is sent as what it is made of.
impl Type<Postgres> for Sealed {
    fn type_info() -> PgTypeInfo {
        <Vec<u8> as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <Vec<u8> as Type<Postgres>>::compatible(ty) || ty.to_string().ends_with("sealed")
    }
}

impl Encode<'_, Postgres> for Sealed {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <Vec<u8> as Encode<'_, Postgres>>::encode_by_ref(&self.0, buffer)
    }
}

impl Decode<'_, Postgres> for Sealed {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(<Vec<u8> as Decode<'_, Postgres>>::decode(value)?.try_into()?)
    }
}
