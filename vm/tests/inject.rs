//! An NMI, a machine check or a flipped bit at some of the image's instructions: nowhere is the dump lost but where
//! docs/reliability.md says so. `make inject` tries all of them.

use anyhow::{Result, ensure};
use lastwords_vm::scenarios::inject::{End, Extent, Lost, Way, run};

fn nothing_new_is_lost(way: Way) -> Result<()> {
    let results = run(way, Extent::Sample, 1, |_, _| {})?;
    let reached = results.iter().filter(|(_, end)| matches!(end, End::Dump { .. })).count();
    println!("{way}: {} cases, {reached} reached the dump kernel", results.len());
    for (case, _) in results.iter().filter(|(_, end)| *end == End::Dump { reported: false }) {
        println!("no report: {} at {}", case.what, case.place);
    }
    ensure!(results.len() > 100 && reached > 0, "{reached} of {} cases reach the dump kernel", results.len());
    let unknown = Lost::unknown(&Lost::find(way, &results), &Lost::known()?);
    ensure!(unknown.is_empty(), "the dump is lost where vm/lost.txt has nothing:\n{}", unknown.join("\n"));
    Ok(())
}

#[test]
fn events_and_flips_as_the_purgatory() -> Result<()> {
    nothing_new_is_lost(Way::Purgatory)
}

#[test]
fn events_in_the_wrapped_kernel() -> Result<()> {
    nothing_new_is_lost(Way::Wrap)
}

#[test]
#[ignore = "make test-all: the other two show it for one CPU, and boot no machine of their own for it"]
fn machine_checks_that_come_to_all_cpus() -> Result<()> {
    nothing_new_is_lost(Way::TwoCpus)
}
