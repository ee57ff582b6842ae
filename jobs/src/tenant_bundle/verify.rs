//! Checks a bundle, without any database: every file against the manifest, the chain against its checkpoints, and the
//! whole against the digest at its end.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use verifier::{
    chain::{self, Verdict},
    note::{Checkpoint, Note, PublicKey},
};
use zip::{ZipArchive, result::ZipError};

use super::{
    archive::{COMMENT, DIGEST_BYTES, digest_of},
    manifest::{self, CHAIN, CHECKPOINT, FORMAT, File, MANIFEST, Manifest, SHEET},
    write::Bundle,
};

/// A manifest is at most so long: it grows with the number of tables, not with the tenant.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// A note is at most so long.
const NOTE_BYTES_MAX: u64 = 1 << 20;

const BUFFER_BYTES: usize = 1 << 18;

/// A bundle in which everything fits.
#[derive(Debug)]
pub struct Verified {
    /// What it says it holds, and holds.
    pub manifest: Manifest,
    /// The digest that it ends with: the one in the `tenant.exported` entry of the chain it was taken from.
    pub digest: String,
    /// What the verifier says of the chain: verified or unanchored.
    pub chain: chain::Chain,
    /// Whether a checkpoint vouches for the chain.
    pub is_anchored: bool,
    /// Whether a key was there to check the signatures of checkpoints.
    pub is_signature_checked: bool,
}

/// Why a bundle is not taken.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read at all.
    #[error("the bundle cannot be read")]
    Read(#[from] io::Error),
    /// A newer program wrote it.
    #[error(
        "the bundle is of format {found}, and this program reads up to {FORMAT}: use the program that wrote it, or a newer one"
    )]
    Newer {
        /// Its format.
        found: u64,
    },
    /// Something in it is not what was written.
    #[error("{file} is not what was exported: {what}")]
    Mismatch {
        /// The file in the archive, or the archive.
        file: String,
        /// What does not fit.
        what: String,
    },
}

/// What stands for a fault that is in none of the files.
const ARCHIVE: &str = "the archive";

fn mismatch(file: &str, what: impl Into<String>) -> VerifyError {
    VerifyError::Mismatch { file: file.to_owned(), what: what.into() }
}

/// A fault of the archive's form is one of its bytes; one of reading is none.
fn of_zip(file: &str, error: ZipError) -> VerifyError {
    match error {
        ZipError::Io(error) => of_io(file, error),
        error => mismatch(file, error.to_string()),
    }
}

/// What the system did not say, a reader of packed bytes said: they are not what was packed.
fn of_io(file: &str, error: io::Error) -> VerifyError {
    if error.raw_os_error().is_some() { VerifyError::Read(error) } else { mismatch(file, error.to_string()) }
}

/// Checks the bundle; checkpoints that are kept elsewhere count beside the one in it, and `key` must have signed all.
/// The first fault is told, by the name of its file.
pub fn verify(path: &Path, kept: &[Checkpoint], key: Option<&PublicKey>) -> Result<Verified, VerifyError> {
    let mut bundle = Opened::open(path)?;
    let manifest = bundle.manifest()?;
    bundle.check_names(&manifest)?;
    for file in &manifest.files {
        bundle.check(file)?;
    }
    let (chain, is_anchored) = bundle.check_chain(&manifest, kept, key)?;
    let digest = bundle.check_whole()?;
    Ok(Verified { manifest, digest, chain, is_anchored, is_signature_checked: key.is_some() })
}

/// What a bundle that was offered says of itself, unchecked.
pub fn offered(path: &Path) -> Result<Bundle, VerifyError> {
    let mut bundle = Opened::open(path)?;
    Ok(Bundle { digest: bundle.said()?, manifest: bundle.manifest()? })
}

/// A bundle that can be read.
pub(super) struct Opened {
    archive: ZipArchive<BufReader<fs::File>>,
    whole: fs::File,
}

/// The same file, read without moving where the archive's reader is.
struct At<'a> {
    file: &'a fs::File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u64,
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Self, VerifyError> {
        let whole = fs::File::open(path)?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, whole.try_clone()?);
        let archive = ZipArchive::new(reader).map_err(|error| of_zip(ARCHIVE, error))?;
        Ok(Self { archive, whole })
    }

    pub(super) fn manifest(&mut self) -> Result<Manifest, VerifyError> {
        let text = self.small(MANIFEST, MANIFEST_BYTES_MAX)?;
        let format: AnyFormat =
            serde_json::from_slice(&text).map_err(|error| mismatch(MANIFEST, error.to_string()))?;
        if format.format > u64::from(FORMAT) {
            return Err(VerifyError::Newer { found: format.format });
        }
        serde_json::from_slice(&text).map_err(|error| mismatch(MANIFEST, error.to_string()))
    }

    /// The bytes of a small file.
    fn small(&mut self, path: &str, bytes_max: u64) -> Result<Vec<u8>, VerifyError> {
        let file = self.archive.by_name(path).map_err(|error| of_zip(path, error))?;
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| of_io(path, error))?;
        if bytes.len() as u64 > bytes_max {
            return Err(mismatch(path, format!("it is longer than {bytes_max} bytes")));
        }
        Ok(bytes)
    }

    /// A file of it, to be read.
    pub(super) fn file(&mut self, path: &str) -> Result<impl Read + '_, VerifyError> {
        self.archive.by_name(path).map_err(|error| of_zip(path, error))
    }

    /// The archive holds what the manifest names, and nothing else.
    fn check_names(&self, manifest: &Manifest) -> Result<(), VerifyError> {
        let mut listed: BTreeMap<&str, usize> = BTreeMap::from([(MANIFEST, 1)]);
        for file in &manifest.files {
            *listed.entry(&file.path).or_default() += 1;
        }
        for name in self.archive.file_names_raw() {
            let name = String::from_utf8_lossy(name);
            if listed.remove(&*name) != Some(1) {
                return Err(mismatch(&name, "the manifest does not list it once"));
            }
        }
        match listed.into_keys().next() {
            Some(missing) => Err(mismatch(missing, "it is not in the archive")),
            None => Ok(()),
        }
    }

    fn check(&mut self, file: &File) -> Result<(), VerifyError> {
        let mut reader = self.archive.by_name(&file.path).map_err(|error| of_zip(&file.path, error))?;
        let mut counter = Counter::of(&file.path);
        let (mut digest, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = reader.read(&mut buffer).map_err(|error| of_io(&file.path, error))?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            digest.update(&buffer[..read]);
            counter.count(&buffer[..read]);
        }
        let found = (bytes, verifier::hex(&digest.finalize().into()), counter.rows());
        let said = (file.bytes, file.sha256.clone(), file.rows);
        if found == said {
            return Ok(());
        }
        let what = |(bytes, digest, rows): (u64, String, u64)| {
            format!("{rows} rows, {bytes} bytes, sha256 {digest}")
        };
        Err(mismatch(&file.path, format!("it has {}, and the manifest says {}", what(found), what(said))))
    }

    fn check_chain(
        &mut self,
        manifest: &Manifest,
        kept: &[Checkpoint],
        key: Option<&PublicKey>,
    ) -> Result<(chain::Chain, bool), VerifyError> {
        let mut checkpoints = kept.to_vec();
        if manifest.file(CHECKPOINT).is_some() {
            let text = String::from_utf8(self.small(CHECKPOINT, NOTE_BYTES_MAX)?)
                .map_err(|error| mismatch(CHECKPOINT, error.to_string()))?;
            let note =
                Note::parse(&text).and_then(|note| key.map_or(Ok(()), |key| note.check(key)).map(|()| note));
            checkpoints.push(note.map_err(|error| mismatch(CHECKPOINT, error.to_string()))?.checkpoint);
        }
        let file = self.archive.by_name(CHAIN).map_err(|error| of_zip(CHAIN, error))?;
        let verdict = chain::verify(&mut BufReader::with_capacity(BUFFER_BYTES, file), &checkpoints);
        let (chain, is_anchored) = match verdict.map_err(|error| of_io(CHAIN, error))? {
            Verdict::Verified(chain) => (chain, true),
            Verdict::Unanchored(chain) => (chain, false),
            Verdict::Broken(fault) => return Err(mismatch(CHAIN, fault.to_string())),
        };
        let manifest::Audit { origin, size, head } = &manifest.audit;
        if (&chain.origin, chain.size, &verifier::hex(&chain.head)) != (origin, size.unsigned_abs(), head) {
            return Err(mismatch(CHAIN, "it is not the chain whose head the manifest names"));
        }
        Ok((chain, is_anchored))
    }

    /// The digest that the comment ends with.
    fn said(&self) -> Result<String, VerifyError> {
        let said = self.archive.comment().strip_prefix(COMMENT.as_bytes());
        let said = said.filter(|said| said.len() == DIGEST_BYTES).map(<[u8]>::to_vec);
        let said = said.and_then(|said| String::from_utf8(said).ok());
        said.ok_or_else(|| mismatch(ARCHIVE, "it does not end with its digest"))
    }

    /// The digest at the end of the file, if it is that of what is before it.
    fn check_whole(&self) -> Result<String, VerifyError> {
        let said = self.said()?;
        let length = self.whole.metadata()?.len().saturating_sub(DIGEST_BYTES as u64);
        let before = At { file: &self.whole, at: 0 }.take(length);
        let found = digest_of(BufReader::with_capacity(BUFFER_BYTES, before))?;
        let mut end = [0; DIGEST_BYTES];
        self.whole.read_exact_at(&mut end, length).map_err(|error| of_io(ARCHIVE, error))?;
        if found == said && end == said.as_bytes() {
            Ok(found)
        } else {
            Err(mismatch(ARCHIVE, "a byte outside its files was changed"))
        }
    }
}

/// Counts the rows of a file by its form.
struct Counter {
    is_sheet: bool,
    /// Lines that are no rows: the header of a sheet, both ends of the chain.
    others: u64,
    in_quotes: bool,
    lines: u64,
}

impl Counter {
    fn of(path: &str) -> Self {
        let is_sheet = path.ends_with(SHEET);
        let others = if path == CHAIN { 2 } else { u64::from(is_sheet) };
        Self { is_sheet, others, in_quotes: false, lines: 0 }
    }

    fn count(&mut self, bytes: &[u8]) {
        if !self.is_sheet {
            self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
            return;
        }
        for at in memchr::memchr2_iter(b'\n', b'"', bytes) {
            match bytes[at] {
                b'"' => self.in_quotes = !self.in_quotes,
                _ => self.lines += u64::from(!self.in_quotes),
            }
        }
    }

    fn rows(&self) -> u64 {
        self.lines.saturating_sub(self.others)
    }
}
