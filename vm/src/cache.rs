//! Where the bench keeps what is costly to make: `vm/` in cargo's target folder, so that `cargo clean` removes it.
//!
//! An entry is made under another name and renamed when it is whole, so that several test processes may make the
//! same one at once and none ever sees half of it.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
    // The tests of one process wait for each other instead of doing the work twice.
    static MAKING: Mutex<()> = Mutex::new(());
    let folder = target()?.join("vm");
    let path = folder.join(name);
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let unfinished = tempfile::Builder::new().prefix(".making-").tempdir_in(&folder)?;
    let making = unfinished.path().join("entry");
    make(&making)?;
    match fs::rename(&making, &path) {
        Err(_) if path.exists() => {} // another process was first
        result => result.with_context(|| format!("cannot put {} in place", path.display()))?,
    }
    Ok(path)
}
