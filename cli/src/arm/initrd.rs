//! The dump kernel's initial RAM disk: opened before anything is changed, since one that is missing or empty would be
//! found out only after the crash.

use super::file;
use anyhow::Result;
use std::{fs::File, path::Path};

/// The initial RAM disk.
pub struct Initrd<'a> {
    path: &'a Path,
    /// Open for reading.
    pub file: File,
    /// Its length in bytes.
    pub len: u64,
}

impl<'a> Initrd<'a> {
    /// Opens the file and checks whether it can be an initial RAM disk.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or is empty.
    pub fn open(path: &'a Path) -> Result<Self> {
        let (file, len) = file::open(path)?;
        Ok(Self { path, file, len })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When it cannot be read, or is written to meanwhile.
    pub fn read(self) -> Result<Vec<u8>> {
        file::read(&self.file, self.path)
    }
}
