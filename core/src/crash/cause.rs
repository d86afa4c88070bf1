//! Why the kernel panicked: the few lines of its log that matter, made short.
//!
//! A pure function over the log's records, oldest first. What the kernel reports first is the cause, all that follows
//! is its consequence; so the first report within half a minute before the panic counts, with the RIP, process and call
//! trace that stand behind it. An oops on which the kernel crashes at once (`panic_on_oops`) has no panic line: then
//! the report itself is the reason.

use super::printk::Record;
use crate::arch;
use crate::report::Cause;
use crate::text::Text;

/// What stands before the reason (Linux `kernel/panic.c`).
const PANIC: &[u8] = b"Kernel panic - not syncing: ";
/// A report that is older than this is none of the panic's, in nanoseconds. What lies between goes over a slow serial
/// line.
pub const BELONGS: u64 = 30_000_000_000;
/// Functions that only take the panic further, by how their names begin.
const MACHINERY: &[u8] = b"dump_ __dump_ panic vpanic nmi_panic show_ sched_show";

/// What a report is known by, and what stands in its place in ours: `text = short form`. The rest of the line follows,
/// what stands before is left out; with a `^` the other way round, with a `.` neither is kept. A `!` marks what may be
/// only the prelude of another report. The first one in the list counts.
const REPORTS: &[u8] = b"kernel NULL pointer dereference, address: =NULL deref at \n\
unable to handle page fault for address: =page fault at \n\
stack guard page was hit at =.stack overflow\n\
soft lockup - =soft lockup \n\
Watchdog detected hard LOCKUP on cpu =hard LOCKUP on CPU \n\
general protection fault, probably for non-canonical address =GP fault at \n\
general protection fault=GP fault\n\
kernel BUG at =BUG at \n\
BUG: =BUG: \n\
Oops: =Oops \n\
rcu: INFO: =\n\
INFO: task =task \n\
Machine Check Exception: =machine check \n\
[Hardware Error]: =\n\
invoked oom-killer=.oom-killer\n\
WARNING: CPU: =!WARNING on CPU \n\
: 0000 [#1]=^";

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

    /// Can a record of this caller be its own?
    #[must_use]
    pub fn wrote(self, caller_id: u32) -> bool {
        caller_id == self.cpu | Self::IN_INTERRUPT || Some(caller_id) == self.pid
    }
}

/// Reads a log for its cause, line by line, the oldest first.
#[derive(Clone, Copy, Default)]
pub struct CauseReader {
    /// What is known so far.
    pub cause: Cause,
    /// Who panicked, where that is known.
    panicked_on: Option<Panicked>,
    /// When the cause was reported.
    since: Option<u64>,
    prelude: bool,
    panicked: bool,
    in_trace: bool,
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
            for line in record.text().split(|byte| *byte == b'\n') {
                self.line(record.ts_nsec, line);
            }
        }
    }

    /// Takes one line of the kernel's own, written at `ts_nsec` nanoseconds.
    pub fn line(&mut self, ts_nsec: u64, line: &[u8]) {
        if let Some(reason) = line.strip_prefix(PANIC) {
            if self.is_old(ts_nsec) || self.panicked {
                *self = Self::new(self.panicked_on);
            }
            self.cause.reason = Text::new();
            self.cause.reason.bytes(reason);
            self.panicked = true;
            self.in_trace = false;
        } else if !self.panicked && self.report(ts_nsec, line) {
            self.in_trace = false;
        } else if self.panicked || self.since.is_some() {
            self.details(line);
        }
    }

    /// Was the cause reported so long ago that it is another matter?
    fn is_old(&self, ts_nsec: u64) -> bool {
        self.since.is_some_and(|since| ts_nsec.saturating_sub(since) > BELONGS)
    }

    /// Takes a line that reports a cause; false when it is none.
    fn report(&mut self, ts_nsec: u64, line: &[u8]) -> bool {
        let Some((before, short, behind)) = find_report(line) else { return false };
        let (mark, short) = match short {
            [mark @ (b'!' | b'^' | b'.'), short @ ..] => (*mark, short),
            _ => (0, short),
        };
        let prelude = mark == b'!';
        let rest = match mark {
            b'^' => before,
            b'.' => &[],
            _ => behind,
        };
        if self.since.is_some() && !self.is_old(ts_nsec) && (prelude || !self.prelude) {
            return true;
        }
        *self = Self { since: Some(ts_nsec), prelude, ..Self::new(self.panicked_on) };
        self.cause.report.bytes(short);
        let is_hex = rest.len() >= 8 && rest.iter().take(8).all(u8::is_ascii_hexdigit);
        let zeros = rest.iter().take(if is_hex { 15 } else { 0 }).take_while(|byte| **byte == b'0').count();
        let rest = rest.get(zeros..).unwrap_or(&[]);
        // More than fits into a few records.
        let ends = [&b": 0000"[..], b" for more than", b" on CPUs", b"!"];
        let end = ends.into_iter().filter_map(|end| find(rest, end)).min();
        self.cause.report.bytes(rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest));
        // Where the kernel crashes on it at once there is no panic.
        self.cause.reason.bytes(self.cause.report.as_bytes());
        true
    }

    /// Takes RIP, process and call trace, the first of each.
    fn details(&mut self, line: &[u8]) {
        if let Some(rip) = line.strip_prefix(arch::LOG_PC) {
            if self.cause.rip.as_bytes().is_empty() {
                symbol(&mut self.cause.rip, rip);
            }
        } else if let Some(at) = find(line, b" Comm: ") {
            let comm = line.get(at + 7..).unwrap_or(&[]);
            // A name may hold blanks; ` Kdump: loaded Tainted: `, ` Not tainted ` follow.
            let end = [&b" Kdump: "[..], b" Not tainted", b" Tainted: "]
                .iter()
                .filter_map(|end| find(comm, end))
                .min();
            if self.cause.comm.as_bytes().is_empty() {
                self.cause.comm.bytes(comm.get(..end.unwrap_or(comm.len())).unwrap_or(comm));
            }
        } else if line.starts_with(arch::LOG_TRACE) {
            self.in_trace = self.cause.callers.first().is_some_and(|first| first.as_bytes().is_empty());
        } else if self.in_trace {
            match line.strip_prefix(b" ") {
                Some(entry) => self.caller(entry),
                // Registers of an exception stand in the middle of a trace.
                None => self.in_trace = !line.starts_with(b"---"),
            }
        }
    }

    /// Takes an entry of the call trace: ` name+0x12/0x34 [module]`. `? name` is a guess, `<TASK>` a stack's begin.
    fn caller(&mut self, entry: &[u8]) {
        // Behind a full stop the compiler says what became of the function: `.cold`, `.constprop.0`.
        let Some(end) = entry.iter().position(|byte| matches!(byte, b'+' | b'.')) else { return };
        let name = entry.get(..end).unwrap_or(&[]);
        let machinery = MACHINERY.split(|byte| *byte == b' ').any(|begin| name.starts_with(begin));
        if name.contains(&b' ') || machinery {
            return;
        }
        if let Some(slot) = self.cause.callers.iter_mut().find(|slot| slot.as_bytes().is_empty()) {
            slot.bytes(name);
        }
    }
}

/// Finds the report that begins first in the list: what stands before it, its short form, and what stands behind.
fn find_report(line: &[u8]) -> Option<(&[u8], &'static [u8], &[u8])> {
    REPORTS.split(|byte| *byte == b'\n').find_map(|report| {
        let middle = report.iter().position(|byte| *byte == b'=')?;
        let (text, short) = report.split_at_checked(middle)?;
        let at = find(line, text)?;
        Some((line.get(..at)?, short.get(1..)?, line.get(at + text.len()..)?))
    })
}

/// `symbol+0x12/0x34 [module]` as `symbol+12`.
fn symbol(text: &mut Text<40>, from: &[u8]) {
    let end = from.iter().position(|byte| matches!(byte, b'/' | b' ')).unwrap_or(from.len());
    let whole = from.get(..end).unwrap_or(from);
    match find(whole, b"+0x") {
        Some(at) => {
            text.bytes(whole.get(..=at).unwrap_or(&[])).bytes(whole.get(at + 3..).unwrap_or(&[]));
        }
        None => {
            text.bytes(whole);
        }
    }
}

/// Where `what` begins in `text`.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = what.first()?;
    let starts = |at: &usize| text.get(*at..).is_some_and(|rest| rest.starts_with(what));
    text.iter().enumerate().filter(|(_, byte)| *byte == first).map(|(at, _)| at).find(starts)
}
