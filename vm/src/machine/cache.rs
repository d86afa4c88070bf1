//! Where the bench keeps what is costly to make: `vm/` in cargo's target folder, so that `cargo clean` removes it.
//!
//! An entry is made under another name and renamed when it is whole, so that none ever sees half of it. A lock file of
//! its own lets it be made once, however many tests and processes want it; they wait, and others do not.

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Cargo's target folder, which the running program stands in.
///
/// # Errors
/// When the program was started from elsewhere.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    Ok(target.context("not in cargo's target folder: start the bench through cargo")?.to_owned())
}

/// The entry of this name; `make` makes it, as a file or a folder at the path it is given, when there is none.
///
/// # Errors
/// When `make` fails or the cache cannot be written.
pub fn entry(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    entry_in(&target()?.join("vm"), name, make)
}

fn entry_in(folder: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // The lock goes with the file's descriptor, whatever ends this process.
    let lock = File::create(folder.join(format!(".lock-{name}")))?;
    flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", path.display()))?;
    if path.exists() {
        return Ok(path);
    }
    let unfinished = tempfile::Builder::new().prefix(".making-").tempdir_in(folder)?;
    let making = unfinished.path().join("entry");
    make(&making)?;
    fs::rename(&making, &path).with_context(|| format!("cannot put {} in place", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    #[test]
    fn an_entry_is_made_once_however_many_want_it() {
        let folder = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        let make = |path: &Path| {
            made.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
            Ok(fs::write(path, "whole")?)
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let path = entry_in(folder.path(), "entry", make).unwrap();
                    assert_eq!(fs::read_to_string(path).unwrap(), "whole");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn what_could_not_be_made_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(entry_in(folder.path(), "entry", |_| anyhow::bail!("no")).is_err());
        assert!(entry_in(folder.path(), "entry", |path| Ok(fs::write(path, "")?)).is_ok());
    }
}
