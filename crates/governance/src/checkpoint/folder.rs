//! The files of checkpoints: the key that signs them, and the folder where they are put.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use verifier::note::SecretKey;

use super::{CheckpointError, Made};

/// A key file is at most so long.
const KEY_BYTES_MAX: u64 = 4096;

/// Reads the key that signs checkpoints. Refused unless the file is its owner's alone.
pub fn read_key_file(path: &Path) -> Result<SecretKey, CheckpointError> {
    let failed = |source| CheckpointError::File { path: path.to_owned(), source };
    let about = fs::metadata(path).map_err(failed)?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CheckpointError::OpenToOthers { path: path.to_owned(), mode });
    }
    if about.len() > KEY_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(SecretKey::parse(&fs::read_to_string(path).map_err(failed)?)?)
}

/// Makes a key file with these 32 random bytes as its seed, for its owner alone, and beside it `.pub` with the public
/// key. A file that exists is left as it is, and is an error.
pub fn generate_key_file(path: &Path, name: &str, seed: &[u8; 32]) -> Result<(), CheckpointError> {
    let failed = |source| CheckpointError::File { path: path.to_owned(), source };
    let key = SecretKey::from_seed(name, seed)?;
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{}", key.text()).and_then(|()| file.sync_all()).map_err(failed)?;
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    fs::write(PathBuf::from(public), format!("{}\n", key.public().text())).map_err(failed)
}

/// Puts a checkpoint into the folder, which is made if need be, and answers the file. One that is there is left alone.
pub fn store(folder: &Path, origin: &str, made: &Made) -> io::Result<PathBuf> {
    // An origin is `tenant/` or `platform/` and a UUID: nothing else that means something to a file system.
    let folder = folder.join(origin.replace('/', "-"));
    fs::create_dir_all(&folder)?;
    // Sixteen digits: the names' order is that of the sizes.
    let file = folder.join(format!("{:016}.note", made.size));
    if file.exists() {
        return Ok(file);
    }
    let unfinished = folder.join(format!(".{:016}.{}", made.size, std::process::id()));
    let mut written = fs::File::create(&unfinished)?;
    written.write_all(made.note.as_bytes())?;
    written.sync_all()?;
    fs::rename(&unfinished, &file)?;
    // The name is durable once the folder is.
    fs::File::open(&folder)?.sync_all()?;
    Ok(file)
}
