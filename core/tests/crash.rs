//! The crashed kernel's memory: as two real kernels left it, as the simulated one lays it out, and damaged in any way.
//!
//! `data/crash-*.bin` were saved from QEMU's memory while the dump kernel ran: Debian's kernels, 4 CPUs, a panic by
//! sysrq. 6.1 was loaded with `kexec -p -s`, 6.12 with `kexec -p -c`. Each is a row of pieces: physical address and
//! length (8 bytes each, little-endian) and the bytes: the ELF core header, then what its PT_NOTEs name.

use lastwords_core::crash::{Cpu, Crash, Panicked, Regs};
use lastwords_core::report::Location;
use lastwords_sim::{CrashedKernel, LOG, Sim};
use proptest::prelude::*;

/// Puts a saved crash into memory; returns the address of its ELF core header.
fn put(sim: &mut Sim, mut saved: &[u8]) -> u64 {
    let mut elfcorehdr = None;
    while let Some((head, rest)) = saved.split_at_checked(16) {
        let addr = u64::from_le_bytes(head[..8].try_into().unwrap());
        let len = u64::from_le_bytes(head[8..].try_into().unwrap()) as usize;
        sim.memory.put(addr, rest[..len].to_vec());
        elfcorehdr.get_or_insert(addr);
        saved = &rest[len..];
    }
    elfcorehdr.unwrap()
}

fn cpus(sim: &mut Sim, crash: &Crash) -> Vec<Cpu> {
    let mut cpus = Vec::new();
    crash.cpus(sim, &mut |_, cpu| {
        cpus.push(cpu);
        true
    });
    cpus
}

/// Version, build id and `_stext` that VMCOREINFO has, and each CPU's pid, RIP and RSP, read from the saved bytes by
/// other means.
type Expected<'a> = (&'a str, u32, u64, [(u32, u64, u64); 4]);

fn check(saved: &[u8], (release, build_id, stext, expected): Expected) {
    let mut sim = Sim::default();
    let elfcorehdr = put(&mut sim, saved);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert_eq!(crash.info.release.as_bytes(), release.as_bytes());
    assert_eq!((crash.info.build_id, crash.info.stext), (Some(build_id), Some(stext)));
    let found = cpus(&mut sim, &crash);
    let expected: Vec<_> = (0..)
        .zip(expected)
        .map(|(number, (pid, rip, rsp))| Cpu { number, regs: Some(Regs { pid, rip, rsp, user: false }) })
        .collect();
    assert_eq!(found, expected);
    for cpu in found {
        assert_eq!(crash.location(&cpu), Location::Kernel((cpu.regs.unwrap().rip - stext) as u32));
    }
}

#[test]
fn a_crash_of_debians_6_1() {
    check(
        include_bytes!("data/crash-6.1.bin"),
        (
            "6.1.0-56-amd64",
            0xeb4f_bcd0,
            0xffff_ffff_b720_0000,
            [
                (0, 0xffff_ffff_b7c5_92eb, 0xffff_ffff_b8c0_3e98),
                (1, 0xffff_ffff_b737_41ba, 0xff64_953a_0001_3a60),
                (0, 0xffff_ffff_b7c5_92eb, 0xff64_953a_000a_3ed8),
                (0, 0xffff_ffff_b7c5_92eb, 0xff64_953a_000a_bed8),
            ],
        ),
    );
}

#[test]
fn a_crash_of_debians_6_12() {
    check(
        include_bytes!("data/crash-6.12.bin"),
        (
            "6.12.117+deb12-amd64",
            0x7649_49bb,
            0xffff_ffff_8620_0000,
            [
                (0, 0xffff_ffff_86ee_5fff, 0xffff_ffff_87e0_3e88),
                (1, 0xffff_ffff_863d_d30c, 0xff4d_5cb2_c001_3b78),
                (0, 0xffff_ffff_86ee_5fff, 0xff4d_5cb2_c00c_bed8),
                (0, 0xffff_ffff_86ee_5fff, 0xff4d_5cb2_c00d_3ed8),
            ],
        ),
    );
}

#[test]
fn what_lies_outside_ram_is_not_read() {
    let mut sim = Sim::default();
    let kernel = CrashedKernel::idle(2);
    let elfcorehdr = kernel.put(&mut sim.memory);
    // The first CPU's PT_NOTE points to memory that is there, but that no PT_LOAD names.
    let mut header = sim.memory.get(elfcorehdr, 64 + 56 * 4);
    header[64 + 8..64 + 16].copy_from_slice(&0x7000_0000u64.to_le_bytes());
    sim.memory.put(elfcorehdr, header);
    sim.memory.put(0x7000_0000, vec![0; 4096]);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    let found = cpus(&mut sim, &crash);
    assert_eq!(found[0].regs, None);
    assert!(found[1].regs.is_some());
    assert!(sim.memory.reads.iter().all(|(addr, _)| *addr < 0x7000_0000));
}

/// The log's records as far as they can be read, oldest first.
fn log(sim: &mut Sim, crash: &Crash) -> Vec<(u64, u8, String)> {
    let Some(log) = crash.log(sim) else { return Vec::new() };
    (0..log.len)
        .rev()
        .filter_map(|before| crash.record(sim, &log, before))
        .map(|record| (record.ts_nsec, record.facility, String::from_utf8_lossy(record.text()).into_owned()))
        .collect()
}

#[test]
fn the_log_is_read_from_its_ring_round_its_end() {
    // Ids and text positions both go round within the first lines; then old lines are overwritten.
    for count in [1, 2, 5, 31, 32, 33, 100] {
        let lines: Vec<String> =
            (0..count).map(|line| format!("line {line}{}", "x".repeat(line % 23))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut sim = Sim::default();
        let elfcorehdr = CrashedKernel::idle(1).with_log(&lines).put(&mut sim.memory);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        let read = log(&mut sim, &crash);
        let expected: Vec<_> = (1..)
            .zip(&lines)
            .skip(count.saturating_sub(32))
            .map(|(ms, line)| (1_000_000 * ms, 0, (*line).to_owned()))
            .collect();
        assert_eq!(read, expected);
    }
}

#[test]
fn what_user_space_wrote_to_the_log_is_not_the_kernels_word() {
    let forged = "<Kernel panic - not syncing: hello";
    let mut sim = Sim::default();
    let kernel =
        CrashedKernel::idle(1).with_log(&["Kernel panic - not syncing: sysrq triggered crash", forged]);
    let elfcorehdr = kernel.put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert_eq!(log(&mut sim, &crash)[1].1, 1);
    assert_eq!(crash.cause(&mut sim, None).reason.as_bytes(), b"sysrq triggered crash");
}

#[test]
fn where_nothing_is_theirs_it_is_not_known_who_has_panicked() {
    let log = ["BUG: kernel NULL pointer dereference, address: 0000000000000018", "RIP: 0010:made+0x5/0x20"];
    let mut sim = Sim::default();
    let elfcorehdr = CrashedKernel::idle(1).with_log(&log).put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    for who in [None, Some(Panicked { cpu: 77, pid: Some(77_777) })] {
        let cause = crash.cause(&mut sim, who);
        assert_eq!(
            (cause.reason.as_bytes(), cause.rip.as_bytes()),
            (&b"NULL deref at 18"[..], &b"made+5"[..])
        );
    }
}

#[test]
fn a_cause_before_minutes_of_backtraces_is_found_in_the_ring() {
    let mut log = vec![(0, "watchdog: BUG: soft lockup - CPU#2 stuck for 23s! [made:77]".to_owned())];
    log.extend((1..20).map(|line| (10_000_000 * line, format!(" made_{line}+0x1/0x2"))));
    log.push((191_000_000, "Kernel panic - not syncing: softlockup: hung tasks".to_owned()));
    let mut sim = Sim::default();
    let mut kernel = CrashedKernel::idle(1);
    kernel.log = log;
    let elfcorehdr = kernel.put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert_eq!(crash.cause(&mut sim, None).report.as_bytes(), b"soft lockup CPU#2");
}

#[test]
fn a_header_that_names_the_same_notes_again_and_again_costs_little() {
    let mut kernel = CrashedKernel::idle(200);
    kernel.merged = true;
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    let mut header = sim.memory.get(elfcorehdr, 64 + 56 * 4);
    let notes = header[64..64 + 56].to_vec();
    let rest = header.split_off(64);
    for _ in 0..3000 {
        header.extend(&notes);
    }
    header.extend(rest);
    header[56..58].copy_from_slice(&3004u16.to_le_bytes());
    sim.memory.put(elfcorehdr, header);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    let found = cpus(&mut sim, &crash);
    assert_eq!(found.len(), 8192);
    assert!(sim.memory.reads.len() < 200_000, "{} reads", sim.memory.reads.len());
}

#[test]
fn an_address_at_the_end_of_all_addresses_is_outside_ram() {
    // Found by fuzzing: physical and virtual address of a range add up to more than 64 bits.
    for prb in ["ffffffffffffffff", "fffffffffffffff8", "7fffffffffffffff"] {
        let mut kernel = CrashedKernel::idle(1).with_log(&["Kernel panic - not syncing: why"]);
        kernel.vmcoreinfo_end = format!("SYMBOL(prb)={prb}\n");
        let mut sim = Sim::default();
        let elfcorehdr = kernel.put(&mut sim.memory);
        // RAM that the kernel is said to have mapped at 0, physically far up.
        let mut header = sim.memory.get(elfcorehdr, 64 + 56 * 5);
        let count = u16::from_le_bytes(header[56..58].try_into().unwrap());
        let load = 64 + 56 * (usize::from(count) - 1);
        header[load + 16..load + 24].copy_from_slice(&0u64.to_le_bytes());
        header[load + 24..load + 32].copy_from_slice(&((1u64 << 52) - 4096).to_le_bytes());
        sim.memory.put(elfcorehdr, header);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        assert!(crash.log(&mut sim).is_none());
    }
}

/// Reads everything of a crash that may be damaged. The work is bounded, and nothing outside the header and its
/// RAM is touched.
fn read_all(sim: &mut Sim, elfcorehdr: u64) -> Result<(), TestCaseError> {
    let Ok(crash) = Crash::read(sim, elfcorehdr) else { return Ok(()) };
    let found = cpus(sim, &crash);
    for cpu in &found {
        let _ = crash.location(cpu);
    }
    prop_assert!(found.len() <= 8192);
    let _ = crash.cause(sim, None);
    prop_assert!(sim.memory.reads.len() < 200_000, "{} reads", sim.memory.reads.len());
    Ok(())
}

proptest! {
    #[test]
    fn a_damaged_crash_is_read_as_far_as_it_goes(
        which in 0usize..2, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let saved: &[&[u8]] = &[include_bytes!("data/crash-6.1.bin"), include_bytes!("data/crash-6.12.bin")];
        let mut sim = Sim::default();
        let elfcorehdr = put(&mut sim, saved[which]);
        // Most of the damage falls on the header, where it matters most.
        let mut header = sim.memory.get(elfcorehdr, 512);
        for (at, byte) in damage {
            header[at.index(512)] = byte;
        }
        sim.memory.put(elfcorehdr, header);
        read_all(&mut sim, elfcorehdr)?;
    }

    #[test]
    fn any_notes_are_read(notes in prop::collection::vec(any::<u32>(), 0..200), text in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut sim = Sim::default();
        let mut kernel = CrashedKernel::idle(3);
        kernel.vmcoreinfo = String::from_utf8_lossy(&text).into_owned();
        let elfcorehdr = kernel.put(&mut sim.memory);
        let mut ram = sim.memory.get(0x10_0000, 4096);
        for (place, word) in ram.chunks_exact_mut(4).zip(&notes) {
            // Small numbers make lengths that fit.
            place.copy_from_slice(&(if word % 3 == 0 { *word } else { word % 64 }).to_le_bytes());
        }
        sim.memory.put(0x10_0000, ram);
        read_all(&mut sim, elfcorehdr)?;
    }

    #[test]
    fn a_damaged_log_is_read_as_far_as_it_goes(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u32..64), 1..20),
        layout in prop::collection::vec((0usize..30, any::<u16>()), 0..3),
    ) {
        let lines: Vec<String> = (0..40).map(|line| format!("line {line}")).collect();
        let mut kernel = CrashedKernel::idle(1).with_log(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        // What comes first in VMCOREINFO is overruled by what comes later, so the damage comes last.
        let fields = ["printk_ringbuffer.desc_ring", "printk_ringbuffer.text_data_ring", "prb_desc_ring.count_bits",
            "prb_desc_ring.descs", "prb_desc_ring.infos", "prb_desc_ring.head_id", "prb_desc_ring.tail_id",
            "prb_desc.state_var", "prb_desc.text_blk_lpos", "prb_data_blk_lpos.begin", "prb_data_blk_lpos.next",
            "printk_info.ts_nsec", "printk_info.text_len", "prb_data_ring.size_bits", "prb_data_ring.data"];
        kernel.vmcoreinfo_end = layout.iter().map(|(field, value)| match fields.get(*field) {
            Some(field) => format!("OFFSET({field})={value}\n"),
            None if field % 2 == 0 => format!("SIZE(prb_desc)={}\n", value % 200),
            None => format!("SIZE(printk_info)={}\n", value % 200),
        }).collect();
        let mut sim = Sim::default();
        let elfcorehdr = kernel.put(&mut sim.memory);
        // Every word of the ring may be anything; most of the damage falls on its head.
        let mut ring = sim.memory.get(LOG, 0x1000);
        for (at, value, shift) in damage {
            let at = if shift % 2 == 0 { at.index(0x60) } else { at.index(0xff8) };
            ring[at..at + 8].copy_from_slice(&(value >> shift).to_le_bytes());
        }
        sim.memory.put(LOG, ring);
        read_all(&mut sim, elfcorehdr)?;
        prop_assert!(sim.memory.reads.iter().all(|(_, len)| *len <= 4096));
    }

    #[test]
    fn vmcoreinfo_of_any_bytes(text in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = lastwords_core::crash::VmCoreInfo::parse(&text);
    }
}
