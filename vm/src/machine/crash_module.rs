//! The module `guest/crash.s`, assembled for a kernel: it crashes the guest from inside, in each of these ways.
//!
//! Nothing needs the kernel's headers or a compiler: what differs between kernels is read out of a module of their own.

use anyhow::{Context, Result};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};
use std::fs;
use std::process::Command;

use crate::machine::process;

/// Its functions that crash, or hold a CPU for ever.
pub const WAYS: [&str; 15] = [
    "null_pointer",
    "protection_fault",
    "bug",
    "warning",
    "warnings",
    "refcount",
    "list_corruption",
    "ubsan",
    "stack_overflow",
    "soft_lockup",
    "busy",
    "deaf",
    "hard_lockup",
    "hung_task",
    "double_panic",
];

const SOURCE: &str = include_str!("../../guest/crash.s");

/// The module that runs this way when it is loaded, for the kernel of the module `other`.
///
/// # Errors
/// When `other` is not a module, has no WARN() in it, or the assembler is missing.
pub fn crash(way: &str, other: &[u8]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let (source, module) = (folder.path().join("crash.s"), folder.path().join("crash.ko"));
    let head = head(way, other).context("not a module")?;
    fs::write(&source, head + SOURCE)?;
    process::output(Command::new("as").arg("-o").arg(&module).arg(&source))?;
    Ok(fs::read(module)?)
}

/// What stands in front of the source.
fn head(way: &str, other: &[u8]) -> Option<String> {
    let other = ElfFile64::<object::Endianness>::parse(other).ok()?;
    let module = other.section_by_name(".gnu.linkonce.this_module")?;
    // `struct module` points to two functions, the first of them `init`.
    let init = module.relocations().map(|(offset, _)| offset).min()?;
    let info = other.section_by_name(".modinfo")?.data().ok()?;
    let vermagic = info.split(|byte| *byte == 0).find(|line| line.starts_with(b"vermagic="))?;
    // An address, a file's name or a format before it, four bytes each; line and flags.
    let bugs = other.section_by_name("__bug_table")?;
    let format = bugs.relocations().any(|(offset, _)| offset == 8);
    Some(format!(
        ".macro die\n call {way}\n.endm\n.macro module before=\"\"\n .asciz \"\\before\\(){way}\"\n.endm\n\
         .macro vermagic\n .asciz \"{}\"\n.endm\n.set MODULE_INIT, {init}\n.set MODULE_SIZE, {}\n\
         .set BUG_FORMAT, {}\n",
        str::from_utf8(vermagic).ok()?,
        module.size(),
        u8::from(format),
    ))
}
