//! Orders: what the first kernel is to do, on a disk that it reads when it is up.
//!
//! They are not in its initramfs, so that a machine can be stopped before it has them and go on with any others
//! (`snapshot.rs`). The disk holds an archive, as an initramfs is one, or nothing yet: then the guest looks again
//! (`guest/init`).

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What the first kernel writes to the console when it is up.
pub const WAITS: &str = "bench: the first kernel waits for its orders";

/// The disk's size. The guest learns it before it has its orders, so it is the same for all.
const SIZE: u64 = 256 << 20;

/// A disk without orders, in this folder.
///
/// # Errors
/// When it cannot be written.
pub fn none(folder: &Path) -> Result<PathBuf> {
    write(folder, &[])
}

/// A disk with this archive on it, in this folder.
///
/// # Errors
/// When it is too large, or cannot be written.
pub fn write(folder: &Path, archive: &[u8]) -> Result<PathBuf> {
    ensure!(archive.len() as u64 <= SIZE, "the orders have {} bytes", archive.len());
    let path = folder.join("orders");
    fs::write(&path, archive).context("cannot write the orders")?;
    File::options().write(true).open(&path)?.set_len(SIZE)?;
    Ok(path)
}
