//! What it costs grows no faster than what there is of: CPUs, log, records. Instructions are counted, so that
//! it is the same on a busy machine. The initial RAM disk's part is in `figures.rs`, since it takes machines;
//! 65,535 records are in `make bench`.

use anyhow::{Result, ensure};
use lastwords_vm::machine::{callgrind, lastwords, packages};
use lastwords_vm::scenarios::figures::read::records;
use lastwords_vm::scenarios::figures::words::{Kind, cost, words};
use std::fs;

/// Four times as much, and a tenth for what else there is.
fn is_linear(what: &str, once: u64, four_times: u64) -> Result<()> {
    println!("{what}: {once} instructions, for four times as much {four_times}");
    ensure!(four_times * 10 <= once * 44, "{what}: {once} instructions, for four times as much {four_times}");
    Ok(())
}

#[test]
fn a_report_grows_with_the_cpus_at_most() -> Result<()> {
    packages::install()?;
    let cost = cost()?;
    for kind in [Kind::Typical, Kind::Worst] {
        let [once, four_times] = [512, 2048].map(|cpus| words(&cost, cpus, 4, kind, &[]));
        is_linear(&format!("512 CPUs, {kind}"), once?.instructions, four_times?.instructions)?;
    }
    Ok(())
}

#[test]
fn a_report_grows_with_the_log_at_most() -> Result<()> {
    packages::install()?;
    let cost = cost()?;
    for kind in [Kind::Typical, Kind::Worst] {
        let [once, four_times] = [64, 256].map(|log| words(&cost, 1, log, kind, &[]));
        is_linear(&format!("64 KiB of log, {kind}"), once?.instructions, four_times?.instructions)?;
    }
    Ok(())
}

#[test]
fn reading_a_file_grows_with_its_records_at_most() -> Result<()> {
    packages::install()?;
    let folder = tempfile::tempdir()?;
    let read = |count: u32| -> Result<u64> {
        let file = folder.path().join("sel");
        fs::write(&file, records(count))?;
        let arguments = ["read", "--file", &file.display().to_string()];
        Ok(callgrind::count(lastwords::program()?, &arguments, None)?.instructions)
    };
    let counts = [1000, 4000, 16_000].map(read).into_iter().collect::<Result<Vec<_>>>()?;
    for pair in counts.windows(2) {
        is_linear("records", pair[0], pair[1])?;
    }
    Ok(())
}
