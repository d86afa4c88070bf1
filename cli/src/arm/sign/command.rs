//! `--sign-command`: a signing tool or server signs, which has the key (an HSM, sbsign, pesign, systemd-sbsign). What comes
//! back is looked at: the same kernel, with a signature.

use crate::{message, sys};
use anyhow::{Context, Result, bail, ensure};
use lastwords_boot as boot;
use std::{fs, io, path::Path, process::Command};

/// Has `sh -c COMMAND` sign a kernel, which has no signature: the command reads the file `$IN` and writes the file `$OUT`.
///
/// # Errors
/// When the command fails, or what it has written is not this kernel with a signature.
pub fn sign(command: &str, kernel: &[u8]) -> Result<Vec<u8>> {
    // For nobody else: what is in there is going to be signed.
    let folder = tempfile::Builder::new().prefix("lastwords-").tempdir().context("no temporary folder")?;
    let [unsigned, signed] = ["in", "out"].map(|name| folder.path().join(name));
    fs::write(&unsigned, kernel).with_context(|| unsigned.display().to_string())?;
    let status = Command::new("sh")
        .args(["-c", command])
        .env("IN", &unsigned)
        .env("OUT", &signed)
        // Our own output may be read by a program.
        .stdout(message::standard_error())
        .status()
        .context("sh")?;
    ensure!(
        status.success(),
        "the signing command was ended by {}\nhint: run it by hand, with a kernel's path in IN and another in OUT",
        sys::end(status)
    );
    check(kernel, &signed)
}

/// The kernel that the command has written, if it is this one.
fn check(kernel: &[u8], path: &Path) -> Result<Vec<u8>> {
    let signed = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "the signing command has not written the file OUT\nhint: sbsign ... --output \"$OUT\" \"$IN\""
            )
        }
        result => result.context("what the signing command has written")?,
    };
    let same = boot::signed_parts(kernel)? == boot::signed_parts(&signed).unwrap_or_default();
    ensure!(same, "the signing command has written something else than the kernel that it was given");
    ensure!(
        boot::signature(&signed)?.is_some(),
        "the signing command has not signed the kernel\nhint: sbsign ... --output \"$OUT\" \"$IN\""
    );
    Ok(signed)
}
