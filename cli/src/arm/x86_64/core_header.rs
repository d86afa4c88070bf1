//! The ELF core header: shows the dump kernel, and our own image before it, where the crashed kernel's notes and memory
//! are. It becomes the head of /proc/vmcore (`Documentation/admin-guide/kdump/vmcoreinfo.rst`, `fs/proc/vmcore.c`).
//!
//! What it holds is what the kernel itself puts there under kexec_file_load(2) (`crash_prepare_elf64_headers` in
//! `kernel/crash_core.c`), since on CPU and memory hotplug the kernel writes it anew in place.

use super::{PAGE, put};
use crate::arm::ranges::{IoMem, without};
use std::ops::Range;
use thiserror::Error;

// System V ABI, "ELF Header" and "Program Header".
const EHDR_LEN: usize = 64;
const PHDR_LEN: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_RWX: u32 = 7;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;

/// The first MiB, which the kernel keeps for itself and firmware and never gives to anyone (`reserve_real_mode`, since
/// Linux 5.13; with crashkernel= since 5.5): nothing of the crashed kernel is in it, and the dump kernel will use it.
pub const LOW_1M: Range<u64> = 0..1 << 20;

/// The kernel's own mapping: `__START_KERNEL_map` and the GiB from there (`Documentation/arch/x86/x86_64/mm.rst`).
const KERNEL_MAPPING: Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

/// Why there is no core header.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CoreHeaderError {
    /// /proc/kcore is not what it should be.
    #[error("/proc/kcore is not an ELF core file of x86_64")]
    Kcore,
    /// No mapping of the kernel.
    #[error(
        "/proc/kcore or /proc/iomem does not show where the running kernel is\nhint: lastwords load --via wrap"
    )]
    NoKernel,
    /// No direct map.
    #[error("/proc/kcore does not show where memory is mapped\nhint: lastwords load --via wrap")]
    NoDirectMap,
    /// More program headers than `e_phnum` counts.
    #[error(
        "{0} CPUs and ranges of memory are more than an ELF header counts\nhint: lastwords load --via wrap"
    )]
    TooMany(usize),
}

/// A PT_LOAD or PT_NOTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramHeader {
    /// `p_type`.
    pub kind: u32,
    /// `p_vaddr`.
    pub vaddr: u64,
    /// `p_paddr`.
    pub paddr: u64,
    /// `p_memsz`.
    pub len: u64,
}

/// Where the running kernel's memory is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The kernel's own PT_LOAD.
    pub kernel: ProgramHeader,
    /// Virtual minus physical address in the direct map (`page_offset_base`; KASLR moves it).
    pub page_offset: u64,
}

/// Length of /proc/kcore's headers, from its first [`EHDR_LEN`] bytes.
///
/// # Errors
/// [`CoreHeaderError::Kcore`].
pub fn kcore_headers_len(ehdr: &[u8]) -> Result<usize, CoreHeaderError> {
    let number = |at| Some(usize::from(u16::from_le_bytes(*ehdr.get(at..)?.first_chunk()?)));
    let is_core = ehdr.starts_with(b"\x7fELF\x02\x01") && number(16) == Some(ET_CORE.into());
    let (e_phentsize, e_phnum) = number(54).zip(number(56)).ok_or(CoreHeaderError::Kcore)?;
    let is_ours = is_core && number(32) == Some(EHDR_LEN) && e_phentsize == PHDR_LEN;
    if is_ours { Ok(EHDR_LEN + e_phnum * PHDR_LEN) } else { Err(CoreHeaderError::Kcore) }
}

/// The mapping, from the headers of /proc/kcore (`fs/proc/kcore.c`) and /proc/iomem.
///
/// # Errors
/// [`CoreHeaderError::NoKernel`], [`CoreHeaderError::NoDirectMap`].
pub fn mapping(kcore: &[u8], iomem: &IoMem) -> Result<Mapping, CoreHeaderError> {
    let number = |phdr: &[u8], at| phdr[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let loads: Vec<_> = kcore
        .get(EHDR_LEN..)
        .unwrap_or_default()
        .chunks_exact(PHDR_LEN)
        .map(|phdr| ProgramHeader {
            kind: number(phdr, 0) as u32,
            vaddr: number(phdr, 16),
            paddr: number(phdr, 24),
            len: number(phdr, 40),
        })
        .filter(|phdr| phdr.kind == PT_LOAD)
        .collect();

    // Modules have a PT_LOAD in or right behind this range, too, but none with a physical address.
    let code = iomem.named("Kernel code").next().ok_or(CoreHeaderError::NoKernel)?;
    let kernel = loads
        .iter()
        .find(|load| KERNEL_MAPPING.contains(&load.vaddr) && load.paddr == code.start)
        .ok_or(CoreHeaderError::NoKernel)?;
    let kernel = ProgramHeader { len: kernel.len.next_multiple_of(PAGE), ..*kernel };

    // kcore has the physical address of RAM as it is and of everything else but the kernel as -1. The direct map's
    // base is a multiple of 1 GiB (`arch/x86/mm/kaslr.c`).
    let ram: Vec<_> = iomem.system_ram().collect();
    let page_offset = loads
        .iter()
        .filter(|load| !KERNEL_MAPPING.contains(&load.vaddr))
        .filter(|load| ram.iter().any(|range| range.contains(&load.paddr)))
        .filter_map(|load| load.vaddr.checked_sub(load.paddr))
        .find(|offset| offset % (1 << 30) == 0 && *offset >= 1 << 63)
        .ok_or(CoreHeaderError::NoDirectMap)?;
    Ok(Mapping { kernel, page_offset })
}

/// The memory that is to be dumped: all RAM but the first MiB, what is reserved for the dump kernel, and a GART, whose
/// aperture may lie over RAM and is not to be read.
pub fn memory(iomem: &IoMem) -> Vec<Range<u64>> {
    let holes = iomem.named("Crash kernel").chain(iomem.named("GART")).chain([LOW_1M]);
    holes.fold(iomem.system_ram().collect(), |ranges, hole| without(ranges, &hole))
}

/// The core header's bytes: one PT_NOTE for each of `notes` (the CPUs' in CPU order, then VMCOREINFO), the kernel's
/// PT_LOAD, one PT_LOAD for each range of `memory`.
///
/// # Errors
/// [`CoreHeaderError::TooMany`].
pub fn build(
    notes: &[Range<u64>],
    mapping: &Mapping,
    memory: &[Range<u64>],
) -> Result<Vec<u8>, CoreHeaderError> {
    let len = |range: &Range<u64>| range.end - range.start;
    let notes =
        notes.iter().map(|note| ProgramHeader { kind: PT_NOTE, vaddr: 0, paddr: note.start, len: len(note) });
    let memory = memory.iter().map(|range| ProgramHeader {
        kind: PT_LOAD,
        vaddr: range.start.wrapping_add(mapping.page_offset),
        paddr: range.start,
        len: len(range),
    });
    let all: Vec<_> = notes.chain([mapping.kernel]).chain(memory).collect();
    // 0xffff is PN_XNUM, which has another meaning.
    let e_phnum = u16::try_from(all.len())
        .ok()
        .filter(|e_phnum| *e_phnum != u16::MAX)
        .ok_or(CoreHeaderError::TooMany(all.len()))?;

    let mut bytes = vec![0; EHDR_LEN + all.len() * PHDR_LEN];
    // ELFCLASS64, ELFDATA2LSB, EV_CURRENT.
    put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
    put(&mut bytes, 16, &ET_CORE.to_le_bytes());
    put(&mut bytes, 18, &EM_X86_64.to_le_bytes());
    put(&mut bytes, 20, &1u32.to_le_bytes());
    put(&mut bytes, 32, &(EHDR_LEN as u64).to_le_bytes());
    put(&mut bytes, 52, &(EHDR_LEN as u16).to_le_bytes());
    put(&mut bytes, 54, &(PHDR_LEN as u16).to_le_bytes());
    put(&mut bytes, 56, &e_phnum.to_le_bytes());
    for (phdr, bytes) in all.iter().zip(bytes[EHDR_LEN..].chunks_exact_mut(PHDR_LEN)) {
        let flags = if phdr.kind == PT_LOAD { PF_RWX } else { 0 };
        put(bytes, 0, &phdr.kind.to_le_bytes());
        put(bytes, 4, &flags.to_le_bytes());
        // p_offset is the physical address: the "file" is the crashed kernel's memory.
        for (at, value) in
            [(8, phdr.paddr), (16, phdr.vaddr), (24, phdr.paddr), (32, phdr.len), (40, phdr.len)]
        {
            put(bytes, at, &value.to_le_bytes());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::read::elf::ProgramHeader as _;
    use object::{LittleEndian, elf, read::elf::ElfFile64};

    const IOMEM: &str = "\
00001000-0009fbff : System RAM
000a0000-000fffff : Reserved
00100000-3ffdbfff : System RAM
  0ae00000-0be00eb0 : Kernel code
  2f000000-3effffff : Crash kernel
100000000-1bfffffff : System RAM
  1a0000000-1afffffff : Crash kernel
";
    const PAGE_OFFSET: u64 = 0xffff_9c3f_4000_0000;

    fn load(vaddr: u64, paddr: u64, len: u64) -> ProgramHeader {
        ProgramHeader { kind: PT_LOAD, vaddr, paddr, len }
    }

    /// The headers of a /proc/kcore with these PT_LOADs.
    fn kcore(loads: &[ProgramHeader]) -> Vec<u8> {
        let mut bytes = vec![0; EHDR_LEN];
        put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
        put(&mut bytes, 16, &[4, 0]);
        put(&mut bytes, 32, &[64]);
        put(&mut bytes, 54, &[56, 0, loads.len() as u8, 0]);
        for load in loads {
            let mut phdr = [0; PHDR_LEN];
            put(&mut phdr, 0, &load.kind.to_le_bytes());
            put(&mut phdr, 16, &load.vaddr.to_le_bytes());
            put(&mut phdr, 24, &load.paddr.to_le_bytes());
            put(&mut phdr, 40, &load.len.to_le_bytes());
            bytes.extend(phdr);
        }
        bytes
    }

    fn real_kcore() -> Vec<ProgramHeader> {
        vec![
            ProgramHeader { kind: PT_NOTE, vaddr: 0, paddr: 0, len: 0 },
            load(0xffff_ffff_8ae0_0000, 0x0ae0_0000, 0x2a2_c123),
            load(0xffff_af4d_0000_0000, u64::MAX, 0x1fff_ffff_ffff),
            load(0xffff_ffff_c000_0000, u64::MAX, 0x3f00_0000),
            load(0xffff_e7d0_40ff_1000, u64::MAX, 0xf000),
            load(PAGE_OFFSET + 0x1000, 0x1000, 0x9e000),
            load(PAGE_OFFSET + 0x10_0000, 0x10_0000, 0x3fed_c000),
        ]
    }

    #[test]
    fn kcore_tells_where_everything_is_mapped() {
        let bytes = kcore(&real_kcore());
        assert_eq!(kcore_headers_len(&bytes), Ok(bytes.len()));
        let mapping = mapping(&bytes, &IoMem::parse(IOMEM)).unwrap();
        assert_eq!(mapping.kernel, load(0xffff_ffff_8ae0_0000, 0x0ae0_0000, 0x2a2_d000));
        assert_eq!(mapping.page_offset, PAGE_OFFSET);
    }

    #[test]
    fn a_kcore_that_does_not_tell_is_refused() {
        let iomem = IoMem::parse(IOMEM);
        let mut other_place = real_kcore();
        other_place[1].paddr += 0x20_0000;
        assert_eq!(mapping(&kcore(&other_place), &iomem), Err(CoreHeaderError::NoKernel));
        assert_eq!(mapping(&kcore(&real_kcore()[..5]), &iomem), Err(CoreHeaderError::NoDirectMap));
        assert_eq!(mapping(&kcore(&real_kcore()), &IoMem::default()), Err(CoreHeaderError::NoKernel));
        assert_eq!(kcore_headers_len(b"\x7fELF\x01"), Err(CoreHeaderError::Kcore));
        let mut executable = kcore(&[]);
        executable[16] = 2;
        assert_eq!(kcore_headers_len(&executable), Err(CoreHeaderError::Kcore));
    }

    #[test]
    fn memory_is_ram_without_the_first_mib_and_both_reservations() {
        assert_eq!(
            memory(&IoMem::parse(IOMEM)),
            [
                0x10_0000..0x2f00_0000,
                0x3f00_0000..0x3ffd_c000,
                0x1_0000_0000..0x1_a000_0000,
                0x1_b000_0000..0x1_c000_0000
            ]
        );
        let gart = IoMem::parse("00100000-3fffffff : System RAM\n  20000000-23ffffff : GART\n");
        assert_eq!(memory(&gart), [0x10_0000..0x2000_0000, 0x2400_0000..0x4000_0000]);
    }

    #[test]
    fn another_elf_reader_reads_the_same() {
        let mapping =
            Mapping { kernel: load(0xffff_ffff_8ae0_0000, 0xae0_0000, 0x2000), page_offset: PAGE_OFFSET };
        let notes = [0x3f00_1000..0x3f00_1200, 0x1234_5000..0x1234_6000];
        let bytes = build(&notes, &mapping, &[0x10_0000..0x2f00_0000, 0x1_0000_0000..0x1_0000_1000]).unwrap();
        let file = ElfFile64::<LittleEndian>::parse(&*bytes).unwrap();
        let endian = LittleEndian;
        assert_eq!(file.elf_header().e_type.get(endian), elf::ET_CORE);
        assert_eq!(file.elf_header().e_machine.get(endian), elf::EM_X86_64);
        let read: Vec<_> = file
            .elf_program_headers()
            .iter()
            .map(|phdr| {
                assert_eq!(phdr.p_offset(endian), phdr.p_paddr(endian));
                assert_eq!(phdr.p_filesz(endian), phdr.p_memsz(endian));
                (phdr.p_type(endian).0, phdr.p_vaddr(endian), phdr.p_paddr(endian), phdr.p_memsz(endian))
            })
            .collect();
        assert_eq!(
            read,
            [
                (PT_NOTE, 0, 0x3f00_1000, 0x200),
                (PT_NOTE, 0, 0x1234_5000, 0x1000),
                (PT_LOAD, 0xffff_ffff_8ae0_0000, 0xae0_0000, 0x2000),
                (PT_LOAD, PAGE_OFFSET + 0x10_0000, 0x10_0000, 0x2ef0_0000),
                (PT_LOAD, PAGE_OFFSET + 0x1_0000_0000, 0x1_0000_0000, 0x1000),
            ]
        );
    }

    #[test]
    fn more_than_e_phnum_counts_is_refused() {
        let mapping = Mapping { kernel: load(0, 0, 0x1000), page_offset: PAGE_OFFSET };
        let mut notes = vec![0x1000..0x1200; 65_533];
        assert!(build(&notes, &mapping, &[]).is_ok());
        notes.push(0x1000..0x1200);
        let error = build(&notes, &mapping, &[]).unwrap_err();
        assert_eq!(error, CoreHeaderError::TooMany(65_535));
    }
}
