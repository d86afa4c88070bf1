//! `make bench`: the figures beside the stock tool's.

use anyhow::Result;
use lastwords_vm::machine::packages;
use lastwords_vm::scenarios::figures::{Way, digests, loads, panic_to_entry, sizes};

fn main() -> Result<()> {
    packages::install()?;
    let (ours, stock) = sizes()?;
    println!(
        "Bytes that are loaded as the purgatory\n    lastwords   {ours:>8}\n    kexec-tools {stock:>8}\n"
    );

    println!("SHA-256, MB/s on this host");
    for (name, speed) in digests()? {
        println!("    {name:<46} {speed:>6.0}");
    }

    let (ours, stock) = loads()?;
    println!("\nLoading the dump kernel in an emulated machine (median of 5, in turn)");
    for (name, load) in [("lastwords load", ours), ("kexec -p -c", stock)] {
        println!("    {name:<14} {:>6.2} s, {:>7} KiB at most", load.seconds, load.peak);
    }

    println!("\nFrom the panic to the dump kernel's entry, million guest instructions");
    println!("    initrd      kexec -p -c    lastwords, silent    lastwords, all words");
    for mib in [16, 64] {
        let count = |way| panic_to_entry(way, mib);
        let (stock, silent, words) = (count(Way::Stock)?, count(Way::Silent)?, count(Way::Words)?);
        println!("    {mib:>3} MiB {stock:>15.1} {silent:>20.1} {words:>23.1}");
    }
    Ok(())
}
