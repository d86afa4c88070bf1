//! The ELF core header: an ELF64 file header with program headers for the CPUs' notes and for RAM, at a physical
//! address in the reserved memory (`elfcorehdr=`; Linux `kernel/crash_core.c`, kexec-tools `crashdump-elf.c`).

use crate::arch::ELF_MACHINE;
use crate::hw::{Memory, PHYSICAL_END};
use core::cell::Cell;
use core::ops;

/// Length of Elf64_Ehdr.
const EHDR_LEN: usize = 64;
/// Length of Elf64_Phdr.
const PHDR_LEN: usize = 56;
const PT_LOAD: u32 = 1;
/// `p_type` of notes.
pub const PT_NOTE: u32 = 4;
const ET_CORE: u16 = 4;

/// Ranges of RAM that are kept at hand: the log lies in one or two, the notes in one of each memory node.
const KEPT: usize = 64;

/// Most program headers that are looked at for ranges that are not at hand: some tens of milliseconds. A damaged log
/// could ask for memory that no range holds again and again.
const LOOKS: u32 = 1 << 20;

/// Why there is no ELF core header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreHeaderError {
    /// The address cannot be read.
    Unreadable,
    /// There is something else at the address.
    NoElfCore,
}

/// Where the program headers are.
#[derive(Clone, Copy)]
pub struct CoreHeader {
    phdrs: u64,
    count: u16,
}

/// One program header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phdr {
    /// `p_type`.
    pub kind: u32,
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

    /// The program header of this number; `None` behind the last one, or where it cannot be read.
    pub fn phdr<M: Memory>(self, memory: &mut M, number: u16) -> Option<Phdr> {
        let mut bytes = [0; PHDR_LEN];
        if number >= self.count || !memory.read(self.phdrs + u64::from(number) * PHDR_LEN as u64, &mut bytes)
        {
            return None;
        }
        Some(Phdr {
            kind: u32_at(&bytes, 0),
            offset: u64_at(&bytes, 8),
            vaddr: u64_at(&bytes, 16),
            paddr: u64_at(&bytes, 24),
            filesz: u64_at(&bytes, 32),
        })
    }

    /// Does any of this range of physical memory belong to the RAM that the PT_LOADs name, or to the headers themselves?
    pub fn overlaps<M: Memory>(self, memory: &mut M, range: &ops::Range<u64>) -> bool {
        let len = u64::from(self.count) * PHDR_LEN as u64;
        let headers = self.phdrs.saturating_sub(EHDR_LEN as u64)..self.phdrs.saturating_add(len);
        overlap(range, &headers)
            || (0..self.count).any(|number| {
                let phdr = self.phdr(memory, number).unwrap_or_default();
                phdr.kind == PT_LOAD && overlap(range, &(phdr.paddr..phdr.paddr.saturating_add(phdr.filesz)))
            })
    }

    /// The RAM that the PT_LOADs name.
    #[must_use]
    pub fn ram(self) -> Ram {
        Ram {
            header: self,
            kept: [const { Cell::new(Range::NONE) }; KEPT],
            next: Cell::new(0),
            number: Cell::new(0),
            looks: Cell::new(LOOKS),
        }
    }
}

/// Have the ranges a byte in common?
pub fn overlap(one: &ops::Range<u64>, other: &ops::Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// A range of RAM and where the crashed kernel had it mapped.
#[derive(Clone, Copy)]
struct Range {
    paddr: u64,
    vaddr: u64,
    len: u64,
}

impl Range {
    const NONE: Self = Self { paddr: 0, vaddr: 0, len: 0 };

    /// The range of a PT_LOAD. The kernel's own names RAM that another one names too.
    fn of(phdr: Phdr) -> Self {
        let len = if phdr.kind == PT_LOAD { phdr.filesz } else { 0 };
        Self { paddr: phdr.paddr, vaddr: phdr.vaddr, len: len.min(PHYSICAL_END.saturating_sub(phdr.paddr)) }
    }

    /// How far behind its begin `addr` is, where all `len` bytes there lie in it.
    #[expect(clippy::inline_always, reason = "three times for each record of the log")]
    #[inline(always)]
    fn offset(&self, addr: Address, len: u64) -> Option<u64> {
        let offset = match addr {
            Address::Physical(addr) => addr.checked_sub(self.paddr)?,
            Address::Virtual(addr) => addr.checked_sub(self.vaddr)?,
        };
        (len <= self.len.checked_sub(offset)?).then_some(offset)
    }
}

/// An address in RAM, as itself or as the crashed kernel had it mapped.
#[derive(Clone, Copy)]
enum Address {
    Physical(u64),
    Virtual(u64),
}

/// The crashed kernel's RAM: the only memory that is ever read on its word.
///
/// A header may name any number of ranges. Those that held something are kept at hand, the others are looked up.
pub struct Ram {
    header: CoreHeader,
    kept: [Cell<Range>; KEPT],
    /// Where the next one is kept, in turn.
    next: Cell<usize>,
    /// The program header that is looked at next: what follows the last one that was found is the likeliest.
    number: Cell<u16>,
    /// Program headers that may still be looked at.
    looks: Cell<u32>,
}

impl Ram {
    /// Fills `buf` from physical address `addr`; false when any of it lies outside RAM.
    pub fn read<M: Memory>(&self, memory: &mut M, addr: u64, buf: &mut [u8]) -> bool {
        self.read_by(memory, Address::Physical(addr), buf)
    }

    /// Fills `buf` from an address in the kernel's image or its map of all RAM, as the PT_LOADs have them; false when
    /// any of it lies elsewhere.
    pub fn read_virtual<M: Memory>(&self, memory: &mut M, addr: u64, buf: &mut [u8]) -> bool {
        self.read_by(memory, Address::Virtual(addr), buf)
    }

    /// The number of eight bytes at a virtual address; `None` when any of it lies elsewhere.
    pub fn number<M: Memory>(&self, memory: &mut M, addr: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read_virtual(memory, addr, &mut bytes).then_some(u64::from_le_bytes(bytes))
    }

    /// Where the range that holds virtual address `vaddr` ends; 0 when none does.
    pub fn end_of<M: Memory>(&self, memory: &mut M, vaddr: u64) -> u64 {
        let range = self.range(memory, Address::Virtual(vaddr), 1);
        range.map_or(0, |(range, _)| range.vaddr.saturating_add(range.len))
    }

    fn read_by<M: Memory>(&self, memory: &mut M, addr: Address, buf: &mut [u8]) -> bool {
        let len = buf.len() as u64;
        // Most likely what was read last holds this, too.
        let [last, ..] = &self.kept;
        let mut range = last.get();
        let offset = match range.offset(addr, len) {
            Some(offset) => offset,
            None => match self.range(memory, addr, len) {
                Some((found, offset)) => {
                    range = found;
                    offset
                }
                None => return false,
            },
        };
        // Within the range it does not overflow.
        memory.read(range.paddr + offset, buf)
    }

    /// The range that holds all `len` bytes from `addr` on, and how far behind its begin they are.
    #[inline(never)]
    fn range<M: Memory>(&self, memory: &mut M, addr: Address, len: u64) -> Option<(Range, u64)> {
        for kept in &self.kept {
            let range = kept.get();
            if let Some(offset) = range.offset(addr, len) {
                // Most likely it holds what is read next, too.
                kept.set(self.kept.first()?.replace(range));
                return Some((range, offset));
            }
        }
        for _ in 0..self.header.count {
            self.looks.set(self.looks.get().checked_sub(1)?);
            let number = self.number.get();
            let range = Range::of(self.header.phdr(memory, number).unwrap_or_default());
            if let Some(offset) = range.offset(addr, len) {
                let slot = self.next.get();
                self.next.set((slot + 1) % KEPT);
                self.kept.get(slot)?.set(range);
                return Some((range, offset));
            }
            self.number.set(if number + 1 < self.header.count { number + 1 } else { 0 });
        }
        None
    }
}
