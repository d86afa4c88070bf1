//! `lastwords unload`: unloads the dump kernel.

use super::{busy, kdump::Kdump, loaded, refusal::Refusal};
use crate::{
    message,
    sys::{self, Place},
};
use anyhow::{Context, Result};
use std::path::Path;

/// Unloads the dump kernel, whichever program has loaded it.
///
/// # Errors
/// A [`Refusal`] of the kernel.
pub fn run(root: &Path) -> Result<()> {
    let _lock = busy::lock(root);
    let kdump = Kdump::read(root);
    if kdump.crash_loaded != Some(true) {
        message::output("nothing is loaded");
        return Ok(());
    }
    // Either call unloads what either has loaded; lockdown forbids the older one, a kernel may lack the newer.
    let unload = || {
        sys::kexec_file_unload(Place::Crash).or_else(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => sys::kexec_unload(Place::Crash),
            _ => Err(error),
        })
    };
    busy::patiently(unload).map_err(|error| Refusal::to_unload(&error, &kdump)).context("not unloaded")?;
    loaded::forget(root);
    message::output("unloaded");
    Ok(())
}
