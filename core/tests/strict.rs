//! KCS against a BMC that forgives nothing (IPMI 2.0 section 9), begun in every state that a kernel can leave which dies
//! in the middle of a transfer: nothing is done that the specification forbids, and every word arrives.

use lastwords_core::hw::{Clock, Register, Registers};
use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_sim::{CrashedKernel, KCS, Sim, StrictKcs};

const DATA: Register = Register::Port(0xca2);
const STATUS: Register = Register::Port(0xca3);

/// What the dead kernel did, step by step.
#[derive(Clone, Copy, Debug)]
enum Did {
    Command(u8),
    Data(u8),
    /// Waited for a byte and took it.
    Took,
    /// Waited for a byte.
    Saw,
}

use Did::{Command, Data, Saw, Took};

/// Get Device ID up to the fourth byte of its answer, and an abort to its end.
const TRANSFER: [Did; 12] = [
    Command(0x61),
    Data(0x18),
    Command(0x62),
    Data(0x01),
    Saw,
    Took,
    Data(0x68),
    Took,
    Data(0x68),
    Took,
    Data(0x68),
    Saw,
];
const LONGER: [Did; 5] = [Command(0x61), Data(0x28), Data(0x44), Data(0), Data(0)];
const ABORT: [Did; 6] = [Command(0x61), Command(0x60), Data(0), Took, Data(0x68), Saw];
/// Into ERROR_STATE: READ without an answer, a control code that there is not, WRITE_END too early.
const ERRORS: [Did; 3] = [Data(0x68), Command(0x55), Command(0x62)];

/// Does as the dead kernel did, by the book.
fn dead_kernel(sim: &mut Sim, did: &[Did]) {
    for step in did {
        let wanted = u8::from(matches!(step, Took | Saw));
        for _ in 0..100_000 {
            match sim.get(STATUS) & 0x03 {
                0x01 if wanted == 0 => {
                    sim.get(DATA);
                }
                seen if seen == wanted => break,
                _ => {}
            }
        }
        match *step {
            Command(code) => sim.put(STATUS, code),
            Data(byte) => sim.put(DATA, byte),
            Took => {
                sim.get(DATA);
            }
            Saw => {}
        }
    }
}

/// The whole report behind that; what the BMC objects to.
fn report(mut sim: Sim, name: &str) -> StrictKcs {
    sim.strict.as_mut().unwrap().forgive();
    sim.bmc.requests.clear();
    let kernel = CrashedKernel::idle(4).with_log(&["Kernel panic - not syncing: Fatal exception"]);
    let elfcorehdr = kernel.put(&mut sim.memory);
    let line = "lastwords.ipmi_watchdog=start=60 lastwords.ipmi_handle_panic lastwords.output_cpu_ip=sel";
    let plan = Plan::new(KCS, line);
    let this_cpu = ThisCpu { apic_id: 6, tsc_aux: Some(3) };
    let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        sequence.step(&mut sim, step);
    }
    let strict = sim.strict.unwrap();
    assert!(strict.violations.is_empty(), "{name}: {:?}", strict.violations);
    let said: Vec<_> = sim.bmc.sel.iter().map(|record| String::from_utf8_lossy(&record[5..])).collect();
    // Of crash ID and signature the first character.
    let short = |text| if str::starts_with(text, ['#', '~']) { &text[..1] } else { text };
    let said: Vec<_> = said.iter().map(|text| short(text.trim_end_matches('\0'))).collect();
    assert_eq!(said, ["Fatal excep", "tion", "id 5f3e9a1b", "3=9c2a36", "#", "~", "3*103f0"], "{name}");
    assert_eq!(sim.bmc.events.len(), 1, "{name}");
    assert!(sim.bmc.watchdog.as_ref().is_some_and(|watchdog| watchdog.running), "{name}");
    // Nothing was asked twice. The dead kernel's own request may have come through.
    let ours = sim.bmc.requests.iter().filter(|request| **request != [0x18, 0x01]);
    assert_eq!(ours.count(), 2 + 1 + 1 + 7 + 1, "{name}");
    strict
}

#[test]
fn no_rule_is_broken_whatever_a_dead_kernel_has_left() {
    let mut left: Vec<Vec<Did>> = Vec::new();
    for transfer in [&TRANSFER[..], &LONGER, &ABORT] {
        left.extend((0..=transfer.len()).map(|steps| transfer[..steps].to_vec()));
    }
    for error in ERRORS {
        left.push(vec![error]);
        left.push(vec![error, Command(0x60)]);
        left.push(vec![Command(0x61), Data(0x18), error]);
        left.push(vec![Command(0x61), Data(0x18), Command(0x62), Data(0x01), Took, error]);
    }
    for did in left {
        // Its last step is still being taken, has just been, and was long ago.
        for pause_us in [0, 4, 40, 5_000] {
            for (take_ns, fill_ns, answer_ns) in
                [(0, 0, 0), (700, 0, 5_000), (3_000, 2_000, 300_000), (20_000, 90_000, 3_000_000)]
            {
                for dummies in [true, false] {
                    let mut strict = StrictKcs::default();
                    (strict.take_ns, strict.fill_ns, strict.answer_ns) = (take_ns, fill_ns, answer_ns);
                    strict.dummies = dummies;
                    let mut sim = Sim { strict: Some(strict), ..Sim::default() };
                    dead_kernel(&mut sim, &did);
                    (0..pause_us).for_each(|_| sim.relax());
                    let name = format!(
                        "{did:?}, {pause_us} us ago, {take_ns} {fill_ns} {answer_ns} ns, dummies {dummies}"
                    );
                    report(sim, &name);
                }
            }
        }
    }
}

/// As where firmware sets the state first and fills the output buffer then. A next request must not meet that.
#[test]
fn a_last_dummy_byte_that_comes_a_little_later_than_idle_state_is_taken_before_the_next_request() {
    for last_dummy_ns in (0..=12_000).step_by(250) {
        for did in [&[][..], &[Command(0x61), Data(0x18)]] {
            let mut strict = StrictKcs::default();
            strict.last_dummy_ns = last_dummy_ns;
            let mut sim = Sim { strict: Some(strict), ..Sim::default() };
            dead_kernel(&mut sim, did);
            report(sim, &format!("{did:?}, dummy byte after {last_dummy_ns} ns"));
        }
    }
}

#[test]
fn a_bmc_that_is_idle_is_never_aborted_and_one_in_the_middle_of_something_once() {
    for (did, aborts) in [(&[][..], 0), (&TRANSFER, 0), (&TRANSFER[..8], 1), (&LONGER, 1)] {
        let mut sim = Sim { strict: Some(StrictKcs::default()), ..Sim::default() };
        dead_kernel(&mut sim, did);
        assert_eq!(report(sim, &format!("{did:?}")).aborts, aborts, "{did:?}");
    }
}
