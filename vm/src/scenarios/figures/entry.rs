//! How long it is from the panic to the dump kernel's entry.

use crate::judge::segments::Segments;
use crate::machine::bmc::Bmc;
use crate::machine::gdb::Debugger;
use crate::machine::kernels::Release;
use crate::machine::monitor::Monitor;
use crate::scenarios::{Arm, Scenario};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// How the dump kernel is loaded for the way from panic to entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `kexec -p -c`.
    Stock,
    /// `lastwords load`, with nothing to say.
    Silent,
    /// `lastwords load` with everything.
    Words,
}

/// Millions of guest instructions from the panic to the dump kernel's entry point, with an initial RAM disk of `mib` MiB: one CPU,
/// and a virtual clock that goes on by a nanosecond an instruction (`-icount shift=0`). Read from the ACPI PM timer,
/// so that it is right within 280 instructions.
///
/// # Errors
/// When the machine does not come there.
pub fn panic_to_entry(way: Way, mib: u64) -> Result<f64> {
    let debugger = Debugger::new()?;
    let (load, words) = match way {
        Way::Stock => ("kexec -p -c -d", ""),
        Way::Silent => ("lastwords load --via purgatory --verbose", ""),
        Way::Words => (
            "lastwords load --via purgatory --verbose",
            "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=120 --console-serial",
        ),
    };
    // Zeros behind an initial RAM disk are passed over when it is unpacked.
    let grow = format!("truncate -s {} /boot/initrd", mib << 20);
    let scenario = Scenario::new(Release::V6_1)
        .cpus(1)
        .first_append("crashkernel=384M")
        .bmc(Bmc::Simulator)
        .qemu(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"])
        .debugger(&debugger)
        .boots_here()
        .arm(Arm::Not)
        .lastwords_at_hand()
        .limit(Duration::from_secs(900))
        .death(&format!(
            "{grow}\n{load} /boot/vmlinuz --initrd=/boot/initrd --append='console=ttyS0 quiet nr_cpus=1' {words} \
             >/tmp/load 2>&1 || step not armed\ngrep -E '^segment|kernel at 0x' /tmp/load >/dev/console\n\
             echo \"panic is at 0x$(sed -n 's/ T panic$//p' /proc/kallsyms)\" >/dev/console\n\
             step the dump kernel is loaded\nsleep 1\npanic_on 0"
        ));
    let mut segments = Segments::default();
    let mut panic = None;
    let mut took = None;
    scenario.watch(|vm, line| {
        segments.read(&line.text);
        if let Some((_, address)) = line.text.split_once("panic is at 0x") {
            panic = Some(u64::from_str_radix(address.trim(), 16)?);
        }
        if line.text.contains("the dump kernel is loaded") {
            let mut gdb = debugger.connect()?;
            let mut monitor = vm.monitor()?;
            gdb.go_to(panic.context("no symbol panic")?)?;
            let (began, began_second) = (pm_timer(&mut monitor)?, rtc_second(&mut monitor)?);
            gdb.go_to(segments.entry()?)?;
            let (ticks, second) = (pm_timer(&mut monitor)?, rtc_second(&mut monitor)?);
            // The PM timer is fine, but counts to 2^24 only, which is 4.7 s; the RTC tells how often it has.
            let fine = f64::from(ticks.wrapping_sub(began) & 0xff_ffff) / PM_HZ;
            let coarse = f64::from((second + 60 - began_second) % 60);
            let turn = f64::from(1 << 24) / PM_HZ;
            let turns = ((coarse - fine) / turn).round().max(0.0);
            took = Some((fine + turns * turn) * 1e9);
            monitor.execute("quit", &serde_json::json!({}))?;
        }
        Ok(())
    })?;
    let took = took.context("the machine was not armed")?;
    ensure!(took > 0.0, "the clock stood still");
    Ok(took / 1e6)
}

/// Ticks a second of the ACPI PM timer (ACPI 6.5, 4.8.3.3).
const PM_HZ: f64 = 3_579_545.0;

/// The RTC's seconds, in BCD.
fn rtc_second(monitor: &mut Monitor) -> Result<u32> {
    monitor.human("o /b 0x70 0")?;
    let text = monitor.human("i /b 0x71")?;
    let value = text.rsplit("0x").next().context("no RTC")?;
    value.trim().parse().with_context(|| format!("no RTC: {text}"))
}

/// The ACPI PM timer of QEMU's q35.
fn pm_timer(monitor: &mut Monitor) -> Result<u32> {
    // `portl[0x0608] = 0x1234567`
    let text = monitor.human("i /w 0x608")?;
    let value = text.rsplit("0x").next().context("no PM timer")?;
    u32::from_str_radix(value.trim(), 16).with_context(|| format!("no PM timer: {text}"))
}
