//! `lastwords unload`: disarms the dump kernel.

use crate::{
    machine::Kdump,
    refusal::Refusal,
    sys::{self, Place},
};
use anyhow::{Context, Result};
use std::path::Path;

/// Does it.
pub fn run(root: &Path) -> Result<()> {
    let kdump = Kdump::read(root);
    if kdump.crash_loaded != Some(true) {
        println!("nothing is armed");
        return Ok(());
    }
    sys::kexec_file_unload(Place::Crash)
        .map_err(|error| Refusal::to_unload(&error, &kdump))
        .context("still armed")?;
    println!("disarmed");
    Ok(())
}
