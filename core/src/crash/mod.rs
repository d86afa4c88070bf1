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

pub use cause::{CauseReader, FORMATS, Format, Panicked, cut};
pub use elfcorehdr::{CoreHeader, CoreHeaderError, Ram};
pub use notes::Notes;
pub use printk::{Log, Record, TEXT_LEN};
pub use vmcoreinfo::VmCoreInfo;

pub(crate) use elfcorehdr::{overlap, u32_at, u64_at};

use crate::hw::Memory;
use crate::numbers::Numbers;
use crate::report::{Cause, CrashId, Location};
use core::ops::Range;
use notes::Note;

/// Most CPUs that are looked at; Linux' own limit for x86 is 8192.
pub const MAX_CPUS: u32 = 8192;

/// Most records of the log that are looked at for what happened: all CPUs' traces on a big machine are thousands of
/// lines.
const LOG_END: u64 = 8192;

/// A crashed kernel.
pub struct Crash<'a> {
    header: CoreHeader,
    ram: Ram,
    /// CPUs that have a place among the notes.
    places: u32,
    /// The kernel's numbers of those CPUs, where they are not their places.
    numbers: Option<Numbers<'a>>,
    /// Virtual address of the kernel's mask of online CPUs, where that is known.
    online: Option<u64>,
    /// Where the kernel's image ends, in virtual memory; 0 when it is not known.
    image_end: u64,
    /// What the kernel tells of itself.
    pub info: VmCoreInfo,
}

/// One CPU of the crashed kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number of it: its place among the notes, unless CPU numbers have holes.
    pub number: u32,
    /// Where it was, or what is known instead.
    pub location: Location,
    /// Its registers, where its note has them.
    pub regs: Option<Regs>,
}

/// A CPU's registers, as its note has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs {
    /// Process id of what it ran, 0 when idle.
    pub pid: u32,
    /// Instruction pointer.
    pub rip: u64,
    /// Was it in user space?
    pub user: bool,
}

impl<'a> Crash<'a> {
    /// Reads the ELF core header at physical address `elfcorehdr` and what the kernel tells of itself.
    ///
    /// # Errors
    /// When there is no ELF core header. A kernel that tells nothing of itself is no error.
    #[inline(never)]
    pub fn read<M: Memory>(memory: &mut M, elfcorehdr: u64) -> Result<Self, CoreHeaderError> {
        let header = CoreHeader::read(memory, elfcorehdr)?;
        let ram = header.ram();
        let mut info = VmCoreInfo::default();
        let mut places = 0;
        let mut notes = Notes::new(header);
        while let Some(note) = notes.next(memory, &ram) {
            match note {
                Note::VmCoreInfo { addr, len } => info = VmCoreInfo::read(memory, &ram, addr, len),
                Note::Other => {}
                _ => places += 1,
            }
        }
        let image_end = info.stext.map_or(0, |stext| ram.end_of(memory, stext));
        Ok(Self { header, ram, places, numbers: None, online: None, image_end, info })
    }

    /// Takes what the loader knew of the CPUs, as far as it fits this crash: their numbers in the order of their notes, and
    /// the kernel's mask of online CPUs, as its distance from `_stext` and the first four bytes of the build id of the
    /// kernel where it is so. `panicked` is the CPU that did.
    #[inline(never)]
    pub fn know<M: Memory>(
        &mut self,
        memory: &mut M,
        numbers: Option<Numbers<'a>>,
        online_mask: Option<Numbers>,
        panicked: Option<u32>,
    ) {
        // The kernel may have written the header anew, for all CPUs that are possible.
        let last = self.places.saturating_sub(1);
        self.numbers =
            numbers.filter(|numbers| numbers.get(last).is_some() && numbers.get(self.places).is_none());
        self.online = online_mask.zip(self.info.stext).and_then(|(mask, stext)| {
            // Before 5.14 a kernel does not tell its build id.
            let fits = self.info.build_id.is_none_or(|id| mask.get(1) == Some(id));
            stext.checked_add(mask.get(0).filter(|_| fits)?.into())
        });
        // Who has written a note was online, and so was who panicked. A mask that has it otherwise is none.
        let mut good = panicked.is_none_or(|cpu| self.is_online(memory, cpu) == Some(true));
        let mut notes = self.notes();
        while good && let Some(cpu) = self.next_cpu(memory, &mut notes) {
            good = cpu.regs.is_none() || self.is_online(memory, cpu.number) == Some(true);
        }
        self.online = self.online.filter(|_| good);
    }

    /// Had the kernel this CPU online? `None` where nothing tells.
    fn is_online<M: Memory>(&self, memory: &mut M, cpu: u32) -> Option<bool> {
        let addr = self.online.filter(|_| cpu < MAX_CPUS)?.checked_add(u64::from(cpu / 8))?;
        let mut byte = [0];
        let read = self.ram.read_virtual(memory, addr, &mut byte);
        read.then(|| u8::from_le_bytes(byte) >> (cpu % 8) & 1 == 1)
    }

    /// Does any of this range of physical memory belong to the kernel, or to its ELF core header?
    #[inline(never)]
    pub fn overlaps<M: Memory>(&self, memory: &mut M, range: &Range<u64>) -> bool {
        self.header.overlaps(memory, range)
    }

    /// The notes, of which [`Crash::next_cpu`] takes one after the other.
    pub fn notes(&self) -> Notes {
        Notes::new(self.header)
    }

    /// The next CPU in the order of the notes.
    #[inline(never)]
    pub fn next_cpu<M: Memory>(&self, memory: &mut M, notes: &mut Notes) -> Option<Cpu> {
        while let Some(note) = notes.next(memory, &self.ram) {
            let place = notes.cpus;
            let number = self.numbers.and_then(|numbers| numbers.get(place)).unwrap_or(place);
            let mut cpu = Cpu { number, location: Location::Unread, regs: None };
            match note {
                Note::PrStatus(regs) => {
                    cpu.location = self.location(&regs);
                    cpu.regs = Some(regs);
                }
                Note::Unread => {}
                Note::Empty => {
                    cpu.location = match self.is_online(memory, number) {
                        Some(true) => Location::NotResponding,
                        Some(false) => Location::Off,
                        None => Location::OffOrNotResponding,
                    };
                }
                _ => continue,
            }
            notes.cpus += 1;
            return (place < MAX_CPUS).then_some(cpu);
        }
        None
    }

    /// The kernel's log.
    pub fn log<M: Memory>(&self, memory: &mut M) -> Option<Log> {
        Log::find(memory, &self.ram, &self.info)
    }

    /// The log's record that is so many before its newest one, where it can be read.
    pub fn record<M: Memory>(&self, memory: &mut M, log: &Log, before: u64) -> Option<Record> {
        let mut record = Record::default();
        self.read_record(memory, log, before, &mut record).then_some(record)
    }

    /// The same, in the place of another one; false where it cannot be read.
    pub fn read_record<M: Memory>(
        &self,
        memory: &mut M,
        log: &Log,
        before: u64,
        record: &mut Record,
    ) -> bool {
        log.record(memory, &self.ram, before, record).is_some()
    }

    /// Reads what comes behind a record's text in its place, where it is longer; false where nothing does.
    pub fn read_on<M: Memory>(&self, memory: &mut M, record: &mut Record) -> bool {
        record.go_on(memory, &self.ram).is_some()
    }

    /// What the crash is known by, where VMCOREINFO can be read. All that it is made of is in the dump, too: VMCOREINFO's
    /// text and the time of the log's newest record, as dmesg prints it.
    #[inline(never)]
    pub fn id<M: Memory>(&self, memory: &mut M) -> Option<CrashId> {
        let mut hash = self.info.hash?;
        let mut record = Record::default();
        let newest = self.log(memory).is_some_and(|log| {
            (0..log.len.min(LOG_END)).any(|before| self.read_record(memory, &log, before, &mut record))
        });
        if newest {
            hash = hash.bytes(&(record.ts_nsec / 1000).to_le_bytes());
        }
        Some(CrashId::new(hash))
    }

    /// Why the kernel panicked, as the end of its log tells; `panicked_on` is who did, where that is known.
    pub fn cause<M: Memory>(&self, memory: &mut M, panicked_on: Option<Panicked>) -> Cause {
        let Some(log) = self.log(memory) else { return Cause::default() };
        let [mut record, mut later] = [Record::default(); 2];
        // As far back as a report may be the panic's; and who has written a panic's text, first of all.
        let (mut records, mut age, mut own, mut other) = (0, 0u64, panicked_on.is_none(), None);
        let (mut record, mut later) = (&mut record, &mut later);
        for before in 0..log.len.min(LOG_END) {
            if self.read_record(memory, &log, before, record) {
                age = age.saturating_add(cause::passed(record.ts_nsec, later.ts_nsec, later.text()));
                if age > 2 * cause::BELONGS {
                    break;
                }
                if record.facility == 0 && record.text().starts_with(cause::PANIC) {
                    match record.caller_id.filter(|caller_id| !Panicked::may_be(panicked_on, *caller_id)) {
                        None => own = true,
                        caller_id => other = caller_id.map(Panicked::by),
                    }
                }
                core::mem::swap(&mut record, &mut later);
            }
            records = before + 1;
        }
        let mut read = |panicked_on| {
            let mut reader = CauseReader::new(panicked_on);
            for before in (0..records).rev() {
                if self.read_record(memory, &log, before, record) {
                    reader.record(record);
                }
            }
            reader.cause
        };
        // Where there is another's panic text, that one has panicked: no user can bring it to a record's beginning. Where
        // nothing is theirs it is not known who they are.
        let cause = read(other.filter(|_| !own).or(panicked_on));
        if own || other.is_some() || !cause.reason.is_empty() { cause } else { read(None) }
    }

    /// Where a CPU with these registers was.
    fn location(&self, regs: &Regs) -> Location {
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
