//! Checkpoints: what a chain was at some size, as a signed note.
//!
//! The form is that of C2SP's `tlog-checkpoint` and `signed-note`, with two extension lines, `head` and `at`:
//! origin, size, Merkle root, extensions, an empty line, and a line per signature. Signatures are Ed25519; keys are in
//! the text forms of `signed-note`. Other texts are signed in the same way ([`SignedText`]).

#[cfg(test)]
mod tests;
mod text;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

pub use self::text::SignedText;
use crate::Hash;

/// A note is at most so long.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// `signed-note` has a number for every algorithm; this is Ed25519's.
const ED25519: u8 = 1;

/// What a signature's line begins with: an em dash and a space.
const SIGNATURE: &str = "\u{2014} ";

/// Why a note or a key is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is no signed note, or another's than was to be read.
    #[error("this is no such note: {0}")]
    Malformed(&'static str),
    /// The text is no key.
    #[error("this is no Ed25519 key in the form of a signed note")]
    Key,
    /// No signature of this key is on the note.
    #[error("the note is not signed by {0}")]
    NotSigned(String),
    /// The signature is another text's.
    #[error("the signature of {0} does not fit the text")]
    BadSignature(String),
}

/// What a chain was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose chain.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The root of the Merkle tree over the entries' chain hashes.
    pub root: Hash,
    /// The last entry's chain hash, or the genesis.
    pub head: Hash,
    /// When, as UTC with microseconds.
    pub at: String,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let (root, head) = (BASE64_STANDARD.encode(self.root), BASE64_STANDARD.encode(self.head));
        format!("{}\n{}\n{root}\nhead {head}\nat {}\n", self.origin, self.size, self.at)
    }

    fn from_text(text: &str) -> Result<Self, NoteError> {
        let lines: Vec<&str> = text.lines().collect();
        let [origin, size, root, head, at] = lines[..] else {
            return Err(NoteError::Malformed("it has not five lines"));
        };
        let size: u64 = size.parse().map_err(|_| NoteError::Malformed("its size is no number"))?;
        let head = head.strip_prefix("head ").ok_or(NoteError::Malformed("it has no head"))?;
        let at = at.strip_prefix("at ").ok_or(NoteError::Malformed("it has no time"))?;
        let (origin, at) = (origin.to_owned(), at.to_owned());
        let checkpoint = Self { origin, size, root: hash(root)?, head: hash(head)?, at };
        // Leading zeros, signs and other line ends would make a second text of the same meaning.
        if checkpoint.text() == text {
            Ok(checkpoint)
        } else {
            Err(NoteError::Malformed("it is not canonical"))
        }
    }
}

fn hash(text: &str) -> Result<Hash, NoteError> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| NoteError::Malformed("a hash is not base64"))?;
    bytes.try_into().map_err(|_| NoteError::Malformed("a hash has not 32 bytes"))
}

/// A checkpoint with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it says.
    pub checkpoint: Checkpoint,
    signed: SignedText,
}

impl Note {
    /// Reads a note. Signatures are not checked.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let signed = SignedText::parse(note)?;
        Ok(Self { checkpoint: Checkpoint::from_text(signed.text())?, signed })
    }

    /// Checks the signature of this key.
    pub fn check(&self, key: &PublicKey) -> Result<(), NoteError> {
        self.signed.check(key)
    }
}

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads `name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, hash, bytes) = key_parts(text.trim_end()).ok_or(NoteError::Key)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| NoteError::Key)?;
        let key = Self { name: name.to_owned(), key };
        if hex4(key.hash()) == hash { Ok(key) } else { Err(NoteError::Key) }
    }

    /// The key as text.
    #[must_use]
    pub fn text(&self) -> String {
        encode(&self.name, self.hash(), self.key.as_bytes())
    }

    /// The name that its signatures carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn hash(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

/// A key that signs checkpoints. Its text is a secret.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

const SECRET: &str = "PRIVATE+KEY+";

impl SecretKey {
    /// The key of this seed. The name must not be empty nor have spaces or plus signs.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        if name.is_empty() || name.contains(|character: char| character == '+' || character.is_whitespace()) {
            return Err(NoteError::Key);
        }
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(seed) })
    }

    /// Reads `PRIVATE+KEY+name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let rest = text.trim_end().strip_prefix(SECRET).ok_or(NoteError::Key)?;
        let (name, hash, seed) = key_parts(rest).ok_or(NoteError::Key)?;
        let key = Self::from_seed(name, &seed)?;
        if hex4(key.public().hash()) == hash { Ok(key) } else { Err(NoteError::Key) }
    }

    /// The key as text: a secret.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{SECRET}{}", encode(&self.name, self.public().hash(), self.key.as_bytes()))
    }

    /// What its signatures are checked with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// The checkpoint as a signed note.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        self.sign_text(&checkpoint.text())
    }

    /// A text of whole lines as a signed note. Whoever signs sees to it that texts of different meaning differ: each but
    /// a checkpoint begins with a line that says what it is, and no other has a checkpoint's five lines.
    #[must_use]
    pub fn sign_text(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let signature = BASE64_STANDARD.encode([self.public().hash().as_slice(), &signature].concat());
        format!("{text}\n{SIGNATURE}{} {signature}\n", self.name)
    }
}

fn key_parts(text: &str) -> Option<(&str, &str, [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    // Base64 may contain plus signs; a name and a hash do not.
    let (hash, encoded) = rest.split_once('+')?;
    let bytes = BASE64_STANDARD.decode(encoded).ok()?;
    let (algorithm, key) = bytes.split_first()?;
    (*algorithm == ED25519).then_some((name, hash, key.try_into().ok()?))
}

fn encode(name: &str, hash: [u8; 4], key: &[u8; 32]) -> String {
    format!("{name}+{}+{}", hex4(hash), BASE64_STANDARD.encode([&[ED25519], key.as_slice()].concat()))
}

fn hex4(hash: [u8; 4]) -> String {
    crate::hex_of(&hash)
}
