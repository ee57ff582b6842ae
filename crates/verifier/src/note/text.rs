//! Any text of whole lines with Ed25519 signatures below it, in the form of C2SP's `signed-note`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::Signature;

use super::{NOTE_BYTES_MAX, NoteError, PublicKey, SIGNATURE};

/// A text with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedText {
    text: String,
    /// Key name, key hash and signature of each line.
    signatures: Vec<(String, [u8; 4], [u8; 64])>,
}

impl SignedText {
    /// Reads a note. Signatures are not checked.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is too long"));
        }
        let (text, signed) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed("it has no signatures"))?;
        if signed.is_empty() || !signed.ends_with('\n') {
            return Err(NoteError::Malformed("its last line does not end"));
        }
        let signatures = signed.lines().map(signature).collect::<Result<_, _>>()?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// What is signed: whole lines.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks the signature of this key.
    pub fn check(&self, key: &PublicKey) -> Result<(), NoteError> {
        let ours = |(name, hash, _): &&(String, [u8; 4], [u8; 64])| *name == key.name && *hash == key.hash();
        let found = self.signatures.iter().find(ours);
        let (_, _, bytes) = found.ok_or_else(|| NoteError::NotSigned(key.name.clone()))?;
        let signature = Signature::from_bytes(bytes);
        let checked = key.key.verify_strict(self.text.as_bytes(), &signature);
        checked.map_err(|_| NoteError::BadSignature(key.name.clone()))
    }
}

fn signature(line: &str) -> Result<(String, [u8; 4], [u8; 64]), NoteError> {
    let malformed = NoteError::Malformed("a signature's line is not one");
    let (name, encoded) =
        line.strip_prefix(SIGNATURE).and_then(|rest| rest.split_once(' ')).ok_or(malformed.clone())?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| malformed.clone())?;
    let (hash, rest) = bytes.split_first_chunk::<4>().ok_or(malformed.clone())?;
    Ok((name.to_owned(), *hash, rest.try_into().map_err(|_| malformed)?))
}
