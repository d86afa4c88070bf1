//! Which CPU panicked, on machines where the local APIC ids are not the kernel's numbers: two sockets of three cores
//! have the ids 0, 1, 2, 4, 5, 6. Right where something tells, and no guess where nothing does.
//!
//! Linux 6.12 alone: 6.1 hangs on such a machine when QEMU emulates it, early in its boot.

use anyhow::{Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::{console, sel_text};
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// CPU 4, whose local APIC id is 5.
const PANICKED: usize = 4;
const OPTIONS: &str = "--output-cpu-ip";
/// Linux keeps its number of a CPU in the register that these two instructions read.
const WITHOUT_NUMBER: &str = "max,la57=off,erms=off,-rdtscp,-rdpid";
const WITH_NUMBER: &str = "max,la57=off,erms=off";

fn crash(cpu: &str, arm: Arm) -> Result<Outcome> {
    let outcome = Scenario::new(Release::V6_12)
        .cpus(6)
        .topology("sockets=2,cores=3")
        .cpu(cpu)
        .arm(arm)
        .before("section cpuinfo grep apicid /proc/cpuinfo")
        .death("panic_on 4")
        .dump("collect_bmc\ncollect_vmcore")
        .run()?;
    let ids: Vec<_> = outcome
        .text("cpuinfo")?
        .lines()
        .filter(|line| line.starts_with("apicid"))
        .filter_map(|line| line.split(": ").nth(1))
        .collect();
    ensure!(ids == ["0", "1", "2", "4", "5", "6"], "the machine has the local APIC ids {ids:?}");
    Ok(outcome)
}

fn check(outcome: &Outcome, panicked: Option<usize>) -> Result<()> {
    console::check(outcome, panicked)?;
    sel_text::check_cpus(outcome, &outcome.sel()?, panicked)?;
    let headline = console::lines(outcome).first().copied().unwrap_or_default().to_owned();
    let expected = match panicked {
        Some(number) => format!(" died on CPU {number}"),
        None => " died on a CPU that nothing tells, local APIC id 5".to_owned(),
    };
    ensure!(headline.ends_with(&expected), "the headline is {headline:?}");
    Ok(())
}

#[test]
fn lastwords_load_passes_the_ids() -> Result<()> {
    let outcome = crash(WITHOUT_NUMBER, Arm::Lastwords(OPTIONS.to_owned()))?;
    let cmdline = outcome.text("cmdline")?;
    ensure!(cmdline.contains("lastwords.apic_ids=0-2,4-6"), "the command line is {cmdline}");
    check(&outcome, Some(PANICKED))
}

#[test]
fn linux_own_number_is_enough() -> Result<()> {
    let arm = Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned());
    check(&crash(WITH_NUMBER, arm)?, Some(PANICKED))
}

#[test]
fn where_nothing_tells_nothing_is_guessed() -> Result<()> {
    let arm = Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned());
    check(&crash(WITHOUT_NUMBER, arm)?, None)
}
