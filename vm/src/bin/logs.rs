//! Collects the logs that core's tests read: each kind of crash on each kernel, as `vmcore-dmesg` finds it.
//!
//! `cargo run -p lastwords-vm --bin logs -- core/tests/data [KIND...]`

use anyhow::{Context, Result, bail};
use lastwords_vm::machine::kernels::{Kernel, Release};
use lastwords_vm::scenarios::Scenario;
use lastwords_vm::scenarios::crash_kinds::Kind;
use std::fs;
use std::path::Path;

/// So many lines at the end are kept: a whole stack overflow, and of the others some of the boot before them.
const LINES: usize = 200;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("which folder?")?;
    let wanted: Vec<String> = arguments.collect();
    for kind in Kind::ALL {
        if !wanted.is_empty() && !wanted.contains(&kind.to_string()) {
            continue;
        }
        for release in Release::ALL {
            let series = Kernel::get(release)?.series();
            let file = Path::new(&folder).join(format!("log-{kind}-{series}.txt"));
            match log(kind, release) {
                Ok(log) => fs::write(&file, log)?,
                Err(error) => eprintln!("{kind} on {release}: {error:#}"),
            }
            eprintln!("{}", file.display());
        }
    }
    Ok(())
}

fn log(kind: Kind, release: Release) -> Result<String> {
    let outcome = Scenario::new(release)
        .death(&kind.death())
        .dump("section dmesg vmcore-dmesg /proc/vmcore")
        .watch(|vm, line| kind.act(vm, line))?;
    if !outcome.dumped() {
        bail!("no dump; {outcome}");
    }
    let lines: Vec<&str> = outcome.text("dmesg")?.trim_end().lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n") + "\n")
}
