//! Where the segments of a loaded dump kernel lie, read off what the loader prints: the way to memory that a test
//! wants to damage, and to the dump kernel's entry point.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// Offset of the 64-bit entry point in the kernel's segment (Linux `Documentation/arch/x86/boot.rst`).
const ENTRY_64: u64 = 0x200;

/// Bytes that a kernel has at least: kexec-tools does not show how many.
const A_KERNEL: u64 = 0x20_0000;

/// Segments, as far as they have been printed.
#[derive(Debug, Default)]
pub struct Segments {
    named: BTreeMap<String, Range<u64>>,
}

impl Segments {
    /// Takes a line of the console: of `lastwords load --verbose`, of `kexec -d`, or of the kernel's
    /// own messages for whoever debugs it. Others are passed over.
    pub fn read(&mut self, line: &str) {
        if self.lastwords(line).is_none() {
            let _ = self.kexec(line);
        }
    }

    /// `segment: 0x1000-0x1fff initrd, 4096 bytes`: the memory, and how much of it has contents.
    fn lastwords(&mut self, line: &str) -> Option<()> {
        let (range, name) = line.split_once("segment: ")?.1.split_once(' ')?;
        let start = number(range.split_once('-')?.0)?;
        let (name, len) = name.split_once(", ")?;
        let len: u64 = len.split(' ').next()?.parse().ok()?;
        self.named.insert(name.to_owned(), start..start + len);
        Some(())
    }

    /// `Loaded 64bit kernel at 0x2e000000`, and behind it, when it is the kernel that loads, ` bufsz=0x…`.
    fn kexec(&mut self, line: &str) -> Option<()> {
        let start = number(line.split_once("64bit kernel at ")?.1.split(' ').next()?)?;
        self.named.insert("kernel".to_owned(), start..start + A_KERNEL);
        Some(())
    }

    /// A segment's contents: physical addresses.
    ///
    /// # Errors
    /// When it was not printed.
    pub fn get(&self, name: &str) -> Result<Range<u64>> {
        self.named.get(name).cloned().with_context(|| format!("the loader shows no segment {name}"))
    }

    /// Is there one with so many bytes?
    #[must_use]
    pub fn has_len(&self, len: u64) -> bool {
        self.named.values().any(|range| range.end - range.start == len)
    }

    /// The dump kernel's 64-bit entry point.
    ///
    /// # Errors
    /// When the kernel was not printed.
    pub fn entry(&self) -> Result<u64> {
        Ok(self.get("kernel")?.start + ENTRY_64)
    }
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_loaders_are_understood() {
        let mut ours = Segments::default();
        ours.read("  1.0 segment: 0x39000000-0x3cf97fff kernel, 8225280 bytes");
        ours.read("segment: 0x3871c000-0x38ffffff initrd, 9321088 bytes");
        assert_eq!(ours.entry().unwrap(), 0x3900_0200);
        assert_eq!(ours.get("initrd").unwrap(), 0x3871_c000..0x3871_c000 + 9_321_088);
        let mut stock = Segments::default();
        stock.read("Loaded 64bit kernel at 0x2e000000");
        assert_eq!(stock.entry().unwrap(), 0x2e00_0200);
        assert!(stock.get("initrd").is_err());
        let mut kernel = Segments::default();
        kernel.read("[    4.2] Loaded 64bit kernel at 0x2e000000 bufsz=0x7e0000 memsz=0x3f98000");
        assert_eq!(kernel.entry().unwrap(), 0x2e00_0200);
    }
}
