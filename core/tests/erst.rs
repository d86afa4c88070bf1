//! The platform's error store: what Linux's pstore finds there is what the crashed kernel's log says; whatever is there
//! stays; and no table, however made, has anything else done, or holds the dump kernel up.

use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_core::store::erst::{DEFAULT_BYTES, ErstError, HEADER, Platform, fill, first_id, parse_bytes};
use lastwords_sim::erst::Entry;
use lastwords_sim::{CrashedKernel, Erst, Sim};
use proptest::prelude::*;

/// Seconds of the simulated crash.
const SECONDS: u64 = 1_764_000_000;
/// Where the image is, in memory that is reserved.
const IMAGE: u64 = 0x3100_0000;

/// The dump kernel's memory map: what is reserved for it, and what the firmware has.
fn e820() -> Vec<[u8; 20]> {
    let entry = |start: u64, len: u64, kind: u32| {
        let bytes = [&start.to_le_bytes()[..], &len.to_le_bytes(), &kind.to_le_bytes()].concat();
        bytes.try_into().unwrap()
    };
    vec![entry(0x1000, 0x9e000, 1), entry(0x3000_1000, 0x1000_0000, 1), entry(0xbf00_0000, 0x100_0000, 2)]
}

/// A record's header, of so many bytes of text.
fn header(id: u64, seconds: u64, len: u64) -> [u8; 200] {
    let mut header = HEADER;
    fill(&mut header, id, seconds, len + 200);
    header
}

fn kernel() -> CrashedKernel {
    let mut kernel = CrashedKernel::idle(4);
    kernel.ring = lastwords_sim::RingSize { count_bits: 10, size_bits: 17 };
    let mut log: Vec<_> = (0..300u64)
        .map(|number| (number * 1000, format!("line {number} of the log, which is long")))
        .collect();
    log.push((400_000, format!("Modules linked in: {}\nsecond line", "module ".repeat(90))));
    log.push((500_000, "Kernel panic - not syncing: why".to_owned()));
    kernel.log = log;
    kernel
}

/// Reports with this store; the machine then.
fn report(erst: Erst, line: &str) -> Sim {
    let table = erst.table();
    report_by(erst, &table, line)
}

fn report_by(erst: Erst, table: &[u8], line: &str) -> Sim {
    let mut sim = Sim::default();
    let rsdp = erst.put(&mut sim.memory, table);
    sim.erst = Some(erst);
    run(&mut sim, rsdp, &e820(), line);
    sim
}

fn run(sim: &mut Sim, rsdp: u64, e820: &[[u8; 20]], line: &str) {
    let elfcorehdr = kernel().put(&mut sim.memory);
    let plan = Plan::new("", line);
    let mut sequence =
        Sequence::new(sim, plan, plan.bmc(), elfcorehdr, ThisCpu { apic_id: 6, tsc_aux: Some(3) });
    sequence.platform(Platform { rsdp, e820, image: IMAGE });
    for step in Step::ALL {
        sequence.step(sim, step);
    }
}

const LINE: &str = "console=ttyS0 lastwords.output_pstore";

fn erst(sim: &Sim) -> &Erst {
    sim.erst.as_ref().unwrap()
}

/// The texts of the records, in the order of their ids.
fn texts(sim: &Sim) -> Vec<String> {
    erst(sim).records.values().map(|record| String::from_utf8(record[200..].to_vec()).unwrap()).collect()
}

/// The log as Linux's pstore has it.
fn log() -> String {
    let line =
        |(us, text): &(u64, String)| format!("<0>[{:5}.{:06}] {text}\n", us / 1_000_000, us % 1_000_000);
    kernel().log.iter().map(line).collect()
}

#[test]
fn the_report_and_the_logs_end_are_there_as_linux_writes_them() {
    let sim = report(Erst::default(), LINE);
    let text = sim.uart.text();
    assert!(text.contains("pstore: 2 records added"), "{text}");
    let records = &erst(&sim).records;
    assert_eq!(records.keys().copied().collect::<Vec<_>>(), [first_id(SECONDS), first_id(SECONDS) + 1]);
    let mut all = 0;
    for (id, record) in records {
        let text = String::from_utf8_lossy(&record[200..]);
        assert!(record.len() <= 0x2000 && record.len() > 0x1f00, "{} {text}", record.len());
        assert_eq!(record[..200], header(*id, SECONDS, record.len() as u64 - 200));
        all += record.len();
    }
    assert!(all <= 16384);
    let texts = texts(&sim);
    let (last, before) = (
        texts[0].strip_prefix("Panic#1 Part1\n").unwrap(),
        texts[1].strip_prefix("Panic#1 Part2\n").unwrap(),
    );
    let (report, log_end) = last.split_at(last.find('<').unwrap());
    let joined = format!("{before}{log_end}");
    assert!(log().ends_with(&joined) && joined.len() > 14000, "{joined}");
    assert!(joined.contains("module \nsecond line\n<0>[    0.500000] Kernel panic"), "{joined}");
    let lines: Vec<_> = report.lines().map(|line| line.strip_prefix("lastwords: ").unwrap()).collect();
    let [reason, build_id, panicked, crash_id, signature, idle] = lines[..] else { panic!("{report}") };
    assert_eq!([reason, build_id, panicked, idle], ["why", "id 5f3e9a1b", "3=9c2a36", "3*103f0"]);
    assert!(crash_id.starts_with('#') && signature.starts_with('~'));
}

#[test]
fn the_headers_bytes_are_those_of_linux() {
    let header = header(0x0123_4567_8000_0001, 0x1_2345_6789, 0x1f00);
    let mut expected = vec![0; 200];
    for (at, hex) in [
        (0, "43504552 0001 ffffffff 0100 01000000 02000000 c81f0000 8967452301000000"),
        (
            64,
            "e374a5755250294b8a8ebe2c6490b89d fe6ff5e89c91c54cba8865abe14913bb 0100008067452301 02000000 4552",
        ),
        (128, "c8000000 001f0000 0001 0000 01000000 4ee097c145d5704a9c17a5549419eb12"),
        (176, "01000000"),
    ] {
        let hex = hex.replace(' ', "");
        for (number, slot) in expected[at..][..hex.len() / 2].iter_mut().enumerate() {
            *slot = u8::from_str_radix(&hex[2 * number..][..2], 16).unwrap();
        }
    }
    assert_eq!(header.to_vec(), expected);
}

#[test]
fn without_the_option_or_without_a_table_no_register_is_touched() {
    let sim = report(Erst::default(), "console=ttyS0 lastwords.output_cpu_ip=console");
    assert!(erst(&sim).written.is_empty() && !sim.uart.text().contains("pstore"));
    let mut sim = Sim { erst: Some(Erst::default()), ..Sim::default() };
    run(&mut sim, 0, &e820(), LINE);
    assert!(
        erst(&sim).written.is_empty()
            && sim.uart.text().contains("pstore: gave up after 0 records: no table"),
        "{}",
        sim.uart.text()
    );
}

#[test]
fn what_is_in_the_store_stays_and_a_full_one_is_left_alone() {
    let mut full = Erst::default();
    let theirs: Vec<_> =
        (0..7u64).map(|number| ((SECONDS << 32) + number, vec![number as u8; 300])).collect();
    full.records = theirs.iter().cloned().collect();
    let sim = report(full.clone(), LINE);
    assert!(sim.uart.text().contains("pstore: gave up after 0 records: store full"), "{}", sim.uart.text());
    assert_eq!(erst(&sim).records, full.records);
    // One of ours, of a crash in the same second, has the first id.
    let mut taken = Erst::default();
    taken.records.insert(first_id(SECONDS), vec![1; 300]);
    taken.records.insert(1 << 40, vec![2; 300]);
    let sim = report(taken, LINE);
    let records = &erst(&sim).records;
    assert_eq!(records.len(), 4);
    assert_eq!((&records[&first_id(SECONDS)], &records[&(1 << 40)]), (&vec![1; 300], &vec![2; 300]));
}

#[test]
fn an_operation_that_was_left_open_is_ended_first() {
    // It is still under way for so long.
    let mut open = Erst { busy_us: 300_000, ..Erst::default() };
    let mut memory = lastwords_sim::Ram::default();
    open.put(&mut memory, &open.table());
    open.leave_open(&mut memory);
    open.busy_us = 500;
    let sim = report(open, LINE);
    assert_eq!(texts(&sim).len(), 2, "{}", sim.uart.text());
}

/// Every fault, what the console says of it, and how many operations there are.
#[test]
fn a_store_that_misbehaves_is_given_up() {
    type Fault = fn(&mut Erst);
    let faults: [(Fault, &str, u32); 9] = [
        (|erst| erst.busy_us = u64::MAX / 2, "gave up after 0 records: no answer , 1.0", 1),
        (
            |erst| (erst.busy_us, erst.says_us) = (u64::MAX / 2, 50_000),
            "gave up after 0 records: no answer , 0.058",
            1,
        ),
        (
            |erst| (erst.busy_us, erst.says_us) = (u64::MAX / 2, u32::MAX),
            "gave up after 0 records: no answer , 1.0",
            1,
        ),
        (|erst| erst.status = Some(3), "gave up after 0 records: refused", 1),
        (|erst| erst.status = Some(0), "gave up after 0 records: no time", 16),
        (|erst| erst.attributes = 2, "gave up after 0 records: NVRAM mode", 0),
        (|erst| erst.range.1 = 200, "gave up after 0 records: bad range", 0),
        (|erst| erst.range.0 = 0x10_0000, "gave up after 0 records: bad range", 0),
        (|erst| erst.smi_us = 20_000_000, "gave up after 0 records: no", 1),
    ];
    for (fault, says, operations) in faults {
        let mut broken = Erst::default();
        fault(&mut broken);
        let table = broken.table();
        let mut sim = Sim::default();
        let (addr, len) = broken.range;
        let rsdp = broken.put(&mut sim.memory, &table);
        broken.range = (addr, len);
        sim.erst = Some(broken);
        run(&mut sim, rsdp, &e820(), &format!("{LINE} lastwords.output_cpu_ip=console"));
        let text = sim.uart.text();
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!((erst(&sim).executed, erst(&sim).records.len()), (operations, 0), "{says}");
        // All that was asked for behind it is done, as far as there is time.
        let is_late = sim.time_us > 15_000_000;
        assert!(is_late || text.contains("CPU 0") && text.contains("starting the dump kernel"), "{text}");
        assert!(sim.time_us < 21_000_000, "{} us", sim.time_us);
    }
}

#[test]
fn a_range_that_is_no_memory_is_given_up() {
    let mut hole = Erst::default();
    let mut sim = Sim::default();
    let rsdp = hole.put(&mut sim.memory, &hole.table());
    hole.range.0 = 0xbfa0_0000;
    sim.erst = Some(hole);
    run(&mut sim, rsdp, &e820(), LINE);
    assert!(sim.uart.text().contains("gave up after 0 records: refused"), "{}", sim.uart.text());
    assert!(erst(&sim).records.is_empty());
}

#[test]
fn a_root_pointer_that_leads_nowhere_leads_to_no_table_and_ends() {
    for root in [0, 1, 0xfff, 0x10_0000, 1 << 52, u64::MAX - 100, u64::MAX - 35, u64::MAX] {
        let mut sim = Sim::default();
        let store = Erst::default();
        let rsdp = store.put(&mut sim.memory, &store.table());
        let mut pointer = sim.memory.get(rsdp, 36);
        pointer[24..32].copy_from_slice(&u64::to_le_bytes(root));
        sim.memory.put(rsdp, pointer);
        sim.erst = Some(store);
        run(&mut sim, rsdp, &e820(), LINE);
        let text = sim.uart.text();
        assert!(text.contains("gave up after 0 records: no table"), "{root:#x}: {text}");
        assert!(erst(&sim).written.is_empty(), "{root:#x}");
    }
}

/// Found by fuzzing: its shift is by as many bits as there are.
#[test]
fn a_field_of_no_width_behind_a_registers_last_bit_is_no_fault() {
    let mut odd = Erst::default();
    for entry in &mut odd.entries {
        if entry.space == 0 {
            (entry.width, entry.shift, entry.access) = (0, 64, 4);
        }
    }
    let sim = report(odd, LINE);
    let text = sim.uart.text();
    assert!(text.contains("pstore: ") && text.contains("starting the dump kernel"), "{text}");
}

type Change = fn(&mut Vec<Entry>);

#[test]
fn a_table_that_asks_for_what_must_not_be_is_refused_before_anything_is_done() {
    const REGISTER: &str = "gave up after 0 records: bad table";
    const MALFORMED: &str = "gave up after 0 records: bad table";
    let changes: [(Change, &str); 18] = [
        (|all| all[0].opcode = 0x12, "gave up after 0 records: bad table"),
        (|all| all[0].opcode = 0xff, "gave up after 0 records: bad table"),
        // In the crashed kernel's RAM, in what is reserved, in its ELF core header, and in part.
        (|all| all[3].addr = 0x10_0000, REGISTER),
        (|all| all[3].addr = 0x3200_0000, REGISTER),
        (|all| all[3].addr = 0x3000_0040, REGISTER),
        (|all| all[3].addr = 0x3000_0ffc, REGISTER),
        // Ports of the machine's own.
        (|all| all[5].addr = 0xcf9, REGISTER),
        (|all| all[5].addr = 0x70, REGISTER),
        (|all| (all[5].addr, all[5].width, all[5].access) = (0xb3, 16, 2), REGISTER),
        (|all| all[5].addr = 0x1_0000, REGISTER),
        (|all| all[0].space = 2, REGISTER),
        (|all| (all[0].width, all[0].access) = (24, 1), REGISTER),
        (|all| (all[0].width, all[0].access) = (0, 0), REGISTER),
        (|all| all[0].access = 5, REGISTER),
        (|all| all[0].shift = 1, REGISTER),
        (|all| all[0].addr = 0xbf80_0ffc, REGISTER),
        (|all| all[5].action = 0x2, MALFORMED),
        (|all| all.extend(vec![all[0]; 40]), MALFORMED),
    ];
    for (number, (change, says)) in changes.into_iter().enumerate() {
        let mut hostile = Erst::default();
        change(&mut hostile.entries);
        let sim = report(hostile, LINE);
        let text = sim.uart.text();
        assert!(text.contains(says), "{number}: {text}");
        assert!(erst(&sim).written.is_empty() && sim.other_writes.is_empty(), "{number}");
    }
}

#[test]
fn tables_that_are_damaged_are_none() {
    let good = Erst::default().table();
    let mut damaged = vec![];
    for at in [9, 40, 100, 300] {
        let mut table = good.clone();
        table[at] ^= 4;
        damaged.push((table, "pstore: gave up after 0 records: no table"));
    }
    // A length beyond all, of 2^32 entries, of no header, and a count that is not the length's.
    for (at, value, says) in [
        (4, u32::MAX, "pstore: gave up after 0 records: no table"),
        (4, 20, "pstore: gave up after 0 records: no table"),
        (44, u32::MAX, "gave up after 0 records: bad table"),
        (44, 15, "gave up after 0 records: bad table"),
        (36, 13, "gave up after 0 records: bad table"),
    ] {
        let mut table = good.clone();
        table[at..at + 4].copy_from_slice(&value.to_le_bytes());
        table[9] = 0;
        table[9] = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
        damaged.push((table, says));
    }
    for (table, says) in damaged {
        let sim = report_by(Erst::default(), &table, LINE);
        assert!(sim.uart.text().contains(says), "{says}: {}", sim.uart.text());
        assert!(erst(&sim).written.is_empty());
    }
}

#[test]
fn where_nothing_tells_what_is_reserved_nothing_is_written() {
    let there = Erst::default();
    let mut sim = Sim::default();
    let rsdp = there.put(&mut sim.memory, &there.table());
    sim.erst = Some(there);
    run(&mut sim, rsdp, &[], LINE);
    assert!(sim.uart.text().contains("bad table"), "{}", sim.uart.text());
    assert!(erst(&sim).written.is_empty());
}

#[test]
fn the_parameter_takes_what_a_store_may_have_room_for() {
    for (text, bytes) in [("16384", 16384), ("1024", 1024), ("8K", 8192), ("0", 0), ("64K", 65536)] {
        assert_eq!(parse_bytes(Some(text)), Ok(bytes));
        assert_eq!(Plan::new("", &format!("lastwords.output_pstore={text}")).pstore, bytes);
    }
    assert_eq!(parse_bytes(None), Ok(DEFAULT_BYTES));
    for wrong in ["", "1023", "65537", "8192,", "all"] {
        assert!(parse_bytes(Some(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn every_error_has_its_text() {
    for (error, text) in [
        (ErstError::Instruction, "bad table"),
        (ErstError::Register, "bad table"),
        (ErstError::Malformed, "bad table"),
        (ErstError::NoTable, "no table"),
        (ErstError::Range, "bad range"),
        (ErstError::Nvram, "NVRAM mode"),
        (ErstError::Silent, "no answer"),
        (ErstError::Full, "store full"),
        (ErstError::Refused, "refused"),
        (ErstError::NoTime, "no time"),
    ] {
        assert_eq!(String::from_utf8_lossy(error.text()).trim_end(), text);
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let addr = prop_oneof![
        6 => (0u64..12).prop_map(|number| 0xbf80_0104 + 8 * number),
        1 => prop::sample::select(vec![0xb2, 0x70, 0xcf9, 0x3f8, 0x10_0000, 0x3100_0000, 0xbf80_0ffd, 0, u64::MAX]),
        1 => any::<u64>(),
    ];
    let usual = |one: u8, all: std::ops::RangeInclusive<u8>| prop_oneof![4 => Just(one), 1 => all];
    (
        (0u8..=17, 0u8..=5, 0u8..=1, usual(0, 0..=2), usual(64, 0..=255), usual(0, 0..=64), 0u8..=5),
        (addr, any::<u64>(), any::<u64>()),
    )
        .prop_map(|((action, opcode, flags, space, width, shift, access), (addr, value, mask))| Entry {
            action,
            opcode,
            flags,
            space,
            width,
            shift,
            access,
            addr,
            value,
            mask,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Some of a good table's instructions are changed, and its registers say anything.
    #[test]
    fn whatever_the_table_says_the_report_ends_in_time_and_nothing_else_is_touched(
        changes in prop::collection::vec((0usize..20, entry()), 0..4),
        status in prop::option::of(0u64..40), busy_us in prop::sample::select(vec![0, 500, 200_000, u64::MAX / 2]),
        range in prop::sample::select(vec![(0xbf90_0011u64, 0x2000u64), (0, 0x2000), (0x3100_0000, 0x4000), (0xbf90_0011, 0), (u64::MAX, u64::MAX)]),
        attributes in 0u64..8, says_us: u32, smi_us in prop::sample::select(vec![0u64, 200, 400_000]),
    ) {
        let mut hostile = Erst { status, busy_us, attributes, says_us, smi_us, ..Erst::default() };
        for (at, entry) in changes {
            match hostile.entries.get_mut(at) {
                Some(place) => *place = Entry { action: place.action, ..entry },
                None => hostile.entries.push(entry),
            }
        }
        let mut sim = Sim::default();
        let rsdp = hostile.put(&mut sim.memory, &hostile.table());
        hostile.range = range;
        let named: Vec<u64> = hostile.entries.iter().map(|entry| entry.addr).collect();
        sim.erst = Some(hostile);
        let elfcorehdr = kernel().put(&mut sim.memory);
        let before: Vec<(u64, Vec<u8>)> = sim.memory.pieces().map(|(addr, bytes)| (addr, bytes.to_vec())).collect();
        run(&mut sim, rsdp, &e820(), &format!("{LINE} lastwords.budget=2"));
        prop_assert!(sim.time_us < 3_000_000 + smi_us, "{} us", sim.time_us);
        prop_assert!(sim.uart.text().contains("starting the dump kernel"));
        for addr in erst(&sim).written.iter().copied().chain(sim.other_writes.iter().map(|(port, _)| u64::from(*port))) {
            // A register of up to eight bytes.
            prop_assert!(named.iter().any(|named| (*named..named.saturating_add(8)).contains(&addr)), "{addr:#x}");
        }
        let reserved = |port: u16| port < 0xb2 || (0xb4..0xe0).contains(&port) || (0xcf8..0xd00).contains(&port);
        prop_assert!(!sim.other_writes.iter().any(|(port, _)| reserved(*port)), "{:x?}", sim.other_writes);
        for (addr, bytes) in before {
            // The crashed kernel's RAM, its core header, its log.
            let is_the_range = addr == 0xbf90_0011;
            prop_assert!(is_the_range || sim.memory.get(addr, bytes.len()) == bytes, "{addr:#x}");
        }
        let _ = elfcorehdr;
    }
}
