//! The ELF core header: an ELF64 file header with program headers for the CPUs' notes and for RAM, at a physical
//! address in the reserved memory (`elfcorehdr=`; Linux `kernel/crash_core.c`, kexec-tools `crashdump-elf.c`).

use crate::arch::ELF_MACHINE;
use crate::hw::{Memory, PHYSICAL_END};

/// Length of Elf64_Ehdr.
const EHDR_LEN: usize = 64;
/// Length of Elf64_Phdr.
const PHDR_LEN: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const ET_CORE: u16 = 4;

/// Most ranges of RAM that are kept; a big machine has some tens.
const RANGES: usize = 128;

/// Why there is no ELF core header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreHeaderError {
    /// The address cannot be read.
    Unreadable,
    /// There is something else at the address.
    NoElfCore,
}

/// Where the program headers are.
pub struct CoreHeader {
    phdrs: u64,
    count: u16,
}

/// One program header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phdr {
    kind: u32,
    /// Physical address of the contents: a core header has no file behind it.
    pub offset: u64,
    vaddr: u64,
    paddr: u64,
    /// Length of the contents.
    pub filesz: u64,
}

/// Little-endian number at `at`; 0 beyond the end.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    field(bytes, at).map_or(0, u64::from_le_bytes)
}

/// Little-endian number at `at`; 0 beyond the end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    field(bytes, at).map_or(0, u32::from_le_bytes)
}

/// Little-endian number at `at`; 0 beyond the end.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    field(bytes, at).map_or(0, u16::from_le_bytes)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl CoreHeader {
    /// Reads and checks the file header.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn read<M: Memory>(memory: &mut M, addr: u64) -> Result<Self, CoreHeaderError> {
        let mut ehdr = [0; EHDR_LEN];
        if addr >= PHYSICAL_END || !memory.read(addr, &mut ehdr) {
            return Err(CoreHeaderError::Unreadable);
        }
        // ELFCLASS64, little-endian, version 1.
        let good = ehdr.starts_with(b"\x7fELF\x02\x01\x01")
            && u16_at(&ehdr, 16) == ET_CORE
            && u16_at(&ehdr, 18) == ELF_MACHINE
            && usize::from(u16_at(&ehdr, 54)) == PHDR_LEN;
        let phdrs = addr.checked_add(u64_at(&ehdr, 32)).filter(|phdrs| *phdrs < PHYSICAL_END);
        match phdrs {
            Some(phdrs) if good => Ok(Self { phdrs, count: u16_at(&ehdr, 56) }),
            _ => Err(CoreHeaderError::NoElfCore),
        }
    }

    /// Calls `each` with every program header until it returns false.
    fn phdrs<M: Memory>(&self, memory: &mut M, each: &mut dyn FnMut(&mut M, Phdr) -> bool) {
        for index in 0..u64::from(self.count) {
            let mut bytes = [0; PHDR_LEN];
            if !memory.read(self.phdrs + index * PHDR_LEN as u64, &mut bytes) {
                return;
            }
            let phdr = Phdr {
                kind: u32_at(&bytes, 0),
                offset: u64_at(&bytes, 8),
                vaddr: u64_at(&bytes, 16),
                paddr: u64_at(&bytes, 24),
                filesz: u64_at(&bytes, 32),
            };
            if !each(memory, phdr) {
                return;
            }
        }
    }

    /// Calls `each` with every PT_NOTE until it returns false.
    pub fn notes<M: Memory>(&self, memory: &mut M, each: &mut dyn FnMut(&mut M, Phdr) -> bool) {
        self.phdrs(memory, &mut |memory, phdr| phdr.kind != PT_NOTE || each(memory, phdr));
    }

    /// Where the PT_LOAD that holds virtual address `vaddr` ends; 0 when none does.
    pub fn end_of_load<M: Memory>(&self, memory: &mut M, vaddr: u64) -> u64 {
        let mut found = 0;
        self.phdrs(memory, &mut |_, phdr| {
            let end = phdr.vaddr.saturating_add(phdr.filesz);
            if phdr.kind == PT_LOAD && (phdr.vaddr..end).contains(&vaddr) {
                found = end;
            }
            found == 0
        });
        found
    }

    /// The RAM that the PT_LOADs name.
    pub fn ram<M: Memory>(&self, memory: &mut M) -> Ram {
        let mut ram = Ram { ranges: [Range { paddr: 0, vaddr: 0, len: 0 }; RANGES], used: 0 };
        self.phdrs(memory, &mut |_, phdr| {
            // The kernel's own PT_LOAD names RAM that another one names too.
            let len = phdr.filesz.min(PHYSICAL_END.saturating_sub(phdr.paddr));
            match ram.ranges.get_mut(ram.used) {
                Some(slot) if phdr.kind == PT_LOAD && len > 0 => {
                    *slot = Range { paddr: phdr.paddr, vaddr: phdr.vaddr, len };
                    ram.used += 1;
                }
                _ => {}
            }
            true
        });
        ram
    }
}

/// A range of RAM and where the crashed kernel had it mapped.
#[derive(Clone, Copy)]
struct Range {
    paddr: u64,
    vaddr: u64,
    len: u64,
}

/// The crashed kernel's RAM: the only memory that is ever read on its word.
pub struct Ram {
    ranges: [Range; RANGES],
    used: usize,
}

impl Ram {
    /// Fills `buf` from physical address `addr`; false when any of it lies outside RAM.
    pub fn read<M: Memory>(&self, memory: &mut M, addr: u64, buf: &mut [u8]) -> bool {
        self.read_in(memory, addr, buf, |range| range.paddr)
    }

    /// Fills `buf` from an address in the kernel's image or its map of all RAM, as the PT_LOADs have them; false when
    /// any of it lies elsewhere.
    pub fn read_virtual<M: Memory>(&self, memory: &mut M, addr: u64, buf: &mut [u8]) -> bool {
        self.read_in(memory, addr, buf, |range| range.vaddr)
    }

    fn read_in<M: Memory>(&self, memory: &mut M, addr: u64, buf: &mut [u8], base: fn(&Range) -> u64) -> bool {
        let offset = |range: &Range| {
            let offset = addr.checked_sub(base(range))?;
            let inside = offset <= range.len && buf.len() as u64 <= range.len - offset;
            // Not computed when it is not: it could overflow.
            inside.then(|| range.paddr + offset)
        };
        match self.ranges.iter().take(self.used).find_map(offset) {
            Some(paddr) => memory.read(paddr, buf),
            None => false,
        }
    }
}
