//! The keyring: a file of our own that holds keys, for machines that have no key service.
//!
//! One JSON object: the installation it belongs to, and keys with their versions, oldest first. It is read for every
//! call, so that what another process has written counts at once, and replaced as a whole by whoever changes it, under
//! a lock beside it. Refuses a file that others can read, that is cut off, or that is another installation's.
//!
//! Whoever loses the file loses what was sealed; whoever has the file and a database can read it.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Deserialize;
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    cipher::{self, KEY_BYTES, Key},
    service::{KeyReference, KeyService, ServiceError, Vendor, Wrapped, Wrapping},
};

/// What the file says it is.
const FORMAT: &str = "tenure.keyring.v1";

/// A file longer than this is some other file: a key takes 150 bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Why the keyring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no such file.
    #[error(
        "the keyring {0} is not there: restore it from its copy, for what it sealed opens with nothing else"
    )]
    Missing(PathBuf),
    /// The file cannot be read or written.
    #[error("the keyring {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error("the keyring {path} has mode {mode:o}; only its owner may use it: `chmod 600`")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is cut off, or was changed by hand, or is no keyring.
    #[error("the keyring {path} is damaged ({what}): restore it from its copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The key is of another installation's keyring.
    #[error(
        "the keyring {path} is of installation {found}, and the key is of installation {wanted}: name that keyring"
    )]
    OtherInstallation {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Whose the key is.
        wanted: String,
    },
    /// The installation is the right one, and the key is not there.
    #[error("the keyring {path} has no key {key}: it was destroyed, or this is an older copy")]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// A keyring file.
#[derive(Clone, Debug)]
pub struct Keyring {
    path: Arc<Path>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: String,
    installation: Uuid,
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: Uuid,
    /// The oldest first.
    versions: Vec<VersionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionEntry {
    version: u32,
    /// For whom it was made: the same request makes no other.
    request: String,
    key: SecretString,
}

impl Keyring {
    /// The keyring in this file, which is looked at now: a faulty one is told at the start.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        let keyring = Self { path: path.into() };
        keyring.read()?;
        Ok(keyring)
    }

    /// Makes a new keyring in a file that must not exist yet, mode 0600.
    pub fn generate(path: &Path) -> Result<Self, KeyringError> {
        let keyring = Self { path: path.into() };
        let content = Content { format: FORMAT.to_owned(), installation: Uuid::new_v4(), keys: Vec::new() };
        let unfinished = keyring.write_aside(&content)?;
        // Linked, so that it never replaces another keyring.
        let linked = fs::hard_link(&unfinished, path);
        fs::remove_file(&unfinished).map_err(|error| keyring.failed(error))?;
        linked.map_err(|error| keyring.failed(error))?;
        Ok(keyring)
    }

    fn failed(&self, source: io::Error) -> KeyringError {
        let path = self.path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => KeyringError::Missing(path),
            _ => KeyringError::File { path, source },
        }
    }

    fn damaged(&self, what: impl Into<String>) -> KeyringError {
        KeyringError::Damaged { path: self.path.to_path_buf(), what: what.into() }
    }

    fn read(&self) -> Result<Content, KeyringError> {
        let file = File::open(&self.path).map_err(|error| self.failed(error))?;
        let mode = file.metadata().map_err(|error| self.failed(error))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyringError::TooOpen { path: self.path.to_path_buf(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        let read = file.take(BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.damaged("it is no text"),
            _ => self.failed(error),
        })?;
        // The position alone: what stands there may be a key.
        let content: Content = serde_json::from_str(&text).map_err(|error| match error.classify() {
            serde_json::error::Category::Eof => self.damaged("it is cut off"),
            _ => self.damaged(format!("line {}, column {}", error.line(), error.column())),
        })?;
        if content.format != FORMAT {
            return Err(self.damaged(format!("it is no {FORMAT}")));
        }
        for version in content.keys.iter().flat_map(|key| &key.versions) {
            self.bytes(version)?;
        }
        Ok(content)
    }

    fn bytes(&self, version: &VersionEntry) -> Result<SecretSlice<u8>, KeyringError> {
        let mut bytes = STANDARD.decode(version.key.expose_secret()).unwrap_or_default();
        if bytes.len() != KEY_BYTES {
            bytes.zeroize();
            return Err(self.damaged(format!("a key is not of {KEY_BYTES} bytes")));
        }
        Ok(bytes.into())
    }

    /// Changes the file under the lock beside it.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Content) -> Result<T, KeyringError>,
    ) -> Result<T, KeyringError> {
        let lock =
            File::options().write(true).create(true).truncate(false).mode(0o600).open(self.beside("lock"));
        let lock = lock.map_err(|error| self.failed(error))?;
        lock.lock().map_err(|error| self.failed(error))?;
        let mut content = self.read()?;
        let done = change(&mut content)?;
        let unfinished = self.write_aside(&content)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::rename(&unfinished, &self.path)
            .and_then(|()| File::open(folder.unwrap_or(Path::new(".")))?.sync_all())
            .map_err(|error| self.failed(error))?;
        Ok(done)
    }

    /// Writes the whole to a file of its own, on disk when this returns.
    fn write_aside(&self, content: &Content) -> Result<PathBuf, KeyringError> {
        let unfinished = self.beside(&std::process::id().to_string());
        let write = || {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(content.text().as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| self.failed(error))?;
        Ok(unfinished)
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        name.into()
    }

    /// Off the runtime's threads: a file may be slow, and a lock waits.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let keyring = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&keyring)).await;
        done.map_err(|error| ServiceError::Unavailable(Vendor::Local, error.into()))?
    }

    fn create(&self) -> Result<KeyReference, KeyringError> {
        self.change(|content| {
            let id = Uuid::new_v4();
            content.keys.push(KeyEntry { id, versions: vec![VersionEntry::new(1, String::new())] });
            let key_id = format!("{}/{id}", content.installation);
            Ok(KeyReference { vendor: Vendor::Local, region: String::new(), key_id })
        })
    }

    fn advance(&self, key: &KeyReference, request: &str) -> Result<String, KeyringError> {
        self.change(|content| {
            let at = self.find(content, key)?;
            let versions = &mut content.keys[at].versions;
            let newest = versions.last().map_or(0, |newest| newest.version);
            if versions.last().is_some_and(|newest| newest.request == request) {
                return Ok(newest.to_string());
            }
            versions.push(VersionEntry::new(newest + 1, request.to_owned()));
            Ok((newest + 1).to_string())
        })
    }

    fn destroy(&self, key: &KeyReference) -> Result<bool, KeyringError> {
        self.change(|content| match self.find(content, key) {
            Ok(at) => {
                content.keys.remove(at);
                Ok(true)
            }
            Err(KeyringError::NoKey { .. }) => Ok(false),
            Err(error) => Err(error),
        })
    }

    /// Where in the file the key is.
    fn find(&self, content: &Content, key: &KeyReference) -> Result<usize, KeyringError> {
        let path = self.path.to_path_buf();
        let (wanted, id) = key.key_id.split_once('/').unwrap_or(("", &key.key_id));
        if wanted != content.installation.to_string() {
            let (found, wanted) = (content.installation, wanted.to_owned());
            return Err(KeyringError::OtherInstallation { path, found, wanted });
        }
        let at = content.keys.iter().position(|entry| entry.id.to_string() == id);
        at.ok_or_else(|| KeyringError::NoKey { path, key: key.key_id.clone() })
    }

    /// The newest version, or that of this name.
    fn key(&self, key: &KeyReference, version: Option<&str>) -> Result<(String, Key), KeyringError> {
        let content = self.read()?;
        let versions = &content.keys[self.find(&content, key)?].versions;
        let found = match version {
            None => versions.last(),
            Some(name) => versions.iter().find(|entry| entry.version.to_string() == name),
        };
        let found = found.ok_or_else(|| {
            let key = format!("{} version {}", key.key_id, version.unwrap_or("1"));
            KeyringError::NoKey { path: self.path.to_path_buf(), key }
        })?;
        let key = Key::new(&self.bytes(found)?).ok_or_else(|| self.damaged("a key is none"))?;
        Ok((found.version.to_string(), key))
    }
}

impl VersionEntry {
    fn new(version: u32, request: String) -> Self {
        let key = STANDARD.encode(cipher::random_key().expose_secret());
        Self { version, request, key: key.into() }
    }
}

impl Content {
    fn text(&self) -> Zeroizing<String> {
        // Large enough that it never moves and leaves a copy behind.
        let versions: usize = self.keys.iter().map(|key| 64 + key.versions.len() * 256).sum();
        let mut text = Zeroizing::new(String::with_capacity(256 + versions));
        self.write_to(&mut text).expect("a String takes every text");
        text
    }

    fn write_to(&self, text: &mut String) -> fmt::Result {
        use fmt::Write as _;
        write!(
            text,
            "{{\"format\": \"{}\", \"installation\": \"{}\", \"keys\": [",
            self.format, self.installation
        )?;
        for (at, key) in self.keys.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(text, "{comma}\n {{\"id\": \"{}\", \"versions\": [", key.id)?;
            for (at, version) in key.versions.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                let request = serde_json::Value::from(version.request.as_str());
                write!(
                    text,
                    "{comma}\n  {{\"version\": {}, \"request\": {request}, \"key\": \"",
                    version.version
                )?;
                text.push_str(version.key.expose_secret());
                text.push_str("\"}");
            }
            text.push_str("]}");
        }
        text.push_str("]}\n");
        Ok(())
    }
}

impl KeyService for Keyring {
    fn makes_versions(&self) -> bool {
        true
    }

    fn create(&self) -> BoxFuture<'_, Result<KeyReference, ServiceError>> {
        Box::pin(self.blocking(|keyring| Ok(keyring.create()?)))
    }

    fn version<'a>(&'a self, key: &'a KeyReference) -> BoxFuture<'a, Result<String, ServiceError>> {
        let key = key.clone();
        Box::pin(self.blocking(move |keyring| Ok(keyring.key(&key, None)?.0)))
    }

    fn advance<'a>(
        &'a self,
        key: &'a KeyReference,
        request: &'a str,
    ) -> BoxFuture<'a, Result<String, ServiceError>> {
        let (key, request) = (key.clone(), request.to_owned());
        Box::pin(self.blocking(move |keyring| Ok(keyring.advance(&key, &request)?)))
    }

    fn wrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        dek: &'a SecretSlice<u8>,
    ) -> BoxFuture<'a, Result<Wrapped, ServiceError>> {
        Box::pin(async {
            let reference = key.clone();
            let (version, key) = self.blocking(move |keyring| Ok(keyring.key(&reference, None)?)).await?;
            Ok(Wrapped { version, bytes: key.lock(dek.expose_secret(), &wrapping.bytes()) })
        })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        wrapped: &'a Wrapped,
    ) -> BoxFuture<'a, Result<SecretSlice<u8>, ServiceError>> {
        Box::pin(async {
            let (reference, version) = (key.clone(), wrapped.version.clone());
            let found = self.blocking(move |keyring| Ok(keyring.key(&reference, Some(&version))?.1)).await?;
            found
                .unlock(&wrapped.bytes, &wrapping.bytes())
                .map_err(|_| ServiceError::DoesNotUnwrap(key.clone()))
        })
    }

    fn destroy<'a>(&'a self, key: &'a KeyReference) -> BoxFuture<'a, Result<bool, ServiceError>> {
        let key = key.clone();
        Box::pin(self.blocking(move |keyring| Ok(keyring.destroy(&key)?)))
    }
}
