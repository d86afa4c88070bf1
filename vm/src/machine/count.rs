//! Guest instructions, counted by a plugin of QEMU's (`plugin/count.c`): exact, and with no debugger that stops the
//! machine and warps its clock.

use crate::machine::process;
use anyhow::{Context, Result, ensure};
use std::fs;
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

    /// How many instructions ran from this (low) address to that one, both for the first time, the last one last.
    ///
    /// # Errors
    /// When the machine did not come to both.
    pub fn between(&self, from: u64, to: u64) -> Result<u64> {
        between(&self.read()?, from, to)
    }

    /// How many instructions ran between the two marks of each command that was run by `counted` (`guest/user.s`).
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

fn between(counts: &str, from: u64, to: u64) -> Result<u64> {
    let (from, to) = (format!("{from:x}"), format!("{to:x}"));
    let mut began = None;
    let mut ended = None;
    for text in counts.lines() {
        let (count, address) = line(text)?;
        // Programs of the first kernel may have lain at the same addresses.
        if address == from {
            (began, ended) = (Some(count), None);
        } else if address == to {
            ended = Some(count);
        }
    }
    let began = began.with_context(|| format!("no code ran at 0x{from}"))?;
    let ended = ended.with_context(|| format!("no code ran at 0x{to} after 0x{from}"))?;
    ensure!(ended > began, "{began} instructions at 0x{from}, {ended} at 0x{to}");
    Ok(ended - began)
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
    fn the_last_way_from_one_to_the_other_counts() {
        assert_eq!(between("1 10\n5 20\n100 10\n110 15\n1f0 20\n", 0x10, 0x20).unwrap(), 0xf0);
        assert!(between("1 10\n5 20\n100 10\n", 0x10, 0x20).is_err());
        assert!(between("", 0x10, 0x20).is_err());
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
            counter.between(0xffff_fff0, 0xfe05b).ok()
        });
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        assert_eq!(found, Some(1));
    }
}
