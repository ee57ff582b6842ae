//! The tenant's files in the data folders of this machine: whatever bears the tenant's id in its name, with all below it.
//!
//! A file of a tenant is found by that alone, so whoever writes one names it, or a folder above it, after the tenant's id.
//! What stays: the private Postgres, which has its own way of dropping databases, and the signed checkpoints and the
//! tombstones, which vouch for what was.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io,
    path::{Path, PathBuf},
};

use database::control::TenantId;
use serde::{Deserialize, Serialize};

/// What is not looked into, directly in a folder.
const STAYS: [&str; 5] = ["data", "data.unfinished", "socket", "checkpoints", "tombstones"];

/// Folders nest at most so deep, so that a mistake of links does not keep us for ever.
const DEPTH_MAX: usize = 16;

/// What was found or swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Files, links and other things that are no folders.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

/// The files and folders that bear the tenant's id in their name.
pub(super) fn of_tenant(folders: &[PathBuf], tenant: TenantId) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let names = [tenant.0.hyphenated().to_string(), tenant.0.simple().to_string()];
    let entries = folders.iter().map(|folder| entries(folder)).collect::<io::Result<Vec<_>>>()?;
    for entry in entries.into_iter().flatten() {
        let stays = STAYS.iter().any(|name| entry.file_name() == OsStr::new(name));
        if !stays {
            find(&entry, &names, 0, &mut found)?;
        }
    }
    Ok(found)
}

fn find(entry: &DirEntry, names: &[String; 2], depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    if names.iter().any(|id| name.contains(id.as_str())) {
        found.push(entry.path());
    } else if entry.file_type()?.is_dir() && depth < DEPTH_MAX {
        for below in entries(&entry.path())? {
            find(&below, names, depth + 1, found)?;
        }
    }
    Ok(())
}

/// A folder that is not there has nothing in it.
fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// How much that is.
pub(super) fn measure(paths: &[PathBuf]) -> io::Result<Swept> {
    let mut measured = Swept::default();
    for path in paths {
        let about = fs::symlink_metadata(path)?;
        if about.is_dir() {
            let below: Vec<_> = entries(path)?.iter().map(DirEntry::path).collect();
            let below = measure(&below)?;
            measured.files += below.files;
            measured.bytes += below.bytes;
        } else {
            measured.files += 1;
            measured.bytes += about.len();
        }
    }
    Ok(measured)
}

/// Removes the tenant's files. Harmless to repeat.
pub(super) fn sweep(folders: &[PathBuf], tenant: TenantId) -> io::Result<()> {
    for path in of_tenant(folders, tenant)? {
        let removed = match fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            // Another attempt was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}
