//! A state that a scenario's machine comes to, made once for a build of lastwords and kept.

use crate::machine::gdb::{Debugger, Gdb};
use crate::machine::initramfs::Base;
use crate::machine::kernels::Kernel;
use crate::machine::qemu::Machine;
use crate::machine::{cache, lastwords, packages, snapshot};
use crate::scenarios::Scenario;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::path::PathBuf;

/// The line after which the machine is stopped.
const READY: &str = "bench: all is ready";

/// How a machine that is to be kept dies: what can be known of it stands on the console before.
pub(super) const DEATH: &str = "grep 'Crash kernel' /proc/iomem >/dev/console\n\
    echo \"panic is at 0x$(sed -n 's/ T panic$//p' /proc/kallsyms)\" >/dev/console\n\
    step all is ready\nsleep 1\npanic_on 0";

/// The state.
pub(super) struct KeptState {
    /// The machine.
    pub machine: Machine,
    /// The disk of states.
    pub file: PathBuf,
    /// What was noted of it.
    pub note: Vec<u64>,
}

/// What is known of a machine on which all is ready.
pub(super) struct Ready<'a> {
    /// The debugger.
    pub gdb: &'a mut Gdb,
    /// The reserved memory.
    pub reserved: Range<u64>,
    /// Address of the kernel's panic().
    pub panic: u64,
}

/// The state of this kind. A scenario whose death is [`DEATH`] is ready, and `stop` says at which address the state is to
/// be kept, and what is to be noted of it.
pub(super) fn keep(
    kind: &str,
    scenario: Scenario,
    stop: impl Fn(Ready<'_>) -> Result<(u64, Vec<u64>)>,
) -> Result<KeptState> {
    packages::install()?;
    let kernel = Kernel::get(scenario.release)?;
    let machine = scenario.machine(&kernel, &Base::get(&kernel)?, &std::env::temp_dir())?;
    let mut hasher = DefaultHasher::new();
    fs::read(lastwords::program()?)?.hash(&mut hasher);
    machine.options().hash(&mut hasher);
    (include_str!("kept.rs"), include_str!("../../guest/payload.s")).hash(&mut hasher);
    let prefix = snapshot::name(&format!("{kind}-"))?;
    let folder = cache::entry(&format!("{prefix}{:016x}", hasher.finish()), |folder| {
        // Of other builds.
        snapshot::remove(|name| name.starts_with(&prefix))?;
        fs::create_dir(folder)?;
        let states = folder.join("states");
        snapshot::disk(&states)?;
        let debugger = Debugger::new()?;
        let (mut reserved, mut panic, mut made) = (None, None, false);
        scenario.beside(&snapshot::disk_options(&states)).debugger(&debugger).watch(|vm, line| {
            reserved = reserved.take().or_else(|| crash_kernel(&line.text));
            panic = panic.or_else(|| address(line.text.strip_prefix("panic is at 0x")?));
            if line.text.contains(READY) {
                let mut gdb = debugger.connect()?;
                let reserved = reserved.clone().context("no memory is reserved")?;
                let ready = Ready { gdb: &mut gdb, reserved, panic: panic.context("no symbol panic")? };
                let (address, note) = stop(ready)?;
                gdb.go_to(address)?;
                let mut monitor = vm.monitor()?;
                snapshot::keep(&mut monitor)?;
                fs::write(folder.join("note"), serde_json::to_vec(&note)?)?;
                monitor.execute("quit", &json!({}))?;
                made = true;
            }
            Ok(())
        })?;
        ensure!(made, "the dump kernel was not loaded");
        Ok(())
    })?;
    let note = serde_json::from_slice(&fs::read(folder.join("note"))?)?;
    Ok(KeptState { machine, file: folder.join("states"), note })
}

/// `  15000000-16ffffff : Crash kernel`
pub(super) fn crash_kernel(line: &str) -> Option<Range<u64>> {
    let range = line.trim().strip_suffix(" : Crash kernel")?;
    let (start, end) = range.split_once('-')?;
    Some(address(start)?..address(end)? + 1)
}

fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim(), 16).ok()
}
