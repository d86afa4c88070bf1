//! The crashed kernel's memory as the dump has it, held against its own /proc/iomem.

use crate::judge::outcome::Outcome;
use anyhow::{Context, Result, ensure};
use std::ops::Range;

const MIB: u64 = 1 << 20;

/// Physical addresses.
pub type Ranges = Vec<Range<u64>>;

/// The dump's PT_LOADs as `readelf -lW` lists them, physical addresses:
/// `LOAD 0x3000 0xffff888000100000 0x0000000000100000 0x2bf00000 0x2bf00000 RWE 0`.
///
/// # Errors
/// When a line has another form.
pub fn loads(readelf: &str) -> Result<Ranges> {
    let lines = readelf.lines().filter_map(|line| line.trim().strip_prefix("LOAD"));
    let range = |line: &str| -> Result<Range<u64>> {
        let mut numbers = line.split_whitespace().map(|number| number.trim_start_matches("0x"));
        let start = u64::from_str_radix(numbers.nth(2).context("no physical address")?, 16)?;
        let len = u64::from_str_radix(numbers.next().context("no size")?, 16)?;
        Ok(start..start + len)
    };
    lines.map(range).collect()
}

/// The entries of /proc/iomem with this name, at any depth: `  2b000000-3affffff : Crash kernel`.
fn named(iomem: &str, name: &str) -> Ranges {
    let entry = |line: &str| {
        let (range, found) = line.trim().split_once(" : ")?;
        let (start, end) = range.split_once('-').filter(|_| found == name)?;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()? + 1)
    };
    iomem.lines().filter_map(entry).collect()
}

/// In order, and what touches or overlaps as one.
fn joined(mut ranges: Ranges) -> Ranges {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Ranges = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Without these, without the first MiB, and to whole pages: nothing else can be in a dump.
fn without(ranges: Ranges, taken: &[Range<u64>]) -> Ranges {
    let mut left: Ranges = ranges;
    for hole in taken.iter().cloned().chain(std::iter::once(0..MIB)) {
        let parts = |range: Range<u64>| {
            [range.start..range.end.min(hole.start), range.start.max(hole.end)..range.end]
        };
        left = left.into_iter().flat_map(parts).filter(|range| range.start < range.end).collect();
    }
    let page = 4096;
    let whole = |range: Range<u64>| range.start.next_multiple_of(page)..range.end / page * page;
    joined(left.into_iter().map(whole).filter(|range| range.start < range.end).collect())
}

/// Checks that the dump has all of the crashed kernel's RAM but the reserved memory, and nothing else. `iomem` is its
/// /proc/iomem when the dump kernel was loaded, `loads` what readelf lists of the dump. The first MiB, of which loaders
/// think differently, is passed over.
///
/// # Errors
/// When they differ.
pub fn check(outcome: &Outcome, iomem: &str, loads: &str) -> Result<()> {
    differ(outcome.text(iomem)?, outcome.text(loads)?)
}

fn differ(iomem: &str, readelf: &str) -> Result<()> {
    let ram = named(iomem, "System RAM");
    let reserved = named(iomem, "Crash kernel");
    ensure!(!ram.is_empty() && !reserved.is_empty(), "/proc/iomem has no RAM, or none is reserved: {iomem}");
    let expected = without(ram, &reserved);
    let dumped = without(joined(loads(readelf)?), &[]);
    ensure!(dumped == expected, "the dump has {dumped:x?}, /proc/iomem {expected:x?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOMEM: &str = "\
00001000-0009fbff : System RAM
00100000-3fffffff : System RAM
  10000000-10ffffff : Kernel code
  2b000000-3affffff : Crash kernel
100000000-107ffffff : System RAM
fec00000-fec003ff : IOAPIC 0
";

    fn readelf(ranges: &[(u64, u64)]) -> String {
        let line = |(start, end): &(u64, u64)| {
            format!(
                "  LOAD           0x003000 0xffff888000000000 {start:#018x} {:#x} {0:#x} RWE 0\n",
                end - start
            )
        };
        ranges.iter().map(line).collect::<Vec<_>>().concat()
    }

    #[test]
    fn all_ram_but_the_reserved_memory_is_in_the_dump() {
        // The kernel's own PT_LOAD is in RAM that has another one.
        let all = [(0x10000000, 0x12000000), (0x100000, 0x2b000000), (0x3b000000, 0x40000000)];
        let more = (0x1_0000_0000, 0x1_0800_0000);
        differ(IOMEM, &readelf(&[all.as_slice(), &[more]].concat())).unwrap();
        differ(IOMEM, &readelf(&[all.as_slice(), &[more, (0x1000, 0x9f000)]].concat())).unwrap();
        assert!(differ(IOMEM, &readelf(&all)).is_err(), "memory is missing");
        let too_much = (0x1_0000_0000, 0x1_0800_1000);
        assert!(differ(IOMEM, &readelf(&[all.as_slice(), &[too_much]].concat())).is_err(), "no RAM is there");
        assert!(
            differ(IOMEM, &readelf(&[(0x100000, 0x40000000), more])).is_err(),
            "the reserved memory is in it"
        );
    }
}
