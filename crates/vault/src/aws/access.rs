//! The access key, in a file of the form that AWS's own tools use.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use crate::service::ServiceError;

/// A file longer than this is some other file.
const BYTES_MAX: u64 = 64 * 1024;

/// Why there is no access key.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("the AWS credentials file {path} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error("the AWS credentials file {path} has mode {mode:o}; only its owner may use it: `chmod 600`")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It names no access key.
    #[error("the AWS credentials file {path} has no line `{member} = …` under `[default]`")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is missing.
        member: &'static str,
    },
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
}

impl From<AccessError> for ServiceError {
    fn from(error: AccessError) -> Self {
        Self::Access(Box::new(error))
    }
}

/// Where the access key is.
pub(super) struct Access(Arc<Path>);

impl Access {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.into())
    }

    /// The key, as it is now.
    pub(super) fn read(&self) -> Result<Credentials, AccessError> {
        let failed = |source| AccessError::File { path: self.0.to_path_buf(), source };
        let file = File::open(&self.0).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(AccessError::TooOpen { path: self.0.to_path_buf(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let member = |name: &'static str| {
            find(&text, name)
                .ok_or_else(|| AccessError::Incomplete { path: self.0.to_path_buf(), member: name })
        };
        let (id, secret) = (member("aws_access_key_id")?, member("aws_secret_access_key")?);
        let token = find(&text, "aws_session_token").map(str::to_owned);
        Ok(Credentials::new(id, secret, token, None, "file"))
    }
}

/// A member of the profile `default`.
fn find<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[default]").skip(1);
    let mut own = std::iter::from_fn(|| lines.next().filter(|line| !line.starts_with('[')));
    own.find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == name && !value.trim().is_empty()).then(|| value.trim())
    })
}
