//! What goes into the platform's error store: the report and the end of the log, as Linux's own pstore would have it, in
//! records of which the first has the log's end. `Panic#1 Part1` is what Linux begins it with; there stands the report, each of
//! its lines as in the SEL; the log has its levels and times.

use super::console::Console;
use super::{LOG_RECORDS, Outcome, Sequence, content, lines};
use crate::crash::{Crash, Log, Record};
use crate::hw::Machine;
use crate::report::{self, Report};
use crate::store::erst::{Erst, RANGE_LEN, first_id};
use crate::store::sel::{Records, text};
use crate::text::Buffer;

/// What of the report's lines goes there, in records of the SEL: it has room for all that any SEL gets.
const LINES: u32 = 128;

impl<T> Sequence<'_, T> {
    /// Writes as many records as the plan has room for.
    #[inline(never)]
    pub(super) fn pstore<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        let Self { crash, timer, console, report, plan, platform, .. } = self;
        // Without its memory map the crashed kernel's RAM could not be told from the firmware's.
        let Some(crash) = crash.as_ref().filter(|_| plan.pstore > 0) else { return Outcome::Quiet };
        let (seconds, mut left, mut before) = (crash.info.time(), u64::from(plan.pstore), 0);
        let mut erst = Erst::new(first_id(seconds));
        let mut count = 0;
        let mut write = || {
            erst.open(machine, timer, platform, crash)?;
            let log = crash.log(machine);
            // What did not fit into the last one is there for the next.
            while (erst.is_full || count == 0) && left >= *RANGE_LEN.start() {
                erst.find_free_id(machine, timer)?;
                erst.begin(left.min(erst.end - erst.start));
                let line = console.line();
                line.str("Panic#1 Part").dec(u64::from(count + 1));
                put_line(machine, line, &mut erst);
                if count == 0 {
                    put_report(machine, console, report, plan.then.is_some(), &mut erst);
                }
                if let Some(log) = &log {
                    before = put_log(machine, crash, log, before, console, &mut erst);
                }
                erst.write(machine, timer, seconds)?;
                count += 1;
                left -= erst.at - erst.start;
                erst.id = erst.id.wrapping_add(1);
            }
            Ok(())
        };
        match write() {
            Ok(()) => Outcome::Done { count, ms: 0 },
            Err(error) => Outcome::Pstore { error, count, ms: 0 },
        }
    }
}

/// The lines that the SEL gets of the crash.
#[inline(never)]
fn put_report<M: Machine>(
    machine: &mut M,
    console: &mut Console,
    report: &mut Report,
    no_dump: bool,
    to: &mut Erst,
) {
    let mut content = content(report, true, true, no_dump);
    report::lines::<Records>(LINES, &mut content, &mut |line, left| {
        let ours = console.our_line();
        ours.bytes(text(line).as_bytes());
        put_line(machine, ours, to);
        left
    });
}

/// As much of the log as there is room for, up to the record that is so many before its newest one; which is the next one
/// then.
#[inline(never)]
fn put_log<M: Machine>(
    machine: &mut M,
    crash: &Crash,
    log: &Log,
    from: u64,
    console: &mut Console,
    to: &mut Erst,
) -> u64 {
    let (at, mut before) = (to.at, from);
    (to.counts, to.is_full) = (true, false);
    while before < log.len.min(LOG_RECORDS) {
        put_record(machine, crash, log, before, console.line(), to);
        if to.is_full {
            break;
        }
        before += 1;
    }
    // A record that is longer than all there is room for would be so in the next one, too.
    to.is_full &= before > from;
    (to.at, to.counts) = (at, false);
    for one in (from..before).rev() {
        put_record(machine, crash, log, one, console.line(), to);
    }
    before
}

fn put_line<M: Machine>(machine: &mut M, line: &mut Buffer<[u8]>, to: &mut Erst) {
    line.byte(b'\n');
    to.put(machine, line.as_bytes());
}

/// A record of the log as Linux's pstore has it: `<level>[ time] text`.
#[inline(never)]
fn put_record<M: Machine>(
    machine: &mut M,
    crash: &Crash,
    log: &Log,
    before: u64,
    prefix: &mut Buffer<[u8]>,
    to: &mut Erst,
) {
    let mut record = Record::default();
    if !crash.read_record(machine, log, before, &mut record) {
        return;
    }
    prefix.str("<").dec(u64::from(record.facility) << 3 | u64::from(record.level)).str(">");
    lines::stamp(prefix, record.ts_nsec);
    to.put(machine, prefix.as_bytes());
    // A long text comes in pieces.
    loop {
        to.put(machine, record.text());
        if !crash.read_on(machine, &mut record) {
            break;
        }
    }
    to.put(machine, b"\n");
}
