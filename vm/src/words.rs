//! What lastwords said, held against what /proc/vmcore says of the same crash.
//!
//! Written from the documents (`docs/sel-format.md`) and not with core's own decoder, which this is to judge.

use crate::scenario::Outcome;
use crate::sel::Record;
use crate::vmcore::Notes;
use anyhow::{Context, Result, ensure};
use std::ops::Range;

/// What stands before each of lastwords' lines on the console.
const PREFIX: &str = "lastwords: ";

/// A CPU as it stood on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaidCpu {
    /// The kernel's number of it.
    pub number: u32,
    /// Marked as the one that panicked.
    pub panicked: bool,
    /// The process that ran on it.
    pub pid: u32,
    /// Instruction pointer.
    pub rip: u64,
}

impl SaidCpu {
    /// Reads `CPU 1* pid 93 RIP ffffffffb2f741ba …`; `None` when the line is another one.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut after = |name: &str| {
            if words.next()? == name { words.next() } else { None }
        };
        let number = after("CPU")?;
        Some(Self {
            number: number.trim_end_matches('*').parse().ok()?,
            panicked: number.ends_with('*'),
            pid: after("pid")?.parse().ok()?,
            rip: u64::from_str_radix(after("RIP")?, 16).ok()?,
        })
    }
}

/// Everything that lastwords wrote to the console, without its name.
#[must_use]
pub fn console(outcome: &Outcome) -> Vec<&str> {
    outcome.console.iter().filter_map(|line| line.text.strip_prefix(PREFIX)).collect()
}

/// The CPUs on the console.
#[must_use]
pub fn console_cpus(outcome: &Outcome) -> Vec<SaidCpu> {
    console(outcome).into_iter().filter_map(SaidCpu::parse).collect()
}

/// The lines of text in the SEL, put together from their records.
#[must_use]
pub fn sel_lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for Record(bytes) in records.iter().filter(|record| record.kind() == 0xf0) {
        let text = bytes[5..].iter().take_while(|byte| **byte != 0).map(|byte| *byte as char);
        match lines.last_mut() {
            Some(line) if bytes[4] & 0x80 == 0 => line.extend(text),
            _ => lines.push(text.collect()),
        }
    }
    lines
}

/// A place as the SEL names it: an offset in the kernel's image, `_stext` to its end, or an address.
fn place(rip: u64, image: &Range<u64>) -> String {
    if image.contains(&rip) {
        format!("{:x}", rip - image.start)
    } else if rip < 1 << 63 {
        "user".to_owned()
    } else if rip >> 32 == 0xffff_ffff {
        format!("@{:08x}", rip & 0xffff_ffff)
    } else {
        format!("@{rip:x}")
    }
}

/// The lines that a crash with these notes, on this CPU, makes in the SEL.
fn expected(notes: &Notes, panicked: Option<usize>) -> Result<Vec<String>> {
    let image = notes.image()?;
    let id = notes.info("BUILD-ID")?.get(..8).context("the build id is too short")?;
    let mut groups: Vec<(String, usize)> = Vec::new();
    for (_, cpu) in notes.cpus.iter().enumerate().filter(|(number, _)| Some(*number) != panicked) {
        let place = place(cpu.rip, &image);
        match groups.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => groups.push((place, 1)),
        }
    }
    let panicked = match panicked {
        None => "?=?".to_owned(),
        Some(number) => {
            let rip = notes.cpus.get(number).context("the panicked CPU has no note")?.rip;
            format!("{number:x}={}", place(rip, &image))
        }
    };
    let mut lines = vec![format!("id {id}"), panicked];
    lines.extend(groups.into_iter().map(|(place, count)| format!("{count:x}*{place}")));
    Ok(lines)
}

/// Checks the console's CPUs: every one is there, its instruction pointer and process are those of the dump, and
/// the one that panicked is marked; with `None`, no one is.
///
/// # Errors
/// When they differ.
pub fn check_console(outcome: &Outcome, panicked: impl Into<Option<usize>>) -> Result<()> {
    let panicked = panicked.into();
    let said = console_cpus(outcome);
    let notes = outcome.notes()?;
    ensure!(!notes.cpus.is_empty(), "/proc/vmcore has no CPU notes");
    let dumped = notes.cpus.iter().enumerate().map(|(number, cpu)| SaidCpu {
        number: number as u32,
        panicked: Some(number) == panicked,
        pid: cpu.pid,
        rip: cpu.rip,
    });
    let dumped: Vec<_> = dumped.collect();
    ensure!(said == dumped, "the console said {said:x?}, /proc/vmcore says {dumped:x?}");
    Ok(())
}

/// Checks the SEL's records: they hold the build id, the CPU that panicked and the groups of the dump, biggest
/// group first, in records numbered from 0. `None`: nothing tells which CPU panicked.
///
/// # Errors
/// When they differ.
pub fn check_sel(outcome: &Outcome, records: &[Record], panicked: impl Into<Option<usize>>) -> Result<()> {
    let ours: Vec<_> = records.iter().filter(|record| record.kind() == 0xf0).collect();
    let numbered =
        ours.iter().enumerate().all(|(number, Record(bytes))| usize::from(bytes[4] & 0x7f) == number);
    ensure!(numbered, "the records are not numbered from 0: {ours:x?}");
    let said = sel_lines(records);
    let size =
        |line: &String| usize::from_str_radix(line.split('*').next().unwrap_or_default(), 16).unwrap_or(0);
    ensure!(
        said.iter().skip(2).map(size).is_sorted_by(|one, other| one >= other),
        "groups not by size: {said:?}"
    );
    let expected = expected(&outcome.notes()?, panicked.into())?;
    let sorted = |lines: &[String]| {
        let mut groups = lines.get(2..).unwrap_or_default().to_vec();
        groups.sort();
        [lines.get(..2).unwrap_or_default().to_vec(), groups].concat()
    };
    ensure!(sorted(&said) == sorted(&expected), "the SEL says {said:?}, /proc/vmcore {expected:?}");
    Ok(())
}

/// Checks that the dump is one: its ELF header by readelf, its contents by makedumpfile, its log by both
/// makedumpfile and vmcore-dmesg.
///
/// # Errors
/// When something is wrong with it.
pub fn check_dump(outcome: &Outcome, cpus: usize) -> Result<()> {
    let readelf = outcome.text("readelf")?;
    let notes = readelf.matches("NT_PRSTATUS").count();
    ensure!(notes == cpus, "readelf finds {notes} CPU notes, not {cpus}");
    outcome.text("makedumpfile")?;
    outcome.text("dump-dmesg")?;
    for log in ["dmesg", "dump-log"] {
        ensure!(
            outcome.text(log)?.contains("Kernel panic - not syncing"),
            "the log of section {log} does not hold the panic"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_read_from_its_line() {
        let said = SaidCpu::parse("CPU 1* pid 93 RIP ffffffffb2f741ba _stext+0x1741ba");
        assert_eq!(said, Some(SaidCpu { number: 1, panicked: true, pid: 93, rip: 0xffffffffb2f741ba }));
        assert_eq!(SaidCpu::parse("crashed kernel: 2 CPUs"), None);
    }

    #[test]
    fn a_place_is_an_offset_user_space_or_an_address() {
        let image = 0xffffffff81000000..0xffffffff83a00000;
        assert_eq!(place(image.start + 0x10, &image), "10");
        assert_eq!(place(image.end, &image), "@83a00000", "a module");
        assert_eq!(place(0x47b7a0, &image), "user");
        assert_eq!(place(0xffffc90000001234, &image), "@ffffc90000001234");
    }

    #[test]
    fn lines_run_over_records_and_start_where_bit_7_says() {
        let record = |number, text: &[u8; 11]| {
            let mut bytes = [0; 16];
            bytes[2..5].copy_from_slice(&[0xf0, 0x20, number]);
            bytes[5..].copy_from_slice(text);
            Record(bytes)
        };
        let records =
            [record(0x80, b"1*@ffffc900"), record(1, b"00001234\0\0\0"), record(0x82, b"2*user\0\0\0\0\0")];
        assert_eq!(sel_lines(&records), ["1*@ffffc90000001234", "2*user"]);
    }
}
