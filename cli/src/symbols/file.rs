//! A file of symbols: kallsyms, System.map, vmlinux or a saved one, packed or not. Which it is shows in its bytes.

use super::table::Table;
use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;
use std::{fs, io::Read, path::Path};

/// Reads the file.
///
/// # Errors
/// When it cannot be read, or is no table of symbols.
pub fn open(path: &Path) -> Result<Table> {
    let read = || -> Result<Table> {
        let mut bytes = fs::read(path)?;
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = Vec::new();
            MultiGzDecoder::new(&bytes[..]).take(UNPACKED).read_to_end(&mut unpacked)?;
            bytes = unpacked;
        }
        if bytes.starts_with(b"\x7fELF") {
            return Ok(Table::vmlinux(&bytes)?);
        }
        Ok(Table::parse(&String::from_utf8_lossy(&bytes))?)
    };
    read().with_context(|| shown(path))
}

/// Most bytes that are unpacked: more than a vmlinux with all of its debugging information.
const UNPACKED: u64 = 4 << 30;

/// A path, for errors.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}
