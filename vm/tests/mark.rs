//! `lastwords mark` in the dump kernel, with and without the driver: what it adds stands behind the crash's words, and
//! the watchdog does what it was told.

use anyhow::{Result, ensure};
use lastwords_vm::judge::watchdog::Watchdog;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::recording::Answer;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// The texts of ipmitool's list, without what stands before them.
fn texts(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| Some(line.rsplit_once(" | ")?.1.trim())).collect()
}

#[test]
fn marks_by_the_ports_and_by_the_driver() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .lastwords_at_hand()
        .arm(Arm::Wrapped(Call::FileLoad, "--ipmi-handle-panic --ipmi-watchdog start=120".to_owned()))
        .dump(
            "\
section started lastwords mark started --ipmi-watchdog start=1800
section ipmi ipmi
section longer ipmitool mc watchdog get
section fed lastwords mark --ipmi-watchdog feed
section saved lastwords mark saved --ipmi-watchdog stop
section stopped ipmitool mc watchdog get
section sel ipmitool sel elist",
        )
        .run()?;
    let longer = Watchdog::parse(outcome.text("longer")?)?;
    ensure!(longer.counts() && longer.initial == 18000, "{longer:?}");
    let stopped = Watchdog::parse(outcome.text("stopped")?)?;
    ensure!(!stopped.counts(), "{stopped:?}");
    ensure!(outcome.text("fed")?.trim() == "watchdog: countdown restarted");
    let texts = texts(outcome.text("sel")?);
    ensure!(
        texts.ends_with(&["Linux kernel panic: dump start", "Linux kernel panic: dump saved"]),
        "{texts:?}"
    );
    Ok(())
}

/// A BMC that answers the image and then never again: the dump's script goes on.
#[test]
fn a_mute_bmc_does_not_hold_the_dump_up() -> Result<()> {
    let mute = Box::new(|_: &_| Answer::Silence);
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(mute))
        .lastwords_at_hand()
        .dump("section mark lastwords mark started --timeout 3")
        .run()?;
    ensure!(outcome.dumped());
    let mark = outcome.section("mark")?;
    ensure!(mark.status == 1 && mark.text.contains("did not answer"), "{}: {}", mark.status, mark.text);
    Ok(())
}
