//! The dump kernel's initial RAM disk: opened before anything is changed, since one that is missing or empty would be
//! found out only after the crash.

use super::file;
use crate::sys;
use anyhow::{Context, Result};
use std::{
    fs::File,
    io::{self, Seek},
    path::Path,
};

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

    /// One that is part of another file.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn in_memory(bytes: &[u8]) -> Result<Self> {
        let memory = || {
            let mut file = sys::memory_file(c"initrd", bytes)?;
            file.rewind()?;
            io::Result::Ok(file)
        };
        let file = memory().context("no memory for the initial RAM disk")?;
        Ok(Self { path: Path::new("initial RAM disk"), file, len: bytes.len() as u64 })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When it cannot be read, or is written to meanwhile.
    pub fn read(self) -> Result<Vec<u8>> {
        file::read(&self.file, self.path)
    }
}
