//! Is the dump one? By readelf, makedumpfile and vmcore-dmesg.

use crate::judge::outcome::Outcome;
use anyhow::{Result, ensure};

/// Checks that the dump is one: its ELF header by readelf, its contents by makedumpfile, its log by both
/// makedumpfile and vmcore-dmesg.
///
/// # Errors
/// When something is wrong with it.
pub fn check(outcome: &Outcome, cpus: usize) -> Result<()> {
    let readelf = outcome.text("readelf")?;
    let notes = readelf.matches("NT_PRSTATUS").count();
    ensure!(notes == cpus, "readelf finds {notes} CPU notes, not {cpus}");
    outcome.text("makedumpfile")?;
    outcome.text("dump-dmesg")?;
    for log in ["dmesg", "dump-log"] {
        ensure!(
            outcome.text(log)?.contains("Kernel panic - not syncing"),
            "the log of section {log} does not hold the panic"
        );
    }
    Ok(())
}
