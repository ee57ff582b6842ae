//! The one cipher: AES-256-GCM-SIV of AWS-LC. Keys of 256 bits, random nonces.
//!
//! Promises: key material lies in memory that is overwritten when it is freed, and prints as nothing.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey},
    rand,
};
use secrecy::{ExposeSecret, SecretSlice};
use uuid::Uuid;
use zeroize::Zeroize;

use crate::sealed::{Cell, DekId, KekId, Sealed, TEXT_BYTES_MAX};

pub(crate) const KEY_BYTES: usize = 32;
pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;

/// A key, ready for use.
pub(crate) struct Key(LessSafeKey);

/// It was not sealed with this key, or not for this place, or was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not open: another key, another place, or changed bytes")]
pub struct DoesNotOpen;

/// The text is longer than can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a text of {0} bytes is too long to be sealed; at most {TEXT_BYTES_MAX}")]
pub struct TooLong(pub usize);

impl Key {
    /// The key of these bytes; none unless there are 32.
    pub(crate) fn new(bytes: &SecretSlice<u8>) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes.expose_secret()).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// The nonce, then the ciphertext with its tag.
    pub(crate) fn lock(&self, text: &[u8], bound: &[u8]) -> Vec<u8> {
        let nonce = nonce();
        let mut locked = nonce.to_vec();
        locked.extend(self.encrypt(&nonce, text, bound));
        locked
    }

    /// What [`Self::lock`] has made.
    pub(crate) fn unlock(&self, locked: &[u8], bound: &[u8]) -> Result<SecretSlice<u8>, DoesNotOpen> {
        let (nonce, ciphertext) = locked.split_first_chunk().ok_or(DoesNotOpen)?;
        self.decrypt(*nonce, ciphertext, bound)
    }

    fn encrypt(&self, nonce: &[u8; NONCE_BYTES], text: &[u8], bound: &[u8]) -> Vec<u8> {
        let mut in_out = Vec::with_capacity(text.len() + TAG_BYTES);
        in_out.extend(text);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self.0.seal_in_place_append_tag(nonce, Aad::from(bound), &mut in_out);
        sealed.expect("a text of at most a MiB is far below the cipher's bound");
        in_out
    }

    fn decrypt(
        &self,
        nonce: [u8; NONCE_BYTES],
        ciphertext: &[u8],
        bound: &[u8],
    ) -> Result<SecretSlice<u8>, DoesNotOpen> {
        let mut in_out = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(bound), &mut in_out);
        let text = opened.map(|text| SecretSlice::from(text.to_vec()));
        in_out.zeroize();
        text.map_err(|_| DoesNotOpen)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([secret])")
    }
}

/// A key that seals the values of one table.
#[derive(Debug)]
pub struct Dek {
    /// Its number.
    pub id: DekId,
    /// Whose it is wrapped by.
    pub(crate) kek: KekId,
    pub(crate) key: Key,
}

impl Dek {
    /// A key that exists in memory alone: what a dry run seals under.
    pub(crate) fn passing() -> Self {
        let key = Key::new(&random_key()).expect("a random key is as long as a key");
        Self { id: DekId(Uuid::new_v4()), kek: KekId(Uuid::nil()), key }
    }

    /// Seals a text for a cell.
    pub fn seal(&self, cell: &Cell<'_>, text: &[u8]) -> Result<Sealed, TooLong> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TooLong(text.len()));
        }
        let nonce = nonce();
        let (sealed, bound) = Sealed::begin(self.kek, self.id, &nonce, cell);
        Ok(sealed.end(&self.key.encrypt(&nonce, text, &bound)))
    }

    /// Opens a value of a cell.
    pub fn open(&self, cell: &Cell<'_>, sealed: &Sealed) -> Result<SecretSlice<u8>, DoesNotOpen> {
        let parts = sealed.parts(cell).map_err(|_| DoesNotOpen)?;
        self.key.decrypt(parts.nonce, parts.ciphertext, &parts.bound)
    }
}

/// Bytes for a new key.
pub(crate) fn random_key() -> SecretSlice<u8> {
    let mut bytes = vec![0; KEY_BYTES];
    fill(&mut bytes);
    bytes.into()
}

fn nonce() -> [u8; NONCE_BYTES] {
    let mut bytes = [0; NONCE_BYTES];
    fill(&mut bytes);
    bytes
}

fn fill(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system's source of randomness answers");
}
