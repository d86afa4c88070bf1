//! KCS and the commands, against a BMC at register level that works and that does not.

use lastwords_core::budget::Timer;
use lastwords_core::hw::{Clock, Register, Registers, Second};
use lastwords_core::ipmi::commands::{Action, AddSelEntry, ResetWatchdogTimer, SetWatchdogTimer};
use lastwords_core::ipmi::interface::KcsPorts;
use lastwords_core::ipmi::kcs::Kcs;
use lastwords_core::ipmi::message::CompletionCode;
use lastwords_core::ipmi::sel_writer::{SelType, SelWriter, critical_stop};
use lastwords_core::ipmi::watchdog::Watchdog;
use lastwords_core::ipmi::{Bmc, CommandError, TransferError, Transport};
use lastwords_sim::{Answer, Sim, WatchdogState};

const RECORD: [u8; 16] = *b"\0\0\xf0\x20\x80hello world";

/// Adds `RECORD`; what came of it, and the milliseconds that took.
fn add(sim: &mut Sim) -> (Result<(), CommandError>, u64) {
    let mut timer = Timer::start(sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
    let began = sim.time_us;
    let result = bmc.send(sim, &mut timer, &AddSelEntry(&RECORD)).map(drop);
    (result, (sim.time_us - began) / 1000)
}

#[test]
fn every_command_reaches_a_bmc_that_works_in_the_specifications_bytes() {
    let mut sim = Sim::default();
    let mut timer = Timer::start(&mut sim, None, 60_000);
    let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
    bmc.send(&mut sim, &mut timer, &SetWatchdogTimer { seconds: 60, action: Action::PowerCycle }).unwrap();
    assert_eq!(sim.bmc.watchdog, Some(WatchdogState { set: [4, 3, 0, 0x10, 0x58, 0x02], running: false }));
    bmc.send(&mut sim, &mut timer, &ResetWatchdogTimer).unwrap();
    assert!(sim.bmc.watchdog.as_ref().unwrap().running);
    bmc.send(&mut sim, &mut timer, &critical_stop(b"Oops")).unwrap();
    bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop).unwrap();
    assert_eq!(sim.bmc.sel, [RECORD]);
    assert_eq!(sim.bmc.requests[..2], [vec![0x18, 0x24, 4, 3, 0, 0x10, 0x58, 0x02], vec![0x18, 0x22]]);
    assert_eq!(sim.bmc.requests[2], [0x10, 0x02, 0x41, 0x04, 0x20, b'O', 0x6f, 0xa1, b'o', b'p']);
    assert_eq!(sim.bmc.requests[3], [&[0x28, 0x44], &RECORD[..]].concat());
}

#[test]
fn a_bmc_that_leaves_out_the_dummy_byte_costs_nothing() {
    let mut sim = Sim::default();
    sim.bmc.no_dummy = true;
    let (result, ms) = add(&mut sim);
    assert_eq!((result, ms), (Ok(()), 0));
}

#[test]
fn nobody_there_is_given_up_at_once() {
    let mut sim = Sim::default();
    sim.bmc.absent = true;
    let (result, ms) = add(&mut sim);
    assert_eq!((result, ms), (Err(CommandError::Absent), 0));
}

#[test]
fn a_slow_bmc_is_waited_for_up_to_the_timeout() {
    let mut sim = Sim::default();
    sim.bmc.answer_us = 4_900_000;
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Ok(()));
    assert!((4_900..4_910).contains(&ms), "{ms}");
}

#[test]
fn a_bmc_that_loses_one_answer_is_asked_once_more() {
    let mut sim = Sim::default();
    sim.bmc.answers = [Answer::Nothing].into();
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Ok(()));
    assert!((5_000..5_010).contains(&ms), "{ms}");
    assert_eq!(sim.bmc.sel, [RECORD]);
}

#[test]
fn after_two_timeouts_in_a_row_a_bmc_is_left_alone() {
    let mut sim = Sim::default();
    sim.bmc.then = Answer::Nothing;
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
    assert_eq!(bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop), Err(CommandError::Silent));
    assert!((10_000_000..10_100_000).contains(&sim.time_us), "{}", sim.time_us);
    assert_eq!(sim.bmc.requests.len(), 2);
    let accesses = sim.accesses;
    assert_eq!(bmc.send(&mut sim, &mut timer, &ResetWatchdogTimer), Err(CommandError::Silent));
    assert_eq!(sim.accesses, accesses);
}

#[test]
fn a_caller_that_has_time_tries_again_one_that_was_given_up() {
    let mut sim = Sim::default();
    sim.bmc.answers = [Answer::Nothing, Answer::Nothing].into();
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
    let mut add =
        |bmc: &mut Bmc<Kcs>, sim: &mut Sim| bmc.send(sim, &mut timer, &AddSelEntry(&RECORD)).map(drop);
    assert_eq!(add(&mut bmc, &mut sim), Err(CommandError::Silent));
    bmc.try_again();
    assert_eq!(add(&mut bmc, &mut sim), Ok(()));
    sim.bmc.absent = true;
    assert_eq!(add(&mut bmc, &mut sim), Err(CommandError::Absent));
    sim.bmc.absent = false;
    assert_eq!(add(&mut bmc, &mut sim), Err(CommandError::Absent));
    bmc.try_again();
    assert_eq!(add(&mut bmc, &mut sim), Ok(()));
}

#[test]
fn a_bmc_that_initializes_itself_is_asked_again_and_one_that_is_busy_for_ever_given_up() {
    for code in [0xc0, 0xd2] {
        let mut sim = Sim::default();
        sim.bmc.answers = [Answer::Code(code), Answer::Code(code)].into();
        let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
        let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
        assert_eq!(bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop), Ok(()));

        sim.bmc.then = Answer::Code(code);
        let began = sim.time_us;
        let results = [(); 4].map(|()| bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop));
        let busy = Err(CommandError::Refused(CompletionCode(code)));
        assert_eq!(results, [busy, busy, Err(CommandError::Silent), Err(CommandError::Silent)]);
        let ms = (sim.time_us - began) / 1000;
        assert!((1_900..2_200).contains(&ms), "{ms}");
    }
}

/// As the part of a BMC does that answers for another one.
#[test]
fn an_answer_that_says_timeout_counts_as_none() {
    let mut sim = Sim::default();
    sim.bmc.answer_us = 4_000_000;
    sim.bmc.answers = [Answer::Code(0xc3)].into();
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Ok(()));
    assert!((8_000..8_100).contains(&ms), "{ms}");
    sim.bmc.then = Answer::Code(0xc3);
    let asked = sim.bmc.requests.len();
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Err(CommandError::Silent));
    assert!((8_000..8_100).contains(&ms), "{ms}");
    assert_eq!(sim.bmc.requests.len(), asked + 2);
}

#[test]
fn any_status_that_never_changes_ends_in_time() {
    for status in 0..=0xff {
        let mut sim = Sim { access_ns: 20_000, ..Sim::default() };
        sim.bmc.stuck_status = Some(status);
        let (result, ms) = add(&mut sim);
        assert!(result.is_err(), "{status:#x}");
        // Two timeouts of 5 s, and the error exit of half a second before and after each.
        assert!(ms <= 12_100, "{status:#x}: {ms} ms");
    }
}

#[test]
fn what_the_crashed_kernel_left_half_done_is_cleared_away() {
    for leave in [
        |bmc: &mut lastwords_sim::KcsBmc| bmc.leave_reading(&[0x1c, 0x01, 0, 0x20, 0x01]),
        |bmc: &mut lastwords_sim::KcsBmc| bmc.leave_writing(&[0x18]),
        |bmc: &mut lastwords_sim::KcsBmc| bmc.leave_answering(50, &[0x1c, 0x01, 0, 0x20]),
        |bmc: &mut lastwords_sim::KcsBmc| bmc.leave_answering(2_000_000, &[0x1c, 0x01, 0, 0x20]),
    ] {
        let mut sim = Sim::default();
        leave(&mut sim.bmc);
        let (result, ms) = add(&mut sim);
        assert_eq!(result, Ok(()));
        assert!(ms < 20, "{ms}");
        assert_eq!(sim.bmc.sel, [RECORD]);
    }
}

#[test]
fn answers_that_are_none_are_asked_for_again() {
    for nonsense in [
        Answer::Error,
        Answer::Bytes(vec![0x1c, 0x01, 0x00, 0x20]),
        Answer::Bytes(vec![0x2c]),
        Answer::Bytes(vec![0x2c, 0x44]),
        Answer::Bytes(vec![0x2c; 300]),
    ] {
        let mut sim = Sim::default();
        sim.bmc.answers = [nonsense.clone()].into();
        assert_eq!(add(&mut sim).0, Ok(()), "{nonsense:?}");
        sim.bmc.then = nonsense.clone();
        sim.bmc.requests.clear();
        let (result, ms) = add(&mut sim);
        assert_eq!(result, Err(CommandError::Garbled), "{nonsense:?}");
        assert_eq!(sim.bmc.requests.len(), 1 + 3, "{nonsense:?}");
        assert!(ms < 100, "{nonsense:?}: {ms} ms");
    }
}

#[test]
fn a_busy_bmc_is_asked_again_for_a_while() {
    let mut sim = Sim::default();
    sim.bmc.answers = vec![Answer::Code(0xc0); 3].into();
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Ok(()));
    assert!((300..400).contains(&ms), "{ms}");
    sim.bmc.then = Answer::Code(0xc0);
    let (result, ms) = add(&mut sim);
    assert_eq!(result, Err(CommandError::Refused(CompletionCode::NODE_BUSY)));
    assert!(ms < 1_100, "{ms}");
}

#[test]
fn a_refusal_is_final() {
    for code in [0x80, 0xc1, 0xc4, 0xcc, 0xd4] {
        let mut sim = Sim::default();
        sim.bmc.then = Answer::Code(code);
        assert_eq!(add(&mut sim).0, Err(CommandError::Refused(CompletionCode(code))));
        assert_eq!(sim.bmc.requests.len(), 1);
    }
}

#[test]
fn nothing_is_sent_when_the_budget_is_spent() {
    let mut sim = Sim::default();
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 0);
    let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
    assert_eq!(bmc.send(&mut sim, &mut timer, &AddSelEntry(&RECORD)).map(drop), Err(CommandError::NoTime));
    assert!(sim.bmc.requests.is_empty());
}

#[test]
fn a_record_that_is_not_taken_for_the_bmcs_own_state_does_not_become_an_event() {
    let mut sim = Sim::default();
    sim.bmc.answers = vec![Answer::Code(0xc0); 11].into();
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
    let mut writer = SelWriter::new(SelType::System);
    let busy = Err(CommandError::Refused(CompletionCode::NODE_BUSY));
    assert_eq!(writer.events(&mut bmc, &mut sim, &mut timer, b"Oops"), busy);
    assert_eq!((sim.bmc.events.len(), writer.sel_type), (0, SelType::System));
    assert_eq!(writer.events(&mut bmc, &mut sim, &mut timer, b"Oops"), Ok(()));
    assert_eq!((sim.bmc.sel.len(), writer.written), (2, 2));
}

#[test]
fn what_a_parameter_says_is_written_as_it_is_read() {
    for text in ["oem", "system", "event"] {
        assert_eq!(SelType::parse(text).unwrap().to_string(), text);
    }
    for text in ["stop", "start=60,reset", "start=6553,power-cycle", "start=1,power-off", "start=300,none"] {
        assert_eq!(Watchdog::parse(text).unwrap().to_string(), text);
    }
}

/// The machine, and the control codes that its BMC got.
struct Watched {
    sim: Sim,
    codes: Vec<u8>,
}

impl Registers for Watched {
    fn get(&mut self, register: Register) -> u8 {
        self.sim.get(register)
    }

    fn put(&mut self, register: Register, value: u8) {
        if register == Register::Port(0xca3) {
            self.codes.push(value);
        }
        self.sim.put(register, value);
    }
}

impl Clock for Watched {
    fn ticks(&mut self) -> u64 {
        self.sim.ticks()
    }

    fn second(&mut self) -> Second {
        self.sim.second()
    }

    fn relax(&mut self) {
        self.sim.relax();
    }
}

/// One transfer to it: what came of it, and the control codes.
fn transfer(sim: Sim) -> (Result<usize, TransferError>, Vec<u8>) {
    let mut machine = Watched { sim, codes: Vec::new() };
    let mut timer = Timer::start(&mut machine, Some(2_400_000), 60_000);
    let request = [&[0x28, 0x44], &RECORD[..]].concat();
    let result = Kcs::new(KcsPorts::DEFAULT).transfer(&mut machine, &mut timer, &request, &mut [0; 8], 5_000);
    (result, machine.codes)
}

#[test]
fn a_bmc_that_is_idle_behind_an_abort_gets_the_request_whatever_the_abort_met() {
    let mut sim = Sim::default();
    sim.bmc.short_abort = true;
    sim.bmc.leave_writing(&[0x18]);
    assert_eq!(transfer(sim), (Ok(5), vec![0x60, 0x61, 0x62]));
}

#[test]
fn a_bmc_that_no_abort_makes_idle_gets_no_request() {
    for status in [0x40, 0x80, 0xc0, 0x82] {
        let mut sim = Sim::default();
        sim.bmc.stuck_status = Some(status);
        let (result, codes) = transfer(sim);
        assert!(result.is_err() && !codes.contains(&0x61), "{status:#x}: {result:?}, {codes:02x?}");
    }
}

#[test]
fn beside_a_bmc_that_answers_soon_the_rtc_is_looked_at_a_few_hundred_times_a_second() {
    /// Counts looks at the clock of seconds.
    struct Counting(Sim, u64);
    impl Registers for Counting {
        fn get(&mut self, register: Register) -> u8 {
            self.0.get(register)
        }
        fn put(&mut self, register: Register, value: u8) {
            self.0.put(register, value);
        }
    }
    impl Clock for Counting {
        fn ticks(&mut self) -> u64 {
            self.0.ticks()
        }
        fn second(&mut self) -> Second {
            self.1 += 1;
            self.0.second()
        }
        fn relax(&mut self) {
            self.0.relax();
        }
    }
    const REQUESTS: u64 = 1000;
    let mut machine = Counting(Sim::default(), 0);
    machine.0.bmc.answer_us = 300;
    let khz = machine.0.tsc_khz;
    let mut timer = Timer::start(&mut machine, Some(khz), 60_000);
    let mut bmc = Bmc::new(Kcs::new(KcsPorts::DEFAULT), 5_000);
    for _ in 0..REQUESTS {
        bmc.send(&mut machine, &mut timer, &AddSelEntry(&RECORD)).unwrap();
    }
    let Counting(sim, looks) = machine;
    assert!(sim.time_us > 300 * REQUESTS, "{}", sim.time_us);
    let a_second = looks * 1_000_000 / sim.time_us;
    assert!((100..=400).contains(&a_second), "{a_second} looks");
    // A look at the status register a microsecond, and what each byte takes.
    assert!(sim.accesses / REQUESTS <= 450, "{} accesses a request", sim.accesses / REQUESTS);
}
