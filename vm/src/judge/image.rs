//! The image's header, as far as the bench looks into it: the first bytes of the image, in a file and in memory.
//!
//! The numbers are the judge's own, and stand here alone. A test holds them against what the linker says of the same
//! build (`tests/image.rs`), so that a change of the layout is a failure there, and not a wrong judgement elsewhere.

use anyhow::{Context, Result, ensure};

/// Its first bytes, and the version of the layout that follows them.
const MAGIC: &[u8] = b"lastword\x02\0\0\0";

/// Offsets of numbers of four bytes: the entry point behind the hook, and as the purgatory; the image's bytes in the
/// file, and in memory.
const ENTRY: usize = 12;
const PURGATORY_ENTRY: usize = 16;
/// See [`Image::file_size`].
pub const FILE_SIZE: usize = 20;
const MEMORY_SIZE: usize = 24;

/// The first of two copies of what leads to the dump kernel: behind two fields of a wrapped kernel the addresses of
/// boot_params and of the kernel's entry point, and the sum, each of eight bytes.
pub const FIRST_WAY_OUT: usize = 32;

/// Where the handoff begins: what the tool tells the image as the purgatory of the segments that are checked.
pub const HANDOFF: u64 = 632;

/// Where the length of the first of the segments that are checked stands, in eight bytes. A test finds a loaded
/// segment's length there before it damages it (`tests/purgatory.rs`).
pub const FIRST_SEGMENT_LEN: u64 = 672;

/// As many bytes from the image's first on as hold the numbers.
pub const HEADER: usize = 28;

/// An image, at the place in some bytes where it begins.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// That place.
    pub at: usize,
    bytes: &'a [u8],
}

impl<'a> Image<'a> {
    /// The one image in a file.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(file: &'a [u8]) -> Result<Self> {
        let found: Vec<usize> = (0..file.len()).filter(|at| file[*at..].starts_with(MAGIC)).collect();
        ensure!(found.len() == 1, "the image's header is {} times in the file", found.len());
        Ok(Self { at: found[0], bytes: &file[found[0]..] })
    }

    /// The image that these bytes begin.
    #[must_use]
    pub fn at(bytes: &'a [u8]) -> Self {
        Self { at: 0, bytes }
    }

    /// Do these bytes, of memory or a file, begin an image?
    #[must_use]
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Address of boot_params that the image is told as the purgatory; 0 in a wrapped kernel.
    ///
    /// # Errors
    /// See [`Self::entry`].
    pub fn boot_params(&self) -> Result<u64> {
        let bytes = self.bytes.get(FIRST_WAY_OUT + 16..).and_then(<[u8]>::first_chunk);
        Ok(u64::from_le_bytes(*bytes.context("the image's header is cut off")?))
    }

    /// The entry point behind the hook.
    ///
    /// # Errors
    /// When the header is cut off; so with all others.
    pub fn entry(&self) -> Result<u64> {
        self.number(ENTRY)
    }

    /// The entry point as the purgatory.
    ///
    /// # Errors
    /// See [`Self::entry`].
    pub fn purgatory_entry(&self) -> Result<u64> {
        self.number(PURGATORY_ENTRY)
    }

    /// Bytes in the file.
    ///
    /// # Errors
    /// See [`Self::entry`].
    pub fn file_size(&self) -> Result<u64> {
        self.number(FILE_SIZE)
    }

    /// Bytes in memory.
    ///
    /// # Errors
    /// See [`Self::entry`].
    pub fn memory_size(&self) -> Result<u64> {
        self.number(MEMORY_SIZE)
    }

    fn number(&self, at: usize) -> Result<u64> {
        let bytes = self.bytes.get(at..at + 4).context("the image's header is cut off")?;
        Ok(u32::from_le_bytes(bytes.try_into()?).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_and_its_numbers_are_read() {
        let header = [b"MZ" as &[u8], MAGIC, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 1, 0, 0]].concat();
        let image = Image::find(&header).unwrap();
        assert_eq!(image.at, 2);
        assert_eq!((image.entry().unwrap(), image.purgatory_entry().unwrap()), (1, 2));
        assert_eq!((image.file_size().unwrap(), image.memory_size().unwrap()), (3, 0x104));
    }

    #[test]
    fn none_two_and_half_a_header_are_errors() {
        assert!(Image::find(b"lastword\x03\0\0\0").is_err());
        assert!(Image::find(&[MAGIC, MAGIC].concat()).is_err());
        assert!(Image::find(MAGIC).unwrap().memory_size().is_err());
    }
}
