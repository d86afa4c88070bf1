//! Memory-mapped registers: page-table entries of our own, with four levels and with five. QEMU has no BMC in memory. The
//! VGA's memory stands in for one that is stuck in any state that is written there before; the words say which
//! state was seen, and the dump is good.

use anyhow::{Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::{console, dump};
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// The status register reads `status` until somebody writes to it. Its address is in the text screen, which the image's
/// page tables map for itself alone.
fn crash(release: Release, cpu: &str, arm: fn(String) -> Arm, status: u8) -> Result<Outcome> {
    let options =
        "--ipmi-handle-panic --output-cpu-ip=console --ipmi-timeout 1 --ipmi-kcs-ports mmio:0xb9f00,4";
    let outcome = Scenario::new(release)
        .bmc(Bmc::None)
        .cpu(cpu)
        .arm(arm(options.to_owned()))
        .before(&format!("printf '\\{status:o}' | dd of=/dev/mem bs=1 seek=$((0xb9f04)) conv=notrunc"))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    dump::check(&outcome, 2)?;
    console::check(&outcome, 0)?;
    let said = console::lines(&outcome);
    ensure!(!said.iter().any(|line| line.contains("exception")), "{said:#?}");
    Ok(outcome)
}

fn says(outcome: &Outcome, line: &str) -> Result<()> {
    let said = console::lines(outcome);
    ensure!(said.iter().any(|one| one.starts_with(line)), "nobody says {line:?}: {said:#?}");
    Ok(())
}

#[test]
fn a_stuck_register_behind_four_levels() -> Result<()> {
    let outcome = crash(Release::V6_1, "max,la57=off,erms=off", Arm::Lastwords, 0x02)?;
    says(&outcome, "platform event: the BMC does not respond")
}

/// The HPET, which no kexec page table maps: without entries of our own it would be exception 14. What it reads as in
/// single bytes differs from one QEMU to the other.
#[test]
#[ignore = "make test-all: a_stuck_register_behind_four_levels has page-table entries of its own, too"]
fn a_device_outside_of_ram() -> Result<()> {
    let outcome = Scenario::new(Release::V6_1)
        .bmc(Bmc::None)
        // `load` refuses what it sees to be another device's.
        .before("grep -v -e HPET -e PNP0103 /proc/iomem >/tmp/iomem; mount --bind /tmp/iomem /proc/iomem")
        .arm(Arm::Lastwords(
            "--ipmi-handle-panic --ipmi-timeout 1 --ipmi-kcs-ports mmio:0xfed00000,4".to_owned(),
        ))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    dump::check(&outcome, 2)?;
    says(&outcome, "platform event: the BMC")
}

#[test]
fn nobody_there_behind_five_levels_in_the_wrapped_way() -> Result<()> {
    let wrapped = |options| Arm::Wrapped(Call::FileLoad, options);
    let outcome = crash(Release::V6_12, "max,la57=on,erms=off", wrapped, 0xff)?;
    says(&outcome, "platform event: register mmio:0xb9f04 reads 0xff, no BMC answers there")
}
