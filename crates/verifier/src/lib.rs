//! Checks an exported audit chain against signed checkpoints. `FORMAT.md` beside this crate says what the bytes mean;
//! `verify.py` is a second implementation of it that shares nothing with this one.
//!
//! Owns: [`chain::verify`], the Merkle tree of RFC 6962 ([`merkle`]) and the signed notes of checkpoints ([`note`]).
//!
//! Promises: memory does not grow with the chain, and a line is read at most so far as a line may be long. The first
//! bad line is named, with what is wrong with it.
//!
//! Refuses: to call a chain verified that no checkpoint stands behind; to reach a database or a network.

mod canonical;
pub mod chain;
mod line;
pub mod merkle;
pub mod note;

/// 32 bytes of SHA-256.
pub type Hash = [u8; 32];

/// The hash as 64 lower-case hexadecimal digits.
#[must_use]
pub fn hex(hash: &Hash) -> String {
    hex_of(hash)
}

/// Any bytes as hexadecimal digits.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The hash that 64 lower-case hexadecimal digits stand for.
pub(crate) fn from_hex(text: &[u8]) -> Option<Hash> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    let mut hash = Hash::default();
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(hash)
}
