//! The dump kernel's bzImage: reads it, and puts the flat image behind it with a hook at its 64-bit entry.
//!
//! The kernel stays what it is: no section of its PE view grows, no length but `syssize` changes, and every other way
//! in (real mode, 32-bit, EFI) works as before. Offsets and rules are those of `Documentation/arch/x86/boot.rst` and
//! of Microsoft's PE/COFF specification. A wrapped kernel, in its protected-mode part:
//!
//! ```text
//! 0x000          32-bit entry
//! below 0x200    trampoline, in the zeros that fill up the space before the 64-bit entry
//! 0x200          64-bit entry: jmp trampoline
//! ...            rest of the kernel
//! image - 8      what unwrapping needs: the kernel's own length and syssize
//! image          the flat image, on a page boundary; it starts with the header of `lastwords_core::stub`
//! ```

use lastwords_core::stub::{self, DISPLACED_LEN, ENTRY_64, MAGIC, PARAMETERS_LEN};
use std::ops::Range;
use thiserror::Error;

/// Offsets of the fields of setup_header in the file (boot.rst, "The Real-Mode Kernel Header").
mod setup_header {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const SYSSIZE: usize = 0x1f4;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
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
/// `syssize` counts paragraphs.
const PARAGRAPH: usize = 16;
const PAGE: usize = 4096;

/// Distance between kernel and image. Behind the file, in memory, the decompressor has its .bss, and in a 32-bit boot
/// startup_32 has its stack there before it gets to the 64-bit entry. With no gap it pushes into the image, as seen with
/// QEMU's direct boot of Debian's 6.1 and 6.12, where the stack is the first 16 KiB of .bss. In other kernels it lies
/// behind the decompressor's heap: 64 or 192 KiB, or with bzip2 4 MiB, which is beyond the image again.
const GAP: usize = 256 << 10;

/// Room that is left between the image's memory and the end of `init_size`. startup_32 puts its page tables at that
/// end, where the decompressor is going to move itself, before it gets to the 64-bit entry. Every real kernel has far
/// more room, because it is larger unpacked than packed. init_size is not raised for one that has not: the EFI stub
/// of kernels before 6.6 takes for granted that the firmware gave it as much memory as init_size says.
const ROOM: usize = 1 << 20;

/// Length of the hook itself, a `jmp rel8`: two bytes, because one short instruction puts two back. Linux 5.10 with
/// CONFIG_EFI_MIXED has only 35 bytes to spare before the 64-bit entry.
const HOOK_LEN: usize = 2;
/// Length of the trampoline's code.
const TRAMPOLINE_LEN: usize = 27;
/// Zeros that stay between the code before the trampoline and the trampoline: that code ends with a jump or return,
/// whose last four bytes may be zero.
const TRAMPOLINE_MARGIN: usize = 4;

/// Length of what is kept right before the image: the kernel's length and its `syssize`, 32 bits each.
const RECORD_LEN: usize = 8;

/// Why a file was not wrapped or unwrapped.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BzImageError {
    /// No boot sector with `HdrS` in it.
    #[error(
        "not a bzImage: no boot_flag 0xAA55 and header \"HdrS\"; take the kernel as it is in /boot, not a vmlinux"
    )]
    NotBzImage,
    /// Boot protocol before 2.12.
    #[error("boot protocol {}.{:02}, but 2.12 or later is needed (Linux 3.8)", .0 >> 8, .0 & 0xff)]
    Old(u16),
    /// No 64-bit entry.
    #[error("a 32-bit kernel (xloadflags says no XLF_KERNEL_64): take one built for x86_64")]
    Not64Bit,
    /// The file ends before its header says.
    #[error("truncated: {has} bytes, but its header says at least {needs}; get the file again")]
    Truncated {
        /// Bytes that the header asks for.
        needs: usize,
        /// Bytes that there are.
        has: usize,
    },
    /// The file is too large for its own 32-bit fields.
    #[error("larger than a bzImage can be")]
    TooLarge,
    /// A PE header that contradicts itself or the file.
    #[error("damaged PE header: {0}; get the file again")]
    Pe(&'static str),
    /// No zeros before the 64-bit entry.
    #[error("no room for the hook: no {} zero bytes in a row before the 64-bit entry", TRAMPOLINE_MARGIN + TRAMPOLINE_LEN)]
    NoRoomForHook,
    /// `init_size` too small.
    #[error("no room for the image: init_size is {init_size:#x}, but {needs:#x} bytes are needed")]
    NoRoomForImage {
        /// The kernel's `init_size` in bytes.
        init_size: usize,
        /// What it would have to be.
        needs: usize,
    },
    /// It has an image already.
    #[error("already wrapped: take the original kernel, or say --force to replace what is in it")]
    AlreadyWrapped,
    /// It has a hook, but not all that belongs to it.
    #[error("wrapped, but damaged: take the original kernel")]
    Damaged,
    /// The parameters do not fit in the image's header.
    #[error("parameters to embed are {0} bytes long, at most {max} fit; put some on the command line", max = PARAMETERS_LEN - 1)]
    ParametersTooLong(usize),
    /// The flat image itself is not what it should be: an error of the build.
    #[error("lastwords was built with an unusable image: {0}")]
    Image(&'static str),
}

type Result<T> = std::result::Result<T, BzImageError>;

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
    pe: Option<Pe>,
    wrapped: Option<Wrapped>,
}

/// What is needed of the PE header (CONFIG_EFI_STUB=y). Offsets are from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pe {
    check_sum: usize,
    /// Entry 4 of the data directory, where there are so many.
    security: Option<usize>,
    /// The certificate table that it points to.
    certificates: Option<Range<usize>>,
}

/// What is in a wrapped kernel. Offsets are from the start of the protected-mode part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wrapped {
    trampoline: usize,
    image: usize,
    displaced: [u8; DISPLACED_LEN],
    /// Length of the protected-mode part before it was wrapped.
    len: usize,
    syssize: u32,
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
            return Err(BzImageError::NotBzImage);
        }
        let header_end = setup_header::INIT_SIZE + 4;
        let truncated = |needs| BzImageError::Truncated { needs, has: file.len() };
        let version = u16_at(file, setup_header::VERSION).ok_or(truncated(header_end))?;
        if version < 0x20c {
            return Err(BzImageError::Old(version));
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
            return Err(BzImageError::Not64Bit);
        }

        let setup_sects = match file[setup_header::SETUP_SECTS] {
            0 => 4, // boot.rst: for backwards compatibility
            sectors => usize::from(sectors),
        };
        let protected_mode = (setup_sects + 1) * 512;
        let syssize = u32_at(file, setup_header::SYSSIZE).ok_or(truncated(header_end))?;
        let pe = Pe::parse(file)?;
        let end = pe.as_ref().and_then(|pe| pe.certificates.as_ref()).map_or(file.len(), |table| table.start);
        // syssize may count a last paragraph that the file does not fill.
        let least = protected_mode + (syssize as usize * PARAGRAPH).saturating_sub(PARAGRAPH - 1);
        let least = least.max(protected_mode + ENTRY_64 as usize + DISPLACED_LEN);
        if end < least {
            return Err(BzImageError::Truncated { needs: least, has: end });
        }
        if end > i32::MAX as usize {
            return Err(BzImageError::TooLarge);
        }
        let wrapped = Wrapped::find(&file[protected_mode..end])?;
        Ok(Self {
            protected_mode,
            end,
            init_size,
            cmdline_size,
            pref_address,
            kernel_alignment,
            xloadflags,
            pe,
            wrapped,
        })
    }

    /// The protected-mode part of the file that was parsed: what is loaded.
    pub fn protected_mode<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        &file[self.protected_mode..self.end]
    }

    /// Alignment of the load address in bytes, a power of two of at least a page, whatever the header says.
    pub fn kernel_alignment(&self) -> u64 {
        u64::from(self.kernel_alignment).max(PAGE as u64).next_power_of_two()
    }

    /// May it be loaded anywhere?
    pub fn is_relocatable(&self) -> bool {
        self.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0
    }

    /// Can it take over EFI from the kernel that loads it?
    pub fn takes_over_efi(&self) -> bool {
        self.xloadflags & XLF_EFI_KEXEC != 0
    }

    /// Can it be entered with 5-level paging?
    pub fn knows_5_level(&self) -> bool {
        self.xloadflags & XLF_5LEVEL != 0
    }

    /// Has it been wrapped?
    #[must_use]
    pub fn is_wrapped(&self) -> bool {
        self.wrapped.is_some()
    }

    /// Has it a signature (a certificate table)?
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.pe.as_ref().is_some_and(|pe| pe.certificates.is_some())
    }
}

/// Puts the flat image behind a kernel, hooks it in at the 64-bit entry and embeds the parameters. A signature is taken
/// off, because it would no longer be true.
///
/// # Errors
/// When `kernel` is not a 64-bit bzImage, has no room, or is wrapped already; when the parameters are too long.
pub fn wrap(kernel: &[u8], image: &[u8], parameters: &str) -> Result<Vec<u8>> {
    let bz_image = BzImage::parse(kernel)?;
    if bz_image.is_wrapped() {
        return Err(BzImageError::AlreadyWrapped);
    }
    if parameters.len() >= PARAMETERS_LEN {
        return Err(BzImageError::ParametersTooLong(parameters.len()));
    }
    let memory_size = check_image(image)?;

    let (setup, own) = kernel[..bz_image.end].split_at(bz_image.protected_mode);
    let image_at = (own.len() + GAP).next_multiple_of(PAGE);
    let needs = image_at.saturating_add(memory_size).saturating_add(ROOM);
    if (bz_image.init_size as usize) < needs {
        return Err(BzImageError::NoRoomForImage { init_size: bz_image.init_size as usize, needs });
    }
    let trampoline_at = trampoline_place(own).ok_or(BzImageError::NoRoomForHook)?;

    let entry_64 = ENTRY_64 as usize;
    let displaced = field(own, entry_64).ok_or(BzImageError::NotBzImage)?;
    let entry = image_at + u32_at(image, stub::ENTRY).ok_or(BzImageError::Image("no header"))? as usize;

    let mut protected_mode = own.to_vec();
    put(&mut protected_mode, entry_64, &jump(entry_64, trampoline_at));
    put(&mut protected_mode, trampoline_at, &trampoline(trampoline_at, image_at, entry, displaced));
    protected_mode.resize(image_at - RECORD_LEN, 0);
    protected_mode.extend((own.len() as u32).to_le_bytes());
    protected_mode.extend(u32_at(setup, setup_header::SYSSIZE).unwrap_or(0).to_le_bytes());
    protected_mode.extend(image);
    put(
        &mut protected_mode,
        image_at + stub::KERNEL_ENTRY_BACK,
        &((image_at - entry_64) as u32).to_le_bytes(),
    );
    put(&mut protected_mode, image_at + stub::DISPLACED, &displaced);
    let mut field = [0; PARAMETERS_LEN];
    field[..parameters.len()].copy_from_slice(parameters.as_bytes());
    put(&mut protected_mode, image_at + stub::PARAMETERS, &field);
    protected_mode.resize(protected_mode.len().next_multiple_of(PARAGRAPH), 0);

    let syssize = (protected_mode.len() / PARAGRAPH) as u32;
    Ok(bz_image.assemble(setup, &protected_mode, syssize))
}

/// Takes out what [`wrap`] put in. What it cannot bring back is a signature and a wrong check sum.
///
/// # Errors
/// When it is not a 64-bit bzImage. A kernel that is not wrapped is given back as it is, without its signature.
pub fn unwrap(kernel: &[u8]) -> Result<Vec<u8>> {
    let bz_image = BzImage::parse(kernel)?;
    let (setup, protected_mode) = kernel[..bz_image.end].split_at(bz_image.protected_mode);
    let mut protected_mode = protected_mode.to_vec();
    let mut syssize = u32_at(setup, setup_header::SYSSIZE).unwrap_or(0);
    if let Some(wrapped) = &bz_image.wrapped {
        protected_mode.truncate(wrapped.len);
        put(&mut protected_mode, ENTRY_64 as usize, &wrapped.displaced);
        put(&mut protected_mode, wrapped.trampoline, &[0; TRAMPOLINE_LEN]);
        syssize = wrapped.syssize;
    }
    Ok(bz_image.assemble(setup, &protected_mode, syssize))
}

/// The parameters embedded in a wrapped kernel; of one that is not wrapped, none.
///
/// # Errors
/// When it is not a 64-bit bzImage.
pub fn embedded_parameters(kernel: &[u8]) -> Result<String> {
    let bz_image = BzImage::parse(kernel)?;
    let Some(wrapped) = &bz_image.wrapped else { return Ok(String::new()) };
    let field: [u8; PARAMETERS_LEN] =
        field(kernel, bz_image.protected_mode + wrapped.image + stub::PARAMETERS)
            .ok_or(BzImageError::Damaged)?;
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

impl BzImage {
    /// Puts the two parts together, with no signature and the fields that depend on the length.
    fn assemble(&self, setup: &[u8], protected_mode: &[u8], syssize: u32) -> Vec<u8> {
        let mut file = [setup, protected_mode].concat();
        put(&mut file, setup_header::SYSSIZE, &syssize.to_le_bytes());
        if let Some(pe) = &self.pe {
            if let Some(security) = pe.security {
                put(&mut file, security, &[0; 8]);
            }
            put(&mut file, pe.check_sum, &[0; 4]);
            let sum = check_sum(&file);
            put(&mut file, pe.check_sum, &sum.to_le_bytes());
        }
        file
    }
}

impl Pe {
    /// Reads the PE header, when there is one. Only what is used is checked.
    fn parse(file: &[u8]) -> Result<Option<Self>> {
        // Offsets in the optional header of PE32+ (PE format, "Optional Header").
        const CHECK_SUM: usize = 64;
        const NUMBER_OF_RVA_AND_SIZES: usize = 108;
        const SECURITY: usize = 112 + 4 * 8;
        const SECTION_LEN: usize = 40;

        if !file.starts_with(b"MZ") {
            return Ok(None);
        }
        let cut = BzImageError::Pe("it ends early");
        let e_lfanew = u32_at(file, 0x3c).ok_or(cut.clone())? as usize;
        if field(file, e_lfanew) != Some(*b"PE\0\0") {
            return Err(BzImageError::Pe("no signature where e_lfanew points"));
        }
        let coff = e_lfanew + 4;
        let optional = coff + 20;
        if u16_at(file, coff) != Some(0x8664) || u16_at(file, optional) != Some(0x20b) {
            return Err(BzImageError::Pe("not PE32+ for x86_64"));
        }
        let number_of_sections = u16_at(file, coff + 2).ok_or(cut.clone())?;
        let size_of_optional_header = usize::from(u16_at(file, coff + 16).ok_or(cut.clone())?);
        let sections = optional + size_of_optional_header;
        let sections_end = sections + usize::from(number_of_sections) * SECTION_LEN;
        if sections_end > setup_header::SETUP_SECTS {
            return Err(BzImageError::Pe("it runs into the setup_header"));
        }
        let mut data_end = sections_end;
        for section in (sections..sections_end).step_by(SECTION_LEN) {
            let size_of_raw_data = u32_at(file, section + 16).ok_or(cut.clone())? as usize;
            let pointer_to_raw_data = u32_at(file, section + 20).ok_or(cut.clone())? as usize;
            if size_of_raw_data > 0 {
                data_end = data_end.max(pointer_to_raw_data + size_of_raw_data);
            }
        }
        if data_end > file.len() {
            return Err(BzImageError::Truncated { needs: data_end, has: file.len() });
        }

        let directories = u32_at(file, optional + NUMBER_OF_RVA_AND_SIZES).ok_or(cut.clone())?;
        let security =
            (directories > 4 && size_of_optional_header >= SECURITY + 8).then_some(optional + SECURITY);
        let mut certificates = None;
        if let Some(security) = security {
            let start = u32_at(file, security).ok_or(cut.clone())? as usize;
            let size = u32_at(file, security + 4).ok_or(cut)? as usize;
            if size > 0 {
                if start < data_end || start + size != file.len() {
                    return Err(BzImageError::Pe("its certificate table is not at the end of the file"));
                }
                certificates = Some(start..start + size);
            }
        }
        if size_of_optional_header < CHECK_SUM + 4 {
            return Err(BzImageError::Pe("its optional header is too short"));
        }
        Ok(Some(Self { check_sum: optional + CHECK_SUM, security, certificates }))
    }
}

impl Wrapped {
    /// Finds the hook in the protected-mode part: a jump to exactly the code that [`trampoline`] makes.
    fn find(protected_mode: &[u8]) -> Result<Option<Self>> {
        let entry_64 = ENTRY_64 as usize;
        let find = || {
            let at = jump_target(protected_mode, entry_64)?;
            let code: [u8; TRAMPOLINE_LEN] = field(protected_mode, at)?;
            let image = at.checked_add(10)?.checked_add_signed(u32_at(&code, 2)?.cast_signed() as isize)?;
            let entry = at.checked_add(16)?.checked_add_signed(u32_at(&code, 12)?.cast_signed() as isize)?;
            let mut displaced: [u8; DISPLACED_LEN] = field(protected_mode, entry_64)?;
            put(&mut displaced, 0, &code[23..25]);
            (code == trampoline(at, image, entry, displaced)).then_some((at, image, displaced))
        };
        let Some((trampoline, image, displaced)) = find() else { return Ok(None) };
        let record = || {
            let start = image.checked_sub(RECORD_LEN)?;
            let len = u32_at(protected_mode, start)? as usize;
            let syssize = u32_at(protected_mode, start + 4)?;
            let fits = (ENTRY_64 as usize + DISPLACED_LEN..=start).contains(&len);
            (fits && field(protected_mode, image) == Some(MAGIC)).then_some((len, syssize))
        };
        let (len, syssize) = record().ok_or(BzImageError::Damaged)?;
        Ok(Some(Self { trampoline, image, displaced, len, syssize }))
    }
}

/// Checks the flat image's own header and gives its memory_size.
fn check_image(image: &[u8]) -> Result<usize> {
    if field(image, 0) != Some(MAGIC) || u32_at(image, stub::VERSION_AT) != Some(stub::VERSION) {
        return Err(BzImageError::Image("no header of this version"));
    }
    if image.len() < size_of::<stub::Header>() {
        return Err(BzImageError::Image("shorter than its header"));
    }
    let number = |at| u32_at(image, at).unwrap_or(0) as usize;
    let (entry, file_size, memory_size) =
        (number(stub::ENTRY), number(stub::FILE_SIZE), number(stub::MEMORY_SIZE));
    if entry >= image.len() || file_size != image.len() || memory_size < file_size {
        return Err(BzImageError::Image("entry, file_size or memory_size does not fit"));
    }
    Ok(memory_size)
}

/// Where the trampoline goes: at the end of the last run of zeros before the 64-bit entry that is long enough, within
/// a `jmp rel8`. Only the filling up to a fixed offset has so many zeros (`.org` before startup_64).
fn trampoline_place(protected_mode: &[u8]) -> Option<usize> {
    let before = protected_mode.get(..ENTRY_64 as usize)?;
    let run = before
        .windows(TRAMPOLINE_MARGIN + TRAMPOLINE_LEN)
        .rposition(|run| run.iter().all(|byte| *byte == 0))?;
    let place = run + TRAMPOLINE_MARGIN;
    (ENTRY_64 as usize + HOOK_LEN - place <= 0x80).then_some(place)
}

/// The code between hook and image. When an EFI stub before Linux 6.6 jumps to the 64-bit entry, the firmware has
/// loaded the PE sections only, the image is not there, and the kernel must start as if it had never been touched.
/// No register but the flags may be changed and no stack is there:
///
/// ```text
/// cmpl $MAGIC, image(%rip)
/// je   entry                  the image, which puts the bytes back itself
/// movw $DISPLACED, 0x200(%rip)
/// jmp  0x200
/// ```
fn trampoline(at: usize, image: usize, entry: usize, displaced: [u8; DISPLACED_LEN]) -> [u8; TRAMPOLINE_LEN] {
    let entry_64 = ENTRY_64 as usize;
    let mut code = [0; TRAMPOLINE_LEN];
    // Opcode, ModRM 0x3d or 0x05 = RIP-relative, displacement from the end of the instruction, immediate.
    put(&mut code, 0, &[0x81, 0x3d]);
    put(&mut code, 2, &relative(at + 10, image));
    put(&mut code, 6, &MAGIC[..4]);
    put(&mut code, 10, &[0x0f, 0x84]);
    put(&mut code, 12, &relative(at + 16, entry));
    put(&mut code, 16, &[0x66, 0xc7, 0x05]);
    put(&mut code, 19, &relative(at + 25, entry_64));
    put(&mut code, 23, &displaced[..HOOK_LEN]);
    put(&mut code, 25, &jump(at + 25, entry_64));
    code
}

/// `jmp rel8` at `at`.
fn jump(at: usize, target: usize) -> [u8; HOOK_LEN] {
    let [distance, ..] = relative(at + HOOK_LEN, target);
    [0xeb, distance]
}

/// Where the `jmp rel8` at `at` goes, if there is one.
fn jump_target(code: &[u8], at: usize) -> Option<usize> {
    let [0xeb, distance] = field::<HOOK_LEN>(code, at)? else { return None };
    (at + HOOK_LEN).checked_add_signed(distance.cast_signed() as isize)
}

/// Distance from the end of an instruction to its target; both are below 2 GiB.
fn relative(from: usize, target: usize) -> [u8; 4] {
    (target as u32).wrapping_sub(from as u32).to_le_bytes()
}

/// The PE check sum of a file whose CheckSum field is zero: the one's complement sum of its 16-bit words, plus its
/// length.
fn check_sum(file: &[u8]) -> u32 {
    let sum: u64 = file
        .chunks(2)
        .map(|word| u64::from(word[0]) | word.get(1).map_or(0, |high| u64::from(*high) << 8))
        .sum();
    // Folding at the end gives the same as adding each carry at once.
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    (folded as u32).wrapping_add(file.len() as u32)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Kernel;
    use proptest::prelude::*;

    /// A flat image of this many bytes that needs this much memory.
    fn image(len: usize, memory_size: u32) -> Vec<u8> {
        let mut image = vec![0xcc; len];
        put(&mut image, 0, &MAGIC);
        put(&mut image, stub::VERSION_AT, &stub::VERSION.to_le_bytes());
        put(&mut image, stub::ENTRY, &600u32.to_le_bytes());
        put(&mut image, stub::FILE_SIZE, &(len as u32).to_le_bytes());
        put(&mut image, stub::MEMORY_SIZE, &memory_size.to_le_bytes());
        image
    }

    fn wrap_default(kernel: &[u8]) -> Vec<u8> {
        wrap(kernel, &image(5001, 0x20000), "lastwords.ipmi_handle_panic").unwrap()
    }

    /// Where things are in the default kernel: its setup part is 4096 bytes long.
    const PROTECTED_MODE: usize = 4096;

    #[test]
    fn the_trampoline_is_this_code() {
        #[rustfmt::skip]
        let code = [
            0x81, 0x3d, 0x26, 0xfe, 0x1f, 0x00, b'l', b'a', b's', b't', // cmpl $0x7473616c, 0x200000(%rip)
            0x0f, 0x84, 0x78, 0x00, 0x20, 0x00,                         // je   0x200258
            0x66, 0xc7, 0x05, 0x17, 0x00, 0x00, 0x00, 0xfc, 0xfa,       // movw $0xfafc, 0x200(%rip)
            0xeb, 0x15,                                                 // jmp  0x200
        ];
        assert_eq!(trampoline(0x1d0, 0x200000, 0x200258, [0xfc, 0xfa, 0x31, 0xc0, 0x8e]), code);
        assert_eq!(jump(0x200, 0x1d0), [0xeb, 0xce]);
        assert_eq!(jump_target(&[0, 0, 0xeb, 0xfc], 2), Some(0));
    }

    #[test]
    fn the_hook_leads_to_the_image_and_the_image_back_to_the_kernel() {
        let kernel = Kernel::default().build();
        let wrapped = wrap_default(&kernel);
        let (before, after) = (&kernel[PROTECTED_MODE..], &wrapped[PROTECTED_MODE..]);
        let trampoline_at = 0x200 - TRAMPOLINE_LEN;
        assert_eq!(jump_target(after, 0x200), Some(trampoline_at));

        let image_at = (before.len() + GAP).next_multiple_of(PAGE);
        assert_eq!(
            after[trampoline_at..0x200],
            trampoline(trampoline_at, image_at, image_at + 600, field(before, 0x200).unwrap())
        );
        assert_eq!(after[image_at..image_at + 8], MAGIC);
        assert_eq!(u32_at(after, image_at + stub::KERNEL_ENTRY_BACK), Some(image_at as u32 - 0x200));
        assert_eq!(after[image_at + stub::DISPLACED..][..DISPLACED_LEN], before[0x200..0x205]);
        assert!(after[image_at + stub::PARAMETERS..].starts_with(b"lastwords.ipmi_handle_panic\0"));
        assert_eq!(embedded_parameters(&wrapped).unwrap(), "lastwords.ipmi_handle_panic");
        assert_eq!(embedded_parameters(&kernel).unwrap(), "");

        assert_eq!(after.len() % PARAGRAPH, 0);
        assert_eq!(u32_at(&wrapped, 0x1f4), Some((after.len() / PARAGRAPH) as u32));
        // Nothing else in the kernel is different.
        assert_eq!(after[..trampoline_at], before[..trampoline_at]);
        assert_eq!(after[0x202..before.len()], before[0x202..]);
        assert_eq!(wrapped[0x1f8..PROTECTED_MODE], kernel[0x1f8..PROTECTED_MODE]);
    }

    #[test]
    fn the_signature_is_taken_off_and_the_check_sum_is_right() {
        let signed = Kernel { certificates: 0x5c0, ..Kernel::default() }.build();
        assert!(BzImage::parse(&signed).unwrap().is_signed());
        let wrapped = wrap_default(&signed);
        assert!(!BzImage::parse(&wrapped).unwrap().is_signed());
        assert_eq!(wrapped, wrap_default(&Kernel::default().build()));

        // As the PE format's authors describe it: carry by carry.
        let check_sum_at = 0x40 + 24 + 64;
        let mut sum = 0u32;
        for (at, word) in wrapped.chunks_exact(2).enumerate() {
            if at * 2 == check_sum_at || at * 2 == check_sum_at + 2 {
                continue;
            }
            sum += u32::from(u16::from_le_bytes([word[0], word[1]]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(u32_at(&wrapped, check_sum_at), Some(sum + wrapped.len() as u32));
    }

    #[test]
    fn a_kernel_without_pe_header_is_wrapped_too() {
        let kernel = Kernel { pe: false, setup_sects: 0, ..Kernel::default() }.build();
        let wrapped = wrap_default(&kernel);
        assert!(BzImage::parse(&wrapped).unwrap().is_wrapped());
        assert_eq!(unwrap(&wrapped).unwrap(), kernel);
    }

    #[test]
    fn the_trampoline_goes_to_the_last_zeros_that_are_long_enough_and_near() {
        let kernel = Kernel::default().build();
        let place = |code: Range<usize>| {
            let mut kernel = kernel.clone();
            kernel[PROTECTED_MODE + code.start..PROTECTED_MODE + code.end].fill(0x90);
            let wrapped = wrap(&kernel, &image(5001, 0x20000), "")?;
            assert_eq!(unwrap(&wrapped)?[PROTECTED_MODE..], kernel[PROTECTED_MODE..]);
            Ok(jump_target(&wrapped[PROTECTED_MODE..], 0x200).unwrap())
        };
        // As Linux 5.10 with CONFIG_EFI_MIXED has it.
        assert_eq!(place(0x190..0x1dd), Ok(0x200 - TRAMPOLINE_LEN));
        assert_eq!(place(0x1b0..0x1f0), Ok(0x1b0 - TRAMPOLINE_LEN));
        // Too far for the hook.
        assert_eq!(place(0x19c..0x200), Err(BzImageError::NoRoomForHook));
        assert_eq!(place(0x19d..0x200), Ok(0x182));
    }

    #[test]
    fn what_cannot_be_wrapped_says_why() {
        let kernel = Kernel::default();
        let built = kernel.build();
        let good = image(5001, 0x20000);
        let error = |kernel: &[u8]| wrap(kernel, &good, "").unwrap_err();

        assert_eq!(error(b"\x7fELF"), BzImageError::NotBzImage);
        assert_eq!(error(&[]), BzImageError::NotBzImage);
        assert_eq!(error(&Kernel { version: 0x20b, ..kernel.clone() }.build()), BzImageError::Old(0x20b));
        assert_eq!(error(&Kernel { xloadflags: 0, ..kernel.clone() }.build()), BzImageError::Not64Bit);
        assert_eq!(error(&Kernel { padding: 0x1e2, ..kernel.clone() }.build()), BzImageError::NoRoomForHook);
        assert!(matches!(error(&built[..built.len() - 16]), BzImageError::Truncated { .. }));
        assert!(matches!(error(&built[..0x220]), BzImageError::Truncated { .. }));
        assert_eq!(error(&wrap_default(&built)), BzImageError::AlreadyWrapped);
        let parameters = "x".repeat(PARAMETERS_LEN);
        assert_eq!(wrap(&built, &good, &parameters), Err(BzImageError::ParametersTooLong(PARAMETERS_LEN)));
        assert!(wrap(&built, &good, &parameters[1..]).is_ok());
    }

    #[test]
    fn the_image_and_the_room_behind_it_lie_within_init_size() {
        let body = Kernel::default();
        let image_at = (body.build().len() - PROTECTED_MODE + GAP).next_multiple_of(PAGE);
        let needs = image_at + 0x20000 + ROOM;
        let enough = Kernel { init_size: needs as u32, ..body.clone() }.build();
        assert!(BzImage::parse(&wrap_default(&enough)).unwrap().is_wrapped());
        let less = Kernel { init_size: needs as u32 - 1, ..body }.build();
        assert_eq!(
            wrap(&less, &image(5001, 0x20000), ""),
            Err(BzImageError::NoRoomForImage { init_size: needs - 1, needs })
        );
    }

    #[test]
    fn a_damaged_pe_header_is_refused() {
        let kernel = Kernel { certificates: 0x100, ..Kernel::default() }.build();
        for (at, value) in [
            (0x3c, 0xffff_fff0),      // e_lfanew
            (0x3c, 0x180),            // e_lfanew, so that it runs into the setup_header
            (0x44, 0x14c),            // Machine: i386
            (0x40 + 24 + 144, 0x200), // certificate table before the sections' end
            (0x40 + 24 + 148, 0x101), // certificate table beyond the file
        ] {
            let mut kernel = kernel.clone();
            put(&mut kernel, at, &u32::to_le_bytes(value));
            if value == 0x180 {
                let header = kernel[0x40..0x130].to_vec();
                put(&mut kernel, 0x100, &header);
                put(&mut kernel, 0x3c, &[0x00, 0x01]);
                put(&mut kernel, 0x1fe, &[0x55, 0xaa, 0, 0, b'H', b'd', b'r', b'S', 0x0f, 0x02]);
            }
            let result = BzImage::parse(&kernel);
            assert!(matches!(result, Err(BzImageError::Pe(_))), "{at:#x}: {result:?}");
        }
    }

    #[test]
    fn a_wrapped_kernel_without_its_image_is_damaged() {
        let kernel = Kernel::default().build();
        let mut wrapped = wrap_default(&kernel);
        let image_at = wrapped.windows(8).position(|bytes| bytes == MAGIC).unwrap();
        wrapped[image_at] ^= 1;
        assert_eq!(BzImage::parse(&wrapped), Err(BzImageError::Damaged));
        wrapped[image_at] ^= 1;
        put(&mut wrapped, image_at - RECORD_LEN, &u32::MAX.to_le_bytes());
        assert_eq!(BzImage::parse(&wrapped), Err(BzImageError::Damaged));
    }

    fn kernels() -> impl Strategy<Value = Kernel> {
        let body = prop::collection::vec(any::<u8>(), 5..9000);
        (body, any::<bool>(), 0usize..3, 0u8..16, 0usize..=0x1e1).prop_map(
            |(body, pe, certificates, setup_sects, padding)| Kernel {
                body,
                pe,
                certificates: if pe { certificates * 8 } else { 0 },
                setup_sects,
                padding,
                ..Kernel::default()
            },
        )
    }

    proptest! {
        #[test]
        fn unwrapping_restores_the_kernel(kernel in kernels(), len in size_of::<stub::Header>()..9000, parameters in "[ -~]{0,511}") {
            let signed = kernel.build();
            let image = image(len, 0x8000);
            let wrapped = wrap(&signed, &image, &parameters).unwrap();
            let unwrapped = unwrap(&wrapped).unwrap();
            let protected_mode = kernel.setup_len()..signed.len() - kernel.certificates;
            prop_assert_eq!(&unwrapped[kernel.setup_len()..], &signed[protected_mode]);
            prop_assert_eq!(&unwrapped, &unwrap(&signed).unwrap());
            prop_assert_eq!(wrap(&unwrapped, &image, &parameters).unwrap(), wrapped);
        }

        #[test]
        fn any_damage_is_refused_or_wrapped_validly(
            kernel in kernels(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            near in prop::collection::vec((0usize..0x270, any::<u8>()), 0..3), cut in any::<prop::sample::Index>(),
            cuts: bool, wrapped: bool,
        ) {
            let mut file = kernel.build();
            if wrapped {
                file = wrap_default(&file);
            }
            for (index, value) in flips {
                let at = index.index(file.len());
                file[at] = value;
            }
            for (at, value) in near {
                file[at] = value;
            }
            if cuts {
                file.truncate(cut.index(file.len()));
            }
            let _ = (unwrap(&file), embedded_parameters(&file));
            if let Ok(wrapped) = wrap(&file, &image(700, 0x8000), "") {
                prop_assert!(BzImage::parse(&wrapped).unwrap().is_wrapped());
                prop_assert!(unwrap(&wrapped).is_ok());
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = BzImage::parse(&bytes);
            let mut bytes = bytes;
            if bytes.len() >= 0x208 {
                put(&mut bytes, 0x1fe, &[0x55, 0xaa]);
                put(&mut bytes, 0x202, b"HdrS\x0f\x02");
                put(&mut bytes, 0, b"MZ");
                let _ = BzImage::parse(&bytes);
            }
        }
    }
}
