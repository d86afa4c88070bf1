//! Changes to files of the system: first all of them are known, then they are shown or made. Each file is replaced as a
//! whole, so whoever is killed in between leaves some files as they were and some as they are to be, and none half written.

use crate::{arm::file, message};
use anyhow::{Context, Result};
use std::{
    fmt::Write,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Lines around a change that are shown with it.
const AROUND: usize = 3;

/// What is to become of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// It is to have this text.
    Write { path: PathBuf, before: Option<String>, after: String },
    /// It is to go.
    Remove { path: PathBuf },
}

/// All changes, in their order.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// The file's text as it is to be until now.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn text(&self, root: &Path, path: &str) -> Result<Option<String>> {
        let whole = root.join(path);
        let planned = self.0.iter().rev().find_map(|change| match change {
            Change::Write { path, after, .. } if *path == whole => Some(Some(after.clone())),
            Change::Remove { path } if *path == whole => Some(None),
            _ => None,
        });
        planned.map_or_else(|| read(&whole), Ok)
    }

    /// Plans a text for a file. One that it has is no change.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn write(&mut self, root: &Path, path: &str, after: &str) -> Result<()> {
        let path = root.join(path);
        self.0.retain(|change| !matches!(change, Change::Write { path: other, .. } if *other == path));
        let before = read(&path)?;
        if before.as_deref() != Some(after) {
            self.0.push(Change::Write { path, before, after: after.to_owned() });
        }
        Ok(())
    }

    /// Plans to remove a file, where it is there.
    pub fn remove(&mut self, path: PathBuf) {
        if path.symlink_metadata().is_ok() {
            self.0.push(Change::Remove { path });
        }
    }

    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shows what would be done: changed texts as a unified diff.
    pub fn show(&self) {
        for change in &self.0 {
            match change {
                Change::Write { path, before: None, .. } => {
                    message::output(format_args!("would write {}", path.display()));
                }
                Change::Write { path, before: Some(before), after } => {
                    diff(path, before, after).lines().for_each(message::output);
                }
                Change::Remove { path } => message::output(format_args!("would remove {}", path.display())),
            }
        }
    }

    /// Does it, and prints what was done.
    ///
    /// # Errors
    /// At the first file that cannot be changed.
    pub fn make(&self) -> Result<()> {
        for change in &self.0 {
            let (verb, path) = match change {
                Change::Write { path, after, .. } => {
                    let write = || {
                        fs::create_dir_all(path.parent().unwrap_or(path))?;
                        // A link stays one: what it points to is changed.
                        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                        file::replace(path, after.as_bytes(), &Permissions::from_mode(0o644))
                    };
                    write().with_context(|| path.display().to_string())?;
                    ("changed", path)
                }
                Change::Remove { path } => {
                    fs::remove_file(path).with_context(|| path.display().to_string())?;
                    ("removed", path)
                }
            };
            message::output(format_args!("{verb}: {}", path.display()));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(|| path.display().to_string()),
    }
}

/// A unified diff of one piece: from the first line that differs to the last.
fn diff(path: &Path, before: &str, after: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - same;
    let same_end =
        old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let start = same.saturating_sub(AROUND);
    let (old_end, new_end) = (old.len() - same_end, new.len() - same_end);
    let end = (old_end + AROUND).min(old.len());
    let (old_len, new_len) = (end - start, end - old_end + new_end - start);
    let path = path.display();
    let first = |len: usize| if len == 0 { start } else { start + 1 };
    let mut text = format!(
        "--- {path}\n+++ {path}\n@@ -{},{old_len} +{},{new_len} @@\n",
        first(old_len),
        first(new_len)
    );
    let mut piece = |mark: char, lines: &[&str]| {
        for line in lines {
            // A String takes everything.
            let _ = writeln!(text, "{mark}{line}");
        }
    };
    piece(' ', &old[start..same]);
    piece('-', &old[same..old_end]);
    piece('+', &new[same..new_end]);
    piece(' ', &old[old_end..end]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_one_that_patch_takes() {
        let path = Path::new("/f");
        assert_eq!(
            diff(path, "a\nb\nc\nd\ne\n", "a\nb\nc\nd\ne\nf\n"),
            "--- /f\n+++ /f\n@@ -3,3 +3,4 @@\n c\n d\n e\n+f\n"
        );
        assert_eq!(
            diff(path, "a\nx\nb\n", "a\ny\nz\nb\n"),
            "--- /f\n+++ /f\n@@ -1,3 +1,4 @@\n a\n-x\n+y\n+z\n b\n"
        );
        assert_eq!(diff(path, "", "a\n"), "--- /f\n+++ /f\n@@ -0,0 +1,1 @@\n+a\n");
        assert_eq!(diff(path, "a\na\n", "a\n"), "--- /f\n+++ /f\n@@ -1,2 +1,1 @@\n a\n-a\n");
    }
}
