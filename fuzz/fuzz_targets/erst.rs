//! The platform's error store: its table is the input, behind 16 bytes that say what its registers read as. The rest of
//! the machine is as it should be.
#![no_main]

use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_core::store::erst::Platform;
use lastwords_sim::{CrashedKernel, Erst, Sim};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((head, table)) = input.split_at_checked(16) else { return };
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let mut erst = Erst { busy_us: number(0) & 0xf_ffff, says_us: number(8) as u32, ..Erst::default() };
    erst.attributes = number(8) >> 32 & 7;
    erst.status = (number(8) >> 60 != 0).then_some(number(8) >> 40 & 0x1f);
    // Its checksum is right, as a table's that is looked at at all.
    let mut table = table.to_vec();
    if let Some(sum) = table.get_mut(9) {
        *sum = 0;
        let all = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        table[9] = all.wrapping_neg();
    }
    let mut sim = Sim::default();
    let rsdp = erst.put(&mut sim.memory, &table);
    sim.erst = Some(erst);
    let elfcorehdr =
        CrashedKernel::idle(2).with_log(&["a", "Kernel panic - not syncing: why"]).put(&mut sim.memory);
    let e820 =
        [&0x3000_1000u64.to_le_bytes()[..], &0x1000_0000u64.to_le_bytes(), &1u32.to_le_bytes()].concat();
    let e820: [[u8; 20]; 1] = [e820.try_into().expect("an entry has 20 bytes")];
    let before: Vec<_> = sim.memory.pieces().map(|(addr, bytes)| (addr, bytes.to_vec())).collect();
    let plan = Plan::new("", "lastwords.output_pstore lastwords.budget=1");
    let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), elfcorehdr, ThisCpu::default());
    sequence.platform(Platform { rsdp, e820: &e820, image: 0x3100_0000 });
    for step in Step::ALL {
        sequence.step(&mut sim, step);
    }
    assert!(sim.time_us < 3_500_000, "{} us", sim.time_us);
    let reserved = |port: &u16| *port < 0xb2 || (0xb4..0xe0).contains(port) || (0xcf8..0xd00).contains(port);
    // The clock's index is ours.
    assert!(!sim.other_writes.iter().any(|(port, _)| reserved(port)), "{:x?}", sim.other_writes);
    for (addr, bytes) in before {
        let is_the_range = addr == sim.erst.as_ref().expect("it is there").range.0;
        assert!(is_the_range || sim.memory.get(addr, bytes.len()) == bytes, "{addr:#x} was written to");
    }
});
