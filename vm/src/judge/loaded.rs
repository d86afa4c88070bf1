//! Where what was loaded lies in the reserved memory, found by its own first bytes: whatever has loaded it.

use crate::judge::image::Image;
use anyhow::{Context, Result};
use std::fmt;
use std::ops::Range;

/// A region of what was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    /// The image's header up to its sum.
    Header,
    /// What the tool has told the image.
    Handoff,
    /// The image's way in.
    Entry,
    /// The rest of its code.
    Code,
    /// Its constants and data.
    Data,
    /// boot_params.
    BootParams,
    /// The dump kernel's command line.
    CommandLine,
    /// The dump kernel.
    Kernel,
    /// Its initial RAM disk.
    Initrd,
    /// The ELF core header.
    CoreHeader,
}

impl Region {
    /// Those of the image, where there is one.
    pub const IMAGE: [Self; 5] = [Self::Header, Self::Handoff, Self::Entry, Self::Code, Self::Data];
    /// Those that every loader has.
    pub const OTHERS: [Self; 5] =
        [Self::BootParams, Self::CommandLine, Self::Kernel, Self::Initrd, Self::CoreHeader];
}

/// As the table has it.
impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Handoff => "handoff",
            Self::Entry => "way in and out",
            Self::Code => "code",
            Self::Data => "data",
            Self::BootParams => "boot_params",
            Self::CommandLine => "command line",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::CoreHeader => "ELF core header",
        })
    }
}

const PAGE: usize = 4096;
/// Offset in boot_params (Linux `Documentation/arch/x86/boot.rst`) of the command line's address.
pub const CMD_LINE_PTR: usize = 0x228;
/// The same for the header's magic, and the initial RAM disk's address and size.
const HDRS: usize = 0x202;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
/// In a kernel's file: sectors of the setup part behind the first.
const SETUP_SECTS: usize = 0x1f1;

/// The reserved memory of a machine on which a dump kernel is loaded.
pub struct Loaded<'a> {
    /// Its first address.
    pub start: u64,
    /// Its bytes.
    pub memory: &'a [u8],
    /// The kernel's file.
    pub kernel: &'a [u8],
}

impl Loaded<'_> {
    /// Physical addresses of a region; of those of the image, see `image.rs` and its symbols.
    ///
    /// # Errors
    /// When it is not there.
    pub fn find(&self, region: Region) -> Result<Range<u64>> {
        let range = match region {
            Region::BootParams => self.boot_params()?..self.boot_params()? + PAGE,
            Region::CommandLine => {
                let start = self.offset(CMD_LINE_PTR)?;
                let len =
                    self.memory[start..].iter().position(|byte| *byte == 0).context("it does not end")?;
                start..start + len
            }
            Region::Initrd => {
                let start = self.offset(RAMDISK_IMAGE)?;
                start..start + self.number(RAMDISK_SIZE)? as usize
            }
            Region::Kernel => {
                let setup = (usize::from(self.kernel[SETUP_SECTS]) + 1) * 512;
                // Behind the entry, where a hook is.
                let code = &self.kernel[setup + PAGE..];
                // The last one: loaders put it as high up as they can. Below may be what the first kernel left when it
                // unpacked itself, wherever KASLR had it.
                let mut pages = self.memory.chunks_exact(PAGE);
                let found = pages.rposition(|page| page.starts_with(&code[..64]));
                let start = found.context("the kernel is not in the reserved memory")? * PAGE - PAGE;
                start..start + self.kernel.len() - setup
            }
            Region::CoreHeader => {
                // ELF, 64 bits, a core file.
                let is_core = |page: &[u8]| page.starts_with(b"\x7fELF\x02") && page[16..18] == [4, 0];
                let start = self.page(is_core, "the core header")?;
                let headers =
                    usize::from(u16::from_le_bytes([self.memory[start + 56], self.memory[start + 57]]));
                start..start + 64 + headers * 56
            }
            _ => self.image()?..self.image()? + PAGE,
        };
        Ok(self.start + range.start as u64..self.start + range.end as u64)
    }

    /// Offset of the image in the memory.
    ///
    /// # Errors
    /// When there is none.
    pub fn image(&self) -> Result<usize> {
        self.page(Image::begins, "the image")
    }

    /// Where boot_params lie. An image as the purgatory knows, and has a copy of them elsewhere; without one there is one
    /// page with a kernel's setup header in it and the address of a command line.
    fn boot_params(&self) -> Result<usize> {
        if let Ok(image) = self.image()
            && let address @ 1.. = Image::at(&self.memory[image..]).boot_params()?
        {
            return Ok(usize::try_from(
                address.checked_sub(self.start).context("boot_params lie elsewhere")?,
            )?);
        }
        self.page(
            |page| page[HDRS..].starts_with(b"HdrS") && page[CMD_LINE_PTR..][..4] != [0; 4],
            "boot_params",
        )
    }

    fn number(&self, at: usize) -> Result<u32> {
        let at = self.boot_params()? + at;
        Ok(u32::from_le_bytes(*self.memory[at..].first_chunk().context("boot_params are cut off")?))
    }

    /// Where an address in boot_params points.
    fn offset(&self, at: usize) -> Result<usize> {
        let address = u64::from(self.number(at)?);
        let offset = address.checked_sub(self.start).context("boot_params point elsewhere")?;
        Ok(usize::try_from(offset)?)
    }

    fn page(&self, is_it: impl Fn(&[u8]) -> bool, what: &str) -> Result<usize> {
        let found = self.memory.chunks_exact(PAGE).position(is_it);
        Ok(found.with_context(|| format!("{what} is not in the reserved memory"))? * PAGE)
    }
}
