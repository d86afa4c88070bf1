//! Why the kernel panicked: the few lines of its log that matter, made short.
//!
//! A pure function over the log's records, oldest first. What counts are reports of whoever panicked, where the log
//! tells who wrote what. A fatal report replaces those that a kernel survives; what is reported behind it is its
//! consequence. Of those that are survived the last one before the panic counts: the panic is about that one. Location,
//! process and callers come from one report. An oops on which the kernel crashes at once (`panic_on_oops`) has no panic
//! line: then the fatal report itself is the reason.
//!
//! Users can put text into the log: names of their processes, options that the kernel does not know, at a line's beginning
//! if they have a newline. So only a record's first line counts, and what may stand there is strict (`formats`).

mod formats;
mod pattern;

pub use formats::{FORMATS, Format};
pub use pattern::cut;

use super::printk::Record;
use crate::report::Cause;
use crate::text::Buffer;
use formats::{
    ASKED, DETAIL, FATAL, HANGS, HARDWARE, MORE, NOT_NEXT, OTHERS, REPORT, STACK, TRACE, WHAT, WHERE,
    is_backtrace,
};
use pattern::{Told, begins, list};

/// What stands before the reason (Linux `kernel/panic.c`).
pub const PANIC: &[u8] = b"Kernel panic - not syncing: ";
/// A report behind which more time than this passed is another matter, in nanoseconds. What passes while the kernel
/// writes backtraces, maybe of all CPUs over a slow serial line, does not count.
pub const BELONGS: u64 = 30_000_000_000;
/// Functions that only take the panic further, by how their names begin behind underscores.
static MACHINERY: [u8; 351] = list(b" dump_ panic vpanic nmi_ show_ sched_show warn report_bug handle_bug exc_ asm_exc_ \
check_panic print_ kasan_ asan check_memory_region end_report kmsan_ msan kfence_ kcsan_ tsan ubsan_ rcu_ tick_ \
arch_trigger_ schedule do_error_trap do_invalid_op invalid_op fixup_bug _raw_ do_raw_ lock_acquire kmalloc kvmalloc kmem_cache_ alloc_ memcpy memset memmove");
/// So long a line of a backtrace may take, in nanoseconds: what passed before it beyond that was something else.
const SLOW: u64 = 20_000_000_000;
/// Lines that follow each other within this time, a millisecond, are a burst. Of all that are read, eight seconds at most.
const BURST: u64 = 1_000_000;

/// Who panicked: whose records are the panic's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// The kernel's number of the CPU.
    pub cpu: u32,
    /// The process that ran on it (pr_pid of its note, 0 when idle); `None` where its note is not known.
    pub pid: Option<u32>,
}

impl Panicked {
    /// Bit 31 of a caller_id: the rest is a CPU's number.
    const IN_INTERRUPT: u32 = 1 << 31;

    /// Whoever wrote a record with this caller_id.
    pub(super) fn by(caller_id: u32) -> Self {
        if caller_id & Self::IN_INTERRUPT == 0 {
            Self { cpu: u32::MAX, pid: Some(caller_id) }
        } else {
            Self { cpu: caller_id & !Self::IN_INTERRUPT, pid: Some(u32::MAX) }
        }
    }

    /// Can a record of this caller be of who panicked, as far as that is known?
    #[inline(never)]
    pub(super) fn may_be(panicked: Option<Self>, caller_id: u32) -> bool {
        panicked.is_none_or(|panicked| panicked.wrote(caller_id))
    }

    /// Can a record of this caller be its own?
    #[must_use]
    pub fn wrote(self, caller_id: u32) -> bool {
        if caller_id & Self::IN_INTERRUPT == 0 {
            self.pid.is_none_or(|pid| pid == caller_id)
        } else {
            caller_id == self.cpu | Self::IN_INTERRUPT
        }
    }
}

/// Reads a log for its cause, record by record, the oldest first.
// What is small comes first: code that reaches it is shorter.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CauseReader {
    /// Who panicked, where that is known.
    panicked_on: Option<Panicked>,
    /// When the last record was written.
    now: u64,
    /// How much time has passed since the report.
    age: u64,
    /// What the report means; 0 where there is none.
    means: u8,
    /// Who wrote it.
    writer: Option<u32>,
    /// Nothing was written since by the same writer.
    fresh: bool,
    /// What is written now is not of the report's task or CPU.
    others: bool,
    not_next: bool,
    in_trace: bool,
    panicked: bool,
    /// What the last line tells.
    told: Told,
    /// What is known so far.
    pub cause: Cause,
}

impl CauseReader {
    /// Of a log that is not read yet.
    #[must_use]
    pub fn new(panicked_on: Option<Panicked>) -> Self {
        Self { panicked_on, ..Self::default() }
    }

    /// Takes the next record of the log.
    pub fn record(&mut self, record: &Record) {
        if record.facility == 0 {
            self.text(record.ts_nsec, record.caller_id, record.text());
        }
    }

    /// Takes the text of a record of the kernel's own, written at `ts_nsec` nanoseconds by `caller_id`
    /// ([`Record::caller_id`]).
    #[inline(never)]
    pub fn text(&mut self, ts_nsec: u64, caller_id: Option<u32>, line: &[u8]) {
        self.age = self.age.saturating_add(passed(self.now, ts_nsec, line));
        self.now = self.now.max(ts_nsec);
        let own = caller_id.is_none_or(|caller_id| Panicked::may_be(self.panicked_on, caller_id));
        let (skip, reports) = (line.starts_with(b" ") || !own && !self.is(HANGS), own && !self.panicked);
        let means = if skip { 0 } else { formats::find(line, reports, &mut self.told) };
        if reports {
            if let Some(reason) = line.strip_prefix(PANIC) {
                return self.reason(caller_id, reason);
            }
            if means & REPORT != 0 {
                return self.report(caller_id, means);
            }
        }
        self.details(caller_id, line, means);
    }

    /// Is the report of this kind?
    fn is(&self, means: u8) -> bool {
        self.means & means == means
    }

    /// Does the report have details?
    fn is_told(&self) -> bool {
        let [first, ..] = &self.cause.callers;
        !self.cause.comm.is_empty() || !first.is_empty()
    }

    /// Takes the panic's text.
    fn reason(&mut self, caller_id: Option<u32>, reason: &[u8]) {
        if self.age > BELONGS {
            self.clear();
            self.cause.report.clear();
        }
        self.cause.reason.clear();
        self.cause.reason.bytes(cut(reason, b'\n').0);
        self.panicked = true;
        self.in_trace = false;
        // Where the report has told no details the panic's are its: the same task or CPU goes on. Not where that has
        // noticed that another one hangs, or broken hardware.
        self.others = self.is(HANGS) || self.is(HARDWARE) || self.is(MORE) || self.is_told();
        self.writer = caller_id;
    }

    /// Forgets a report, but for its name.
    fn clear(&mut self) {
        self.means = 0;
        self.cause.reason.clear();
        self.cause.rip.clear();
        self.cause.comm.clear();
        self.cause.callers.iter_mut().for_each(|caller| caller.clear());
    }

    /// Takes a line that reports something.
    #[inline(never)]
    fn report(&mut self, caller_id: Option<u32>, means: u8) {
        if self.is(FATAL) && self.age <= BELONGS {
            return;
        }
        // What stood right before says what happened, this one only where.
        let is_explained = self.fresh && self.is(WHAT) && means & WHERE == WHERE;
        self.clear();
        if !is_explained {
            self.cause.report.clear();
        }
        self.age = 0;
        self.means = means;
        self.writer = caller_id;
        self.in_trace = means & STACK == STACK;
        (self.fresh, self.others, self.not_next) = (true, false, false);
        let told = &self.told;
        fill(&mut self.cause.report, &told.report);
        // `WARNING: file:line at 0x0`, in 6.19 and later now and then.
        if !told.location.as_bytes().starts_with(b"0x") {
            fill(&mut self.cause.rip, &told.location);
        }
        fill(&mut self.cause.comm, &told.process);
        // Where the kernel crashes on it at once there is no panic.
        if self.is(FATAL) {
            self.cause.reason.bytes(self.cause.report.as_bytes());
        }
    }

    /// Takes RIP, process and call trace, the first of each.
    #[inline(never)]
    fn details(&mut self, caller_id: Option<u32>, line: &[u8], means: u8) {
        let another = self.writer.zip(caller_id).is_some_and(|(writer, caller_id)| writer != caller_id);
        if means == ASKED {
            // It answers in an interrupt; only older kernels write that for it.
            if !another || caller_id >= Some(Panicked::IN_INTERRUPT) {
                self.others = !self.is(HANGS) || self.is_told() || core::mem::take(&mut self.not_next);
                if !self.others {
                    self.writer = caller_id;
                }
            }
            return;
        }
        if another {
            return;
        }
        self.not_next |= means == NOT_NEXT;
        self.others |= matches!(means, NOT_NEXT | OTHERS);
        // Another stack ends, in the middle of the report perhaps: a CPU that hangs is asked for its own.
        self.others &= self.panicked || line != b" </TASK>";
        if self.others || self.means == 0 && !self.panicked {
            return;
        }
        let is_rule = line.starts_with(b"-");
        self.fresh &= is_rule;
        let (cause, told) = (&mut self.cause, &self.told);
        let [first, ..] = &cause.callers;
        if means == TRACE {
            self.in_trace = first.is_empty();
        } else if means == DETAIL {
            if self.means == MORE {
                cause.report.bytes(told.report.as_bytes());
                self.means = HARDWARE;
            }
            // In the trace of a panic that no report explains, that is what it came in between, and so is what follows.
            if self.panicked && cause.rip.is_empty() && !told.location.is_empty() {
                self.in_trace = false;
                return;
            }
            // So far the trace was that of the interrupt which has noticed it.
            if self.in_trace && self.means & HANGS == HANGS && cause.rip.is_empty() {
                cause.callers.iter_mut().for_each(|caller| caller.clear());
            }
            fill(&mut cause.rip, &told.location);
            fill(&mut cause.comm, &told.process);
        } else if self.in_trace {
            match line.strip_prefix(b" ") {
                Some(entry) => self.caller(entry),
                // Registers of an exception stand in the middle of a trace, a heading before it.
                None => self.in_trace = !line.is_empty() && !is_rule || !self.is_told(),
            }
        }
    }

    /// Takes an entry of the call trace: ` name+0x12/0x34 [module]`. `? name` is a guess, `<TASK>` a stack's begin.
    #[inline(never)]
    fn caller(&mut self, entry: &[u8]) {
        // Behind a full stop the compiler says what became of the function: `.cold`, `.constprop.0`.
        let name = cut(cut(entry, b'+').0, b'.').0;
        let bare = name.strip_prefix(b"__").unwrap_or(name);
        // The report has named it.
        let named = !self.panicked && self.is(STACK) && self.cause.rip.as_bytes().starts_with(name);
        if name.len() == entry.len()
            || cut(name, b' ').0.len() < name.len()
            || named
            || begins(bare, &MACHINERY)
        {
            return;
        }
        if let Some(slot) = self.cause.callers.iter_mut().find(|slot| slot.is_empty()) {
            slot.bytes(name);
        }
    }
}

/// Puts a text where there is none yet.
fn fill(text: &mut Buffer<[u8]>, from: &Buffer<[u8]>) {
    if text.is_empty() {
        text.bytes(from.as_bytes());
    }
}

/// How much time from one line to the next counts, which is this one. In a burst of lines, nothing: they need not be
/// looked at for it.
pub fn passed(from: u64, to: u64, line: &[u8]) -> u64 {
    match to.saturating_sub(from) {
        0..BURST => 0,
        gap => gap.saturating_sub(if is_backtrace(line) { SLOW } else { 0 }),
    }
}
