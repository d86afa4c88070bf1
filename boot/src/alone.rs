//! What stands in the dump kernel's place where there is none: a bzImage whose kernel is a few instructions that reset the
//! machine. The image is put before it as before any other kernel, by either loading method, and whatever ends the image
//! early leads there, as it leads to a dump kernel otherwise.
//!
//! ```text
//! 0x000   boot sector: PE header, setup_header
//! 0x26c   real-mode code, and behind it the EFI entry
//! 0x400   protected-mode part: 32-bit entry, zeros
//! 0x600   64-bit entry: the instructions
//! ```

use crate::{
    bytes::put,
    bzimage::{PAGE, PARAGRAPH, setup_header},
};
use lastwords_core::abi::{DISPLACED_LEN, ENTRY_64};

/// Length of the setup part: boot sector and one more.
const SETUP_LEN: usize = 1024;
/// Where setup_header ends: the boot sector's jump leads there, and loaders copy as far.
const SETUP_HEADER_END: usize = 0x26c;
/// The PE header, and the entry that it names.
const PE: usize = 0x40;
const EFI_ENTRY: usize = 0x280;

/// From the 64-bit entry on. Linux's own way of port 0xcf9 (Intel PCH, "Reset Control Register"), the keyboard controller,
/// and at last a triple fault. Neither stack nor memory is needed, and each way gets a million reads of a port, a second.
#[rustfmt::skip]
const CODE: [u8; 59] = [
    0xfa,                                     //    cli
    0x66, 0xba, 0xf9, 0x0c,                   //    mov  $0xcf9, %dx
    0xec,                                     //    in   %dx, %al
    0x24, 0xf1,                               //    and  $0xf1, %al
    0x0c, 0x02,                               //    or   $0x02, %al
    0xee,                                     //    out  %al, %dx
    0x0c, 0x04,                               //    or   $0x04, %al
    0xee,                                     //    out  %al, %dx
    0xb9, 0x00, 0x00, 0x10, 0x00,             //    mov  $0x100000, %ecx
    0xe4, 0x64, 0xff, 0xc9, 0x75, 0xfa,       // 1: in   $0x64, %al; dec %ecx; jnz 1b
    0xb0, 0xfe,                               //    mov  $0xfe, %al
    0xe6, 0x64,                               //    out  %al, $0x64
    0xb9, 0x00, 0x00, 0x10, 0x00,             //    mov  $0x100000, %ecx
    0xe4, 0x64, 0xff, 0xc9, 0x75, 0xfa,       // 2: in   $0x64, %al; dec %ecx; jnz 2b
    0x0f, 0x01, 0x1d, 0x02, 0x00, 0x00, 0x00, //    lidt 3f(%rip)
    0x0f, 0x0b,                               //    ud2
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,             // 3: no table
];
/// For who enters in another mode, which no loader of a dump kernel does.
const HALT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd]; // 1: cli; hlt; jmp 1b + 1
/// EFI_UNSUPPORTED: firmware that is to boot it goes on with what it boots next.
const REFUSE: [u8; 11] = [0x48, 0xb8, 3, 0, 0, 0, 0, 0, 0, 0x80, 0xc3]; // mov $0x8000000000000003, %rax; ret

/// Memory that it takes, in bytes.
pub(crate) const INIT_SIZE: u32 = PAGE as u32;

/// Lengths of the protected-mode part and of the file.
const PROTECTED_MODE_LEN: usize = (ENTRY_64 as usize + CODE.len()).next_multiple_of(PARAGRAPH);
const LEN: usize = SETUP_LEN + PROTECTED_MODE_LEN;
/// The PE view's one section, and the headers before it.
const SECTION: u32 = SETUP_LEN as u32 / 2;
const SECTION_LEN: u32 = LEN as u32 - SECTION;

/// Numbers of the headers, and where they are.
const WORDS: [(usize, u32); 33] = [
    (0x3c, PE as u32),
    (PE, u32::from_le_bytes(*b"PE\0\0")),
    // The COFF header: x86_64, one section; 160 bytes of optional header; executable, no debugging data. PE32+.
    (PE + 4, 0x0001_8664),
    (PE + 20, 0x0206_00a0),
    (PE + 24, 0x0000_020b),
    // SizeOfCode, AddressOfEntryPoint, BaseOfCode; SectionAlignment, FileAlignment
    (PE + 28, SECTION_LEN),
    (PE + 40, EFI_ENTRY as u32),
    (PE + 44, SECTION),
    (PE + 56, 0x20),
    (PE + 60, 0x20),
    // SizeOfImage, SizeOfHeaders, Subsystem (EFI application), NumberOfRvaAndSizes; the data directory is empty.
    (PE + 80, LEN as u32),
    (PE + 84, SECTION),
    (PE + 92, 10),
    (PE + 132, 6),
    // The section's name; VirtualSize and VirtualAddress, SizeOfRawData and PointerToRawData; code, to be executed and read.
    (PE + 184, u32::from_le_bytes(*b".tex")),
    (PE + 188, b't' as u32),
    (PE + 192, SECTION_LEN),
    (PE + 196, SECTION),
    (PE + 200, SECTION_LEN),
    (PE + 204, SECTION),
    (PE + 220, 0x6000_0020),
    (setup_header::SYSSIZE, (PROTECTED_MODE_LEN / PARAGRAPH) as u32),
    // boot_flag, and a jump over setup_header; boot protocol 2.15.
    (setup_header::BOOT_FLAG, u32::from_le_bytes([0x55, 0xaa, 0xeb, (SETUP_HEADER_END - 0x202) as u8])),
    (setup_header::HEADER, u32::from_le_bytes(*b"HdrS")),
    (setup_header::VERSION, 0x20f),
    // loadflags: loaded high; code32_start.
    (setup_header::LOADFLAGS - 1, 0x100),
    (0x214, 0x10_0000),
    // initrd_addr_max, kernel_alignment, relocatable_kernel and min_alignment (a page), xloadflags: a 64-bit kernel, which may be
    // anywhere, under 4-level and 5-level paging; cmdline_size.
    (0x22c, 0x7fff_ffff),
    (setup_header::KERNEL_ALIGNMENT, PAGE as u32),
    (0x234, 0x0063_0c01),
    (setup_header::CMDLINE_SIZE, 2047),
    (setup_header::INIT_SIZE, INIT_SIZE),
    // setup_sects, above.
    (setup_header::SETUP_SECTS - 1, ((SETUP_LEN / 512 - 1) as u32) << 8),
];

/// The bzImage. With the PE header it can be signed.
#[must_use]
pub fn alone() -> Vec<u8> {
    let mut file = vec![0; LEN];
    put(&mut file, 0, b"MZ");
    for (at, word) in WORDS {
        put(&mut file, at, &word.to_le_bytes());
    }
    for (at, code) in [
        (SETUP_HEADER_END, &HALT[..]),
        (EFI_ENTRY, &REFUSE),
        (SETUP_LEN, &HALT),
        (SETUP_LEN + ENTRY_64 as usize, &CODE),
    ] {
        put(&mut file, at, code);
    }
    file
}

/// Is it that one's protected-mode part, whether or not the hook is in its first bytes?
#[must_use]
pub fn is_alone(protected_mode: &[u8]) -> bool {
    let code = protected_mode.get(ENTRY_64 as usize + DISPLACED_LEN..);
    code.is_some_and(|code| code.starts_with(&CODE[DISPLACED_LEN..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BzImage, synthetic};
    use lastwords_core::abi::{self, WayOut};

    #[test]
    fn it_is_a_kernel_that_any_loader_takes() {
        let file = alone();
        let bz_image = BzImage::parse(&file).unwrap();
        assert!(bz_image.is_alone() && bz_image.is_relocatable() && bz_image.knows_5_level());
        assert!(!bz_image.is_wrapped() && !bz_image.takes_over_efi() && !bz_image.is_signed());
        assert_eq!((bz_image.init_size, bz_image.cmdline_size, bz_image.pref_address), (4096, 2047, 0));
        assert_eq!(bz_image.kernel_alignment(), 4096);
        assert_eq!(bz_image.protected_mode(&file)[0x200..][..59], CODE);
        assert!(!BzImage::parse(&synthetic::Kernel::default().build()).unwrap().is_alone());
    }

    #[test]
    fn it_is_wrapped_in_no_more_memory_than_the_image_needs_and_unwrapped_again() {
        let (file, mut image) = (alone(), synthetic::image(5001, 0x20345));
        put(&mut image, abi::NO_DUMP_KERNEL_AT, &[0; 4]);
        put(&mut image, abi::HANDOFF, &[0; size_of::<abi::Handoff>()]);
        let wrapped = crate::wrap(&file, &image, "lastwords.then=halt").unwrap();
        let bz_image = BzImage::parse(&wrapped).unwrap();
        assert!(bz_image.is_alone() && bz_image.is_wrapped());
        // A page of its own, then the image and the zeros behind it.
        assert_eq!(bz_image.init_size, 0x1000 + 0x21000);
        assert_eq!(wrapped.len(), (SETUP_LEN + 0x1000 + 5001).next_multiple_of(PARAGRAPH));
        let mut summed = image.clone();
        crate::fill_in(&mut summed, &WayOut::NONE, "", &[]);
        let in_memory = &bz_image.protected_mode(&wrapped)[0x1000..];
        assert_eq!(in_memory[abi::NO_DUMP_KERNEL_AT..][..4], *b"none");
        assert!(crate::as_built(in_memory).unwrap() == crate::as_built(&summed).unwrap());
        assert_eq!(crate::embedded_parameters(&wrapped).unwrap(), "lastwords.then=halt");
        assert!(crate::unwrap(&wrapped).unwrap() == crate::unwrap(&file).unwrap());
        assert_eq!(BzImage::parse(&crate::unwrap(&wrapped).unwrap()).unwrap().init_size, INIT_SIZE);
        // No other kernel's image hears of it.
        let kernel = crate::wrap(&synthetic::Kernel::default().build(), &image, "").unwrap();
        assert!(!kernel.windows(4).any(|bytes| bytes == b"none"));
    }

    #[test]
    fn its_pe_view_can_be_signed() {
        let file = crate::wrap(&alone(), &synthetic::image(5001, 0x20345), "").unwrap();
        let file = crate::unsigned(&file).unwrap();
        let parts = crate::signed_parts(&file).unwrap();
        // All but the check sum and the certificate table's place.
        assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), file.len() - 12);
        let signed = crate::attach(file, b"signature").unwrap();
        assert_eq!(crate::signature(&signed), Ok(Some(&b"signature"[..])));
        assert!(BzImage::parse(&signed).unwrap().is_alone());
    }
}
