//! The kernel's headers as its boot loader reads them: `setup_header` in the boot sector, and where the protected-mode
//! part lies. Offsets and rules are those of `Documentation/arch/x86/boot.rst`.

use crate::{
    alone::is_alone,
    bytes::{field, put, u16_at, u32_at},
    error::{Error, Result},
    hook::Hook,
    pe::Pe,
};
use lastwords_core::abi::{DISPLACED_LEN, ENTRY_64};

/// Offsets of the fields of setup_header in the file (boot.rst, "The Real-Mode Kernel Header").
pub(crate) mod setup_header {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const SYSSIZE: usize = 0x1f4;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const KERNEL_VERSION: usize = 0x20e;
    pub const LOADFLAGS: usize = 0x211;
    pub const XLOADFLAGS: usize = 0x236;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
}

/// `loadflags`: the protected-mode part goes to 1 MiB or above, as in every bzImage.
const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: the kernel has the 64-bit entry.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `xloadflags`: kernel, boot_params, command line and initrd may be anywhere. All relocatable 64-bit kernels have it.
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// `xloadflags`: the kernel can take over EFI from the one that loads it.
const XLF_EFI_KEXEC: u16 = 1 << 4;
/// `xloadflags`: the kernel can be entered with 5-level paging.
const XLF_5LEVEL: u16 = 1 << 5;
/// `xloadflags`: it was built with 5-level paging, and stays with it.
const XLF_5LEVEL_ENABLED: u16 = 1 << 6;
/// `syssize` counts paragraphs.
pub(crate) const PARAGRAPH: usize = 16;
pub(crate) const PAGE: usize = 4096;

/// No setup part is longer: 255 sectors and the boot sector.
pub const SETUP_MAX: usize = 256 * 512;

/// What a kernel's first bytes, or the boot_params that a loader has made of them, show of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupHeader {
    /// Bytes of the setup part, behind which the protected-mode part starts.
    pub setup_len: usize,
    /// Bytes of the protected-mode part, without a signature; at most 15 of them may be missing in the file.
    pub syssize: usize,
    /// The kernel's release as `uname -r` has it; not in boot_params.
    pub release: Option<String>,
}

impl SetupHeader {
    /// Reads it. `None` where there is none.
    #[must_use]
    pub fn parse(head: &[u8]) -> Option<Self> {
        // kexec_load(2)'s loader sets the second byte of boot_flag to zero, which was aux_device_info once (measured).
        let is_one = field(head, setup_header::BOOT_FLAG) == Some([0x55])
            && field(head, setup_header::HEADER) == Some(*b"HdrS");
        if !is_one {
            return None;
        }
        Some(Self {
            setup_len: setup_len(*head.get(setup_header::SETUP_SECTS)?),
            syssize: (u32_at(head, setup_header::SYSSIZE)? as usize).checked_mul(PARAGRAPH)?,
            release: release(head),
        })
    }
}

fn setup_len(setup_sects: u8) -> usize {
    let sectors = match setup_sects {
        0 => 4, // boot.rst: for backwards compatibility
        sectors => usize::from(sectors),
    };
    (sectors + 1) * 512
}

/// `6.1.0-56-amd64` of `6.1.0-56-amd64 (debian-kernel@lists.debian.org) #1 SMP ...`, to which kernel_version points.
fn release(head: &[u8]) -> Option<String> {
    /// `__NEW_UTS_LEN`: no release is longer.
    const LONGEST: usize = 64;
    let at = usize::from(u16_at(head, setup_header::KERNEL_VERSION).filter(|at| *at != 0)?) + 0x200;
    let text = head.get(at..)?;
    let len = text.iter().take(LONGEST + 1).position(|byte| matches!(byte, b' ' | 0))?;
    let text = text.get(..len).filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_graphic))?;
    String::from_utf8(text.to_vec()).ok()
}

/// What is needed of a bzImage; every length and offset is checked to lie within the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BzImage {
    /// Where the protected-mode part starts in the file.
    protected_mode: usize,
    /// Where it ends: where the signature starts, else the end of the file.
    end: usize,
    /// Memory in bytes that the kernel needs from its load address on until it reads its memory map.
    pub init_size: u32,
    /// Longest command line in bytes, without the NUL.
    pub cmdline_size: u32,
    /// Lowest physical address at which the kernel stays where it was loaded.
    pub pref_address: u64,
    kernel_alignment: u32,
    xloadflags: u16,
    alone: bool,
    pub(crate) pe: Option<Pe>,
    /// In a wrapped kernel.
    pub(crate) hook: Option<Hook>,
}

impl BzImage {
    /// Reads the headers of a kernel.
    ///
    /// # Errors
    /// When it is not a 64-bit bzImage, or its lengths and offsets do not fit the file.
    pub fn parse(file: &[u8]) -> Result<Self> {
        if field(file, setup_header::BOOT_FLAG) != Some([0x55, 0xaa])
            || field(file, setup_header::HEADER) != Some(*b"HdrS")
        {
            return Err(Error::NotBzImage);
        }
        let header_end = setup_header::INIT_SIZE + 4;
        let truncated = |needs| Error::Truncated { needs, has: file.len() };
        let version = u16_at(file, setup_header::VERSION).ok_or(truncated(header_end))?;
        if version < 0x20c {
            return Err(Error::Old(version));
        }
        let header = || {
            let loadflags = *file.get(setup_header::LOADFLAGS)?;
            let xloadflags = u16_at(file, setup_header::XLOADFLAGS)?;
            let cmdline_size = u32_at(file, setup_header::CMDLINE_SIZE)?;
            let kernel_alignment = u32_at(file, setup_header::KERNEL_ALIGNMENT)?;
            let pref_address = u64::from_le_bytes(field(file, setup_header::PREF_ADDRESS)?);
            let init_size = u32_at(file, setup_header::INIT_SIZE)?;
            Some((loadflags, xloadflags, cmdline_size, kernel_alignment, pref_address, init_size))
        };
        let (loadflags, xloadflags, cmdline_size, kernel_alignment, pref_address, init_size) =
            header().ok_or(truncated(header_end))?;
        if xloadflags & XLF_KERNEL_64 == 0 || loadflags & LOADED_HIGH == 0 {
            return Err(Error::Not64Bit);
        }

        let protected_mode = setup_len(file[setup_header::SETUP_SECTS]);
        let syssize = u32_at(file, setup_header::SYSSIZE).ok_or(truncated(header_end))?;
        let pe = Pe::parse(file, setup_header::SETUP_SECTS)?;
        let end = pe.as_ref().and_then(|pe| pe.certificates.as_ref()).map_or(file.len(), |table| table.start);
        // syssize may count a last paragraph that the file does not fill.
        let least = protected_mode + (syssize as usize * PARAGRAPH).saturating_sub(PARAGRAPH - 1);
        let least = least.max(protected_mode + ENTRY_64 as usize + DISPLACED_LEN);
        if end < least {
            return Err(Error::Truncated { needs: least, has: end });
        }
        if end > i32::MAX as usize {
            return Err(Error::TooLarge);
        }
        let hook = Hook::find(&file[protected_mode..end])?;
        Ok(Self {
            protected_mode,
            end,
            init_size,
            cmdline_size,
            pref_address,
            kernel_alignment,
            xloadflags,
            alone: is_alone(&file[protected_mode..end]),
            pe,
            hook,
        })
    }

    /// The protected-mode part of the file that was parsed: what is loaded.
    #[must_use]
    pub fn protected_mode<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        &file[self.protected_mode..self.end]
    }

    /// Alignment of the load address in bytes, a power of two of at least a page, whatever the header has.
    #[must_use]
    pub fn kernel_alignment(&self) -> u64 {
        u64::from(self.kernel_alignment).max(PAGE as u64).next_power_of_two()
    }

    /// May it be loaded anywhere?
    #[must_use]
    pub fn is_relocatable(&self) -> bool {
        self.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0
    }

    /// Can it take over EFI from the kernel that loads it?
    #[must_use]
    pub fn takes_over_efi(&self) -> bool {
        self.xloadflags & XLF_EFI_KEXEC != 0
    }

    /// Can it be entered with 5-level paging?
    #[must_use]
    pub fn knows_5_level(&self) -> bool {
        self.xloadflags & XLF_5LEVEL != 0
    }

    /// Does it use 5-level paging itself, where it can?
    #[must_use]
    pub fn uses_5_level(&self) -> bool {
        self.xloadflags & XLF_5LEVEL_ENABLED != 0
    }

    /// Does it stand for there being no dump kernel: [`alone`](crate::alone())?
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Has it been wrapped?
    #[must_use]
    pub fn is_wrapped(&self) -> bool {
        self.hook.is_some()
    }

    /// Has it a signature (a certificate table)?
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.pe.as_ref().is_some_and(|pe| pe.certificates.is_some())
    }

    /// The file's two parts, setup and protected mode, without a signature.
    pub(crate) fn parts<'a>(&self, file: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        file[..self.end].split_at(self.protected_mode)
    }

    /// Makes the header true of what has been changed: the length, no signature, the check sum.
    pub(crate) fn mend(&self, patched: &mut Patched, syssize: u32) {
        patched.put(setup_header::SYSSIZE, &syssize.to_le_bytes());
        if let Some(pe) = &self.pe {
            pe.mend(patched);
        }
    }
}

/// A kernel's file that differs from another one at its beginning and its end alone. What lies between is the other one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched<'a> {
    /// Its beginning, as far as anything is changed there.
    pub head: Vec<u8>,
    /// What is as it was.
    pub body: &'a [u8],
    /// What has been put behind it.
    pub tail: Vec<u8>,
}

impl<'a> Patched<'a> {
    /// The file of these two parts, of the second one so many bytes to be changed.
    pub(crate) fn new(setup: &[u8], protected_mode: &'a [u8], changed: usize) -> Self {
        let (head, body) = protected_mode.split_at(changed);
        Self { head: [setup, head].concat(), body, tail: Vec::new() }
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.head, at, bytes);
    }

    /// The parts of the file, in their order.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.head, self.body, &self.tail]
    }

    /// The whole file.
    #[must_use]
    pub fn concat(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_release_is_read_where_kernel_version_points() {
        let mut kernel = crate::synthetic::Kernel::default().build();
        let header = |kernel: &[u8]| SetupHeader::parse(kernel).unwrap();
        assert_eq!(header(&kernel), SetupHeader { setup_len: 4096, syssize: 12512, release: None });
        put(&mut kernel, 0x20e, &0x300u16.to_le_bytes());
        put(&mut kernel, 0x500, b"6.1.0-56-amd64 (debian) #1 SMP\0");
        assert_eq!(header(&kernel).release.as_deref(), Some("6.1.0-56-amd64"));
        // Nothing that is no text, and nothing beyond the end.
        put(&mut kernel, 0x503, &[0x1b]);
        assert_eq!(header(&kernel).release, None);
        put(&mut kernel, 0x20e, &0xffffu16.to_le_bytes());
        assert_eq!(header(&kernel).release, None);
        assert_eq!(SetupHeader::parse(&kernel[..0x1f0]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = (BzImage::parse(&bytes), SetupHeader::parse(&bytes));
            let mut bytes = bytes;
            if bytes.len() >= 0x208 {
                put(&mut bytes, 0x1fe, &[0x55, 0xaa]);
                put(&mut bytes, 0x202, b"HdrS\x0f\x02");
                put(&mut bytes, 0, b"MZ");
                let _ = (BzImage::parse(&bytes), SetupHeader::parse(&bytes));
            }
        }
    }
}
