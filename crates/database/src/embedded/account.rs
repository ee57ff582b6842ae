//! As whom the server runs. Postgres refuses root, so root hands it to `postgres`, else `nobody`.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use super::EmbeddedError;

/// The user that the server's files belong to.
#[derive(Clone, Debug)]
pub(super) struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether this process is root and has to change to it.
    switch: bool,
}

impl Account {
    /// The account for a server started by this process.
    pub(super) fn choose() -> Result<Self, EmbeddedError> {
        let uid = id("-u", None)?.ok_or(EmbeddedError::NoAccount)?;
        if uid != 0 {
            let gid = id("-g", None)?.ok_or(EmbeddedError::NoAccount)?;
            return Ok(Self { name: uid.to_string(), uid, gid, switch: false });
        }
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id("-u", Some(name))?, id("-g", Some(name))?) {
                return Ok(Self { name: name.to_owned(), uid, gid, switch: true });
            }
        }
        Err(EmbeddedError::NoAccount)
    }

    /// Whether this process is root.
    pub(super) fn is_root(&self) -> bool {
        self.switch
    }

    /// A command that will run as this account, without input.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        // The caller's folder may be one that the account must not enter; initdb and postgres refuse to start there.
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        if self.switch {
            // std clears the supplementary groups when root changes the user.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Makes a folder that only this account can enter, or checks that it is one.
    pub(super) fn private_folder(&self, path: &Path) -> Result<(), EmbeddedError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) if self.switch => {
                chown(path, Some(self.uid), Some(self.gid)).map_err(EmbeddedError::file(path))
            }
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.check_private(path),
            Err(error) => Err(EmbeddedError::file(path)(error)),
        }
    }

    /// The folder may have been put there by somebody else, as a link even, to lead us astray.
    fn check_private(&self, path: &Path) -> Result<(), EmbeddedError> {
        let found = fs::symlink_metadata(path).map_err(EmbeddedError::file(path))?;
        if !found.is_dir() || found.uid() != self.uid {
            return Err(EmbeddedError::NotPrivate(path.to_owned()));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(EmbeddedError::file(path))
    }

    /// Checks that the account can enter the folder, which lies perhaps in somebody's private home.
    pub(super) fn check_reach(&self, folder: &Path) -> Result<(), EmbeddedError> {
        let mut test = self.command("test");
        let status = test.arg("-x").arg(folder).status().map_err(EmbeddedError::spawn("test"))?;
        if status.success() {
            return Ok(());
        }
        Err(EmbeddedError::NotReachable { folder: folder.to_owned(), user: self.name.clone() })
    }
}

/// Asks `id`, since std knows neither our own user nor the user table.
fn id(what: &str, name: Option<&str>) -> Result<Option<u32>, EmbeddedError> {
    let output = Command::new("id").arg(what).args(name).output().map_err(EmbeddedError::spawn("id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}
