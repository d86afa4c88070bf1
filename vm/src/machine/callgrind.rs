//! Instructions of a program on the host, counted by valgrind's callgrind: as many in each run, on any host.
//! Its CPU has no SHA instructions.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// What came of it.
#[derive(Debug)]
pub struct Counted {
    /// Instructions.
    pub instructions: u64,
    /// What the program printed.
    pub text: String,
}

/// Runs a program and counts its instructions: all of them, or those of this function and what it calls (a
/// pattern).
///
/// # Errors
/// When it cannot be run, or fails.
pub fn count(program: &Path, arguments: &[&str], function: Option<&str>) -> Result<Counted> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    if let Some(function) = function {
        valgrind.arg(format!("--toggle-collect={function}"));
    }
    let output = valgrind.arg(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.context("cannot run valgrind: is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{valgrind:?} failed ({}): {}", output.status, said.trim());
    }
    // `==123== Collected : 4567`
    let collected = said.lines().find_map(|line| line.rsplit_once("Collected : ")?.1.trim().parse().ok());
    let instructions = collected.with_context(|| format!("callgrind has counted nothing: {said}"))?;
    Ok(Counted { instructions, text: String::from_utf8_lossy(&output.stdout).into_owned() })
}
