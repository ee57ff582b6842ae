//! Where throw-away servers live, and how nothing of them is left behind.
//!
//! Each has a folder in `target/test-postgres`, or in the temporary folder if the server's user cannot enter the
//! target folder. A *janitor*, a shell that waits on a pipe, removes the folder when our process ends without having
//! done so; what a janitor could not remove, the next server's start removes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, os::unix::process::CommandExt};

use crate::embedded::{EmbeddedError, has_live_server, is_reachable};

/// Waits for the end of its input, then for the server's end (at most a minute), then removes both folders. The
/// server ends by itself when our process does.
const JANITOR: &str = r#"
    read -r never
    waited=0
    while [ -e "$1/data/postmaster.pid" ] && [ "$waited" -lt 600 ]; do sleep 0.1; waited=$((waited + 1)); done
    rm -rf -- "$1" "$2"
"#;

/// What the folders are called, beside what else lies in the temporary folder.
const PREFIX: &str = "tenure-test-postgres-";

/// The folder of one throw-away server, taken by this process as long as this lives.
#[derive(Debug)]
pub(super) struct ThrowAwayFolder {
    path: PathBuf,
    _owner: File,
}

impl ThrowAwayFolder {
    /// Removes what killed processes left, then makes a new folder.
    pub(super) fn make() -> Result<Self, EmbeddedError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let root = root()?;
        // Held until the new folder has its owner, so that nobody takes it for an abandoned one.
        // The root itself is locked: a file for it would stay behind.
        let lock =
            File::open(&root).and_then(|root| root.lock().map(|()| root)).map_err(file_error(&root))?;
        remove_abandoned(&root)?;
        let path = root.join(format!("{PREFIX}{}-{}", id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).map_err(file_error(&path))?;
        let owner = path.join("owner");
        let owner =
            File::create(&owner).and_then(|file| file.lock().map(|()| file)).map_err(file_error(&owner))?;
        drop(lock);
        Ok(Self { path, _owner: owner })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn remove(&self) -> Result<(), EmbeddedError> {
        fs::remove_dir_all(&self.path).map_err(file_error(&self.path))
    }

    /// Starts the janitor, which works when the returned child's input is closed, by us or by our end.
    pub(super) fn janitor(&self, socket: &Path) -> Result<Child, EmbeddedError> {
        let mut janitor = Command::new("sh");
        janitor.args(["-c", JANITOR, "janitor"]).arg(&self.path).arg(socket);
        // A group of its own, so that Ctrl-C and a test runner's kill do not reach it.
        janitor.process_group(0).current_dir("/");
        janitor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        janitor.spawn().map_err(|source| EmbeddedError::Spawn { program: "sh".to_owned(), source })
    }
}

fn root() -> Result<PathBuf, EmbeddedError> {
    if let Some(target) = target_folder() {
        let root = target.join("test-postgres");
        fs::create_dir_all(&root).map_err(file_error(&root))?;
        if is_reachable(&root)? {
            return Ok(root);
        }
    }
    Ok(env::temp_dir())
}

/// Cargo marks its target folder; the program that runs lies somewhere in it.
fn target_folder() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).map(Path::to_owned)
}

/// Removes folders whose owner is gone and whose server has ended.
fn remove_abandoned(root: &Path) -> Result<(), EmbeddedError> {
    for entry in fs::read_dir(root).map_err(file_error(root))? {
        let folder = entry.map_err(file_error(root))?.path();
        let is_ours =
            folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        if is_ours && is_abandoned(&folder)? {
            match fs::remove_dir_all(&folder) {
                // Its janitor was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(file_error(&folder))?,
            }
        }
    }
    Ok(())
}

fn is_abandoned(folder: &Path) -> Result<bool, EmbeddedError> {
    let owner = folder.join("owner");
    let owner = match File::open(&owner) {
        Ok(owner) => owner,
        // Its maker died between two lines, or its janitor is at work.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        // Another user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        Err(error) => return Err(file_error(&owner)(error)),
    };
    match owner.try_lock() {
        // A server is on its way out; the next start removes it.
        Ok(()) => Ok(!has_live_server(folder)),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(file_error(folder)(error)),
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::File { path, source }
}
