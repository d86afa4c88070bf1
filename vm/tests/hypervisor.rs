//! The hypervisor is told of a panic that is dumped, and of nothing else; QEMU's monitor shows what it was told.

use anyhow::{Result, ensure};
use lastwords_vm::judge::dump;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::machine::monitor::Monitor;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// What asks for it, and for a report on the console.
const OPTIONS: &str = "--output-cpu-ip=console --notify-hypervisor";
const TOLD: &str = "hypervisor: sent";

/// A machine with this device panics and dumps. How often the hypervisor was told before the dump kernel's first line, and at all.
fn told(device: &str, release: Release, arm: Arm, before: &str) -> Result<(Outcome, usize, usize)> {
    let (mut monitor, mut early, mut all) = (None::<Monitor>, None, 0);
    let scenario = Scenario::new(release).qemu(["-device", device]).lastwords_at_hand();
    let outcome =
        scenario.arm(arm).before(before).dump("collect_vmcore\ncollect_dump").watch(|vm, line| {
            let monitor = match &mut monitor {
                Some(monitor) => monitor,
                none => none.insert(vm.monitor()?),
            };
            let text = &line.text;
            if ["lastwords: starting the dump kernel", "bench: the dump kernel is up", "bench: the end"]
                .iter()
                .any(|begin| text.starts_with(begin))
            {
                let events = monitor.events()?;
                let is_of_guest = |name: &str| name.contains("PANIC") || name.contains("CRASH");
                let ours: Vec<_> = events.iter().filter(|(name, _)| is_of_guest(name)).collect();
                for (name, data) in &ours {
                    ensure!(name == "GUEST_CRASHLOADED" && data["action"] == "run", "{name} {data}");
                }
                all = ours.len();
                early.get_or_insert(all);
            }
            Ok(())
        })?;
    println!("{outcome}");
    dump::check(&outcome, 2)?;
    Ok((outcome, early.unwrap_or(0), all))
}

fn says(outcome: &Outcome, text: &str) -> bool {
    outcome.console.iter().any(|line| line.text.contains(text))
}

#[test]
fn an_isa_device_is_told_once_before_the_dump_kernel_starts_and_the_machine_dumps() -> Result<()> {
    let arm = Arm::Lastwords(format!("--via purgatory {OPTIONS}"));
    let (outcome, early, all) = told("pvpanic", Release::V6_1, arm, "")?;
    ensure!(early == 1 && all == 1 && says(&outcome, TOLD), "{early} of {all}");
    Ok(())
}

#[test]
fn a_pci_device_is_told_by_a_wrapped_kernel() -> Result<()> {
    let wrap = format!("section wrap lastwords wrap --force /boot/vmlinuz -o /boot/vmlinuz {OPTIONS}");
    let (outcome, early, all) = told("pvpanic-pci", Release::V6_12, Arm::Stock(Call::FileLoad), &wrap)?;
    ensure!(early == 1 && all == 1 && says(&outcome, TOLD), "{early} of {all}");
    Ok(())
}

#[test]
#[ignore = "make test-all: core/tests/sequence.rs has the_hypervisor_is_told_behind_the_platform_event_where_its_device_takes_it"]
fn a_device_that_takes_no_such_event_is_left_alone() -> Result<()> {
    let arm = Arm::Lastwords(format!("--via purgatory {OPTIONS}"));
    let (outcome, early, all) = told("pvpanic,events=1", Release::V6_12, arm, "")?;
    ensure!(early == 0 && all == 0 && says(&outcome, "no pvpanic device that takes it"), "{early} of {all}");
    Ok(())
}

#[test]
#[ignore = "make test-all: shows that the two before it can fail"]
fn stock_kdump_tells_the_hypervisor_nothing() -> Result<()> {
    let (_, early, all) = told("pvpanic", Release::V6_1, Arm::Stock(Call::FileLoad), "")?;
    ensure!(early == 0 && all == 0, "{early} of {all}");
    Ok(())
}
