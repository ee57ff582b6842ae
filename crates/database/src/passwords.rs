//! Passwords of the tenants' roles.
//!
//! Promises: nothing that opens a tenant's database rests in a database. The default derives each password from one
//! key, which lies in a file that only we can read. Refuses a key file that others can read, or a key too short.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::control::TenantId;
use crate::scram::keyed;

/// As long as the HMAC's result: a shorter key would be the weaker part.
const KEY_BYTES_MIN: usize = 32;

/// A key file longer than this is some other file.
const KEY_BYTES_MAX: u64 = 4096;

/// Keeps these passwords apart from anything else that the same key might ever be used for.
const PURPOSE: &[u8] = b"tenure/tenant-role-password/1\0";

/// Where the password of a tenant's role comes from.
pub trait PasswordSource: Send + Sync {
    /// The password of this tenant's role, in ASCII, the same at every call.
    fn password(&self, tenant: TenantId) -> Result<SecretString, PasswordError>;
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The key file cannot be read or written.
    #[error("the key file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read or change the key file.
    #[error("the key file {path} has mode {mode:o}; only its owner may use it: `chmod 600`")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is too short, or the file is no key file.
    #[error(
        "the key file {path} holds {bytes} bytes; a key has at least {KEY_BYTES_MIN}, at most {KEY_BYTES_MAX}"
    )]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Its length without white space at the end.
        bytes: usize,
    },
}

/// Passwords derived from one key: HMAC-SHA256 of the tenant's id. A new key changes them all, after which every
/// tenant has to be provisioned again.
pub struct DerivedPasswords {
    key: SecretSlice<u8>,
}

impl DerivedPasswords {
    /// Reads the key: the file's bytes, without white space at the end, which editors and shells add unasked.
    pub fn from_file(path: &Path) -> Result<Self, PasswordError> {
        let failed = |source| PasswordError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(PasswordError::TooOpen { path: path.to_owned(), mode });
        }
        let mut key = Vec::new();
        let read = file.take(KEY_BYTES_MAX + 1).read_to_end(&mut key).map_err(failed)?;
        key.truncate(key.trim_ascii_end().len());
        if key.len() < KEY_BYTES_MIN || read as u64 > KEY_BYTES_MAX {
            return Err(PasswordError::WrongSize { path: path.to_owned(), bytes: key.len() });
        }
        Ok(Self { key: key.into() })
    }
}

impl PasswordSource for DerivedPasswords {
    fn password(&self, tenant: TenantId) -> Result<SecretString, PasswordError> {
        let message = [PURPOSE, tenant.0.as_bytes()].concat();
        Ok(URL_SAFE_NO_PAD.encode(keyed(self.key.expose_secret(), &message)).into())
    }
}

/// Writes a new random key of 256 bits to a file that must not exist yet, mode 0600.
pub fn generate_key_file(path: &Path) -> Result<(), PasswordError> {
    write_key_file(path).map_err(|source| PasswordError::File { path: path.to_owned(), source })
}

/// Written aside and linked, so that a file of this name is never half a key, and never replaces another key.
fn write_key_file(path: &Path) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let key = STANDARD.encode(rand::random::<[u8; KEY_BYTES_MIN]>());
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let linked = file
        .set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| writeln!(file, "{key}"))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file(folder: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_generated_key_gives_each_tenant_its_own_password_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        generate_key_file(&path).unwrap();
        let (one, other) = (TenantId::generate(), TenantId::generate());
        let read = || DerivedPasswords::from_file(&path).unwrap();
        let password = |tenant| read().password(tenant).unwrap().expose_secret().to_owned();
        assert_eq!(password(one), password(one));
        assert_ne!(password(one), password(other));
        assert_eq!(password(one).len(), 43);
    }

    #[test]
    fn a_key_file_is_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        generate_key_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        assert!(matches!(generate_key_file(&path), Err(PasswordError::File { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620] {
            let path = key_file(&folder, &[7; 32], mode);
            let refused = DerivedPasswords::from_file(&path).err();
            assert!(matches!(refused, Some(PasswordError::TooOpen { mode: found, .. }) if found == mode));
        }
        DerivedPasswords::from_file(&key_file(&folder, &[7; 32], 0o400)).unwrap();
    }

    #[test]
    fn a_short_key_is_refused_and_a_line_feed_is_no_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let short = key_file(&folder, &[[7; 31].as_slice(), b"\n\n"].concat(), 0o600);
        let refused = DerivedPasswords::from_file(&short).err();
        assert!(matches!(refused, Some(PasswordError::WrongSize { bytes: 31, .. })));
        let tenant = TenantId::generate();
        let password = |content: &[u8]| {
            let passwords = DerivedPasswords::from_file(&key_file(&folder, content, 0o600)).unwrap();
            passwords.password(tenant).unwrap().expose_secret().to_owned()
        };
        assert_eq!(password(&[7; 32]), password(&[[7; 32].as_slice(), b"\n"].concat()));
    }
}
