//! Finds the Postgres that the machine has: an override, what `pg_config` says, the distributions' folders, the
//! PATH. The newest wins, except that existing data needs the version that made it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::EmbeddedError;

/// The oldest supported major version.
const MAJOR_MIN: u32 = 14;

/// The environment variable that names the folder to use, and no other.
pub(super) const OVERRIDE: &str = "TENURE_POSTGRES_BIN";

/// Folders that hold one folder per installed version: the parent, what the version's folder begins with, and where
/// in it the programs are. Debian; the PostgreSQL project's RPMs; Alpine; Homebrew on both kinds of Mac.
const VERSIONED: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

/// One installed Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installation {
    bin: PathBuf,
    /// Its major version, e.g. 15.
    pub(super) major: u32,
}

impl Installation {
    /// The newest installation, or the one whose data lies in `data` already.
    pub(super) fn find(data: &Path) -> Result<Self, EmbeddedError> {
        let found = installed()?;
        let Ok(made_by) = fs::read_to_string(data.join("PG_VERSION")) else {
            return found.into_iter().next().ok_or(EmbeddedError::NotInstalled);
        };
        choose(&found, made_by.trim()).ok_or_else(|| EmbeddedError::OtherMajor {
            folder: data.to_owned(),
            made_by: made_by.trim().to_owned(),
            installed: found.iter().map(|one| one.major.to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The path of one of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn at(bin: PathBuf) -> Option<Self> {
        let complete = ["initdb", "postgres", "pg_ctl"].iter().all(|program| bin.join(program).is_file());
        let major =
            complete.then(|| Command::new(bin.join("postgres")).arg("--version").output().ok()).flatten()?;
        let major = major_of(&String::from_utf8_lossy(&major.stdout))?;
        (major >= MAJOR_MIN).then_some(Self { bin, major })
    }
}

fn choose(found: &[Installation], made_by: &str) -> Option<Installation> {
    found.iter().find(|one| one.major.to_string() == made_by).cloned()
}

/// What is installed, the newest first.
fn installed() -> Result<Vec<Installation>, EmbeddedError> {
    if let Some(bin) = env::var_os(OVERRIDE) {
        let bin = PathBuf::from(bin);
        let found = Installation::at(bin.clone()).ok_or(EmbeddedError::BadOverride(bin))?;
        return Ok(vec![found]);
    }
    let mut folders: Vec<PathBuf> = pg_config().into_iter().collect();
    folders.extend(
        VERSIONED.iter().flat_map(|(parent, prefix, rest)| versions(Path::new(parent), prefix, rest)),
    );
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    let mut found: Vec<_> = folders.into_iter().filter_map(Installation::at).collect();
    // Stable: among equals the one that was found first, so `pg_config` has the word.
    found.sort_by_key(|one| std::cmp::Reverse(one.major));
    if found.is_empty() { Err(EmbeddedError::NotInstalled) } else { Ok(found) }
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn versions(parent: &Path, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(rest))
        .collect()
}

/// The major version in the answer of `postgres --version`.
fn major_of(answer: &str) -> Option<u32> {
    let version = answer.split_whitespace().nth(2)?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_distributions_print() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 19beta2\n"), Some(19));
        assert_eq!(major_of("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    fn data_needs_the_version_that_made_it() {
        let one = |major| Installation { bin: PathBuf::from("/b"), major };
        let found = [one(18), one(15)];
        assert_eq!(choose(&found, "15"), Some(one(15)));
        assert_eq!(choose(&found, "16"), None);
    }
}
