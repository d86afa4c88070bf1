//! The notes that the crashed kernel wrote: NT_PRSTATUS by each CPU when it stopped, VMCOREINFO by the kernel.

use super::Regs;
use super::elfcorehdr::{Phdr, Ram, u32_at, u64_at};
use crate::arch::prstatus;
use crate::hw::Memory;

/// Elf64_Nhdr: n_namesz, n_descsz, n_type.
const NHDR_LEN: u64 = 12;
/// Names longer than this are none of ours.
const NAME_LEN: usize = 12;
const NT_PRSTATUS: u32 = 1;

/// Most notes in one segment: merged ones hold all CPUs'.
const NOTES: u32 = super::MAX_CPUS + 1;

/// One note.
pub enum Note {
    /// A CPU's registers.
    PrStatus(Regs),
    /// What the kernel tells of itself: `len` bytes of text at `addr`.
    VmCoreInfo {
        /// Physical address of the text.
        addr: u64,
        /// Its length.
        len: u64,
    },
    /// Another one.
    Other,
}

/// Calls `each` with every note of a PT_NOTE segment until it returns false. An empty note ends the segment.
pub fn walk<M: Memory>(memory: &mut M, ram: &Ram, segment: Phdr, each: &mut dyn FnMut(&mut M, Note) -> bool) {
    let mut addr = segment.offset;
    let Some(end) = addr.checked_add(segment.filesz) else { return };
    for _ in 0..NOTES {
        let mut nhdr = [0; NHDR_LEN as usize];
        if end.saturating_sub(addr) < NHDR_LEN || !ram.read(memory, addr, &mut nhdr) {
            return;
        }
        let (namesz, descsz, kind) = (u32_at(&nhdr, 0), u32_at(&nhdr, 4), u32_at(&nhdr, 8));
        if namesz == 0 {
            return;
        }
        let name_addr = addr + NHDR_LEN;
        let desc = name_addr.saturating_add(padded(namesz));
        let next = desc.saturating_add(padded(descsz));
        if next > end {
            return;
        }
        let note = read(memory, ram, (name_addr, namesz), (desc, descsz), kind);
        if !each(memory, note) {
            return;
        }
        addr = next;
    }
}

/// Names and descriptions are padded to four bytes.
fn padded(len: u32) -> u64 {
    u64::from(len).next_multiple_of(4)
}

fn read<M: Memory>(memory: &mut M, ram: &Ram, name: (u64, u32), desc: (u64, u32), kind: u32) -> Note {
    let mut buf = [0; NAME_LEN];
    let Some(text) = buf.get_mut(..name.1 as usize) else { return Note::Other };
    if !ram.read(memory, name.0, text) {
        return Note::Other;
    }
    let (addr, len) = desc;
    match &*text {
        b"CORE\0" if kind == NT_PRSTATUS && len as usize >= prstatus::LEN => {
            let mut status = [0; prstatus::LEN];
            if !ram.read(memory, addr, &mut status) {
                return Note::Other;
            }
            Note::PrStatus(Regs {
                pid: u32_at(&status, prstatus::PID),
                rip: u64_at(&status, prstatus::PC),
                rsp: u64_at(&status, prstatus::SP),
                user: prstatus::is_user(u64_at(&status, prstatus::MODE)),
            })
        }
        b"VMCOREINFO\0" => Note::VmCoreInfo { addr, len: u64::from(len) },
        _ => Note::Other,
    }
}
