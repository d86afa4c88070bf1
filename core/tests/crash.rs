//! The crashed kernel's memory: as two real kernels left it, as the simulated one lays it out, and damaged in any way.
//!
//! `data/crash-*.bin` were saved from QEMU's memory while the dump kernel ran: Debian's kernels, 4 CPUs, a panic by
//! sysrq. 6.1 was loaded with `kexec -p -s`, 6.12 with `kexec -p -c`. Each is a row of pieces: physical address and
//! length (8 bytes each, little-endian) and the bytes: the ELF core header, then what its PT_NOTEs name.

use lastwords_core::crash::{Cpu, Crash, Panicked, Regs};
use lastwords_core::numbers::Numbers;
use lastwords_core::report::Location;
use lastwords_sim::{CrashedKernel, LOG, LogBuf, Sim};
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
    let mut notes = crash.notes();
    std::iter::from_fn(|| crash.next_cpu(sim, &mut notes)).collect()
}

/// Version, build id and `_stext` that VMCOREINFO has, and each CPU's pid and RIP, read from the saved bytes by
/// other means.
type Expected<'a> = (&'a str, u32, u64, [(u32, u64); 4]);

fn check(saved: &[u8], (release, build_id, stext, expected): Expected) {
    let mut sim = Sim::default();
    let elfcorehdr = put(&mut sim, saved);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert_eq!(crash.info.release.as_bytes(), release.as_bytes());
    assert_eq!((crash.info.build_id, crash.info.stext), (Some(build_id), Some(stext)));
    let found = cpus(&mut sim, &crash);
    let expected: Vec<_> = (0..)
        .zip(expected)
        .map(|(number, (pid, rip))| Cpu {
            number,
            location: Location::Kernel((rip - stext) as u32),
            regs: Some(Regs { pid, rip, user: false }),
        })
        .collect();
    assert_eq!(found, expected);
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
                (0, 0xffff_ffff_b7c5_92eb),
                (1, 0xffff_ffff_b737_41ba),
                (0, 0xffff_ffff_b7c5_92eb),
                (0, 0xffff_ffff_b7c5_92eb),
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
                (0, 0xffff_ffff_86ee_5fff),
                (1, 0xffff_ffff_863d_d30c),
                (0, 0xffff_ffff_86ee_5fff),
                (0, 0xffff_ffff_86ee_5fff),
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
    assert_eq!(found[0].location, Location::Unread);
    assert!(found[1].regs.is_some());
    assert!(sim.memory.reads.iter().all(|(addr, _)| *addr < 0x7000_0000));
}

#[test]
fn two_thousand_ranges_of_ram_are_read_as_one() {
    let mut kernel = CrashedKernel::idle(300).with_log(&["Kernel panic - not syncing: why"]);
    kernel.ranges = 2000;
    let mut sim = Sim::default();
    // The notes together behind all of them, in 60 memory nodes in turn, and each in a range of its own.
    for nodes in [0, 60, 300] {
        kernel.nodes = nodes;
        let elfcorehdr = kernel.put(&mut sim.memory);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        assert!(cpus(&mut sim, &crash).iter().all(|cpu| cpu.regs.is_some()), "{nodes} nodes");
        assert_eq!(crash.cause(&mut sim, None).reason.as_bytes(), b"why");
    }
}

/// Program headers of a core header, so many as it can count, that name RAM where there is none.
fn more_phdrs(sim: &mut Sim, elfcorehdr: u64) {
    let mut header = sim.memory.get(elfcorehdr, 64);
    let count = u16::from_le_bytes(header[56..58].try_into().unwrap());
    header.extend(sim.memory.get(elfcorehdr + 64, 56 * usize::from(count)));
    for number in u64::from(count)..u64::from(u16::MAX) {
        let addr = (1 << 40) + number * 0x2000;
        let fields = [1 | 7 << 32, addr, addr, addr, 0x1000, 0x1000, 0];
        header.extend(fields.map(u64::to_le_bytes).concat());
    }
    header[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    sim.memory.put(elfcorehdr, header);
}

#[test]
fn a_log_that_asks_for_memory_that_is_not_there_again_and_again_costs_little() {
    let lines: Vec<String> = (0..32).map(|line| format!("line {line}")).collect();
    let kernel = CrashedKernel::idle(2).with_log(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    more_phdrs(&mut sim, elfcorehdr);
    // The newest record is as it was; the others lie where no RAM is: `infos` begins so far before.
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    let log = crash.log(&mut sim).unwrap();
    assert_eq!(crash.record(&mut sim, &log, 0).unwrap().text(), b"line 31");
    let mut ring = sim.memory.get(LOG, 0x1000);
    ring[0x10 + 56..0x10 + 64].copy_from_slice(&0xffff_9999_0000_0000_u64.to_le_bytes());
    sim.memory.put(LOG, ring);
    sim.memory.reads.clear();
    for _ in 0..10 {
        assert_eq!(crash.cause(&mut sim, None).reason.as_bytes(), b"");
    }
    assert!(sim.memory.reads.len() < (1 << 20) + 10_000, "{} reads", sim.memory.reads.len());
    // What was read before is still read.
    assert!(cpus(&mut sim, &crash).iter().all(|cpu| cpu.regs.is_some()));
}

fn location(sim: &mut Sim, crash: &Crash, number: u32) -> Option<Location> {
    cpus(sim, crash).iter().find(|cpu| cpu.number == number).map(|cpu| cpu.location)
}

/// Eight CPUs, of which 2 and 5 have no note; `list` is the mask's place and build id.
fn with_mask(online: &[u32], list: &str, panicked: u32) -> [Option<Location>; 3] {
    let mut kernel = CrashedKernel::idle(8);
    kernel.cpus[2].answered = false;
    kernel.cpus[5].answered = false;
    kernel.online = Some(online.to_vec());
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    let mut crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    crash.know(&mut sim, None, Some(Numbers::parse(list).unwrap()), Some(panicked));
    [2, 5, 0].map(|cpu| location(&mut sim, &crash, cpu))
}

#[test]
fn the_kernels_own_mask_tells_cpus_that_are_off_from_those_that_did_not_respond() {
    let idle = Some(Location::Kernel(0x103f0));
    let mask = format!("{:#x},0x5f3e9a1b", CrashedKernel::ONLINE_MASK);
    let online = [0, 1, 3, 4, 5, 6, 7];
    assert_eq!(with_mask(&online, &mask, 7), [Some(Location::Off), Some(Location::NotResponding), idle]);
    let unknown = [Some(Location::OffOrNotResponding), Some(Location::OffOrNotResponding), idle];
    // The mask of another kernel; one outside RAM; the panicked CPU is not in it, or one that has written a note.
    assert_eq!(with_mask(&online, &mask.replace("5f", "5e"), 7), unknown);
    assert_eq!(with_mask(&online, &format!("{:#x}", CrashedKernel::ONLINE_MASK), 7), unknown);
    assert_eq!(with_mask(&online, "0x7000000,0x5f3e9a1b", 7), unknown);
    assert_eq!(with_mask(&online, &mask, 2), unknown);
    assert_eq!(with_mask(&online[1..], &mask, 7), unknown);
    assert_eq!(with_mask(&[], &mask, 7), unknown);
}

#[test]
fn cpu_numbers_with_holes_are_those_of_the_list_where_it_has_as_many_as_there_are_notes() {
    let mut sim = Sim::default();
    let elfcorehdr = CrashedKernel::idle(3).put(&mut sim.memory);
    for (list, numbers) in
        [("0,2-3", [0, 2, 3]), ("0,2-4", [0, 1, 2]), ("0,2", [0, 1, 2]), ("7,5,0x200", [7, 5, 512])]
    {
        let mut crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        crash.know(&mut sim, Some(Numbers::parse(list).unwrap()), None, None);
        let found: Vec<_> = cpus(&mut sim, &crash).iter().map(|cpu| cpu.number).collect();
        assert_eq!(found, numbers, "{list}");
    }
}

#[test]
fn a_note_that_is_there_and_cannot_be_read_keeps_its_cpus_place() {
    for damage in [
        // Its name, its name's length, its length, and what it is.
        (12, &b"CORX"[..]),
        (0, &[6, 0, 0, 0]),
        (4, &[8, 0, 0, 0]),
        (4, &[0, 0, 1, 0]),
        (8, &[1, 0, 0, 0][..]),
    ] {
        let mut sim = Sim::default();
        let elfcorehdr = CrashedKernel::idle(3).put(&mut sim.memory);
        let mut ram = sim.memory.get(0x10_0000, 0x1000);
        ram[0x200 + damage.0..][..damage.1.len()].copy_from_slice(damage.1);
        sim.memory.put(0x10_0000, ram);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        let found: Vec<_> = cpus(&mut sim, &crash).iter().map(|cpu| cpu.location).collect();
        let expected = if damage.0 == 8 { Location::Kernel(0x103f0) } else { Location::Unread };
        assert_eq!(found, [Location::Kernel(0x103f0), expected, Location::Kernel(0x9c2a36)], "{damage:?}");
    }
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
    for log_buf in [None, Some(SMALL), Some(LogBuf { caller_id: Some(7), ..SMALL })] {
        let mut sim = Sim::default();
        let mut kernel =
            CrashedKernel::idle(1).with_log(&["Kernel panic - not syncing: sysrq triggered crash", forged]);
        kernel.log_buf = log_buf;
        let elfcorehdr = kernel.put(&mut sim.memory);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        assert_eq!(log(&mut sim, &crash)[1].1, 1);
        assert_eq!(crash.cause(&mut sim, None).reason.as_bytes(), b"sysrq triggered crash");
    }
}

/// As small as it can be, so that some lines go round.
const SMALL: LogBuf = LogBuf { len: 2048, caller_id: None };

/// A kernel with this log, in the form that it had before 5.10.
fn older(lines: &[String], log_buf: LogBuf) -> CrashedKernel {
    let mut kernel = CrashedKernel::idle(1).with_log(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    kernel.log_buf = Some(log_buf);
    kernel
}

#[test]
fn an_older_kernels_log_is_read_round_its_end() {
    for caller_id in [None, Some(0x8000_0003)] {
        for count in 1..200 {
            let lines: Vec<String> =
                (0..count).map(|line| format!("line {line}{}", "x".repeat(line % 23))).collect();
            let mut sim = Sim::default();
            let elfcorehdr = older(&lines, LogBuf { caller_id, ..SMALL }).put(&mut sim.memory);
            let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
            let read = log(&mut sim, &crash);
            let expected: Vec<_> = (1..)
                .zip(&lines)
                .skip(count - read.len())
                .map(|(ms, line)| (1_000_000 * ms, 0, line.clone()))
                .collect();
            assert_eq!(read, expected);
            // Each takes 72 bytes at most.
            assert!(read.len() >= count.min(27), "{} of {count}", read.len());
            let found = crash.log(&mut sim).unwrap();
            let newest = crash.record(&mut sim, &found, 0).unwrap();
            assert_eq!((newest.level, newest.caller_id), (4, caller_id));
            assert!(crash.record(&mut sim, &found, found.len).is_none());
        }
    }
}

#[test]
fn an_older_kernels_log_without_a_record_has_none() {
    let mut sim = Sim::default();
    let elfcorehdr = older(&["x".to_owned()], SMALL).put(&mut sim.memory);
    let mut memory = sim.memory.get(LOG, 0x40 + SMALL.len);
    memory[16..20].fill(0);
    sim.memory.put(LOG, memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert_eq!(crash.log(&mut sim).map(|log| log.len), Some(0));
    assert_eq!(crash.cause(&mut sim, None).reason.as_bytes(), b"");
}

#[test]
fn an_older_kernels_long_log_is_read_from_its_end_at_little_cost() {
    let lines: Vec<String> = (0..100_000).map(|line| format!("line {line}")).collect();
    let mut sim = Sim::default();
    let elfcorehdr = older(&lines, LogBuf { len: 16 << 20, caller_id: Some(1) }).put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    sim.memory.reads.clear();
    let found = crash.log(&mut sim).unwrap();
    assert!((32_700..=32_768).contains(&found.len), "{}", found.len);
    assert!(sim.memory.reads.len() < 101_000, "{} reads", sim.memory.reads.len());
    for before in [0, 1, 63, 64, 65, 1000, found.len - 1] {
        let record = crash.record(&mut sim, &found, before).unwrap();
        assert_eq!(record.text(), format!("line {}", 99_999 - before).as_bytes());
    }
    sim.memory.reads.clear();
    let _ = crash.record(&mut sim, &found, 5000);
    assert!(sim.memory.reads.len() < 70, "{} reads", sim.memory.reads.len());
}

#[test]
fn an_older_kernels_log_without_an_end_is_walked_once() {
    let lines: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
    let mut sim = Sim::default();
    let elfcorehdr = older(&lines, SMALL).put(&mut sim.memory);
    let mut memory = sim.memory.get(LOG, 0x40 + SMALL.len);
    memory[16..20].copy_from_slice(&1u32.to_le_bytes());
    sim.memory.put(LOG, memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    sim.memory.reads.clear();
    assert!(crash.log(&mut sim).unwrap().len < 100);
    assert!(sim.memory.reads.len() < 200, "{} reads", sim.memory.reads.len());
}

#[test]
fn an_older_kernels_record_that_would_lead_out_of_the_buffer_ends_the_log() {
    let lines: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
    let mut sim = Sim::default();
    let elfcorehdr = older(&lines, SMALL).put(&mut sim.memory);
    let mut memory = sim.memory.get(LOG, 0x40 + SMALL.len);
    // From the oldest one to the last that lies before the buffer's end.
    let len =
        |memory: &[u8], at: usize| usize::from(u16::from_le_bytes([memory[0x48 + at], memory[0x49 + at]]));
    let (mut at, mut before) = (usize::from(u16::from_le_bytes([memory[12], memory[13]])), 0);
    while len(&memory, at + len(&memory, at)) != 0 {
        at += len(&memory, at);
        before += 1;
    }
    memory[0x48 + at..0x4a + at].copy_from_slice(&300u16.to_le_bytes());
    sim.memory.put(LOG, memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert_eq!(log(&mut sim, &crash).len(), before);
}

#[test]
fn what_comes_before_a_damaged_record_of_an_older_kernel_counts() {
    let lines: Vec<String> = (0..10).map(|line| format!("line {line}")).collect();
    // The length of the fifth record: shorter than its header, beyond the buffer, and none.
    for len in [3u16, 0xffff, 0] {
        let mut sim = Sim::default();
        let elfcorehdr = older(&lines, SMALL).put(&mut sim.memory);
        let mut memory = sim.memory.get(LOG, 0x40 + SMALL.len);
        let at = memory.windows(6).position(|text| text == b"line 4").unwrap() - 16;
        memory[at + 8..at + 10].copy_from_slice(&len.to_le_bytes());
        sim.memory.put(LOG, memory);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        let read = log(&mut sim, &crash);
        assert_eq!(read[3].2, "line 3");
        // One of length 0 sends the walk back to the beginning, which is taken for the end of the log's next round.
        assert!(read.len() == 4 || len == 0, "{read:?}");
    }
}

#[test]
fn a_structure_of_another_layout_is_not_read() {
    let mut kernel = older(&["Kernel panic - not syncing: why".to_owned()], SMALL);
    kernel.vmcoreinfo_end = "OFFSET(printk_log.dict_len)=14\n".to_owned();
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    assert!(crash.log(&mut sim).is_none_or(|log| log.len == 0));
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
fn a_panic_of_somebody_else_is_theirs_and_not_of_whom_the_cpu_is_taken_for() {
    let log = [
        "[T165] BUG: kernel NULL pointer dereference, address: 0000000000000018",
        "[T165] RIP: 0010:survived+0x5/0x20",
        "[C3] watchdog: BUG: soft lockup - CPU#3 stuck for 23s! [insmod:171]",
        "[C3] RIP: 0010:hangs+0x9/0x20",
        "[C3] Kernel panic - not syncing: softlockup: hung tasks",
    ];
    let mut sim = Sim::default();
    let elfcorehdr = CrashedKernel::idle(1).with_log(&log).put(&mut sim.memory);
    let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
    // Nobody, a CPU that does not exist, another one with another process, and the one with the survived oops.
    for pid in [None, Some(7), Some(165)] {
        let cause = crash.cause(&mut sim, Some(Panicked { cpu: 1, pid }));
        let told = [cause.reason.as_bytes(), cause.report.as_bytes(), cause.rip.as_bytes()];
        assert_eq!(told, [&b"softlockup: hung tasks"[..], b"soft lockup CPU#3", b"hangs+9"], "{pid:?}");
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
    prop_assert!(found.len() <= 8192);
    let _ = crash.cause(sim, None);
    // The most that ranges are looked for, and what there is to read.
    prop_assert!(sim.memory.reads.len() < (1 << 20) + 200_000, "{} reads", sim.memory.reads.len());
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
    fn an_older_kernels_damaged_log_is_read_as_far_as_it_goes(
        count in 1usize..80, caller in any::<Option<u32>>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u32..64), 1..20),
        size in prop::option::of(any::<u16>()),
    ) {
        let lines: Vec<String> = (0..count).map(|line| format!("line {line}")).collect();
        let mut kernel = older(&lines, LogBuf { caller_id: caller, ..SMALL });
        kernel.vmcoreinfo_end = size.map_or_else(String::new, |size| format!("SIZE(printk_log)={size}\n"));
        let mut sim = Sim::default();
        let elfcorehdr = kernel.put(&mut sim.memory);
        let mut memory = sim.memory.get(LOG, 0x40 + SMALL.len);
        for (at, value, shift) in damage {
            let at = if shift % 4 == 0 { at.index(0x20) } else { at.index(memory.len() - 8) };
            memory[at..at + 8].copy_from_slice(&(value >> shift).to_le_bytes());
        }
        sim.memory.put(LOG, memory);
        let crash = Crash::read(&mut sim, elfcorehdr).unwrap();
        let _ = crash.cause(&mut sim, None);
        if let Some(log) = crash.log(&mut sim) {
            prop_assert!(log.len <= 32_768);
            for before in [0, 1, log.len.saturating_sub(1), log.len, u64::MAX] {
                let _ = crash.record(&mut sim, &log, before);
            }
        }
        // Two walks of 2^19 records, each perhaps behind a wrap, and 8192 records twice with a stride before each.
        prop_assert!(sim.memory.reads.len() < 3_300_000, "{} reads", sim.memory.reads.len());
        prop_assert!(sim.memory.reads.iter().all(|(_, len)| *len <= 4096));
    }

    #[test]
    fn vmcoreinfo_of_any_bytes(text in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = lastwords_core::crash::VmCoreInfo::parse(&text);
    }
}
