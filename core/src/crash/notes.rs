//! The notes that the crashed kernel wrote: NT_PRSTATUS by each CPU when it stopped, VMCOREINFO by the kernel.
//!
//! Their order is that of the kernel's CPU numbers. There is one for each CPU that was present, online or not, when the
//! dump kernel was loaded (kexec_load(2), and kexec_file_load(2) before Linux 6.6), or for each possible one (from 6.6 on,
//! where the kernel also writes the header anew when CPUs come and go; `crash_prepare_elf64_headers`).

use super::Regs;
use super::elfcorehdr::{CoreHeader, PT_NOTE, Ram, u32_at, u64_at};
use crate::arch::prstatus;
use crate::hw::Memory;

/// Elf64_Nhdr: n_namesz, n_descsz, n_type.
const NHDR_LEN: u64 = 12;
/// Names longer than this are none of ours.
const NAME_LEN: usize = 12;
const NT_PRSTATUS: u32 = 1;

/// Most notes in one segment: merged ones hold all CPUs'.
const IN_SEGMENT: u32 = super::MAX_CPUS + 1;
/// Most notes that are looked at in all: a damaged header may name the same ones again and again.
const IN_ALL: u32 = 4 * super::MAX_CPUS;

/// One note, or what is in the place of a CPU's.
pub enum Note {
    /// A CPU's registers.
    PrStatus(Regs),
    /// A segment without any note: that of a CPU that has not written one.
    Empty,
    /// A CPU's that cannot be read.
    Unread,
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

/// The notes in the order of the segments.
// Not an iterator of the standard's kind: what reads them needs the memory for itself in between.
pub struct Notes {
    header: CoreHeader,
    /// The next segment.
    number: u16,
    /// The next note in this one, the segment's end, and notes before it.
    next: Option<u64>,
    end: u64,
    place: u32,
    /// Notes that may still be looked at.
    left: u32,
    /// CPUs so far.
    pub cpus: u32,
}

impl Notes {
    /// From the first one on.
    #[must_use]
    #[inline(never)]
    pub fn new(header: CoreHeader) -> Self {
        Self { header, number: 0, next: None, end: 0, place: 0, left: IN_ALL, cpus: 0 }
    }

    /// The next one.
    #[inline(never)]
    pub fn next<M: Memory>(&mut self, memory: &mut M, ram: &Ram) -> Option<Note> {
        while self.left > 0 {
            let Some(addr) = self.next.filter(|_| self.place < IN_SEGMENT) else {
                let segment = self.header.phdr(memory, self.number)?;
                self.number += 1;
                if segment.kind == PT_NOTE {
                    self.next = Some(segment.offset);
                    self.end = segment.offset.saturating_add(segment.filesz);
                    self.place = 0;
                }
                continue;
            };
            let note;
            (note, self.next) = read(memory, ram, addr, self.end);
            self.place += 1;
            // What ends a segment of several notes is none.
            if self.place == 1 || self.next.is_some() {
                self.left -= 1;
                return Some(note);
            }
        }
        None
    }
}

/// Names and descriptions are padded to four bytes.
fn padded(len: u32) -> u64 {
    u64::from(len).next_multiple_of(4)
}

/// Reads the note at `addr` in a segment that ends at `end`, and where the next one is; `None` where nothing follows.
fn read<M: Memory>(memory: &mut M, ram: &Ram, addr: u64, end: u64) -> (Note, Option<u64>) {
    let mut nhdr = [0; NHDR_LEN as usize];
    if !ram.read(memory, addr, &mut nhdr) {
        return (Note::Unread, None);
    }
    let (namesz, descsz, kind) = (u32_at(&nhdr, 0), u32_at(&nhdr, 4), u32_at(&nhdr, 8));
    if namesz == 0 {
        return (Note::Empty, None);
    }
    let name = addr + NHDR_LEN;
    let desc = name.saturating_add(padded(namesz));
    let next = desc.saturating_add(padded(descsz));
    if next > end {
        return (Note::Unread, None);
    }
    let mut buf = [0; NAME_LEN];
    let text = buf.get_mut(..namesz as usize).and_then(|text| ram.read(memory, name, text).then_some(&*text));
    let mut status = [0; prstatus::LEN];
    let note = match text {
        Some(b"VMCOREINFO\0") => Note::VmCoreInfo { addr: desc, len: u64::from(descsz) },
        _ if kind != NT_PRSTATUS => Note::Other,
        Some(b"CORE\0") if descsz as usize >= prstatus::LEN && ram.read(memory, desc, &mut status) => {
            Note::PrStatus(Regs {
                pid: u32_at(&status, prstatus::PID),
                rip: u64_at(&status, prstatus::PC),
                user: prstatus::is_user(u64_at(&status, prstatus::MODE)),
            })
        }
        _ => Note::Unread,
    };
    (note, Some(next))
}
