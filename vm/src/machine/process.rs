//! Running other programs: their output, or an error that says what they said.

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot be started or fails; the error holds what it wrote to standard error.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}: is it installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    Ok(output.stdout)
}

/// As [`output`], as text.
///
/// # Errors
/// As [`output`].
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}
