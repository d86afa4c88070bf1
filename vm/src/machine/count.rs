//! Guest instructions, counted by a plugin of QEMU's (`plugin/count.c`): exact, and with no debugger that
//! stops the machine and warps its clock.

use crate::machine::process;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

/// The plugin, and what it writes.
#[derive(Debug)]
pub struct Counter {
    folder: tempfile::TempDir,
}

impl Counter {
    /// Compiles the plugin.
    ///
    /// # Errors
    /// When there is no C compiler.
    pub fn new() -> Result<Self> {
        let counter = Self { folder: tempfile::tempdir()? };
        let source = counter.path("count.c");
        fs::write(&source, include_str!("../../plugin/count.c"))?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(counter.path("count.so"));
        process::output(cc.arg(source))?;
        Ok(counter)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// QEMU's options for it.
    #[must_use]
    pub fn options(&self) -> [String; 2] {
        let (plugin, out) = (self.path("count.so"), self.path("counts"));
        ["-plugin".to_owned(), format!("{},out={}", plugin.display(), out.display())]
    }

    /// How many instructions ran from the first one in this (low) memory, behind the last mark, to the one at
    /// `entry`, which is run for the first time, or, when that was the hook of a wrapped kernel, for the
    /// second.
    ///
    /// # Errors
    /// When the machine did not come to both, or came to the entry more often.
    pub fn to_entry(&self, memory: Range<u64>, entry: u64, hooked: bool) -> Result<u64> {
        to_entry(&self.read()?, memory, entry, hooked)
    }

    /// How many instructions ran between the two marks of each command that was run by `counted`
    /// (`guest/user.s`).
    ///
    /// # Errors
    /// When a mark has no other.
    pub fn marked(&self) -> Result<Vec<u64>> {
        marked(&self.read()?)
    }

    fn read(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("counts"))?)
    }
}

/// A line of the counter's: how many instructions there have been, and at what.
fn line(line: &str) -> Result<(u64, &str)> {
    let (count, what) = line.split_once(' ').context("a line without a blank")?;
    Ok((u64::from_str_radix(count, 16)?, what))
}

fn to_entry(counts: &str, memory: Range<u64>, entry: u64, hooked: bool) -> Result<u64> {
    let behind = counts.rsplit_once(" mark\n").context("no mark")?.1;
    let (mut began, mut entered) = (None, Vec::new());
    for text in behind.lines() {
        let (count, address) = line(text)?;
        let Ok(address) = u64::from_str_radix(address, 16) else { continue };
        if memory.contains(&address) {
            began = began.or(Some(count));
        }
        if address == entry {
            entered.push(count);
        }
    }
    let began = began.with_context(|| format!("no code ran in {memory:x?}"))?;
    let times = 1 + usize::from(hooked);
    ensure!(entered.len() == times, "the code at {entry:#x} ran {} times", entered.len());
    Ok(entered[times - 1] - began)
}

fn marked(counts: &str) -> Result<Vec<u64>> {
    let marks = counts.lines().filter(|text| text.ends_with(" mark"));
    let marks: Vec<u64> = marks.map(|text| Ok(line(text)?.0)).collect::<Result<_>>()?;
    let (pairs, rest) = marks.as_chunks::<2>();
    ensure!(rest.is_empty(), "{} marks: one has no other", marks.len());
    Ok(pairs.iter().map(|[before, behind]| behind - before).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_entry_begins_behind_the_mark() {
        let counts = "1 10\n5 20\n6 mark\n100 fff\n110 14\n11f 12\n140 20\n1f0 20\nfff end\n";
        assert_eq!(to_entry(counts, 0x10..0x20, 0x20, true).unwrap(), 0xe0);
        assert!(to_entry(counts, 0x10..0x20, 0x20, false).is_err());
        assert_eq!(to_entry(counts, 0x10..0x20, 0x12, false).unwrap(), 0xf);
        assert!(to_entry(counts, 0x30..0x40, 0x12, false).is_err());
        assert!(to_entry("1 10\n5 20\n", 0x10..0x20, 0x20, false).is_err());
    }

    #[test]
    fn what_is_between_the_marks_of_a_command_is_its_cost() {
        let counts = "1 10\n5 mark\n8 20\n15 mark\n16 10\n20 mark\n20 mark\nff end\n";
        assert_eq!(marked(counts).unwrap(), [0x10, 0]);
        assert!(marked("1 10\n5 mark\n").is_err());
    }

    #[test]
    fn the_plugin_counts_what_a_machine_runs() {
        let counter = Counter::new().unwrap();
        let mut qemu = Command::new(crate::machine::qemu::PROGRAM)
            .args(["-nodefaults", "-display", "none", "-accel", "tcg"])
            .args(counter.options())
            .spawn()
            .unwrap();
        // The reset vector, and SeaBIOS's first jump.
        let found = (0..600).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            first_jump(&counter.read().ok()?)
        });
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        assert_eq!(found, Some(1));
    }

    /// Instructions until the firmware's first jump has come to its target.
    fn first_jump(counts: &str) -> Option<u64> {
        let count =
            |address| counts.lines().find_map(|text| text.strip_suffix(address)?.trim().parse::<u64>().ok());
        Some(count(" fe05b")? - count(" fffffff0")?)
    }
}
