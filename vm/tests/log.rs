//! `--output-log`: the end of the dead kernel's log on the serial line is what vmcore-dmesg prints of the same crash.

use anyhow::{Result, ensure};
use lastwords_vm::judge::console;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// What lastwords wrote of the log: the lines between its own, which begin with its name.
fn said(outcome: &lastwords_vm::judge::outcome::Outcome) -> Vec<&str> {
    let lines = outcome.console.iter().map(|line| line.text.as_str());
    let behind = lines
        .skip_while(|line| !line.starts_with("lastwords: CPU "))
        .skip_while(|line| line.starts_with("lastwords:"));
    behind.take_while(|line| !line.starts_with("lastwords:")).collect()
}

fn check(release: Release, arm: Arm, bytes: usize) -> Result<()> {
    let outcome = Scenario::new(release).bmc(Bmc::None).arm(arm).dump("collect_vmcore").run()?;
    console::check(&outcome, 0)?;
    let dmesg: Vec<_> = outcome.text("dmesg")?.lines().collect();
    let said = said(&outcome);
    ensure!(
        dmesg.ends_with(&said),
        "said {said:#?}, the log ends {:#?}",
        &dmesg[dmesg.len().saturating_sub(said.len())..]
    );
    // As many as fit, and the panic among them.
    let len: usize = said.iter().map(|line| line.len()).sum();
    ensure!((bytes / 3..=bytes + 400).contains(&len), "{len} of {bytes} bytes");
    ensure!(said.iter().any(|line| line.contains("Kernel panic - not syncing: sysrq")), "{said:#?}");
    Ok(())
}

#[test]
#[ignore = "make test-all: more_of_a_newer_kernel shows it"]
fn a_few_kilobytes() -> Result<()> {
    check(Release::V6_1, Arm::Lastwords("--output-cpu-ip=console --output-log".to_owned()), 4096)
}

#[test]
fn more_of_a_newer_kernel() -> Result<()> {
    let options = "--output-cpu-ip=console --output-log=8K".to_owned();
    check(Release::V6_12, Arm::Wrapped(Call::Load, options), 8192)
}
