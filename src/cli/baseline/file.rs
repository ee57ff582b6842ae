//! A file that is there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::super::exit::{Exit, Failure};

/// Writes the file, in place of one of that name. Whoever reads meanwhile sees the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if path.is_dir() {
        let what = format!("{} is a folder", path.display());
        let example = path.join("baseline.html");
        return Err(Failure::refused(what, format!("name a file in it: `--html {}`", example.display())));
    }
    replace(path, text).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "make its folder first, or name another",
            io::ErrorKind::PermissionDenied => "name a file in a folder that you may write to",
            _ => "name another file",
        };
        Failure::new(Exit::Failed, format!("{} could not be written", path.display()), help).by(error)
    })
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // Beside the file: only within one file system a name changes hands in one step.
    let unfinished = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = put(&unfinished, text).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // The first error is the one to tell; what is left is a hidden file.
        let _removed = fs::remove_file(&unfinished);
    }
    written
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_folder_never() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.html");
        write(&file, "first").unwrap();
        write(&file, "second").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "second");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names(), 1, "nothing unfinished is left");

        let refused = write(folder.path(), "x").unwrap_err();
        assert!(refused.what.contains("is a folder") && refused.help.unwrap().contains("baseline.html"));
        let nowhere = write(&folder.path().join("none/page.html"), "x").unwrap_err();
        assert!(nowhere.help.unwrap().contains("make its folder"));
        assert_eq!((names(), fs::read_to_string(&file).unwrap().as_str()), (1, "second"));
    }
}
