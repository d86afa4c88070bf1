//! Figures that are promised: counted in instructions and bytes, so that they are the same on a busy machine.
//! `make bench` has all of them, of the release's program.

use anyhow::{Result, ensure};
use lastwords_vm::machine::lastwords;
use lastwords_vm::scenarios::figures::entry::{Way, entry_to_entry};
use lastwords_vm::scenarios::figures::load::{Loader, loads};

/// Entry to entry, with a report, at most a fiftieth of what kexec-tools' purgatory takes for its SHA-256.
fn is_a_fiftieth_of_stock(mib: u64) -> Result<()> {
    let entry = |way| entry_to_entry(lastwords::program()?, way, mib);
    let (stock, words) = (entry(Way::KexecLoad)?, entry(Way::PurgatoryWords)?);
    println!("{mib} MiB: {words} instructions, kexec -p -c {stock}: 1/{}", stock / words);
    ensure!(words * 50 <= stock, "{words} instructions, kexec -p -c {stock}");
    Ok(())
}

#[test]
#[ignore = "make test-all: two machines that check an initial RAM disk; make bench has the figure, growth.rs what it grows with"]
fn with_16_mib() -> Result<()> {
    is_a_fiftieth_of_stock(16)
}

#[test]
#[ignore = "make test-all: two machines that check a large initial RAM disk, as with_16_mib"]
fn with_64_mib() -> Result<()> {
    is_a_fiftieth_of_stock(64)
}

#[test]
#[ignore = "make test-all: two machines that check a large initial RAM disk, as with_16_mib"]
fn with_256_mib() -> Result<()> {
    is_a_fiftieth_of_stock(256)
}

#[test]
#[ignore = "make test-all: two machines; growth.rs has what grows without one"]
fn the_way_to_the_dump_kernel_grows_with_the_initial_ram_disk_at_most() -> Result<()> {
    let entry = |mib| entry_to_entry(lastwords::program()?, Way::Purgatory, mib);
    let (once, four_times) = (entry(64)?, entry(256)?);
    ensure!(four_times * 10 <= once * 44, "{once} instructions, with four times as much {four_times}");
    Ok(())
}

/// Loading in a tenth of `kexec -p -c`'s instructions, the first time an eighth, with at most 20 MB of
/// memory.
fn loads_in_a_tenth(mib: u64) -> Result<()> {
    let loads = loads(lastwords::program()?, mib)?;
    let stock = loads[0].instructions;
    for (loader, load) in Loader::ALL.iter().zip(&loads).skip(2) {
        println!("{mib} MiB, {loader}: {load:?}, kexec -p -c {stock}");
        let part = if *loader == Loader::First { 8 } else { 10 };
        ensure!(load.instructions * part <= stock, "{loader}: {load:?}, kexec -p -c {stock} instructions");
        ensure!(load.memory <= 20_000_000, "{loader}: {load:?}");
    }
    Ok(())
}

#[test]
#[ignore = "make test-all: kexec-tools' SHA-256 in an emulated CPU, twice"]
fn loading_64_mib() -> Result<()> {
    loads_in_a_tenth(64)
}
