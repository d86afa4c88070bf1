//! The dump kernel's initial RAM disk: opened before anything is changed, since one that is missing or empty would be
//! found out only after the crash.

use super::file::{Bytes, Source, Take};
use crate::sys;
use anyhow::{Context, Result};
use std::fs::File;

/// The initial RAM disk.
pub enum Initrd<'a> {
    /// A file.
    File(Source<'a>),
    /// A part of the kernel's file.
    Part(&'a [u8]),
}

impl Initrd<'_> {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::File(source) => source.len,
            Self::Part(bytes) => bytes.len() as u64,
        }
    }

    /// Its bytes, where they are not there yet.
    ///
    /// # Errors
    /// When the file cannot be read, or is written to meanwhile.
    pub fn bytes(&self, take: Take) -> Result<Option<Bytes>> {
        match self {
            Self::File(source) => source.bytes(take).map(Some),
            Self::Part(_) => Ok(None),
        }
    }

    /// A file that has its bytes and nothing else, open for reading.
    ///
    /// # Errors
    /// As [`Self::bytes`], and when there is no memory for a copy.
    pub fn file(&self, take: Take) -> Result<File> {
        let in_memory = |bytes: &[u8]| {
            sys::memory_file(c"initrd", &[bytes]).context("no memory for the initial RAM disk")
        };
        match (self, take) {
            (Self::File(source), Take::Mapped) => Ok(source.file.try_clone()?),
            (Self::File(source), Take::Copied) => in_memory(&source.bytes(take)?),
            (Self::Part(bytes), _) => in_memory(bytes),
        }
    }

    /// Has the file been written to?
    #[must_use]
    pub fn is_changed(&self) -> bool {
        match self {
            Self::File(source) => source.is_changed(),
            Self::Part(_) => false,
        }
    }
}
