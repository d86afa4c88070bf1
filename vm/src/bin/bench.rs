//! `make bench`: the figures beside the stock tool's.

use anyhow::Result;
use lastwords_vm::machine::{lastwords, packages};
use lastwords_vm::scenarios::figures::{Loader, Way, digests, entry_to_entry, loads, sizes};

fn main() -> Result<()> {
    packages::install()?;
    let (ours, stock) = sizes()?;
    println!(
        "Bytes that are loaded as the purgatory\n    lastwords   {ours:>8}\n    kexec-tools {stock:>8}\n"
    );

    println!("Checksum, MB/s on this host");
    for (name, speed) in digests()? {
        println!("    {name:<46} {speed:>6.0}");
    }

    let program = lastwords::release()?;
    println!("\nLoading the dump kernel: million guest instructions, KiB of memory at most");
    for mib in [16, 64, 256] {
        for (loader, load) in Loader::ALL.iter().zip(loads(&program, mib)?) {
            println!(
                "    {mib:>3} MiB {loader:>24} {:>10} {:>10}",
                load.instructions / 1_000_000,
                load.memory >> 10
            );
        }
    }

    println!("\nFrom the purgatory's entry to the dump kernel's, million guest instructions");
    println!("    initrd      kexec -p -c    lastwords, silent    all words    all words, SHA-256");
    for mib in [16, 64, 256] {
        let [stock, silent, words, sha256] =
            [Way::Stock, Way::Silent, Way::Words, Way::Sha256].map(|way| entry_to_entry(way, mib));
        println!("    {mib:>3} MiB {:>15.1} {:>20.1} {:>12.1} {:>21.1}", stock?, silent?, words?, sha256?);
    }
    Ok(())
}
