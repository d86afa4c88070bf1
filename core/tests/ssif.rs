//! SSIF against a controller and a BMC that work and that do not, and that object to whatever may not be done on a bus which
//! has the memory's EEPROMs, too.

use lastwords_core::budget::Timer;
use lastwords_core::ipmi::commands::{Action, AddSelEntry, GetSelInfo, ResetWatchdogTimer, SetWatchdogTimer};
use lastwords_core::ipmi::interface::{self, Interface, SystemInterface};
use lastwords_core::ipmi::{Bmc, CommandError, TransferError, Transport};
use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_sim::{Answer, Bus, CrashedKernel, SSIF, SSIF_BMC, Sim};

const RECORD: [u8; 16] = *b"\0\0\xf0\x20\x80hello world";

/// The only transactions that there may be: the BMC's address, written with command 2 and read with command 3.
const ALLOWED: [(u8, u8); 2] = [(SSIF_BMC << 1, 0x02), (SSIF_BMC << 1 | 1, 0x03)];

/// HST_CNT of a kernel's transaction: block, with and without its interrupt.
const WITH_INTERRUPT: u8 = 0x15;
const POLLED: u8 = 0x14;
/// The memory's first EEPROM, read.
const SPD: u8 = 0xa1;

fn interface() -> SystemInterface {
    SystemInterface::new(Some(Interface::Ssif(interface::I801::new(0x700, SSIF_BMC).unwrap())))
}

/// Adds `RECORD`; what came of it, and the milliseconds that took.
fn add(sim: &mut Sim) -> (Result<(), CommandError>, u64) {
    let mut timer = Timer::start(sim, Some(2_400_000), 60_000);
    let began = sim.time_us;
    let result = Bmc::new(interface(), 5_000).send(sim, &mut timer, &AddSelEntry(&RECORD)).map(drop);
    (result, (sim.time_us - began) / 1000)
}

/// Nothing is objected to, and the controller is as it was found: free, idle, its auxiliary control as before.
fn assert_given_back(sim: &Sim, aux: u8, name: &str) {
    let controller = &sim.i801;
    assert!(controller.violations.is_empty(), "{name}: {:?}", controller.violations);
    assert!(controller.transactions.iter().all(|one| ALLOWED.contains(one)), "{name}");
    assert!(!controller.is_in_use() && !controller.is_busy() && !controller.has_flags(), "{name}");
    assert_eq!((controller.aux, controller.control & 0x03), (aux, 0), "{name}: AUX_CTL, INTREN and KILL");
}

/// Adds it behind what `left` does; it is served.
fn served(name: &str, left: impl FnOnce(&mut Sim)) -> (Sim, u64) {
    let mut sim = Sim::default();
    left(&mut sim);
    let aux = sim.i801.aux;
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Ok(()), "{name}");
    assert_eq!(sim.bmc.sel, [RECORD], "{name}");
    assert_given_back(&sim, aux, name);
    (sim, ms)
}

#[test]
fn every_command_reaches_a_bmc_in_one_block() {
    let mut sim = Sim::default();
    sim.i801.aux = 0x01;
    let mut timer = Timer::start(&mut sim, None, 60_000);
    let mut bmc = Bmc::new(interface(), 5_000);
    bmc.send(&mut sim, &mut timer, &SetWatchdogTimer { seconds: 60, action: Action::Reset }).unwrap();
    bmc.send(&mut sim, &mut timer, &ResetWatchdogTimer).unwrap();
    assert_eq!(bmc.send(&mut sim, &mut timer, &GetSelInfo).unwrap().entries, 0);
    bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop).unwrap();
    assert!(sim.bmc.watchdog.as_ref().unwrap().running);
    assert_eq!(sim.bmc.sel, [RECORD]);
    assert_eq!(sim.bmc.requests[3], [&[0x28, 0x44], &RECORD[..]].concat());
    assert_given_back(&sim, 0x01, "");
    assert_eq!(sim.i801.transactions.len(), 2);
    let registers = [0x700, 0x702, 0x703, 0x704, 0x705, 0x707, 0x70d, 0x70];
    assert!(sim.written.iter().all(|port| registers.contains(port)), "{:x?}", sim.written);
}

#[test]
fn a_bmc_that_does_not_acknowledge_yet_is_asked_again() {
    for answer_us in [0, 300, 30_000, 4_900_000] {
        let (sim, ms) = served("slow", |sim| sim.bmc.answer_us = answer_us);
        assert!(ms <= answer_us / 1000 + 20, "{ms} ms");
        // Ten milliseconds between two tries.
        assert!(sim.i801.count <= 3 + answer_us / 10_000, "{}", sim.i801.count);
    }
    let (sim, ms) = served("deaf", |sim| sim.i801.deaf_until_us = 1_000_000);
    assert!((1_000..1_020).contains(&ms), "{ms} ms");
    assert_eq!(sim.bmc.requests.len(), 1);
}

#[test]
fn what_the_crashed_kernel_has_under_way_is_let_end_or_killed() {
    let ours = SSIF_BMC << 1;
    for no_semaphore in [false, true] {
        for (control, address) in [(WITH_INTERRUPT, ours), (POLLED, ours | 1), (WITH_INTERRUPT, SPD)] {
            for (us, kills) in [(Some(400), 0), (Some(3_000), 0), (Some(45_000), 0), (None, 1)] {
                let (sim, ms) = served("under way", |sim| {
                    sim.i801.no_semaphore = no_semaphore;
                    sim.i801.leave_busy(!no_semaphore, control, address, us);
                });
                assert_eq!(sim.i801.kills, kills, "{us:?}");
                assert!(ms <= 60, "{ms} ms");
            }
        }
    }
    // No semaphore was taken: nobody who honours it is at work.
    let (sim, _) = served("free but busy", |sim| sim.i801.leave_busy(false, POLLED, SPD, None));
    assert_eq!(sim.i801.kills, 1);
    // Linux before 5.14 never gives it back.
    for (control, address) in [(WITH_INTERRUPT, SPD), (POLLED, ours | 1)] {
        let (sim, ms) = served("never given back", |sim| sim.i801.leave_in_use(control, address));
        assert_eq!((sim.i801.kills, ms < 20), (0, true));
    }
}

#[test]
fn firmware_that_has_the_controller_is_waited_for_and_nothing_is_written() {
    let (sim, ms) = served("for a second", |sim| sim.i801.firmware_us = 0..1_000_000);
    assert!((1_000..1_010).contains(&ms), "{ms} ms");
    assert_eq!(sim.i801.kills, 0);
    for (name, left) in [("idle", None), ("busy", Some(POLLED))] {
        let mut sim = Sim::default();
        sim.i801.firmware_us = 0..u64::MAX;
        if let Some(control) = left {
            sim.i801.leave_busy(false, control, SPD, None);
        }
        let (result, ms) = add(&mut sim);
        assert_eq!(result, Err(CommandError::Silent), "{name}");
        assert!((10_000..10_010).contains(&ms), "{name}: {ms} ms");
        assert!(sim.written.iter().all(|port| *port == 0x70), "{name}: {:x?}", sim.written);
    }
}

/// Once the controller was ours, what it does later is nobody's who is dead.
#[test]
fn firmware_that_comes_later_is_waited_for_whatever_the_registers_show() {
    let mut sim = Sim::default();
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(interface(), 1_000);
    bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop).unwrap();
    // It has taken it, and our own address is still there.
    sim.i801.firmware_us = sim.time_us..sim.time_us + 300_000;
    let count = sim.i801.count;
    let began = sim.time_us;
    bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop).unwrap();
    assert!(sim.time_us - began >= 300_000);
    assert_eq!(sim.i801.count, count + 2);
    assert_given_back(&sim, 0, "semaphore");
    // One who does not ask for it is not killed either.
    sim.i801.leave_busy(false, POLLED, SPD, Some(sim.time_us + 500_000));
    sim.i801.aux = 0;
    bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop).unwrap();
    sim.i801.leave_busy(false, POLLED, SPD, None);
    let sent = bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop);
    assert_eq!((sent, sim.i801.kills), (Err(CommandError::Silent), 0));
    assert!(sim.i801.violations.is_empty() && !sim.i801.is_in_use(), "{:?}", sim.i801.violations);
}

#[test]
fn what_does_not_answer_is_given_up_in_time_and_the_controller_is_given_back() {
    type Fault = (&'static str, fn(&mut Sim));
    let faults: [Fault; 12] = [
        ("mute", |sim| sim.bmc.then = Answer::Nothing),
        ("deaf", |sim| sim.i801.deaf_until_us = u64::MAX),
        ("nobody at the address", |sim| sim.i801.bus = Bus::Empty),
        ("bus held low", |sim| sim.i801.bus = Bus::Low),
        ("another master", |sim| sim.i801.bus = Bus::Taken),
        ("another's command", |sim| {
            sim.bmc.then = Answer::Bytes(vec![0x2c, 0x40, 0, 0, 0]);
        }),
        ("several parts", |sim| sim.bmc.then = Answer::Bytes(vec![0, 1, 0x2c, 0x44])),
        ("no bytes", |sim| sim.i801.wrong_len = Some(0)),
        ("one byte", |sim| sim.i801.wrong_len = Some(1)),
        ("two bytes", |sim| sim.i801.wrong_len = Some(2)),
        ("33 bytes", |sim| sim.i801.wrong_len = Some(33)),
        ("255 bytes", |sim| sim.i801.wrong_len = Some(255)),
    ];
    for (name, fault) in faults {
        let mut sim = Sim::default();
        sim.i801.aux = 0x01;
        fault(&mut sim);
        let (result, ms) = add(&mut sim);
        assert_eq!(result, Err(CommandError::Silent), "{name}");
        assert!(ms <= 10_300, "{name}: {ms} ms");
        assert!(sim.bmc.requests.len() <= 2, "{name}: {}", sim.bmc.requests.len());
        assert_given_back(&sim, 0x01, name);
    }
}

#[test]
fn a_controller_that_is_stuck_is_given_up_in_time() {
    for status in [0x00, 0x01, 0x02, 0x04, 0x1e, 0x41, 0x42, 0x43, 0x9e, 0xbe, 0xfe] {
        let mut sim = Sim::default();
        sim.i801.stuck = Some(status);
        let (result, ms) = add(&mut sim);
        assert!(matches!(result, Ok(()) | Err(CommandError::Silent | CommandError::Garbled)), "{result:?}");
        assert!(ms <= 10_400, "{status:#x}: {ms} ms");
        assert!(sim.i801.transactions.iter().all(|one| ALLOWED.contains(one)), "{status:#x}");
        assert_eq!(sim.i801.aux, 0, "{status:#x}");
    }
}

#[test]
fn nobody_there_is_given_up_at_once_and_nothing_is_written() {
    let mut sim = Sim::default();
    sim.i801.absent = true;
    assert_eq!(add(&mut sim), (Err(CommandError::Absent), 0));
    assert!(sim.written.iter().all(|port| *port == 0x70), "{:x?}", sim.written);
}

#[test]
fn a_bmc_that_acknowledges_before_it_is_ready_is_asked_again_and_not_sent_the_request_again() {
    for [net_fn, cmd] in [[0x1c, 0x01], [0x1c, 0x44], [0x2c, 0x40]] {
        let (sim, ms) = served("remains", |sim| {
            sim.bmc.answer_us = 1_000_000;
            sim.i801.remains = true;
            sim.i801.leave_answer(&[net_fn, cmd, 0, 1, 2, 3]);
        });
        assert!((1_000..1_020).contains(&ms), "{ms} ms");
        assert_eq!(sim.bmc.requests.len(), 1);
    }
}

#[test]
fn an_answer_that_nobody_has_read_is_not_taken_for_ours() {
    let (sim, _) = served("stale", |sim| {
        sim.bmc.answer_us = 30_000;
        sim.i801.leave_answer(&[0x1c, 0x01, 0, 1, 2, 3]);
    });
    assert_eq!(sim.bmc.requests.len(), 1);
}

/// A BMC that is slower than its time limit, and answers everything.
fn slow(answer_us: u64) -> Sim {
    let mut sim = Sim::default();
    (sim.bmc.answer_us, sim.i801.queues) = (answer_us, true);
    sim
}

#[test]
fn a_request_that_is_answered_late_is_carried_out_once() {
    // Within half as much again as its time limit.
    let mut sim = slow(1_400_000);
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(interface(), 1_000);
    for records in 1..=3 {
        assert_eq!(bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)), Ok(Some(records)));
        assert_eq!(sim.bmc.requests.len(), usize::from(records));
    }
}

#[test]
fn a_late_answer_is_not_taken_for_that_of_the_next_request() {
    let mut sim = slow(400_000);
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut transport = interface();
    let mut add = |sim: &mut Sim, byte: u8, ms| {
        let request = [&[0x28, 0x44][..], &[byte; 16]].concat();
        timer.now(sim);
        let (deadline, mut reply) = (timer.within(ms), [0; 40]);
        transport.transfer(sim, &mut timer, &request, &mut reply, deadline).map(|_| reply[3])
    };
    assert_eq!(add(&mut sim, 1, 100), Err(TransferError::Timeout));
    assert_eq!(add(&mut sim, 2, 1_000), Ok(2));
    assert_eq!(sim.bmc.sel, [[1; 16], [2; 16]]);
    // It was taken away.
    assert_eq!(add(&mut sim, 3, 1_000), Ok(3));
    // One that has lost a request is waited for no longer than half of the time.
    sim.bmc.answers.push_back(Answer::Nothing);
    assert_eq!(add(&mut sim, 4, 100), Err(TransferError::Timeout));
    assert_eq!(add(&mut sim, 5, 1_000), Ok(4));
    // And it is sent again.
    sim.bmc.answers.push_back(Answer::Nothing);
    assert_eq!(add(&mut sim, 6, 1_000), Err(TransferError::Timeout));
    assert_eq!(add(&mut sim, 6, 1_000), Ok(5));
    assert_eq!(sim.bmc.sel, [1, 2, 3, 5, 6].map(|byte| [byte; 16]));
    assert_given_back(&sim, 0, "slow");
}

#[test]
fn a_bmc_that_has_its_last_answer_until_it_has_the_next_gets_each_record_once() {
    for answer_us in [8_000, 150_000, 1_200_000, 3_000_000] {
        let mut sim = Sim::default();
        (sim.bmc.answer_us, sim.i801.remains) = (answer_us, true);
        let mut timer = Timer::start(&mut sim, Some(2_400_000), 600_000);
        let mut bmc = Bmc::new(interface(), 5_000);
        for records in 1..=14 {
            assert_eq!(
                bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)),
                Ok(Some(records)),
                "{answer_us}"
            );
        }
        assert_eq!((sim.bmc.sel.len(), sim.bmc.requests.len()), (14, 14));
        assert_eq!(bmc.send(&mut sim, &mut timer, &GetSelInfo).unwrap().entries, 14);
        assert_given_back(&sim, 0, "remains");
    }
}

#[test]
fn a_bmc_that_numbers_no_records_is_waited_for_once() {
    let mut sim = Sim::default();
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 600_000);
    let mut bmc = Bmc::new(interface(), 5_000);
    let began = sim.time_us;
    for _ in 0..14 {
        sim.bmc.answers.push_back(Answer::Bytes(vec![0x2c, 0x44, 0, 0xff, 0xff]));
        assert_eq!(bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)), Ok(Some(0xffff)));
    }
    assert_eq!(sim.bmc.requests.len(), 14);
    assert!((3_500_000..3_800_000).contains(&(sim.time_us - began)), "{} us", sim.time_us - began);
}

#[test]
fn the_watchdog_is_set_again_where_no_answer_came_in_time() {
    let mut sim = slow(400_000);
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(interface(), 300);
    let set = SetWatchdogTimer { seconds: 60, action: Action::Reset };
    assert_eq!(bmc.send(&mut sim, &mut timer, &set), Ok(()));
    assert_eq!(sim.bmc.requests.len(), 2);
}

#[test]
fn a_request_of_several_parts_is_refused_and_nothing_is_touched() {
    for (len, error) in [(0, true), (2, false), (32, false), (33, true), (40, true)] {
        let mut sim = Sim::default();
        let mut timer = Timer::start(&mut sim, Some(2_400_000), 1_000);
        let before = sim.written.len();
        let result = interface().transfer(&mut sim, &mut timer, &vec![0x18; len], &mut [0; 40], 100);
        assert_eq!(result == Err(TransferError::TooLong), error, "{len}: {result:?}");
        assert_eq!(sim.written.len() == before, error, "{len}");
    }
}

/// Reports all there is over SSIF; the ports that were written to.
fn report(sim: &mut Sim) -> Vec<u16> {
    let kernel = CrashedKernel::idle(4).with_log(&["Kernel panic - not syncing: Fatal exception"]);
    let elfcorehdr = kernel.put(&mut sim.memory);
    let line =
        "console=ttyS0 lastwords.ipmi_watchdog=start=60 lastwords.ipmi_handle_panic lastwords.output_cpu_ip";
    let plan = Plan::new(SSIF, line);
    let this_cpu = ThisCpu { apic_id: 6, tsc_aux: Some(3) };
    let mut sequence = Sequence::new(sim, plan, plan.bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        sequence.step(sim, step);
    }
    sim.written.iter().copied().filter(|port| !(0x3f8..=0x3ff).contains(port)).collect()
}

#[test]
fn a_whole_report_is_what_it_is_over_kcs_and_touches_no_other_interface() {
    let mut sim = Sim::default();
    assert_eq!(report(&mut sim), [0x70, 0x700, 0x702, 0x703, 0x704, 0x705, 0x707, 0x70d]);
    assert_given_back(&sim, 0, "");
    assert_eq!(sim.bmc.looks, 0);
    assert_eq!((sim.bmc.events.len(), sim.bmc.sel.len()), (1, 7));
    assert!(sim.bmc.watchdog.is_some_and(|watchdog| watchdog.running));

    // Nobody there.
    let mut sim = Sim::default();
    sim.i801.absent = true;
    assert_eq!(report(&mut sim), [0x70]);
    let text = sim.uart.text();
    assert!(text.contains("watchdog: port 0x700 reads 0xff, no BMC answers there"), "{text}");
}
