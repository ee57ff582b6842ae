//! Where bundles lie: half-written ones under names of their own, whole ones under theirs, for their owner alone.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use database::control::{Tenant, TenantId};
use governance::approval::ApprovalId;

/// What the names of bundles end with, and those of what is not whole.
const ENDING: &str = ".zip";
const PARTIAL: &str = ".partial";

/// The folder of bundles that nobody named a place for, and how long they stay.
#[derive(Clone, Debug)]
pub struct Exports {
    folder: PathBuf,
    keep: Duration,
}

/// A bundle that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was made.
    pub made_at: SystemTime,
    /// From when on it is swept.
    pub expires_at: SystemTime,
}

impl Exports {
    /// Bundles lie in this folder, one below it for each tenant, and are swept after this time.
    #[must_use]
    pub fn new(folder: PathBuf, keep: Duration) -> Self {
        Self { folder, keep }
    }

    /// How long a bundle stays.
    #[must_use]
    pub fn keep(&self) -> Duration {
        self.keep
    }

    /// Where the tenant's bundles lie. Whoever deletes the tenant empties it.
    #[must_use]
    pub fn of(&self, tenant: TenantId) -> PathBuf {
        self.folder.join(tenant.to_string())
    }

    /// The same, made if need be, for its owner alone.
    pub(crate) fn made(&self, tenant: TenantId) -> io::Result<PathBuf> {
        let folder = self.of(tenant);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// The tenant's bundles, the oldest first.
    pub fn list(&self, tenant: TenantId) -> io::Result<Vec<Listed>> {
        let listed = match fs::read_dir(self.of(tenant)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed?,
        };
        let mut bundles = Vec::new();
        for file in listed {
            let file = file?;
            if !is_name(&file.file_name().to_string_lossy()) {
                continue;
            }
            // It may be swept in this moment.
            let Ok(about) = file.metadata() else { continue };
            let made_at = about.modified()?;
            let expires_at = made_at + self.keep;
            bundles.push(Listed { path: file.path(), bytes: about.len(), made_at, expires_at });
        }
        bundles.sort_by_key(|bundle| bundle.made_at);
        Ok(bundles)
    }
}

/// The name of the one bundle that an approval allows.
#[must_use]
pub fn name(tenant: &Tenant, approval: ApprovalId) -> String {
    let id = tenant.id.to_string();
    format!("{}-{}-{approval}{ENDING}", tenant.name, &id[..8])
}

/// Whether a file of this name can be a bundle, in its own folder.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.contains('/') && name.ends_with(ENDING)
}

/// Files of a bundle that is not whole. Dropped, they are gone.
#[derive(Debug)]
pub struct Partial {
    folder: PathBuf,
    name: String,
    /// What this attempt calls it.
    own: String,
}

impl Partial {
    /// For the bundle of this name in this folder, by an attempt that no other has the number of. What earlier attempts
    /// left is removed; one that still writes there can offer nothing any more. A later one's is let be: then it is we who
    /// were overtaken.
    pub fn new(folder: &Path, name: &str, attempt: i64) -> io::Result<Self> {
        let prefix = format!(".{name}.");
        for file in fs::read_dir(folder)? {
            let file = file?;
            let other = file.file_name();
            let number = other.to_str().and_then(|other| other.strip_prefix(&prefix)?.strip_suffix(PARTIAL));
            let number = number.and_then(|rest| rest.split('.').next()?.parse::<i64>().ok());
            if number.is_some_and(|number| number < attempt) {
                remove(&file.path())?;
            }
        }
        let own = format!("{prefix}{attempt}");
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), own })
    }

    /// A file of it, to be written and read, for its owner alone.
    pub(super) fn file(&self, part: &str) -> io::Result<Disk> {
        let path = self.part(part);
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Disk { file })
    }

    fn part(&self, part: &str) -> PathBuf {
        self.folder.join(format!("{}.{part}{PARTIAL}", self.own))
    }

    /// The folder, to name in messages.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the finished file its name, durably. One of an earlier attempt is replaced.
    pub fn offer(self) -> io::Result<PathBuf> {
        let path = self.folder.join(&self.name);
        fs::rename(self.part(WHOLE), &path)?;
        // The name is durable once the folder is.
        fs::File::open(&self.folder)?.sync_all()?;
        Ok(path)
    }
}

/// The parts of a bundle in the making: what becomes the whole, and the sheets until they join it.
pub(super) const WHOLE: &str = "whole";
pub(super) const SHEETS: &str = "sheets";

impl Drop for Partial {
    fn drop(&mut self) {
        for part in [WHOLE, SHEETS] {
            let path = self.part(part);
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a half-written bundle is left behind");
            }
        }
    }
}

/// Removes a file; one that is gone is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file; in tests the disk can be full.
#[derive(Debug)]
pub(super) struct Disk {
    file: fs::File,
}

impl Disk {
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        full::check(bytes.len())?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl io::Read for Disk {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl io::Seek for Disk {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A disk that is full after so many bytes, of a whole process: each test is one.
#[cfg(test)]
pub(crate) mod full {
    use std::{
        io,
        sync::atomic::{AtomicU64, Ordering},
    };

    static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

    pub(crate) fn after(bytes: u64) {
        LEFT.store(bytes, Ordering::SeqCst);
    }

    pub(super) fn check(bytes: usize) -> io::Result<()> {
        let taken = |left: u64| left.checked_sub(bytes as u64);
        match LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn what_is_not_whole_is_never_offered_and_a_later_attempt_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let late = Partial::new(folder.path(), "a.zip", 1).unwrap();
        late.file(WHOLE).unwrap().write_all(b"old").unwrap();
        let dropped = Partial::new(folder.path(), "b.zip", 1).unwrap();
        dropped.file(SHEETS).unwrap();
        drop(dropped);
        let newer = Partial::new(folder.path(), "a.zip", 2).unwrap();
        newer.file(WHOLE).unwrap().write_all(b"new").unwrap();
        // One that was overtaken before it began takes nothing from the one that overtook it.
        drop(Partial::new(folder.path(), "a.zip", 1).unwrap());
        assert_eq!(late.offer().unwrap_err().kind(), io::ErrorKind::NotFound, "it was overtaken");
        let path = newer.offer().unwrap();
        assert_eq!(names(), ["a.zip"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
