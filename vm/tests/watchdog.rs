//! The BMC's watchdog across a crash, with the consequences: the machine is reset, or lives.
//!
//! A reset ends QEMU (`-no-reboot`), and what the dump kernel would still have done is not done.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::{Asked, Watchdog as Asks};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::watchdog::Watchdog;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// A first kernel whose IPMI watchdog runs with the driver's default of 10 s when it panics. The dump takes longer.
fn dies_under_its_watchdog(release: Release, options: &str) -> Result<Outcome> {
    let outcome = Scenario::new(release)
        .arm(Arm::Wrapped(Call::FileLoad, options.to_owned()))
        .before("ipmi; insmod /modules/ipmi_watchdog.ko")
        // The timer starts with the first heartbeat.
        .death("exec 3>/dev/watchdog; echo >&3; section first ipmitool mc watchdog get; panic_on 0")
        .dump("collect_bmc\nsleep 12\ncollect_vmcore")
        .run()?;
    let first = Watchdog::parse(outcome.text("first")?)?;
    ensure!(first.initial == 100 && first.present > 0, "the first kernel's watchdog is {first:?}");
    Ok(outcome)
}

#[test]
#[ignore = "make test-all: it is about plain kdump"]
fn without_a_word_the_bmc_resets_the_machine_in_the_middle_of_the_dump() -> Result<()> {
    let outcome = dies_under_its_watchdog(Release::V6_1, "")?;
    ensure!(outcome.when("Kernel panic").is_some());
    ensure!(!outcome.dumped(), "the machine lived past its watchdog");
    Ok(())
}

fn stopped_the_dump_kernel_lives(release: Release) -> Result<()> {
    let asked = Asked { watchdog: Asks::Stop, ..Asked::NOTHING };
    let outcome = dies_under_its_watchdog(release, &asked.options())?;
    ensure!(outcome.dumped(), "the machine did not live past its watchdog");
    asked.check_console(&outcome, 0)?;
    asked.check_bmc(&outcome, 0, true)
}

#[test]
#[ignore = "make test-all: Linux 6.12 is in make test"]
fn stopped_the_dump_kernel_lives_linux_6_1() -> Result<()> {
    stopped_the_dump_kernel_lives(Release::V6_1)
}

#[test]
fn stopped_the_dump_kernel_lives_linux_6_12() -> Result<()> {
    stopped_the_dump_kernel_lives(Release::V6_12)
}

#[test]
fn started_it_resets_a_machine_whose_dump_kernel_hangs() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .arm(Arm::Wrapped(Call::FileLoad, "--ipmi-watchdog start=25".to_owned()))
        .dump("collect_bmc\nstep hanging\nsleep 100000")
        .run()?;
    ensure!(outcome.when("bench: hanging").is_some(), "the dump kernel did not come so far");
    ensure!(!outcome.dumped());
    let watchdog = Watchdog::parse(outcome.text("watchdog")?)?;
    ensure!(watchdog.initial == 250 && watchdog.counts(), "the watchdog is {watchdog:?}");
    Ok(())
}
