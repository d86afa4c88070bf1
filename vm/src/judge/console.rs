//! What lastwords wrote to the console, and its CPUs held against the notes in /proc/vmcore.

use crate::judge::outcome::Outcome;
use anyhow::{Result, ensure};

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

/// CPUs in one place, as they stood on the console where there were many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidGroup {
    /// Their numbers.
    pub numbers: Vec<u32>,
    /// Instruction pointer of each.
    pub rip: u64,
}

impl SaidGroup {
    /// Reads `3 CPUs RIP ffffffffb2f741ba …: 0,2-3`; `None` when the line is another one.
    fn parse(line: &str) -> Option<Self> {
        let (count, rest) = line.split_once(" CPUs RIP ")?;
        let (place, list) = rest.split_once(": ")?;
        let mut numbers = Vec::new();
        for run in list.split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            numbers.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
        }
        let rip = u64::from_str_radix(place.split(' ').next()?, 16).ok()?;
        (count.parse() == Ok(numbers.len())).then_some(Self { numbers, rip })
    }
}

/// Everything that lastwords wrote to the console, without its name.
#[must_use]
pub fn lines(outcome: &Outcome) -> Vec<&str> {
    outcome.console.iter().filter_map(|line| line.text.strip_prefix(PREFIX)).collect()
}

/// The CPUs on the console.
#[must_use]
pub fn cpus(outcome: &Outcome) -> Vec<SaidCpu> {
    lines(outcome).into_iter().filter_map(SaidCpu::parse).collect()
}

/// Checks the console's CPUs: every one is there, its instruction pointer and process are those of the dump, and
/// the one that panicked is marked; with `None`, no one is.
///
/// # Errors
/// When they differ.
pub fn check(outcome: &Outcome, panicked: impl Into<Option<usize>>) -> Result<()> {
    let panicked = panicked.into();
    let mut said = cpus(outcome);
    let notes = outcome.notes()?;
    ensure!(!notes.cpus.is_empty(), "/proc/vmcore has no CPU notes");
    let numbers = outcome.cpu_numbers()?;
    let dumped = notes.cpus.iter().zip(numbers).map(|(cpu, number)| SaidCpu {
        number: number as u32,
        panicked: Some(number) == panicked,
        pid: cpu.pid,
        rip: cpu.rip,
    });
    let dumped: Vec<_> = dumped.collect();
    let groups = lines(outcome).into_iter().filter_map(SaidGroup::parse);
    for SaidGroup { numbers, rip } in groups {
        let theirs = dumped.iter().filter(|cpu| numbers.contains(&cpu.number));
        // Their processes are not said.
        said.extend(theirs.map(|cpu| SaidCpu { rip, ..*cpu }));
        said.sort_by_key(|cpu| cpu.number);
    }
    ensure!(said == dumped, "the console said {said:x?}, /proc/vmcore says {dumped:x?}");
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
    fn a_group_of_cpus_is_read_from_its_line() {
        let said = SaidGroup::parse("4 CPUs RIP ffffffffb2f741ba _stext+0x1741ba: 0,2-3,71");
        assert_eq!(said, Some(SaidGroup { numbers: vec![0, 2, 3, 71], rip: 0xffffffffb2f741ba }));
        assert_eq!(SaidGroup::parse("5 CPUs RIP ffffffffb2f741ba _stext+0x1741ba: 0,2-3,71"), None);
        assert_eq!(SaidGroup::parse("crashed kernel: 2 CPUs"), None);
    }
}
