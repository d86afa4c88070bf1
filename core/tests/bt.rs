//! BT against an interface at register level that works and that does not, and that objects to whatever the specification
//! forbids.

use lastwords_core::budget::Timer;
use lastwords_core::hw::Register;
use lastwords_core::ipmi::bt::SEQ;
use lastwords_core::ipmi::commands::{Action, AddSelEntry, GetSelInfo, ResetWatchdogTimer, SetWatchdogTimer};
use lastwords_core::ipmi::interface::{BtPorts, Interface, SystemInterface};
use lastwords_core::ipmi::{Bmc, CommandError, TransferError, Transport};
use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_sim::{Answer, BT, CrashedKernel, Sim};

const RECORD: [u8; 16] = *b"\0\0\xf0\x20\x80hello world";

fn interface() -> SystemInterface {
    SystemInterface::new(Some(Interface::Bt(BtPorts::new(Register::Port(0xe4), 1).unwrap())))
}

/// Adds `RECORD`; what came of it, and the milliseconds that took.
fn add(sim: &mut Sim) -> (Result<(), CommandError>, u64) {
    let mut timer = Timer::start(sim, Some(2_400_000), 60_000);
    let began = sim.time_us;
    let result = Bmc::new(interface(), 5_000).send(sim, &mut timer, &AddSelEntry(&RECORD)).map(drop);
    (result, (sim.time_us - began) / 1000)
}

/// The same once more, of an interface that was left as `left` says; it is served, nothing is objected to, and nothing of BT is
/// left busy.
fn served(name: &str, left: impl FnOnce(&mut Sim)) -> u64 {
    let mut sim = Sim::default();
    left(&mut sim);
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Ok(()), "{name}");
    assert_eq!(sim.bmc.sel, [RECORD], "{name}");
    assert!(sim.bt.violations.is_empty(), "{name}: {:?}", sim.bt.violations);
    assert!(!sim.bt.is_host_busy(), "{name}");
    ms
}

#[test]
fn every_command_reaches_a_bmc_in_one_message_with_a_number_of_its_own() {
    let mut sim = Sim::default();
    let mut timer = Timer::start(&mut sim, None, 60_000);
    let mut bmc = Bmc::new(interface(), 5_000);
    bmc.send(&mut sim, &mut timer, &SetWatchdogTimer { seconds: 60, action: Action::Reset }).unwrap();
    bmc.send(&mut sim, &mut timer, &ResetWatchdogTimer).unwrap();
    assert_eq!(bmc.send(&mut sim, &mut timer, &GetSelInfo).unwrap().entries, 0);
    bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop).unwrap();
    assert!(sim.bmc.watchdog.as_ref().unwrap().running);
    assert_eq!(sim.bmc.sel, [RECORD]);
    assert_eq!(sim.bmc.requests[3], [&[0x28, 0x44], &RECORD[..]].concat());
    assert_eq!(sim.bt.seqs, [SEQ + 1, SEQ + 2, SEQ + 3, SEQ + 4]);
    assert!(sim.bt.violations.is_empty(), "{:?}", sim.bt.violations);
    assert!(sim.written.iter().all(|port| [0xe4, 0xe5, 0x70].contains(port)), "{:x?}", sim.written);
}

#[test]
fn whatever_a_crashed_kernel_has_left_the_request_is_served() {
    // The answer to its Get Device ID, in its numbers.
    let device_id = |seq| [&[7, 0x1c, seq, 0x01, 0x00][..], &[1, 2, 3]].concat();
    served("nothing", |_| {});
    for seq in [0, 1, 77, SEQ, SEQ + 1, SEQ + 2, 255] {
        served("in the middle of reading", |sim| sim.bt.leave_reading(&device_id(seq)));
        served("before reading", |sim| sim.bt.leave_answer(&device_id(seq)));
        for us in [0, 300, 400_000] {
            served("before reading, and another in the middle", |sim| {
                sim.bt.leave_reading(&device_id(seq));
                sim.bt.leave_request(us / 2, us, &device_id(seq.wrapping_add(1)));
            });
            let ms = served("a request under way", |sim| sim.bt.leave_request(us / 2, us, &device_id(seq)));
            assert!(ms <= us / 1000 + 2, "{ms} ms");
            // Its answer comes only when ours is written.
            served("a request that was taken", |sim| sim.bt.leave_request(0, us, &device_id(seq)));
        }
    }
    for us in [2, 300, 400_000] {
        // Get Device ID, which the BMC has not taken yet.
        served("a request that is there", |sim| sim.bt.leave_attention(us, &[3, 0x18, 7, 0x01]));
    }
    served("an answer that has to be taken first", |sim| {
        sim.bt.waits_for_host = true;
        sim.bt.leave_answer(&device_id(7));
        sim.bt.leave_request(0, 100, &device_id(8));
    });
    served("in the middle of writing", |sim| sim.bt.leave_writing(&[0x07, 0x18, 0x01]));
    served("answers of its own", |sim| {
        for at in 0..6 {
            sim.bt.leave_request(0, at * 100, &device_id(at as u8));
        }
    });
}

#[test]
fn a_bmc_that_does_not_clear_b2h_atn_at_once_is_served() {
    let mut sim = Sim::default();
    sim.bt.hits = 8;
    sim.bt.leave_answer(&[4, 0x1c, 1, 0x01, 0]);
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let result = interface().transfer(&mut sim, &mut timer, &[0x18, 0x22], &mut [0; 8], 5_000);
    assert_eq!((result, sim.bmc.requests.len()), (Ok(3), 1));
}

#[test]
fn an_answer_that_differs_in_number_netfn_or_command_alone_is_not_taken_for_ours() {
    for [net_fn, seq, cmd] in [[0x2c, 9, 0x44], [0x1c, SEQ + 1, 0x44], [0x2c, SEQ + 1, 0x40]] {
        let mut sim = Sim::default();
        sim.bt.leave_request(0, 200, &[6, net_fn, seq, cmd, 0xc4, 7, 7]);
        let (result, _) = add(&mut sim);
        assert_eq!((result, sim.bmc.requests.len()), (Ok(()), 1), "{net_fn:#x} {seq:#x} {cmd:#x}");
    }
}

#[test]
fn a_bmc_that_answers_late_is_waited_for_and_what_comes_too_late_is_dropped() {
    let ms = served("4.9 s", |sim| sim.bmc.answer_us = 4_900_000);
    assert!((4_900..4_950).contains(&ms), "{ms} ms");
    // The first answer comes while the second request is on its way.
    let mut sim = Sim::default();
    sim.bmc.answer_us = 5_100_000;
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(interface(), 5_000);
    let sent = bmc.send(&mut sim, &mut timer, &SetWatchdogTimer { seconds: 60, action: Action::Reset });
    assert_eq!(sent, Err(CommandError::Silent));
    assert!(bmc.is_given_up());
    assert!(sim.bt.violations.is_empty(), "{:?}", sim.bt.violations);
    assert!(!sim.bt.is_host_busy());
}

#[test]
fn what_does_not_answer_is_given_up_in_time() {
    type Fault = (&'static str, CommandError, fn(&mut Sim));
    let silent = CommandError::Silent;
    let faults: [Fault; 13] = [
        ("mute", silent, |sim| sim.bmc.then = Answer::Nothing),
        ("B_BUSY stuck", silent, |sim| sim.bt.stuck = Some(0x80)),
        ("H2B_ATN stuck", silent, |sim| sim.bt.stuck = Some(0x04)),
        ("H_BUSY stuck", silent, |sim| sim.bt.stuck = Some(0x40)),
        ("all busy", silent, |sim| sim.bt.stuck = Some(0xc4)),
        ("idle for ever", silent, |sim| sim.bt.stuck = Some(0x00)),
        ("B2H_ATN stuck", CommandError::Garbled, |sim| sim.bt.stuck = Some(0x08)),
        ("all stuck but one", CommandError::Garbled, |sim| sim.bt.stuck = Some(0xfe)),
        ("never takes the request", silent, |sim| sim.bt.take_us = u64::MAX / 4),
        ("another's number", silent, |sim| sim.bt.wrong_seq = 1),
        ("another's command", silent, |sim| sim.bmc.then = Answer::Bytes(vec![0x2c, 0x40, 0, 0, 0])),
        ("too long", CommandError::Garbled, |sim| {
            sim.bmc.then = Answer::Bytes([&[0x2c, 0x44, 0][..], &[0; 60]].concat());
        }),
        ("no length", CommandError::Garbled, |sim| sim.bt.wrong_len = Some(0)),
    ];
    for (name, error, fault) in faults {
        let mut sim = Sim::default();
        fault(&mut sim);
        let (result, ms) = add(&mut sim);
        assert_eq!(result, Err(error), "{name}");
        assert!(ms <= 10_001, "{name}: {ms} ms");
        assert!(sim.bmc.requests.len() <= 4, "{name}: {}", sim.bmc.requests.len());
        assert!(!sim.bt.is_host_busy(), "{name}");
    }
}

#[test]
fn nobody_there_is_given_up_at_once_and_nothing_is_written() {
    let mut sim = Sim::default();
    sim.bt.absent = true;
    assert_eq!(add(&mut sim), (Err(CommandError::Absent), 0));
    assert!(!sim.written.contains(&0xe4) && !sim.written.contains(&0xe5), "{:x?}", sim.written);
}

#[test]
fn an_answer_of_any_length_is_taken_within_its_buffer() {
    for len in 0..=255 {
        let mut sim = Sim::default();
        sim.bt.wrong_len = Some(len);
        let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
        let mut reply = [0xee; 48];
        let result = interface().transfer(&mut sim, &mut timer, &[0x28, 0x40], &mut reply[..40], 1_000);
        match result {
            // NetFn and command at least; the sequence number is no part of it.
            Ok(taken) => assert_eq!((taken, (3..=41).contains(&len)), (usize::from(len) - 1, true), "{len}"),
            Err(error) => {
                assert_eq!((error, (3..=41).contains(&len)), (TransferError::TooLong, false), "{len}");
            }
        }
        assert_eq!(reply[40..], [0xee; 8], "{len}");
    }
}

/// Reports all there is over BT; the ports that were written to.
fn report(sim: &mut Sim) -> Vec<u16> {
    let kernel = CrashedKernel::idle(4).with_log(&["Kernel panic - not syncing: Fatal exception"]);
    let elfcorehdr = kernel.put(&mut sim.memory);
    let line =
        "console=ttyS0 lastwords.ipmi_watchdog=start=60 lastwords.ipmi_handle_panic lastwords.output_cpu_ip";
    let plan = Plan::new(BT, line);
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
    assert_eq!(report(&mut sim), [0x70, 0xe4, 0xe5]);
    assert!(sim.bt.violations.is_empty(), "{:?}", sim.bt.violations);
    assert_eq!(sim.bmc.looks, 0);
    assert_eq!((sim.bmc.events.len(), sim.bmc.sel.len()), (1, 7));
    assert!(sim.bmc.watchdog.is_some_and(|watchdog| watchdog.running));

    // Nobody there.
    let mut sim = Sim::default();
    sim.bt.absent = true;
    assert_eq!(report(&mut sim), [0x70]);
    let text = sim.uart.text();
    assert!(text.contains("watchdog: port 0xe4 reads 0xff, no BMC answers there"), "{text}");
}
