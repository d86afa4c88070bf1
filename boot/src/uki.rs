//! A unified kernel image (UKI, "Unified Kernel Image" of the UAPI group): a PE file for EFI that has a kernel, an initial
//! RAM disk and a command line in sections of its own, as ukify and dracut make it. A dump kernel is loaded without EFI,
//! so that its parts are needed, not itself. Offsets are those of Microsoft's PE/COFF specification.

use crate::{
    bytes::{field, u16_at, u32_at},
    error::{Error, Result},
};

/// What is needed of a UKI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uki<'a> {
    /// The kernel, as it would be in /boot: the section `.linux`.
    pub linux: &'a [u8],
    /// The initial RAM disk: `.initrd`.
    pub initrd: Option<&'a [u8]>,
    /// Has it a command line, `.cmdline`?
    pub has_cmdline: bool,
}

/// Is this the beginning of a UKI? 4 KiB of it are enough.
#[must_use]
pub fn is_uki(head: &[u8]) -> bool {
    sections(head).is_some_and(|mut sections| sections.any(|section| section.starts_with(&name(".linux"))))
}

impl<'a> Uki<'a> {
    /// Finds the parts of a UKI; `None` for a file that is none.
    ///
    /// # Errors
    /// When it ends before a part of it.
    pub fn parse(file: &'a [u8]) -> Result<Option<Self>> {
        Ok(match part(file, ".linux")? {
            None => None,
            Some(linux) => Some(Self {
                linux,
                initrd: part(file, ".initrd")?.filter(|initrd| !initrd.is_empty()),
                has_cmdline: part(file, ".cmdline")?.is_some(),
            }),
        })
    }
}

/// The first section of this name: where there are more, they are of profiles that are not the default one.
fn part<'a>(file: &'a [u8], of: &str) -> Result<Option<&'a [u8]>> {
    let Some(section) = sections(file).and_then(|mut all| all.find(|section| section.starts_with(&name(of))))
    else {
        return Ok(None);
    };
    let number = |at| u32_at(section, at).unwrap_or(0) as usize;
    let (virtual_size, size_of_raw_data, start) = (number(8), number(16), number(20));
    // The raw data is filled up to the file's alignment.
    let len = if virtual_size == 0 { size_of_raw_data } else { virtual_size.min(size_of_raw_data) };
    let end = start.saturating_add(len);
    file.get(start..end).map(Some).ok_or(Error::Truncated { needs: end, has: file.len() })
}

/// The entries of the section table, as far as the bytes go. `None` for what is no PE file.
fn sections(file: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    const SECTION_LEN: usize = 40;
    if !file.starts_with(b"MZ") {
        return None;
    }
    let e_lfanew = u32_at(file, 0x3c)? as usize;
    if field(file, e_lfanew) != Some(*b"PE\0\0") {
        return None;
    }
    let coff = e_lfanew + 4;
    let number_of_sections = usize::from(u16_at(file, coff + 2)?);
    let size_of_optional_header = usize::from(u16_at(file, coff + 16)?);
    Some(file.get(coff + 20 + size_of_optional_header..)?.chunks_exact(SECTION_LEN).take(number_of_sections))
}

/// A section's name: eight bytes, NULs behind it.
fn name(text: &str) -> [u8; 8] {
    std::array::from_fn(|at| text.as_bytes().get(at).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BzImage, embedded_parameters, synthetic, wrap};
    use proptest::prelude::*;

    #[test]
    fn a_uki_is_taken_apart() {
        let kernel = synthetic::Kernel { certificates: 0x108, ..Default::default() }.build();
        let file = synthetic::uki(&[
            (".osrel", b"ID=x"),
            (".cmdline", b"quiet"),
            (".initrd", b"cpio"),
            (".linux", &kernel),
        ]);
        assert!(is_uki(&file[..4096]));
        assert_eq!(BzImage::parse(&file), Err(Error::NotBzImage));
        let uki = Uki::parse(&file).unwrap().unwrap();
        assert_eq!(uki, Uki { linux: &kernel, initrd: Some(b"cpio"), has_cmdline: true });
        assert!(BzImage::parse(uki.linux).unwrap().is_signed());
        let wrapped = wrap(uki.linux, &synthetic::image(5001, 0x20000), "lastwords.budget=9").unwrap();
        assert_eq!(embedded_parameters(&wrapped).unwrap(), "lastwords.budget=9");

        let alone = synthetic::uki(&[(".linux", &kernel), (".initrd", b"")]);
        let uki = Uki::parse(&alone).unwrap().unwrap();
        assert_eq!((uki.initrd, uki.has_cmdline), (None, false));
        let cut = Uki::parse(&file[..file.len() - 600]);
        assert!(matches!(cut, Err(Error::Truncated { .. })), "{cut:?}");
    }

    #[test]
    fn a_kernel_is_no_uki() {
        for file in [&synthetic::Kernel::default().build()[..], b"\x7fELF", b"MZ", b""] {
            assert!(!is_uki(file));
            assert_eq!(Uki::parse(file), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn any_damage_is_refused_or_read(at in 0usize..0x300, value: u32, cut in 0usize..20_000) {
            let kernel = synthetic::Kernel::default().build();
            let mut file = synthetic::uki(&[(".linux", &kernel), (".initrd", b"cpio")]);
            crate::bytes::put(&mut file, at, &value.to_le_bytes());
            file.truncate(cut.max(at));
            let _ = (is_uki(&file), Uki::parse(&file));
        }
    }
}
