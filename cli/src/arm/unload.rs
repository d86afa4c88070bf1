//! `lastwords unload`: disarms the dump kernel.

use super::{kdump::Kdump, loaded, refusal::Refusal};
use crate::sys::{self, Place};
use anyhow::{Context, Result};
use std::path::Path;

/// Does it.
pub fn run(root: &Path) -> Result<()> {
    let kdump = Kdump::read(root);
    if kdump.crash_loaded != Some(true) {
        println!("nothing is armed");
        return Ok(());
    }
    // Either call takes away what either has loaded; lockdown forbids the older one, a kernel may lack the newer.
    sys::kexec_file_unload(Place::Crash)
        .or_else(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => sys::kexec_unload(Place::Crash),
            _ => Err(error),
        })
        .map_err(|error| Refusal::to_unload(&error, &kdump))
        .context("still armed")?;
    loaded::forget(root);
    println!("disarmed");
    Ok(())
}
