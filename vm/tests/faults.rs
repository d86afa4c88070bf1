//! The faults of `make faults` that tell most: whatever goes wrong, the dump kernel is up, the dump is good, and what can
//! be said is said. That it is soon enough stands in docs/reliability.md.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::{console, dump, sel_text};
use lastwords_vm::scenarios::faults::{End, Fault, Run, Way};

/// Makes it happen, and checks the dump, the words' beginning and end on the console, and the CPUs there.
fn survives(fault: Fault, way: Way) -> Result<Run> {
    let run = fault.run(way, "collect_vmcore\ncollect_dump")?;
    for line in &run.console {
        println!("{:8.3} {}", line.at.as_secs_f64(), line.text);
    }
    ensure!(matches!(run.end, End::Up(_)), "no dump: {:?}", run.end);
    dump::check(run.outcome()?, fault.cpus())?;
    let said = console::lines(run.outcome()?);
    ensure!(said.first().is_some_and(|line| line.contains(" panicked")), "no headline: {said:#?}");
    ensure!(
        said.last().is_some_and(|line| line.starts_with("starting the dump kernel")),
        "no last line: {said:#?}"
    );
    console::check(run.outcome()?, 0)?;
    Ok(run)
}

fn said(run: &Run, start: &str, text: &str) -> Result<()> {
    let said = console::lines(run.outcome()?);
    ensure!(said.iter().any(|line| line.starts_with(start) && line.contains(text)), "{said:#?}");
    Ok(())
}

#[test]
fn nmis_while_the_words_are_said() -> Result<()> {
    let run = survives(Fault::NmisAtRequests, Way::Purgatory)?;
    ensure!(run.nmis == 5, "{} NMIs", run.nmis);
    ensure!(run.taken.events.len() == 1 && run.taken.records > 3, "{:?}", run.taken);
    Ok(())
}

/// The BMC is in the middle of the dead kernel's command, and its answer to that comes first.
#[test]
fn a_panic_amid_ipmi_traffic() -> Result<()> {
    let run = survives(Fault::Traffic, Way::Wrap)?;
    ensure!(run.taken.events.len() == 1 && run.taken.records > 3, "{:?}", run.taken);
    Ok(())
}

#[test]
#[ignore = "make test-all: mmio::a_stuck_register_behind_four_levels has the same status"]
fn a_status_register_that_says_busy_for_ever() -> Result<()> {
    let run = survives(Fault::Stuck(0x02), Way::Purgatory)?;
    said(&run, "watchdog: ", "the BMC")
}

#[test]
fn a_bmc_that_falls_silent() -> Result<()> {
    let run = survives(Fault::SilentFromThird, Way::Wrap)?;
    said(&run, "watchdog: ", "started, 300 s to reset")?;
    said(&run, "platform event: ", "the BMC")
}

/// What the SEL does not take as text goes there as events.
#[test]
#[ignore = "make test-all: a_bmc_that_falls_silent is the worse one"]
fn a_bmc_that_forbids_records() -> Result<()> {
    let run = survives(Fault::RefusesRecords(0xd4), Way::Purgatory)?;
    ensure!(run.taken.records == 0, "{:?}", run.taken);
    // The platform event, and the report.
    let (event, report) = run.taken.events.split_first().context("no event")?;
    let texts = sel_text::of_events(report)?;
    ensure!(texts.len() == 2 && texts[0].as_bytes().starts_with(event), "{texts:?}");
    ensure!(texts[1].contains('='), "{texts:?}");
    Ok(())
}

#[test]
fn a_bmc_that_is_lost_in_a_command_and_comes_back() -> Result<()> {
    survives(Fault::HangsUp, Way::Purgatory)?;
    Ok(())
}

#[test]
fn a_panic_in_an_nmi() -> Result<()> {
    let run = survives(Fault::PanicInNmi, Way::Wrap)?;
    ensure!(run.taken.events.len() == 1 && run.taken.records > 3, "{:?}", run.taken);
    Ok(())
}

/// Where a panic notifier panics, the dump is safe as long as it comes before the notifiers.
#[test]
fn a_panic_in_a_panic_notifier() -> Result<()> {
    let run = survives(Fault::PanicInPanic, Way::Purgatory)?;
    ensure!(run.taken.events.len() == 1 && run.taken.records > 3, "{:?}", run.taken);
    Ok(())
}

/// QEMU's BT has B_BUSY set for as long as its BMC has a request.
#[test]
#[ignore = "make test-all: behind SSIF it is in make test; core's tests have what BT does"]
fn a_bmc_behind_bt_that_falls_silent() -> Result<()> {
    let run = survives(Fault::Bt(&Fault::SilentFromThird), Way::Purgatory)?;
    said(&run, "watchdog: ", "started, 300 s to reset")?;
    said(&run, "platform event: ", "the BMC")
}

/// It never acknowledges a read.
#[test]
fn a_bmc_behind_ssif_that_falls_silent() -> Result<()> {
    let run = survives(Fault::Ssif(&Fault::SilentFromThird), Way::Wrap)?;
    said(&run, "watchdog: ", "started, 300 s to reset")?;
    said(&run, "platform event: ", "the BMC")
}
