//! At home on a distribution: `enable`, `disable`, and what kdump's own scripts call (`hook`), so that the dump kernel that
//! is loaded is always the running kernel's, wrapped anew where it is stale, or a plain one.

pub mod changes;
pub mod enable;
pub mod hook;
mod old;
pub mod service;
pub mod wrapped;

use crate::message;
use anyhow::{Context, Result};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What `enable` remembers. The scripts and units do nothing where it is not there.
pub const ENABLED: &str = "var/lib/lastwords/enabled.json";

/// Has `lastwords enable` been run?
#[must_use]
pub fn is_enabled(root: &Path) -> bool {
    root.join(ENABLED).exists()
}

/// Is this a dump kernel?
#[must_use]
pub fn is_dump_kernel(root: &Path) -> bool {
    root.join("proc/vmcore").exists()
}

/// Where a program of the system is. Not from PATH: udev, apt and a person at a terminal have different ones.
fn program(root: &Path, name: &str) -> Option<PathBuf> {
    let folders = ["usr/sbin", "usr/bin", "sbin", "bin"];
    folders.iter().map(|folder| root.join(folder).join(name)).find(|path| path.is_file())
}

/// Runs a program of the system. Its output goes to standard error.
fn run(root: &Path, command: &[&str]) -> Result<()> {
    let [name, arguments @ ..] = command else { return Ok(()) };
    let program = program(root, name).with_context(|| format!("{name}: no such program"))?;
    let mut child = Command::new(program);
    child.args(arguments).stdin(Stdio::null()).stdout(message::errors_of_others());
    let status = child.status().with_context(|| (*name).to_owned())?;
    anyhow::ensure!(status.success(), "{}: {}", command.join(" "), crate::sys::end(status));
    Ok(())
}
