//! The crashed kernel, as its memory shows it: which kernel it was, where every CPU was, and why it panicked.
//!
//! All of it is found from one address on the dump kernel's command line, the ELF core header. Nothing that is read
//! is trusted further than it can be checked: every address must lie in the RAM that the header itself names, every
//! count has a cap, and what does not fit is left out.

mod cause;
mod elfcorehdr;
mod notes;
mod printk;
mod vmcoreinfo;

pub use cause::{CauseReader, FORMATS, Format, Panicked};
pub use elfcorehdr::{CoreHeader, CoreHeaderError, Ram};
pub use printk::{Log, Record, TEXT_LEN};
pub use vmcoreinfo::VmCoreInfo;

use crate::hw::Memory;
use crate::report::{Cause, Location};
use notes::Note;

/// Most CPUs that are looked at; Linux' own limit for x86 is 8192.
pub const MAX_CPUS: u32 = 8192;

/// Most notes that are looked at in all: a damaged header may name the same ones again and again.
const NOTES: u32 = 4 * MAX_CPUS;

/// Most records of the log that are looked at for what happened: all CPUs' traces on a big machine are thousands of
/// lines.
const LOG_END: u64 = 8192;

/// A crashed kernel.
pub struct Crash {
    header: CoreHeader,
    ram: Ram,
    /// Where the kernel's image ends, in virtual memory; 0 when it is not known.
    image_end: u64,
    /// What the kernel tells of itself.
    pub info: VmCoreInfo,
}

/// One CPU of the crashed kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its place among the notes, which is the kernel's number of it unless CPU numbers have holes.
    pub number: u32,
    /// Its registers; `None` when its note is empty: it did not respond to the NMI that stops all CPUs.
    pub regs: Option<Regs>,
}

/// A CPU's registers, as its note has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs {
    /// Process id of what it ran, 0 when idle.
    pub pid: u32,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Was it in user space?
    pub user: bool,
}

impl Crash {
    /// Reads the ELF core header at physical address `elfcorehdr` and what the kernel tells of itself.
    ///
    /// # Errors
    /// When there is no ELF core header. A kernel that tells nothing of itself is no error.
    pub fn read<M: Memory>(memory: &mut M, elfcorehdr: u64) -> Result<Self, CoreHeaderError> {
        let header = CoreHeader::read(memory, elfcorehdr)?;
        let ram = header.ram(memory);
        let mut info = VmCoreInfo::default();
        let mut seen = 0;
        header.notes(memory, &mut |memory, segment| {
            notes::walk(memory, &ram, segment, &mut |memory, note| {
                seen += 1;
                if let Note::VmCoreInfo { addr, len } = note {
                    info = VmCoreInfo::read(memory, &ram, addr, len);
                }
                seen < NOTES
            });
            seen < NOTES
        });
        let image_end = info.stext.map_or(0, |stext| header.end_of_load(memory, stext));
        Ok(Self { header, ram, image_end, info })
    }

    /// Calls `each` with every CPU in the order of the notes, until it returns false.
    pub fn cpus<M: Memory>(&self, memory: &mut M, each: &mut dyn FnMut(&mut M, Cpu) -> bool) {
        let mut number = 0;
        let mut notes = 0;
        self.header.notes(memory, &mut |memory, segment| {
            let (mut seen, mut go_on) = (false, true);
            notes::walk(memory, &self.ram, segment, &mut |memory, note| {
                seen = true;
                notes += 1;
                go_on = notes < NOTES;
                if let Note::PrStatus(regs) = note {
                    go_on &= number < MAX_CPUS && each(memory, Cpu { number, regs: Some(regs) });
                    number += 1;
                }
                go_on
            });
            // A segment without any note is that of a CPU that has not written one.
            if !seen && go_on {
                go_on = number < MAX_CPUS && each(memory, Cpu { number, regs: None });
                number += 1;
            }
            go_on
        });
    }

    /// The kernel's log, where it has the ring of 5.10 and later.
    pub fn log<M: Memory>(&self, memory: &mut M) -> Option<Log> {
        Log::find(memory, &self.ram, self.info.prb?, self.info.layout)
    }

    /// The log's record that is so many before its newest one, where it can be read.
    pub fn record<M: Memory>(&self, memory: &mut M, log: &Log, before: u64) -> Option<Record> {
        log.record(memory, &self.ram, before)
    }

    /// Why the kernel panicked, as the end of its log tells; `panicked_on` is who did, where that is known.
    pub fn cause<M: Memory>(&self, memory: &mut M, panicked_on: Option<Panicked>) -> Cause {
        let Some(log) = self.log(memory) else { return Cause::default() };
        // As far back as a report may be the panic's.
        let (mut records, mut age, mut later) = (0, 0, None::<u64>);
        for before in 0..log.len.min(LOG_END) {
            if let Some(record) = self.record(memory, &log, before) {
                let passed = later.map_or(0, |later| later.saturating_sub(record.ts_nsec));
                age = passed.saturating_add(age);
                later = (!cause::is_backtrace(record.text())).then_some(record.ts_nsec);
            }
            if age > 2 * cause::BELONGS {
                break;
            }
            records = before + 1;
        }
        let mut read = |panicked_on| {
            let mut reader = CauseReader::new(panicked_on);
            for before in (0..records).rev() {
                if let Some(record) = self.record(memory, &log, before) {
                    reader.record(&record);
                }
            }
            reader.cause
        };
        let cause = read(panicked_on);
        // Where nothing is theirs it is not known who they are.
        if cause.reason.is_empty() && panicked_on.is_some() { read(None) } else { cause }
    }

    /// Where a CPU was.
    #[must_use]
    pub fn location(&self, cpu: &Cpu) -> Location {
        let Some(regs) = cpu.regs else { return Location::NotResponding };
        if regs.user {
            return Location::User;
        }
        // Only the kernel's image moves with _stext; where its modules lie is drawn by lot separately.
        let offset = self.info.stext.and_then(|stext| regs.rip.checked_sub(stext));
        match offset.filter(|_| regs.rip < self.image_end).and_then(|offset| u32::try_from(offset).ok()) {
            Some(offset) => Location::Kernel(offset),
            None => Location::Address(regs.rip),
        }
    }
}
