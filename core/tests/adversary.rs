//! Never worse than plain kdump, against machines with a memory: registers that are periodic or whose every write picks
//! the next answers, accesses that cost 0.1 to 200 microseconds, and clocks that go with them.
//!
//! Noise (`always.rs`) does not meet these: what ends a loop by chance ends it soon. Here true time is asserted: with
//! one clock that can be believed the report ends a second behind its budget at most; without any it ends.

use lastwords_core::arch;
use lastwords_core::device::rtc;
use lastwords_core::hw::{Clock, Memory, Register, Registers, Reset, Second};
use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_sim::{Answer, BT, Bus, CrashedKernel, KCS, SSIF, SSIF_BMC, Sim};

/// What one register reads as.
#[derive(Clone, Debug)]
enum Device {
    /// As the simulated machine has it.
    Sim,
    /// These values over and over.
    Periodic(Vec<u8>),
    /// The same, once a request is written.
    Answering(Vec<u8>),
    /// Each write picks one of these sequences, by what was written and what was picked before.
    Stateful(Vec<Vec<u8>>),
}

/// A register with its memory.
#[derive(Clone, Debug)]
struct Odd {
    device: Device,
    reads: usize,
    picked: usize,
    /// It is as [`Device`] says from here on.
    begun: bool,
}

impl Odd {
    fn new(device: Device) -> Self {
        let begun = !matches!(device, Device::Answering(_));
        Self { device, reads: 0, picked: 0, begun }
    }

    fn read(&mut self, value: u8) -> u8 {
        let values = match &self.device {
            Device::Sim => return value,
            Device::Answering(_) if !self.begun => return value,
            Device::Periodic(values) | Device::Answering(values) => values,
            Device::Stateful(all) => &all[self.picked % all.len()],
        };
        self.reads += 1;
        values[(self.reads - 1) % values.len()]
    }

    fn written(&mut self, value: u8) {
        self.reads = 0;
        self.picked = self.picked.wrapping_mul(31).wrapping_add(usize::from(value) + 1);
    }
}

/// How the CPU's counter goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tsc {
    /// As was told, or at so many per cent of it.
    Goes(u64),
    /// An hour ahead from this microsecond on.
    LeapsAt(u64),
    /// Anywhere at every look.
    Anywhere,
    /// Honest up to this microsecond, and then it stands.
    StopsAt(u64),
}

/// How the clock of seconds goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rtc {
    /// Its first tick comes after so many microseconds.
    Honest(u64),
    Stopped,
    Absent,
    /// Its registers read so, one after the other.
    Odd(&'static [u8]),
}

/// The CPU's counter as the plan tells it.
const KHZ: u32 = 2_400_000;

struct Machine {
    sim: Sim,
    status: Odd,
    data: Odd,
    line_status: Odd,
    rtc: Odd,
    tsc: Tsc,
    random: u64,
    start_us: u64,
    /// No report needs more accesses.
    most: u64,
}

impl Machine {
    fn new(cost_ns: u64, tsc: Tsc, rtc: Rtc) -> Self {
        let mut sim = Sim { access_ns: cost_ns, ..Sim::default() };
        let mut odd = Device::Sim;
        match rtc {
            Rtc::Honest(first_us) => sim.time_us = 1_000_000 - first_us,
            Rtc::Stopped => sim.rtc.stopped = true,
            Rtc::Absent => sim.rtc.absent = true,
            Rtc::Odd(values) => odd = Device::Periodic(values.to_vec()),
        }
        Self {
            start_us: sim.time_us,
            sim,
            status: Odd::new(Device::Sim),
            data: Odd::new(Device::Sim),
            line_status: Odd::new(Device::Sim),
            rtc: Odd::new(odd),
            tsc,
            random: 0x9e37_79b9_7f4a_7c15,
            most: 200_000_000,
        }
    }

    /// Reports by this plan; the microseconds that took.
    fn report(&mut self, line: &str) -> u64 {
        self.report_over(KCS, line)
    }

    /// The same, over another interface.
    fn report_over(&mut self, interface: &str, line: &str) -> u64 {
        let kernel = CrashedKernel::idle(4).with_log(&["Kernel panic - not syncing: why"]);
        let elfcorehdr = kernel.put(&mut self.sim.memory);
        let mut plan = Plan::new(interface, line);
        plan.tsc_khz = Some(KHZ);
        let this_cpu = ThisCpu { apic_id: 6, tsc_aux: Some(3) };
        let mut sequence = Sequence::new(self, plan, plan.bmc(), elfcorehdr, this_cpu);
        for step in Step::ALL {
            sequence.step(self, step);
        }
        self.sim.time_us - self.start_us
    }
}

impl Registers for Machine {
    fn get(&mut self, register: Register) -> u8 {
        let value = self.sim.get(register);
        assert!(self.sim.accesses < self.most, "it never ends: {:?}", self.status);
        match register {
            Register::Port(0xca3 | 0xe4 | 0x700) => self.status.read(value),
            Register::Port(0xe5 | 0x705 | 0x707) => self.data.read(value),
            Register::Port(0x3fd) => self.line_status.read(value),
            rtc::DATA => self.rtc.read(value),
            _ => value,
        }
    }

    fn put(&mut self, register: Register, value: u8) {
        self.sim.put(register, value);
        match register {
            Register::Port(0xca3) => {
                self.status.written(value);
                // The next byte is the request's last.
                self.status.begun |= value == 0x62;
            }
            Register::Port(0xe4 | 0x702) => {
                self.status.written(value);
                self.data.written(value);
                // A request is there; a transaction begins.
                self.status.begun |= matches!(value, 0x04 | 0x54);
                self.data.begun |= self.status.begun;
            }
            Register::Port(0xca2 | 0xe5 | 0x700 | 0x704) => {
                self.status.written(value);
                self.data.written(value);
            }
            Register::Port(0x3f8) => self.line_status.written(value),
            _ => {}
        }
    }
}

impl Memory for Machine {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        self.sim.read(addr, buf)
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) {
        self.sim.write(addr, bytes);
    }
}

impl Clock for Machine {
    fn ticks(&mut self) -> u64 {
        let passed = self.sim.time_us - self.start_us;
        let ticks = |us: u64| us * u64::from(KHZ) / 1000;
        match self.tsc {
            Tsc::Goes(per_cent) => {
                (ticks(passed) + self.sim.ns * u64::from(KHZ) / 1_000_000) * per_cent / 100
            }
            Tsc::LeapsAt(us) => self.sim.ticks() + if passed < us { 0 } else { ticks(3_600_000_000) },
            Tsc::StopsAt(us) => ticks(passed.min(us)),
            Tsc::Anywhere => {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.random
            }
        }
    }

    fn second(&mut self) -> Second {
        let mut cmos = self.sim.cmos;
        let second = cmos.second(self);
        self.sim.cmos = cmos;
        second
    }

    fn relax(&mut self) {
        self.sim.relax();
    }
}

impl Reset for Machine {
    fn reset(&mut self, way: usize) -> bool {
        arch::reset(self, way)
    }
}

/// What KCS code looks for in a status register, and what it does not expect.
const STATUSES: [u8; 10] = [0x00, 0xff, 0x01, 0x02, 0x03, 0x40, 0x41, 0x80, 0xc0, 0xc1];

/// Every sequence of these values with a period of at most `longest`.
fn periods(values: &[u8], longest: u32) -> Vec<Vec<u8>> {
    let words = |len: u32| {
        (0..values.len().pow(len)).map(move |word| {
            (0..len).map(|place| values[word / values.len().pow(place) % values.len()]).collect()
        })
    };
    (1..=longest).flat_map(words).collect()
}

/// Pairs of clocks of which one at least is honest.
const CLOCKS: [(Tsc, Rtc); 13] = [
    (Tsc::Goes(100), Rtc::Honest(400_000)),
    (Tsc::Goes(100), Rtc::Stopped),
    (Tsc::Goes(100), Rtc::Absent),
    (Tsc::Goes(100), Rtc::Odd(&[0x00, 0x01, 0x02, 0x03])),
    (Tsc::Goes(100), Rtc::Odd(&[0x26, 0x59, 0x26, 0x00, 0x02])),
    (Tsc::Goes(0), Rtc::Honest(1_000_000)),
    (Tsc::Goes(0), Rtc::Honest(10_000)),
    (Tsc::Goes(10), Rtc::Honest(1_000_000)),
    (Tsc::Goes(70), Rtc::Honest(999_000)),
    (Tsc::Goes(1000), Rtc::Honest(500_000)),
    (Tsc::Anywhere, Rtc::Honest(1_000_000)),
    (Tsc::LeapsAt(300_000), Rtc::Honest(700_000)),
    (Tsc::StopsAt(900_000), Rtc::Honest(1_000_000)),
];

/// What the plan of these tests asks for, but for the budget.
const ALL: &str = "console=ttyS0 lastwords.ipmi_timeout=1 lastwords.ipmi_watchdog=start=60 lastwords.output_log=500 lastwords.notify_hypervisor=0x505 \
                   lastwords.ipmi_handle_panic lastwords.output_cpu_ip";

/// A second behind the budget, in microseconds.
fn allowed(budget: u64) -> u64 {
    (budget + 1) * 1_000_000
}

#[test]
fn every_periodic_status_register_ends_a_second_behind_the_budget() {
    let mut longest = 0;
    for (number, values) in periods(&STATUSES, 4).into_iter().enumerate() {
        for device in [Device::Periodic(values.clone()), Device::Answering(values)] {
            let (tsc, rtc) = CLOCKS[number % CLOCKS.len()];
            let mut machine = Machine::new(200_000, tsc, rtc);
            machine.status = Odd::new(device.clone());
            machine.most = 20_000;
            let took = machine
                .report("lastwords.budget=1 lastwords.ipmi_handle_panic lastwords.ipmi_watchdog=start=60");
            assert!(took <= allowed(1), "{device:02x?}, {tsc:?}, {rtc:?}: {took} us");
            longest = longest.max(took);
        }
    }
    println!("longest: {longest} us");
}

#[test]
fn every_periodic_line_status_ends_a_second_behind_the_budget() {
    for (number, values) in periods(&[0x00, 0x20, 0x60, 0xff, 0x01], 4).into_iter().enumerate() {
        for (cost_ns, most) in [(200_000, 20_000), (20_000, 200_000)] {
            let (tsc, rtc) = CLOCKS[number % CLOCKS.len()];
            let mut machine = Machine::new(cost_ns, tsc, rtc);
            machine.line_status = Odd::new(Device::Periodic(values.clone()));
            machine.most = most;
            let took = machine.report(&format!("{ALL} lastwords.budget=1"));
            assert!(took <= allowed(1), "{values:02x?}, {cost_ns} ns, {tsc:?}, {rtc:?}: {took} us");
        }
    }
}

#[test]
fn every_periodic_cmos_clock_ends_a_second_behind_the_budget_beside_an_honest_counter() {
    for values in periods(&[0x00, 0xff, 0x01, 0x02, 0x03, 0x26, 0x59, 0x80], 4) {
        let mut machine = Machine::new(100_000, Tsc::Goes(100), Rtc::Honest(1));
        machine.rtc = Odd::new(Device::Periodic(values.clone()));
        machine.sim.bmc.then = Answer::Nothing;
        machine.most = 40_000;
        let took =
            machine.report("lastwords.budget=1 lastwords.ipmi_handle_panic lastwords.ipmi_watchdog=start=60");
        assert!(took <= allowed(1), "{values:02x?}: {took} us");
    }
}

/// What BT and SSIF code looks for in a status register.
const BT_STATUSES: [u8; 9] = [0x00, 0xff, 0x04, 0x08, 0x40, 0x48, 0x80, 0x88, 0xfe];
const SSIF_STATUSES: [u8; 10] = [0x00, 0xff, 0x01, 0x02, 0x04, 0x08, 0x40, 0x41, 0x42, 0x44];

/// Nothing of the other interfaces is written, nor of this one what is not needed, and the bus' other slaves are left alone.
fn assert_nobody_else_is_touched(machine: &Machine, interface: &str) {
    let sim = &machine.sim;
    let allowed = |port: u16| match port {
        0x70 | 0x3f8..=0x3ff => true,
        0xe4 | 0xe5 => interface == BT,
        0x700..=0x71f => interface == SSIF && [0, 2, 3, 4, 5, 7, 0xd].contains(&(port - 0x700)),
        _ => false,
    };
    assert!(sim.written.iter().all(|port| allowed(*port)), "{interface}: {:x?}", sim.written);
    let bmc = SSIF_BMC << 1;
    assert!(sim.i801.transactions.iter().all(|one| [(bmc, 2), (bmc | 1, 3)].contains(one)));
    // Before a transaction is done, and its registers with it, nobody else's are written.
    assert_eq!(sim.i801.aux, 0, "{interface}: AUX_CTL");
}

#[test]
fn every_periodic_register_of_bt_and_ssif_ends_a_second_behind_the_budget() {
    let mut longest = 0;
    for (interface, values) in [(BT, &BT_STATUSES[..]), (SSIF, &SSIF_STATUSES)] {
        for (number, values) in periods(values, 3).into_iter().enumerate() {
            for device in [Device::Periodic(values.clone()), Device::Answering(values)] {
                let (tsc, rtc) = CLOCKS[number % CLOCKS.len()];
                let mut machine = Machine::new(200_000, tsc, rtc);
                machine.status = Odd::new(device.clone());
                // What is read as an answer goes on with lengths, some too large, and numbers of requests.
                machine.data = Odd::new(match number % 3 {
                    0 => Device::Sim,
                    1 => Device::Periodic(vec![0xff, 0x1c, 0xd1, 0x24, 0x00, 0x28]),
                    _ => Device::Periodic(vec![(number % 64) as u8, 0x1c, 0x24]),
                });
                machine.most = 20_000;
                let took = machine.report_over(
                    interface,
                    "lastwords.budget=1 lastwords.ipmi_handle_panic lastwords.ipmi_watchdog=start=60",
                );
                assert!(took <= allowed(1), "{interface}, {device:02x?}, {tsc:?}, {rtc:?}: {took} us");
                assert_nobody_else_is_touched(&machine, interface);
                longest = longest.max(took);
            }
        }
    }
    println!("longest: {longest} us");
}

#[test]
fn every_write_to_bt_and_ssif_may_pick_the_next_answers() {
    for (interface, statuses) in [(BT, &BT_STATUSES[..]), (SSIF, &SSIF_STATUSES)] {
        for number in 0..1500 {
            let (tsc, rtc) = CLOCKS[number as usize % CLOCKS.len()];
            let mut machine = Machine::new(200_000, tsc, rtc);
            machine.status = Odd::new(stateful_of(number, statuses));
            if number % 2 == 1 {
                machine.data = Odd::new(stateful_of(!number, &[0, 1, 3, 4, 5, 32, 33, 0xff, 0x1c, 0x24]));
            }
            machine.most = 20_000;
            let took = machine.report_over(interface, &format!("{ALL} lastwords.budget=1"));
            let devices = (&machine.status.device, &machine.data.device);
            assert!(took <= allowed(1), "{interface}, {devices:02x?}, {tsc:?}, {rtc:?}: {took} us");
            assert_nobody_else_is_touched(&machine, interface);
        }
    }
}

/// Status registers that remember, by number.
fn stateful(number: u64) -> Device {
    stateful_of(number, &STATUSES)
}

/// The same, of these values.
fn stateful_of(number: u64, values: &[u8]) -> Device {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 20) as usize % below
    };
    let sequences = 1 + next(6);
    let sequence =
        |next: &mut dyn FnMut(usize) -> usize| (0..=next(4)).map(|_| values[next(values.len())]).collect();
    Device::Stateful((0..sequences).map(|_| sequence(&mut next)).collect())
}

#[test]
fn every_write_may_pick_the_next_answers() {
    for number in 0..4000 {
        let (tsc, rtc) = CLOCKS[number as usize % CLOCKS.len()];
        let mut machine = Machine::new(200_000, tsc, rtc);
        machine.status = Odd::new(stateful(number));
        machine.most = 20_000;
        let took = machine.report(&format!("{ALL} lastwords.budget=1"));
        assert!(took <= allowed(1), "{:02x?}, {tsc:?}, {rtc:?}: {took} us", machine.status.device);
    }
}

/// A way in which the BMC fails.
type Fault = (&'static str, fn(&mut Machine));

const BMCS: [Fault; 8] = [
    ("works", |_| {}),
    ("silent", |machine| machine.sim.bmc.then = Answer::Nothing),
    ("busy", |machine| machine.sim.bmc.then = Answer::Code(0xc0)),
    ("answers nonsense", |machine| machine.sim.bmc.then = Answer::Bytes(vec![0x1c; 300])),
    ("slow", |machine| machine.sim.bmc.answer_us = 700_000),
    ("IBF stuck", |machine| machine.sim.bmc.stuck_status = Some(0x02)),
    ("always reading", |machine| machine.status = Odd::new(Device::Answering(vec![0x41]))),
    ("idle with a byte, reading without", |machine| {
        machine.status = Odd::new(Device::Answering(vec![0x40, 0x01]));
    }),
];

#[test]
fn whatever_an_access_costs_the_budget_holds_with_one_honest_clock() {
    let mut longest = (0, String::new());
    for cost_ns in [100, 1_000, 30_000, 200_000] {
        for (tsc, rtc) in CLOCKS {
            for (number, (bmc, break_bmc)) in (0..).zip(BMCS) {
                for byte_us in [87, 40_000, u64::MAX] {
                    for budget in [1, 2, 4] {
                        // At a microsecond millions of accesses are simulated, at a tenth ten times as many.
                        let some = cost_ns >= 30_000 || budget == 2 && byte_us == 87 || budget + number == 1;
                        if !some || cost_ns == 100 && (number > 1 || !matches!(tsc, Tsc::Goes(0 | 70 | 100)))
                        {
                            continue;
                        }
                        let mut machine = Machine::new(cost_ns, tsc, rtc);
                        break_bmc(&mut machine);
                        machine.sim.uart.byte_us = byte_us;
                        let took = machine.report(&format!("{ALL} lastwords.budget={budget}"));
                        let name = format!("{cost_ns} ns, {tsc:?}, {rtc:?}, BMC {bmc}, {byte_us} us a byte");
                        assert!(took <= allowed(budget), "{name}, budget {budget}: {took} us");
                        longest = longest.max((took.saturating_sub(budget * 1_000_000), name));
                    }
                }
            }
        }
    }
    println!("longest: {} us behind the budget, {}", longest.0, longest.1);
}

/// Ways in which the other interfaces fail.
const OTHERS: [(&str, Fault); 9] = [
    (BT, ("works", |_| {})),
    (BT, ("mute", |machine| machine.sim.bmc.then = Answer::Nothing)),
    (BT, ("busy", |machine| machine.sim.bt.stuck = Some(0x80))),
    (BT, ("always an answer", |machine| machine.sim.bt.stuck = Some(0x08))),
    (SSIF, ("works", |_| {})),
    (SSIF, ("mute", |machine| machine.sim.bmc.then = Answer::Nothing)),
    (SSIF, ("bus held low", |machine| machine.sim.i801.bus = Bus::Low)),
    (SSIF, ("firmware's", |machine| machine.sim.i801.firmware_us = 0..u64::MAX)),
    (SSIF, ("garbled", |machine| machine.sim.i801.wrong_len = Some(33))),
];

#[test]
fn over_bt_and_ssif_the_budget_holds_with_one_honest_clock_whatever_an_access_costs() {
    let mut longest = (0, String::new());
    for cost_ns in [1_000, 30_000, 200_000] {
        for (tsc, rtc) in CLOCKS {
            for (interface, (bmc, break_bmc)) in OTHERS {
                let mut machine = Machine::new(cost_ns, tsc, rtc);
                break_bmc(&mut machine);
                let took = machine.report_over(interface, &format!("{ALL} lastwords.budget=2"));
                let name = format!("{interface}, {cost_ns} ns, {tsc:?}, {rtc:?}, BMC {bmc}");
                assert!(took <= allowed(2), "{name}: {took} us");
                assert_nobody_else_is_touched(&machine, interface);
                longest = longest.max((took.saturating_sub(2_000_000), name));
            }
        }
    }
    println!("longest: {} us behind the budget, {}", longest.0, longest.1);
}

#[test]
fn without_an_honest_clock_the_accesses_are_bounded() {
    for (tsc, rtc) in [
        (Tsc::Goes(0), Rtc::Stopped),
        (Tsc::Goes(0), Rtc::Absent),
        (Tsc::Goes(1), Rtc::Absent),
        (Tsc::Goes(0), Rtc::Odd(&[0x26, 0x59, 0x26, 0x00, 0x02])),
        (Tsc::Anywhere, Rtc::Odd(&[0x00, 0x01, 0x02, 0x03])),
    ] {
        for (interface, (bmc, break_bmc)) in BMCS.map(|bmc| (KCS, bmc)).into_iter().chain(OTHERS) {
            let mut machine = Machine::new(200_000, tsc, rtc);
            break_bmc(&mut machine);
            machine.report_over(interface, &format!("{ALL} lastwords.budget=1"));
            let accesses = machine.sim.accesses;
            // Ten a microsecond, and what comes last.
            assert!(accesses <= 19_100_000, "{interface}, {tsc:?}, {rtc:?}, BMC {bmc}: {accesses}");
        }
    }
}

/// Some tenths of a second by an honest clock are enough for a BMC that works.
#[test]
fn a_watchdog_is_started_last_although_a_clock_has_leapt() {
    for (tsc, rtc) in [
        (Tsc::LeapsAt(2_000), Rtc::Honest(700_000)),
        (Tsc::LeapsAt(900_000), Rtc::Honest(10_000)),
        (Tsc::LeapsAt(2_000), Rtc::Absent),
        (Tsc::Anywhere, Rtc::Honest(1_000_000)),
        (Tsc::Goes(1000), Rtc::Honest(500_000)),
        (Tsc::Goes(100), Rtc::Odd(&[0x00, 0x01, 0x02, 0x03])),
        (Tsc::Goes(0), Rtc::Honest(1_000_000)),
    ] {
        for cost_ns in [1_000, 10_000] {
            let mut machine = Machine::new(cost_ns, tsc, rtc);
            machine.sim.bmc.answer_us = 20_000;
            // All of the budget goes, by whatever clock.
            machine.sim.uart.byte_us = 20_000;
            machine.report(&format!("{ALL} lastwords.budget=3"));
            let last = machine.sim.bmc.requests.last().cloned();
            assert_eq!(last, Some(vec![0x18, 0x22]), "{tsc:?}, {rtc:?}, {cost_ns} ns");
        }
    }
}
