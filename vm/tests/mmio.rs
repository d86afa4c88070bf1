//! Memory-mapped registers: page-table entries of our own, with four levels and with five. QEMU has no BMC in memory, but
//! it has a HPET, whose registers stand in for one that is broken in known ways; the words say which way was seen, and
//! the dump is good.

use anyhow::{Result, ensure};
use lastwords_vm::kernels::Release;
use lastwords_vm::scenario::{Arm, Bmc, Call, Outcome, Scenario};
use lastwords_vm::words;

fn crash(release: Release, cpu: &str, arm: fn(String) -> Arm, registers: &str) -> Result<Outcome> {
    let options =
        format!("--ipmi-handle-panic --output-cpu-ip=console --ipmi-timeout 1 --ipmi-kcs-ports {registers}");
    let outcome = Scenario::new(release)
        .bmc(Bmc::None)
        .cpu(cpu)
        .arm(arm(options))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    words::check_dump(&outcome, 2)?;
    words::check_console(&outcome, 0)?;
    let said = words::console(&outcome);
    ensure!(!said.iter().any(|line| line.contains("exception")), "{said:#?}");
    Ok(outcome)
}

fn says(outcome: &Outcome, line: &str) -> Result<()> {
    let said = words::console(outcome);
    ensure!(said.iter().any(|one| one.starts_with(line)), "nobody says {line:?}: {said:#?}");
    Ok(())
}

/// Byte 1 of the HPET's capabilities is 0xa2: IBF is set for ever.
#[test]
fn a_stuck_register_behind_four_levels() -> Result<()> {
    let outcome = crash(Release::V6_1, "max,la57=off,erms=off", Arm::Lastwords, "mmio:0xfed00000")?;
    says(&outcome, "platform event: the BMC does not answer in time")
}

/// Byte 4, the lowest of the HPET's period of 10,000,000 fs, is 0x80: WRITE_STATE for ever, and IBF clear.
#[test]
fn another_one_behind_five_levels_in_the_wrapped_way() -> Result<()> {
    let wrapped = |options| Arm::Wrapped(Call::FileLoad, options);
    let outcome = crash(Release::V6_12, "max,la57=on,erms=off", wrapped, "mmio:0xfed00000,4")?;
    says(&outcome, "platform event: the BMC answers out of step")
}

/// Between the I/O APIC and the HPET nobody answers.
#[test]
fn nobody_there() -> Result<()> {
    let outcome = crash(Release::V6_12, "max,la57=off,erms=off", Arm::Lastwords, "mmio:0xfec80ca2")?;
    says(&outcome, "platform event: register mmio:0xfec80ca3 reads 0xff, no BMC answers there")
}
