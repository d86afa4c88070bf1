//! How long it is from the purgatory's first instruction to the dump kernel's.

use crate::judge::image::{HEADER, Image};
use crate::judge::segments::Segments;
use crate::machine::bmc::Bmc;
use crate::machine::count::Counter;
use crate::machine::gdb::Debugger;
use crate::machine::kernels::Release;
use crate::scenarios::{Arm, Scenario};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// How the dump kernel is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `kexec -p -c`.
    Stock,
    /// `lastwords load`, with nothing to say.
    Silent,
    /// `lastwords load` with everything.
    Words,
    /// The same with `--digest sha256`.
    Sha256,
}

/// Millions of guest instructions from entry to entry, with an initial RAM disk of `mib` MiB and one CPU.
///
/// # Errors
/// When the machine does not come there.
pub fn entry_to_entry(way: Way, mib: u64) -> Result<f64> {
    let counter = Counter::new()?;
    let debugger = Debugger::new()?;
    let ours = "lastwords load --via purgatory --verbose";
    let words = "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=120 --console-serial";
    let (load, words) = match way {
        Way::Stock => ("kexec -p -c -d".to_owned(), ""),
        Way::Silent => (ours.to_owned(), ""),
        Way::Words => (ours.to_owned(), words),
        Way::Sha256 => (format!("{ours} --digest sha256"), words),
    };
    // Zeros behind an initial RAM disk are passed over when it is unpacked.
    let grow = format!("truncate -s {} /boot/initrd", mib << 20);
    let scenario = Scenario::new(Release::V6_1)
        .cpus(1)
        .memory(2048)
        .first_append("crashkernel=640M")
        .bmc(Bmc::Simulator)
        .beside(&counter.options())
        .debugger(&debugger)
        .arm(Arm::Not)
        .lastwords_at_hand()
        .limit(Duration::from_secs(900))
        .death(&format!(
            "{grow}\n{load} /boot/vmlinuz --initrd=/boot/initrd --append='console=ttyS0 quiet nr_cpus=1' {words} \
             >/tmp/load 2>&1 || step not armed\ngrep -E '^segment|kernel at 0x|entry = ' /tmp/load >/dev/console\n\
             step the dump kernel is loaded\nsleep 1\npanic_on 0"
        ))
        .dump("step the dump kernel is up");
    let mut segments = Segments::default();
    let mut purgatory = None;
    let outcome = scenario.watch(|_, line| {
        segments.read(&line.text);
        // `kexec_load: entry = 0x39fff730 flags = 0x3e0001`
        if let Some((_, entry)) = line.text.split_once("entry = 0x") {
            let digits = entry.split(' ').next().context("no address")?;
            purgatory = Some(u64::from_str_radix(digits, 16)?);
        }
        if line.text.contains("the dump kernel is loaded") && way != Way::Stock {
            let mut gdb = debugger.connect()?;
            let image = segments.get("image")?.start;
            purgatory = Some(image + Image::find(&gdb.read(image, HEADER)?)?.purgatory_entry()?);
            gdb.detach()?;
        }
        Ok(())
    })?;
    ensure!(outcome.when("the dump kernel is up").is_some(), "the dump kernel did not start: {outcome}");
    let count = counter.between(purgatory.context("the machine was not armed")?, segments.entry()?)?;
    Ok(count as f64 / 1e6)
}
