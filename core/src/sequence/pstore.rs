//! What goes into the platform's error store: the report and the end of the log, as Linux's own pstore would have it, in
//! records of which the first has the log's end. `Panic#1 Part1` is what Linux begins it with; the log has its levels and
//! times; behind the log's last line stands the report, each of its lines as in the SEL.

use super::console::Console;
use super::{LOG_RECORDS, Outcome, Sequence, lines};
use crate::crash::{Crash, Log, Record};
use crate::hw::Machine;
use crate::report::{self, Content, Line, Report};
use crate::store::erst::{Erst, ErstError, HEADER_LEN, RANGE_LEN, Text, first_id};
use crate::store::sel::{Records, text};
use crate::text;

/// Most records. Each takes two operations, and those have a limit, too.
const PARTS: u64 = 8;
/// What of the report's lines goes there, in records of the SEL: it has room for all that any SEL gets.
const LINES: u32 = 128;

impl<T> Sequence<'_, T> {
    /// Writes as many records as the plan has room for.
    #[inline(never)]
    pub(super) fn pstore<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        // Without its memory map the crashed kernel's RAM could not be told from the firmware's.
        if self.crash.is_none() || self.plan.pstore.bytes == 0 {
            return Outcome::Quiet;
        }
        let mut count = 0;
        match self.records(machine, &mut count) {
            Ok(()) => Outcome::Done { count, ms: 0 },
            Err(error) => Outcome::Pstore { error, count, ms: 0 },
        }
    }

    fn records<M: Machine>(&mut self, machine: &mut M, count: &mut u32) -> Result<(), ErstError> {
        let Self { crash: Some(crash), timer, console, report, plan, platform, this_cpu, .. } = self else {
            return Ok(());
        };
        let rsdp = if platform.rsdp == 0 { plan.pstore.rsdp } else { platform.rsdp };
        let mut erst = Erst::open(machine, timer, rsdp, &mut |machine, range| {
            !platform.is_reserved(range) && !crash.overlaps(machine, range)
        })?;
        let log = crash.log(machine);
        let log_end = log.as_ref().map_or(0, |log| log.len.min(LOG_RECORDS));
        let (seconds, mut left, mut before) = (crash.info.time, u64::from(plan.pstore.bytes), 0);
        let mut id = first_id(seconds);
        let range = erst.range.clone();
        let begin = range.start + HEADER_LEN as u64;
        for part in 1..=PARTS {
            let room = left.min(range.end - range.start);
            if room < *RANGE_LEN.start() || part > 1 && before == log_end {
                break;
            }
            id = erst.free_id(machine, timer, id)?;
            let mut text = Text { at: begin, end: range.start + room, counts: true, is_full: false };
            // The report is counted first: what it leaves is the log's.
            if part == 1 {
                put_report(machine, console, report, this_cpu.apic_id, &mut text);
            }
            text.end -= text.at - begin;
            text.restart(begin, false);
            let line = console.line();
            line.str("Panic#1 Part").dec(part);
            put_line(machine, line.as_bytes(), &mut text);
            let first = text.at;
            if let Some(log) = &log {
                let from = before;
                text.counts = true;
                while before < log_end {
                    put_record(machine, crash, log, before, &mut text);
                    if text.is_full {
                        break;
                    }
                    before += 1;
                }
                text.restart(first, false);
                for one in (from..before).rev() {
                    put_record(machine, crash, log, one, &mut text);
                }
            }
            // One record of the log is longer than all there is room for.
            if part > 1 && text.at == first {
                break;
            }
            text.end = range.start + room;
            if part == 1 {
                put_report(machine, console, report, this_cpu.apic_id, &mut text);
            }
            let len = text.at - begin;
            erst.write(machine, timer, id, seconds, len as u32)?;
            *count += 1;
            left = left.saturating_sub(len + HEADER_LEN as u64);
            id += 1;
        }
        Ok(())
    }
}

/// Which kernel panicked, and the lines that the SEL gets of it.
#[inline(never)]
fn put_report<M: Machine>(
    machine: &mut M,
    console: &mut Console,
    report: &mut Report,
    apic_id: u32,
    to: &mut Text,
) {
    let line = console.our_line();
    lines::headline(line, report, true, apic_id);
    put_line(machine, line.as_bytes(), to);
    let mut content = Content {
        cause: Some(&report.cause),
        build_id: report.build_id,
        id: report.id,
        panicked: Some(report.panicked.map_or(Line::PanickedUnknown, Line::Panicked)),
        groups: Some(&mut report.groups),
    };
    report::lines::<Records>(LINES, &mut content, &mut |line, left| {
        let ours = console.our_line();
        ours.bytes(text(line).as_bytes());
        put_line(machine, ours.as_bytes(), to);
        left
    });
}

fn put_line<M: Machine>(machine: &mut M, line: &[u8], to: &mut Text) {
    to.put(machine, line);
    to.put(machine, b"\n");
}

/// A record of the log, each of its lines as Linux's pstore has it: `<level>[ time] text`.
#[inline(never)]
fn put_record<M: Machine>(machine: &mut M, crash: &Crash, log: &Log, before: u64, to: &mut Text) {
    let (mut record, mut begins) = (Record::default(), true);
    if !crash.read_record(machine, log, before, &mut record) {
        return;
    }
    // A long text comes in pieces.
    loop {
        for line in record.text().split_inclusive(|byte| *byte == b'\n') {
            if begins {
                let mut prefix = text::Text::<48>::new();
                prefix.byte(b'<').dec(u64::from(record.facility) << 3 | u64::from(record.level)).byte(b'>');
                lines::log(&mut prefix, record.ts_nsec, b"");
                to.put(machine, prefix.as_bytes());
            }
            begins = line.ends_with(b"\n");
            to.put(machine, line);
        }
        if to.is_full || !crash.read_on(machine, &mut record) {
            break;
        }
    }
    to.put(machine, b"\n");
}
