//! What the lines of a kernel's log mean: one table, one row for each format of a report.
//!
//! To be safe from what users choose, a row's text needs sixteen letters of the kernel's own, or a value that a process'
//! name of fifteen letters, with the kernel's text behind it, cannot have (`core/tests/cause.rs` tries).

use super::pattern::{Told, cut, matches};
use crate::arch;

/// A line's format and its meaning.
#[derive(Clone, Copy)]
pub struct Format {
    /// How the line begins, behind [`PREFIXES`].
    pub text: &'static str,
    /// What it means; one of the constants below, or several.
    pub means: u8,
    /// What a report is called: the beginning of the cause. It stays what it is from version to version.
    pub short: &'static str,
    /// The kernels that it was seen in or that have it in their source.
    pub seen: &'static str,
}

/// A report.
pub const REPORT: u8 = 1;
/// A report of what no kernel survives, or at least not the task.
pub const FATAL: u8 = REPORT | 2;
/// A CPU hangs: its location stands in the middle of the trace, with the interrupted code's registers, and another CPU
/// may have to be asked for it.
pub const HANGS: u8 = REPORT | 4;
/// The stack follows without a heading.
pub const STACK: u8 = REPORT | 8;
/// Tells only where; another line may tell what.
pub const WHERE: u8 = REPORT | 16;
/// Tells what, right before or behind a report that tells only where.
pub const WHAT: u8 = REPORT | 32;
/// A detail says more.
pub const MORE: u8 = REPORT | 64;
/// The hardware is to blame, and not what ran.
pub const HARDWARE: u8 = REPORT | 128;
/// Details of the report before.
pub const DETAIL: u8 = 2;
/// A call trace follows.
pub const TRACE: u8 = 32;
/// A CPU shows its stack because it was asked to.
pub const ASKED: u8 = 4;
/// What follows is the stack of another task.
pub const OTHERS: u8 = 8;
/// The next CPU that is asked is not the one that hangs.
pub const NOT_NEXT: u8 = 16;

/// What may stand before the text, once or more.
const PREFIXES: &[u8] = b"watchdog: |NMI watchdog: |CPU%x: |CPU %x: |rcu: |mce: |{%x}|[Hardware Error]: |traps: |Oops: |BUG: |INFO: \
|unable to handle ";

/// A row.
const fn row(means: u8, text: &'static str, short: &'static str, seen: &'static str) -> Format {
    Format { text, means, short, seen }
}

/// The first one that fits a line counts.
#[rustfmt::skip]
pub const FORMATS: [Format; 47] = [
    // Exceptions.
    row(FATAL, "kernel NULL pointer dereference, address: %X", "NULL deref at ", "5.1 to 7.2"),
    row(FATAL, "kernel NULL pointer dereference at %X", "NULL deref at ", "2.6 to 5.0"),
    row(FATAL, "general protection fault, kernel NULL pointer dereference 0x%X", "NULL deref at ", "6.19 to 7.2, with LASS"),
    row(FATAL, "page fault for address: %X", "page fault at ", "5.1 to 7.2"),
    row(FATAL, "kernel paging request at %X", "page fault at ", "2.6 to 5.0"),
    row(FATAL, "%wstack guard page was hit at ", "stack overflow", "4.9 to 7.2"),
    row(FATAL, "general protection fault, %caddress 0x%X", "GP fault at ", "5.5 to 7.2"),
    row(FATAL, "general protection fault: ", "GP fault", "2.6 to 7.2"),
    row(FATAL, "PANIC: double fault", "double fault", "3.8 to 7.2"),
    row(FATAL | WHERE, "kernel BUG at %F!", "BUG at ", "2.6 to 7.2"),
    row(FATAL, "%x [#%x]%o", "Oops", "2.6 to 7.2, behind `Oops: `"),
    row(FATAL | WHERE, "%W: %x [#%x]%o", "Oops ", "2.6 to 7.2"),
    // A CPU or a task that does not get on.
    row(HANGS, "soft lockup - CPU#%X stuck ", "soft lockup CPU#", "2.6 to 7.2"),
    row(HANGS, "Watchdog detected hard LOCKUP on cpu %X", "hard LOCKUP on CPU ", "2.6 to 7.2"),
    row(HANGS, "rcu_%cdetected %cstall", "RCU stall", "2.6 to 7.2"),
    row(REPORT, "task %T blocked %cfor more ", "hung task", "2.6 to 7.2"),
    // Memory and hardware.
    row(REPORT, "%C invoked oom-killer: ", "oom-killer", "2.6 to 7.2"),
    row(HARDWARE, "Machine Check Exception: %x Bank %X: %X", "machine check bank ", "2.6 to 7.2"),
    row(MORE, "event severity: fatal", "hardware error", "3.0 to 7.2"),
    row(REPORT, "Bad page %c in process ", "Bad page", "2.6 to 7.2"),
    // Survived, unless `kernel.panic_on_warn` or another setting is at work.
    row(WHERE, "WARNING: CPU: %x PID: %x at %F %S", "WARNING at ", "3.9 to 6.18"),
    row(WHERE, "WARNING: %F at %S, CPU#", "WARNING at ", "6.19 to 7.2"),
    row(WHERE, "WARNING: [%c] %F at %S, CPU#", "WARNING at ", "6.19 to 7.2"),
    row(REPORT, "scheduling while atomic: ", "scheduling while atomic", "2.6 to 7.2"),
    row(STACK, "KASAN: %W in %S", "KASAN ", "4.0 to 7.2"),
    row(STACK, "KFENCE: %W in %S", "KFENCE ", "5.12 to 7.2"),
    row(STACK, "KMSAN: %W in %S", "KMSAN ", "6.1 to 7.2"),
    row(STACK, "KCSAN: %W in ", "KCSAN ", "5.8 to 7.2"),
    row(REPORT, "UBSAN: %W in %L", "UBSAN ", "4.5 to 7.2"),
    row(REPORT, "BUG %W (%cainted%c): %W", "slab ", "2.6 to 7.2"),
    // The words for a BUG or WARNING.
    row(WHAT, "list_%W corruption", "list corruption ", "2.6 to 7.2"),
    row(WHAT, "refcount_t: %W; ", "refcount ", "4.11 to 7.2"),
    row(WHAT, "usercopy: %cernel %W attempt ", "usercopy ", "4.8 to 7.2"),
    row(WHAT, "detected buffer overflow in ", "buffer overflow", "4.13 to 6.6"),
    row(WHAT, "skbuff: %W: text:", "skbuff ", "2.6 to 7.2"),
    row(WHAT, "rust_kernel: panicked at %F", "Rust panic at ", "6.1 to 7.2"),
    // Details.
    row(DETAIL, arch::LOG_PC, "", ""),
    row(TRACE, arch::LOG_TRACE, "", ""),
    row(DETAIL, "CPU: %cComm: %C Kdump: ", "", "4.15 to 7.2"),
    row(DETAIL, "CPU: %cComm: %C Not tainted", "", "2.6 to 7.2"),
    row(DETAIL, "CPU: %cComm: %C Tainted: ", "", "2.6 to 7.2"),
    row(DETAIL, "task:%C state:", "", "5.10 to 7.2"),
    row(DETAIL, "RIP%c{%S", "", "3.0 to 7.2: a machine check's"),
    row(DETAIL, "%wsection_type: %W", " ", "3.0 to 7.2: a hardware error's"),
    row(ASKED, "NMI backtrace for cpu ", "", "3.9 to 7.2"),
    row(OTHERS, "RCU grace-period kthread stack dump", "", "5.0 to 7.2"),
    row(NOT_NEXT, "Stack dump where RCU GP kthread last ran", "", "5.17 to 7.2"),
];

/// The table as the image has it: of each row what it means, the lengths of short form and text, and these.
static TABLE: [u8; table_len()] = table();

#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const fn table_len() -> usize {
    let (mut len, mut row) = (0, 0);
    while row < FORMATS.len() {
        len += 3 + FORMATS[row].text.len() + FORMATS[row].short.len();
        row += 1;
    }
    len
}

#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const fn table() -> [u8; table_len()] {
    let mut table = [0; table_len()];
    let (mut at, mut row) = (0, 0);
    while row < FORMATS.len() {
        let Format { text, means, short, .. } = FORMATS[row];
        let head = [means, short.len() as u8, text.len() as u8];
        let parts = [&head, short.as_bytes(), text.as_bytes()];
        let mut part = 0;
        while part < parts.len() {
            let mut byte = 0;
            while byte < parts[part].len() {
                table[at] = parts[part][byte];
                (at, byte) = (at + 1, byte + 1);
            }
            part += 1;
        }
        row += 1;
    }
    table
}

/// What a line means, 0 for nothing, and what it tells.
#[inline(never)]
pub fn find(line: &[u8], told: &mut Told) -> u8 {
    let (mut line, mut prefixes) = (line, PREFIXES);
    while !prefixes.is_empty() {
        let prefix;
        (prefix, prefixes) = cut(prefixes, b'|');
        if let Some(behind) = matches(prefix, line, told) {
            (line, prefixes) = (behind, PREFIXES);
        }
    }
    let mut table = &TABLE[..];
    while let [means, short, text, rest @ ..] = table {
        let (short, rest) = rest.split_at_checked(usize::from(*short)).unwrap_or_default();
        let (text, rest) = rest.split_at_checked(usize::from(*text)).unwrap_or_default();
        table = rest;
        // Most rows are not even tried.
        if text.first().is_some_and(|first| *first == b'%' || line.first() == Some(first)) {
            told.clear();
            told.report.bytes(short);
            if matches(text, line, told).is_some() {
                return *means;
            }
        }
    }
    0
}
