//! The same machine, armed once by `kexec -p -c` and once by `lastwords load --via purgatory`: the same dump, and the
//! same memory for the dump kernel, but for what is listed here with its reason.

use anyhow::{Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::{dump, ram};
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::machine::qemu::Firmware;
use lastwords_vm::scenarios::{Arm, Call, Scenario};
use std::ops::Range;

const MIB: u64 = 1 << 20;

/// What one dump kernel saw.
struct Seen {
    /// Physical RAM in the dump, the kernel's own PT_LOAD first.
    loads: Vec<Range<u64>>,
    /// How many CPU notes.
    cpus: usize,
    /// The lines of the memory map that the dump kernel was given.
    e820: Vec<String>,
    /// `System RAM` of its /proc/iomem.
    ram: Vec<String>,
}

fn crash(scenario: Scenario, cpus: usize) -> Result<Seen> {
    let outcome = scenario
        .cpus(cpus as u32)
        .dump(
            "section e820 sh -c 'dmesg | grep BIOS-e820'\nsection iomem cat /proc/iomem\n\
             section loads readelf -lW /proc/vmcore\ncollect_vmcore\ncollect_dump",
        )
        .run()?;
    dump::check(&outcome, cpus)?;
    Ok(Seen {
        loads: ram::loads(outcome.text("loads")?)?,
        cpus: outcome.notes()?.cpus.len(),
        e820: e820(&outcome)?,
        ram: outcome
            .text("iomem")?
            .lines()
            .filter(|line| line.contains("System RAM"))
            .map(str::to_owned)
            .collect(),
    })
}

/// The entries without the time stamp: `[mem 0x0000000000000000-0x000000000009ffff] usable`.
fn e820(outcome: &Outcome) -> Result<Vec<String>> {
    let entry = |line: &str| line.split_once("BIOS-e820: ").map(|(_, entry)| entry.to_owned());
    let found: Vec<_> = outcome.text("e820")?.lines().filter_map(entry).collect();
    ensure!(!found.is_empty(), "the dump kernel shows no memory map");
    Ok(found)
}

/// The dump's RAM above the first MiB, without the kernel's own PT_LOAD, and with the reserved memory filled in: where
/// these two lie is drawn by lot at each boot.
fn ram_above_1m(seen: &Seen) -> Result<Vec<Range<u64>>> {
    const RESERVED: u64 = 256 * MIB;
    let mut ram: Vec<Range<u64>> = Vec::new();
    let mut holes = 0;
    for range in seen.loads.iter().skip(1).filter(|range| range.end > MIB) {
        let start = range.start.max(MIB);
        match ram.last_mut() {
            Some(last) if start - last.end == RESERVED => {
                last.end = range.end;
                holes += 1;
            }
            _ => ram.push(start..range.end),
        }
    }
    ensure!(holes > 0, "the reserved memory is in the dump: {:x?}", seen.loads);
    Ok(ram)
}

/// Entries that name usable memory.
fn usable(e820: &[String]) -> Vec<&String> {
    e820.iter().filter(|entry| entry.ends_with("usable")).collect()
}

fn compare(scenario: impl Fn() -> Scenario, cpus: usize) -> Result<()> {
    let stock = crash(scenario().arm(Arm::Stock(Call::Load)), cpus)?;
    let ours = crash(scenario().arm(Arm::Lastwords("--via purgatory --ipmi-handle-panic".to_owned())), cpus)?;
    ensure!(stock.cpus == ours.cpus, "{} notes, {} with kexec", ours.cpus, stock.cpus);
    // kexec-tools puts the first 640 KiB into the dump, by a copy of its purgatory's. Since Linux 5.5 nothing of the
    // kernel's is there when crashkernel= is given, and kexec_file_load leaves the first MiB out, as we do.
    let (stock_ram, our_ram) = (ram_above_1m(&stock)?, ram_above_1m(&ours)?);
    ensure!(stock_ram == our_ram, "the dump has {our_ram:x?}, with kexec {stock_ram:x?}");
    // Not byte by byte: kexec-tools keeps its copy of the first 640 KiB and the ELF core header out of the usable
    // memory, we the core header alone. All else of the map is the firmware's.
    let reserved = |seen: &Seen| -> Vec<String> {
        seen.e820.iter().filter(|entry| !entry.ends_with("usable")).cloned().collect()
    };
    println!("E820 ours {:#?}\nE820 stock {:#?}", ours.e820, stock.e820);
    println!("RAM ours {:#?}\nRAM stock {:#?}", ours.ram, stock.ram);
    ensure!(
        reserved(&stock) == reserved(&ours),
        "{:#?}\nwith kexec {:#?}",
        reserved(&ours),
        reserved(&stock)
    );
    ensure!(
        usable(&stock.e820).first() == usable(&ours.e820).first(),
        "low memory: {:#?}\nwith kexec {:#?}",
        usable(&ours.e820),
        usable(&stock.e820)
    );
    Ok(())
}

const HIGH: &str = "crashkernel=256M,high";

#[test]
#[ignore = "make test-all: shapes:: has this machine beside stock, too"]
fn linux_6_1_by_bios_with_1_gib() -> Result<()> {
    compare(|| Scenario::new(Release::V6_1), 2)
}

#[test]
fn linux_6_12_by_uefi_with_6_gib_reserved_high() -> Result<()> {
    let scenario = || Scenario::new(Release::V6_12).firmware(Firmware::Uefi).memory(6144).first_append(HIGH);
    compare(scenario, 2)
}

#[test]
#[ignore = "make test-all: linux_6_12_by_uefi_with_6_gib_reserved_high is in make test"]
fn linux_6_12_by_bios_with_6_gib_reserved_high() -> Result<()> {
    compare(|| Scenario::new(Release::V6_12).memory(6144).first_append(HIGH), 4)
}

#[test]
#[ignore = "make test-all: linux_6_12_by_uefi_with_6_gib_reserved_high is in make test"]
fn linux_6_12_by_uefi_with_1_gib() -> Result<()> {
    compare(|| Scenario::new(Release::V6_12).firmware(Firmware::Uefi), 2)
}

#[test]
#[ignore = "make test-all: linux_6_12_by_uefi_with_6_gib_reserved_high is in make test"]
fn linux_6_1_by_uefi_with_6_gib_reserved_high() -> Result<()> {
    let scenario = || Scenario::new(Release::V6_1).firmware(Firmware::Uefi).memory(6144).first_append(HIGH);
    compare(scenario, 2)
}
