//! The dump kernel's initial RAM disk: opened before anything is changed, since one that is missing or empty would be
//! found out only after the crash.

use anyhow::{Context, Result, bail, ensure};
use std::{fs::File, io::Read, path::Path};

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
        let open = || -> Result<_> {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            ensure!(metadata.is_file(), "not a regular file");
            if metadata.len() == 0 {
                bail!("empty file");
            }
            Ok(Self { path, file, len: metadata.len() })
        };
        open().with_context(|| path.display().to_string())
    }

    /// Its bytes.
    pub fn read(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.len as usize);
        self.file.read_to_end(&mut bytes).with_context(|| self.path.display().to_string())?;
        Ok(bytes)
    }
}
