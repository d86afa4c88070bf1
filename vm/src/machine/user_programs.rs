//! Programs of a user's in the guest, `guest/user.s`: what an unprivileged user can bring the kernel to say, and what
//! marks a command for the counter of instructions.

use crate::machine::process;
use anyhow::Result;
use std::fs;
use std::process::Command;

/// Their names, each its own entry point.
pub const PROGRAMS: [&str; 6] = ["as_user", "idle", "counted", "mark", "segfault", "privileged"];

const SOURCE: &str = include_str!("../../guest/user.s");

/// The program of this name, an ELF file that needs no other. The stack of `idle` is executable, which the kernel warns of.
///
/// # Errors
/// When the assembler or the linker is missing.
pub fn build(program: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let [source, object, file] = ["user.s", "user.o", "user"].map(|name| folder.path().join(name));
    fs::write(&source, SOURCE)?;
    process::output(Command::new("as").arg("-o").arg(&object).arg(&source))?;
    let stack = if program == "idle" { "execstack" } else { "noexecstack" };
    let link = ["-z", stack, "--strip-all", "-e", program, "-o"];
    process::output(Command::new("ld").args(link).arg(&file).arg(&object))?;
    Ok(fs::read(file)?)
}
