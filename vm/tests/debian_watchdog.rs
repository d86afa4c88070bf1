//! The watchdog that a crash starts, on a real Debian that dumps, boots and would be healthy: whoever stops it, and that the
//! BMC really resets the machine where nobody does.
//!
//! QEMU's BMC goes on counting across the reboot, as a real one may.

use anyhow::{Result, ensure};
use lastwords_vm::judge::watchdog::Watchdog;
use lastwords_vm::machine::debian::{Debian, Suite};
use lastwords_vm::scenarios::debian::{crash, enable, installed, told, wrapped_is_loaded};

/// Longer than a dump and a boot take.
const SECONDS: u32 = 400;

/// A program in the place of lastwords, which does nothing where this condition holds.
fn nothing_where(debian: &mut Debian, condition: &str) -> Result<()> {
    debian.run(&format!(
        "mv /usr/sbin/lastwords /usr/sbin/lastwords.real && cat >/usr/sbin/lastwords <<'END'\n\
         #!/bin/sh\n{condition} && exit 0\nexec /usr/sbin/lastwords.real \"$@\"\nEND\nchmod 755 /usr/sbin/lastwords"
    ))?;
    Ok(())
}

fn watchdog(debian: &mut Debian) -> Result<Watchdog> {
    Watchdog::parse(&debian.run("ipmitool mc watchdog get")?)
}

/// A crash on a machine whose watchdog is started by it, and that is up again.
fn crashed(nothing: Option<&str>) -> Result<Debian> {
    let mut debian = installed(Suite::Bookworm)?;
    enable(&mut debian, SECONDS)?;
    wrapped_is_loaded(&mut debian)?;
    if let Some(condition) = nothing {
        nothing_where(&mut debian, condition)?;
    }
    ensure!(crash(&mut debian)?.said.is_some());
    Ok(debian)
}

/// The machine is still the one that booted after the crash when the time is over.
fn lives_past_its_time(debian: &mut Debian) -> Result<()> {
    let stopped = watchdog(debian)?;
    ensure!(stopped.is_stopped(), "{stopped:?}");
    let boot = debian.run("cat /proc/sys/kernel/random/boot_id")?;
    // The whole time once more: the dump's start has restarted the countdown.
    for _ in 0..=SECONDS / 20 {
        debian.run("sleep 20")?;
    }
    ensure!(boot == debian.run("cat /proc/sys/kernel/random/boot_id")?);
    Ok(())
}

#[test]
#[ignore = "make test-all: debian::an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot looks whether it is stopped"]
fn the_dump_stops_the_watchdog_by_itself() -> Result<()> {
    // Nothing in the next boot.
    let mut debian = crashed(Some("[ ! -e /proc/vmcore ]"))?;
    lives_past_its_time(&mut debian)
}

#[test]
#[ignore = "make test-all: debian::an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot looks whether it is stopped"]
fn the_next_boot_stops_the_watchdog_of_a_dump_that_did_not() -> Result<()> {
    let mut debian = crashed(Some("[ -e /proc/vmcore ]"))?;
    debian.run("systemctl start lastwords-report.service")?;
    ensure!(told(&mut debian)?.len() == 1);
    let journal = debian.run("journalctl --boot --identifier=lastwords --no-pager")?;
    ensure!(journal.contains("watchdog"), "{journal}");
    lives_past_its_time(&mut debian)
}

#[test]
#[ignore = "make test-all: shows that the two before it can fail"]
fn stopped_by_nobody_the_watchdog_resets_a_healthy_machine() -> Result<()> {
    let mut debian = crashed(Some("true"))?;
    let counting = watchdog(&mut debian)?;
    ensure!(counting.counts(), "{counting:?}");
    // The BMC does it, and not the kernel.
    let before = debian.console.len();
    debian.come_up()?;
    let ends = |text: &str| text.contains("Kernel panic") || text.contains("reboot: ");
    ensure!(!debian.console[before..].iter().any(|line| ends(&line.text)));
    Ok(())
}
