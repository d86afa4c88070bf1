//! Collects the logs that core's tests read: each kind of crash on each kernel, record by record with who wrote each.
//!
//! The first line says who panicked. A record is `[seconds][caller] text`, the caller `T` and a process or `C` and a CPU.
//! A line without a stamp belongs to the record before it.
//!
//! `cargo run -p lastwords-vm --bin logs -- core/tests/data [KIND...] [RELEASE...]`

use anyhow::{Context, Result, bail};
use lastwords_vm::judge::dmesg::{self, Dmesg};
use lastwords_vm::machine::kernels::{Kernel, Release};
use lastwords_vm::scenarios::Scenario;
use lastwords_vm::scenarios::crash_kinds::Kind;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// So many lines at the end are kept: a whole stack overflow, and of the others some of the boot before them.
const LINES: usize = 200;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("which folder?")?;
    let wanted: Vec<String> = arguments.collect();
    let chosen = |all: &[String], one: &String| {
        wanted.contains(one) || !all.iter().any(|other| wanted.contains(other))
    };
    let kinds = Kind::ALL.map(|kind| kind.to_string());
    let releases = Release::ALL.map(|release| release.to_string());
    for (kind, _) in Kind::ALL.into_iter().zip(&kinds).filter(|(_, name)| chosen(&kinds, name)) {
        for (release, _) in
            Release::ALL.into_iter().zip(&releases).filter(|(_, name)| chosen(&releases, name))
        {
            if !kind.is_on(release) {
                continue;
            }
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
        .log_at_hand()
        .limit(Duration::from_secs(300))
        .death(&kind.death())
        .dump("section log vmcore-log")
        .watch(|vm, line| kind.act(vm, line))?;
    if !outcome.dumped() {
        bail!("no dump; {outcome}");
    }
    let log = outcome.text("log")?;
    let lines: Vec<&str> = log.trim_end().lines().collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    // Another CPU may have reported at the same time.
    let oops = dmesg::from(log, "BUG: kernel NULL pointer");
    let (cpu, pid) = Dmesg::parse(oops.as_deref().unwrap_or(log)).panicked().unwrap_or_default();
    Ok(format!("panicked: CPU {cpu} PID {pid}\n{end}\n"))
}
