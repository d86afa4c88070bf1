//! `--output-pstore`: after the reset, the next boot's pstore holds reason and log; and whatever the platform's tables say,
//! the dump kernel starts.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::pstore::{Record, devices, empty, joined};
use lastwords_vm::judge::{dump, outcome::Outcome};
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};
use std::path::Path;

/// What asks for it, and for a report on the console.
const OPTIONS: &str = "--output-cpu-ip=console --output-pstore";

/// A machine with this store and nothing else. What its pages show cannot be a snapshot's: the store is another.
fn machine(release: Release, store: &Path) -> Scenario {
    Scenario::new(release).boots_here().bmc(Bmc::None).beside(&devices(store)).lastwords_at_hand()
}

/// It panics, and its dump kernel looks at the log.
fn crash(release: Release, store: &Path, arm: Arm) -> Result<Outcome> {
    machine(release, store).arm(arm).dump("collect_vmcore\ncollect_dump").run()
}

/// What the next boot's pstore holds, and what the kernel's log says of it.
fn next_boot(release: Release, store: &Path) -> Result<Outcome> {
    machine(release, store).arm(Arm::Not).death("collect_pstore").run()
}

fn by_purgatory() -> Arm {
    Arm::Lastwords(format!("--via purgatory {OPTIONS}"))
}

/// Is the end of the log in these records that of the crashed kernel, and the report of this crash behind it?
fn check(outcome: &Outcome, records: &[Record]) -> Result<()> {
    dump::check(outcome, 2)?;
    let dmesg: Vec<_> = outcome.text("dmesg")?.lines().collect();
    let (log, report) = joined(records)?;
    ensure!(dmesg.ends_with(&log), "{log:#?} is not the end of {dmesg:#?}");
    let len: usize = log.iter().map(|line| line.len()).sum();
    ensure!((10_000..=16_384).contains(&len), "{len} bytes of the log");
    let says = |text: &str| report.iter().any(|line| line.contains(text));
    ensure!(says("sysrq triggered crash") && says("0=") && says("1*"), "{report:#?}");
    ensure!(report.iter().any(|line| line.starts_with('#') && line.len() == 11), "{report:#?}");
    Ok(())
}

fn says(outcome: &Outcome, text: &str) -> bool {
    outcome.console.iter().any(|line| line.text.contains(text))
}

/// One crash, and the boot after it.
fn crash_and_next_boot(release: Release, arm: Arm) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("erst");
    empty(&store)?;
    let outcome = crash(release, &store, arm)?;
    ensure!(says(&outcome, "pstore: 2 records added"), "the console does not tell of two records");
    let shown = next_boot(release, &store)?;
    let records = Record::in_guest(shown.text("pstore")?)?;
    check(&outcome, &records)
}

#[test]
fn linux_6_1_shows_what_the_purgatory_wrote() -> Result<()> {
    crash_and_next_boot(Release::V6_1, by_purgatory())
}

#[test]
fn linux_6_12_shows_what_a_wrapped_kernel_wrote() -> Result<()> {
    crash_and_next_boot(Release::V6_12, Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned()))
}

#[test]
#[ignore = "make test-all: linux_6_1_shows_what_the_purgatory_wrote stands for it"]
fn linux_6_12_shows_what_the_purgatory_wrote() -> Result<()> {
    crash_and_next_boot(Release::V6_12, by_purgatory())
}

#[test]
#[ignore = "make test-all: linux_6_12_shows_what_a_wrapped_kernel_wrote stands for it"]
fn linux_6_1_shows_what_a_wrapped_kernel_wrote() -> Result<()> {
    crash_and_next_boot(Release::V6_1, Arm::Wrapped(Call::Load, OPTIONS.to_owned()))
}

/// Linux writes its own records where no dump kernel is loaded; then comes a crash with one.
#[test]
#[ignore = "make test-all: core/tests/erst.rs has what_is_in_the_store_stays_and_a_full_one_is_left_alone"]
fn linuxs_own_records_stay_beside_ours() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("erst");
    empty(&store)?;
    machine(Release::V6_12, &store).arm(Arm::Not).death("panic_on 1").run()?;
    let theirs = Record::in_store(&store)?;
    ensure!(!theirs.is_empty(), "Linux has written nothing");
    let outcome = crash(Release::V6_12, &store, by_purgatory())?;
    let all = Record::in_store(&store)?;
    let ours: Vec<_> = all.iter().filter(|record| !theirs.contains(record)).cloned().collect();
    ensure!(all.len() == theirs.len() + 2, "{} and {} records", theirs.len(), all.len());
    check(&outcome, &ours)
}

/// Fifty crashes in a row: the store is full after three of them, and every dump comes.
#[test]
#[ignore = "make test-all: a machine that crashes again and again"]
fn a_full_store_keeps_what_it_has_and_every_dump_comes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("erst");
    empty(&store)?;
    let mut before = Vec::new();
    for number in 0..5 {
        let outcome =
            machine(Release::V6_12, &store).arm(by_purgatory()).dump("collect_vmcore\ncollect_dump").run()?;
        dump::check(&outcome, 2)?;
        let records = Record::in_store(&store)?;
        ensure!(records.iter().take(before.len()).eq(&before), "crash {number} has changed what was there");
        if number > 2 {
            ensure!(says(&outcome, "pstore: ") && says(&outcome, "store full"), "crash {number}");
        }
        before = records;
    }
    ensure!(before.len() == 7, "{} records", before.len());
    Ok(())
}

/// A machine whose table is this one. It dumps; what the console says of pstore.
fn hostile(table: &[u8]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("table");
    std::fs::write(&path, table)?;
    let options = ["-acpitable".to_owned(), format!("file={}", path.display())];
    let outcome = Scenario::new(Release::V6_12)
        .boots_here()
        .bmc(Bmc::None)
        .beside(&options)
        .arm(by_purgatory())
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    dump::check(&outcome, 2)?;
    let line = outcome.console.iter().find(|line| line.text.starts_with("lastwords: pstore: "));
    Ok(line.context("the console tells nothing of pstore")?.text.clone())
}

/// An instruction for a table: action, opcode, flags, address space, width, access size, address, value, mask.
type Instruction = (u8, u8, u8, u8, u8, u8, u64, u64, u64);

/// A table as a server has it, whose registers lie in the machine's flash, where nothing that is written stays.
fn instructions() -> Vec<Instruction> {
    let register = 0xfffc_0000u64;
    let all = [
        (0, 3),
        (1, 3),
        (2, 3),
        (3, 3),
        (4, 2),
        (5, 3),
        (6, 1),
        (7, 0),
        (8, 0),
        (9, 2),
        (10, 0),
        (13, 0),
        (14, 0),
    ];
    all.iter().map(|(action, opcode)| (*action, *opcode, 0, 0, 64, 4, register, 0, u64::MAX)).collect()
}

/// The table with these instructions, checksum and all.
fn table(instructions: &[Instruction]) -> Vec<u8> {
    let mut table = b"ERST".to_vec();
    table.extend((48 + 32 * instructions.len() as u32).to_le_bytes());
    table.extend([1, 0]);
    table.extend(b"HOSTILTABLE   \x01\0\0\0TEST\x01\0\0\0");
    table.extend(12u32.to_le_bytes());
    table.extend([0; 4]);
    table.extend((instructions.len() as u32).to_le_bytes());
    for (action, opcode, flags, space, width, access, addr, value, mask) in instructions {
        table.extend([*action, *opcode, *flags, 0, *space, *width, 0, *access]);
        for number in [addr, value, mask] {
            table.extend(number.to_le_bytes());
        }
    }
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = sum.wrapping_neg();
    table
}

#[test]
#[ignore = "make test-all: core/tests/erst.rs has all of them, simulated"]
fn hostile_tables_never_keep_the_dump_kernel_from_booting() -> Result<()> {
    let of = |change: &dyn Fn(&mut Vec<Instruction>)| {
        let mut all = instructions();
        change(&mut all);
        table(&all)
    };
    let refused = "bad table";
    for (table, says) in [
        // No range: the flash reads as something else.
        (of(&|_| {}), "bad range"),
        // A register in RAM.
        (of(&|all| all[0].6 = 0x20_0000), refused),
        // In a hole.
        (of(&|all| all.iter_mut().for_each(|one| one.6 = 0xf_0000_0000)), "bad range"),
        // Beyond all addresses that a CPU has.
        (of(&|all| all[3].6 = 0xf_ffff_ffff_f000), ""),
        // The reset port.
        (of(&|all| (all[5].3, all[5].4, all[5].5, all[5].6) = (1, 8, 1, 0xcf9)), refused),
        // An unknown instruction.
        (of(&|all| all[5].1 = 0x30), "bad table"),
        (of(&|all| all[5].4 = 13), refused),
    ] {
        let line = hostile(&table)?;
        ensure!(line.contains(says), "{line} does not say {says}");
    }
    Ok(())
}
