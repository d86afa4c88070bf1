//! Figures that are promised: counted in instructions, so that they are the same on a busy machine.

use anyhow::{Result, ensure};
use lastwords_vm::scenarios::figures::{Way, entry_to_entry};

/// Entry to entry, with a report, at most a fiftieth of what kexec-tools' purgatory takes for its SHA-256.
fn is_a_fiftieth_of_stock(mib: u64) -> Result<()> {
    let (stock, words) = (entry_to_entry(Way::Stock, mib)?, entry_to_entry(Way::Words, mib)?);
    println!("{mib} MiB: {words} M instructions, kexec -p -c {stock} M: 1/{:.0}", stock / words);
    ensure!(words * 50.0 <= stock, "{words} M instructions, kexec -p -c {stock} M");
    Ok(())
}

#[test]
#[ignore = "make test-all: two machines that check a large initial RAM disk"]
fn with_16_mib() -> Result<()> {
    is_a_fiftieth_of_stock(16)
}

#[test]
#[ignore = "make test-all: two machines that check a large initial RAM disk"]
fn with_64_mib() -> Result<()> {
    is_a_fiftieth_of_stock(64)
}

#[test]
#[ignore = "make test-all: two machines that check a large initial RAM disk"]
fn with_256_mib() -> Result<()> {
    is_a_fiftieth_of_stock(256)
}
