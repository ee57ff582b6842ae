//! Signed papers, and their files outside the database.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use governance::canonical::{self, CanonicalError};
use serde::Serialize;
use verifier::note::SecretKey;

/// What a tombstone's text begins with.
pub(super) const TOMBSTONE: &str = "tenure.tombstone.v1";

/// What a certificate's text begins with.
pub(super) const CERTIFICATE: &str = "tenure.certificate.v1";

/// A line that says what it is, a line of canonical JSON, and the signature: no checkpoint has two lines.
pub(super) fn sign(
    key: &SecretKey,
    tag: &'static str,
    content: &impl Serialize,
) -> Result<String, CanonicalError> {
    Ok(key.sign_text(&format!("{tag}\n{}\n", canonical::to_text(content)?)))
}

/// A file that is written aside and takes its name when it is whole and durable. One that is there is left alone.
pub(super) fn put(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut fs::File) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let path = folder.join(name);
    if path.try_exists()? {
        return Ok(path);
    }
    fs::create_dir_all(folder)?;
    let unfinished = unfinished(folder, name);
    let mut file = fs::File::create(&unfinished)?;
    write(&mut file)?;
    finish(&file, &unfinished, &path)?;
    Ok(path)
}

/// The name under which a file of this process grows.
pub(super) fn unfinished(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.{}", std::process::id()))
}

/// Makes the file durable under its own name, and the names too.
pub(super) fn finish(file: &fs::File, unfinished: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    let folder = path.parent().unwrap_or(path);
    fs::File::open(folder)?.sync_all()?;
    // The folder itself may be new.
    folder.parent().map_or(Ok(()), |above| fs::File::open(above)?.sync_all())
}

/// A text as a file.
pub(super) async fn put_text(folder: PathBuf, name: String, text: String) -> io::Result<PathBuf> {
    let written =
        tokio::task::spawn_blocking(move || put(&folder, &name, |file| file.write_all(text.as_bytes())));
    written.await.map_err(io::Error::other)?
}
