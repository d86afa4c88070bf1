//! `make bench`: all figures of docs/performance.md beside the stock tools', and whether the aims hold. It
//! exits with 1 when one does not.
//!
//! With names of parts as arguments: these alone. Page and plots are then in `vm/bench` in cargo's target
//! folder.

use anyhow::{Result, ensure};
use lastwords_vm::machine::kernels::{Kernel, Release};
use lastwords_vm::machine::{cache, lastwords, packages, process, qemu};
use lastwords_vm::scenarios::figures::{Page, digest, entry, load, read, size, words};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const PARTS: [&str; 6] = ["entry", "load", "report", "read", "size", "digest"];

fn main() -> Result<ExitCode> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        ensure!(PARTS.contains(&&**name), "no part is named {name}: {}", PARTS.join(", "));
    }
    packages::install()?;
    let program = lastwords::release()?;
    let folder = if wanted.is_empty() {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))
    } else {
        cache::target()?.join("vm/bench")
    };
    fs::create_dir_all(&folder)?;
    let mut page = Page::new(folder);
    for name in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let began = Instant::now();
        part(name, &mut page, &program)?;
        eprintln!("bench: {name}: {} s", began.elapsed().as_secs());
    }
    page.section("How it is measured", &method()?);
    Ok(if page.finish()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn part(name: &str, page: &mut Page, program: &Path) -> Result<()> {
    match name {
        "entry" => entry::report(page, program),
        "load" => load::report(page, program),
        "report" => words::report(page),
        "read" => read::report(page, program),
        "size" => size::report(page, program),
        _ => digest::report(page),
    }
}

fn method() -> Result<String> {
    let first = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
    let qemu = first(process::text(Command::new(qemu::PROGRAM).arg("--version"))?);
    let kexec = first(process::text(Command::new("kexec").arg("--version"))?);
    let valgrind = first(process::text(Command::new("valgrind").arg("--version"))?);
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).unwrap_or_default().1;
    Ok(format!(
        "- Instructions are counted, not seconds. The same build gives the same figures on every host, busy or not.
- Guest instructions are counted by a plugin of the emulator (`vm/plugin/count.c`). The machine has one CPU without SHA
  instructions, no KVM and no debugger. Its clock counts instructions, so that timer interrupts are as frequent in each run.
- A string instruction (`rep movs`) counts once for each repetition, for every tool.
- A command is counted from before it is started until it has ended. It runs in a memory cgroup, as a service does.
- The report's instructions are counted by callgrind (`core/examples/cost.rs`).
- Linux {}, {kexec}, {qemu}, {valgrind}. Host CPU: {cpu}.",
        Kernel::get(Release::V6_1)?.version
    ))
}
