//! What the lines of a kernel's log mean: one table, one row for each format of a report.
//!
//! A line's first letter says which rows can fit it, so that most are not even looked at.
//!
//! To be safe from what users choose, a row's text needs sixteen letters of the kernel's own, or a value that a process'
//! name of fifteen letters, with the kernel's text behind it, cannot have (`core/tests/cause.rs` tries).

use super::pattern::{self, Told, begins, is_digit, matches, words};
use crate::arch;

/// A line's format and its meaning.
#[derive(Clone, Copy)]
pub struct Format {
    /// How the line begins, behind [`PREFIXES`]; a pattern (`pattern::matches`).
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

/// It may stand before a text, a few times.
const PREFIX: u8 = 64;
/// A line of a backtrace begins so.
const BACKTRACE: u8 = 128;

/// What may stand before the text.
const PREFIXES: [&str; 13] = [
    "watchdog: ",
    "NMI watchdog: ",
    "CPU%x: ",
    "CPU %x: ",
    "rcu: ",
    "mce: ",
    "{%x}",
    "[Hardware Error]: ",
    "traps: ",
    "Oops: ",
    "BUG: ",
    "INFO: ",
    "unable to handle ",
];
/// The kernel writes three of them at most.
const MOST_PREFIXES: u32 = 3;

/// How the lines of a backtrace begin, but for those of the stack; and those of the list of tasks that the OOM killer
/// writes.
const BACKTRACES: [&str; 29] = [
    " ", "\t", "[", "RIP", "RSP", "RAX", "RDX", "RBP", "R10", "R13", "FS", "CS", "CR", "DR", "PKRU", "CPU:",
    "Code", "Call", "NMI", "Send", "Modules", "Hardware", "Taint", "task:", "Workq", "Stack", "rcu", "---",
    "===",
];

/// A row.
const fn row(means: u8, text: &'static str, short: &'static str, seen: &'static str) -> Format {
    Format { text, means, short, seen }
}

/// The first one that fits a line counts.
#[rustfmt::skip]
pub const FORMATS: [Format; 45] = [
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
    row(DETAIL, "CPU: %cComm: %K", "", "2.6 to 7.2; `Kdump: ` from 4.15 on"),
    row(DETAIL, "task:%C state:", "", "5.10 to 7.2"),
    row(DETAIL, "RIP%c{%S", "", "3.0 to 7.2: a machine check's"),
    row(DETAIL, " %wsection_type: %W", " ", "3.0 to 7.2: a hardware error's"),
    row(ASKED, "NMI backtrace for cpu ", "", "3.9 to 7.2"),
    row(OTHERS, "RCU grace-period kthread stack dump", "", "5.0 to 7.2"),
    row(NOT_NEXT, "Stack dump where RCU GP kthread last ran", "", "5.17 to 7.2"),
];

/// All rows in their order: prefixes, the table, backtraces.
const ROWS: usize = PREFIXES.len() + FORMATS.len() + BACKTRACES.len();

/// The row of this number.
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const fn any_row(number: usize) -> Format {
    const BEHIND: usize = PREFIXES.len() + FORMATS.len();
    if number < PREFIXES.len() {
        row(PREFIX, PREFIXES[number], "", "")
    } else if number < BEHIND {
        FORMATS[number - PREFIXES.len()]
    } else {
        row(BACKTRACE, BACKTRACES[number - BEHIND], "", "")
    }
}

/// Rows whose texts begin with the same letter lie together on a shelf: so many of them have prefixes and what is fatal, as
/// many others the rest, and as many the backtraces.
const LETTERS: usize = 64;
const FIRST: usize = 0;
const REST: usize = LETTERS;
const BACKTRACE_ROWS: usize = 2 * LETTERS;
/// The shelf of the rows that begin with a value, which any line may fit. They are all reports.
const VALUES: usize = 3 * LETTERS;
const SHELVES: usize = VALUES + 1;

/// The shelf of a row.
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const fn shelf(row: &Format) -> usize {
    let letter = row.text.as_bytes()[0];
    let shelves = match row.means {
        _ if letter == b'%' => return VALUES,
        PREFIX => FIRST,
        BACKTRACE => BACKTRACE_ROWS,
        means if means & FATAL == FATAL => FIRST,
        _ => REST,
    };
    shelves + letter as usize % LETTERS
}

/// The table as the image has it, shelf by shelf, each with a 0 at its end. A row is its length, what it means, its
/// pattern, and its short form with the length behind it; one of the backtraces' only how they begin.
static TABLE: [u8; built().2] = cut_to_length(&built().0);
/// Where each shelf begins.
static SHELF: [u16; SHELVES] = built().1;

/// More than the table has.
const ROOM: usize = 4096;

#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const fn built() -> ([u8; ROOM], [u16; SHELVES], usize) {
    let (mut table, mut shelves, mut at, mut number) = ([0; ROOM], [0; SHELVES], 0, 0);
    while number < SHELVES {
        shelves[number] = at as u16;
        let mut row = 0;
        while row < ROWS {
            let format = any_row(row);
            let (text, short) = (format.text.as_bytes(), format.short.as_bytes());
            if shelf(&format) == number {
                let begin = at;
                if format.means == BACKTRACE {
                    (table, at) = pattern::build(table, at, text);
                } else {
                    table[at + 1] = format.means;
                    (table, at) = pattern::build(table, at + 2, text);
                    let mut letter = 0;
                    while letter < short.len() {
                        table[at] = short[letter];
                        (at, letter) = (at + 1, letter + 1);
                    }
                    table[at] = short.len() as u8;
                    assert!(at - begin < 256);
                    table[begin] = (at - begin) as u8;
                    at += 1;
                }
            }
            row += 1;
        }
        // An empty one begins at the end of another.
        if at == shelves[number] as usize && at > 0 {
            shelves[number] -= 1;
        } else {
            at += 1;
        }
        number += 1;
    }
    (table, shelves, at)
}

#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const fn cut_to_length<const LEN: usize>(table: &[u8; ROOM]) -> [u8; LEN] {
    let (mut short, mut at) = ([0; LEN], 0);
    while at < LEN {
        short[at] = table[at];
        at += 1;
    }
    short
}

/// The rows of the shelf from this one on that has those with this first letter.
#[expect(clippy::inline_always, reason = "several times for each line")]
#[inline(always)]
fn rows(shelf: usize, letter: u8) -> &'static [u8] {
    let shelf = shelf + usize::from(letter) % LETTERS;
    SHELF.get(shelf).and_then(|from| TABLE.get(usize::from(*from)..)).unwrap_or(&[])
}

/// The first row on a shelf that the line fits: what it means, and what stands behind it. Without `reports`, only details
/// count.
fn look<'a>(shelf: usize, line: &'a [u8], reports: bool, told: &mut Told) -> Option<(u8, &'a [u8])> {
    let first = line.first().copied().unwrap_or(0);
    let (begin, letter) = if shelf == VALUES { (Some(words(line)), 0) } else { (None, first) };
    let mut rows = rows(shelf, letter);
    while let [len @ 1..=u8::MAX, rest @ ..] = rows {
        let row;
        (row, rows) = rest.split_at_checked(usize::from(*len))?;
        let [means, pattern @ .., short] = row else { return None };
        // Most rows are not even tried: of the values that a line begins with, its first words tell enough.
        if !reports && means & REPORT != 0 {
            continue;
        }
        if let (Some(begin), [_, kind, len, behind, ..]) = (begin, pattern)
            && !match kind {
                b'x' => is_digit(first),
                b'W' => line.get(begin) == Some(behind),
                b'w' => begin >= usize::from(*len),
                _ => true,
            }
        {
            continue;
        }
        // Most prefixes are this, and several of them are what a line costs most by.
        if let (PREFIX, [len, prefix @ ..]) = (*means, pattern)
            && prefix.len() == usize::from(*len)
        {
            match line.strip_prefix(prefix) {
                Some(behind) => return Some((PREFIX, behind)),
                None => continue,
            }
        }
        let (pattern, short) = pattern.split_at_checked(pattern.len().checked_sub(usize::from(*short))?)?;
        let told = Some(&mut *told).filter(|_| *means != PREFIX);
        if let Some(behind) = matches(pattern, line, begin, short, told) {
            return Some((*means, behind));
        }
    }
    None
}

/// What a line means, 0 for nothing, and what it tells. Without `reports`, only details count.
#[inline(never)]
pub fn find(line: &[u8], reports: bool, told: &mut Told) -> u8 {
    let (mut line, mut shelf) = (line, FIRST);
    // Prefixes come first, then each of the three shelves.
    for turn in 0..MOST_PREFIXES + 4 {
        match look(shelf, line, reports, told) {
            Some((PREFIX, behind)) => {
                line = behind;
                if turn < MOST_PREFIXES {
                    continue;
                }
            }
            Some((means, _)) => return means,
            None if shelf == REST => break,
            None => {}
        }
        shelf = if shelf == FIRST && reports { VALUES } else { REST };
    }
    0
}

/// Is it a line of a backtrace, or of the list of tasks that the OOM killer writes?
pub fn is_backtrace(line: &[u8]) -> bool {
    begins(line, rows(BACKTRACE_ROWS, line.first().copied().unwrap_or(0)))
}
