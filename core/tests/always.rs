//! Never worse than plain kdump: the whole sequence, against a machine whose every answer may be anything, always ends,
//! within a bound that follows from the plan, and arms the watchdog a last time.
//!
//! The machine is the simulated one, with noise: any port read, any byte of memory and any tick of the TSC may be
//! replaced, never, now and then, often or always. So both the deep states of the protocols and plain chaos are met.

use lastwords_core::arch;
use lastwords_core::budget::{ACCESSES_PER_MS, BESIDE_A_CLOCK};
use lastwords_core::hw::{Clock, Memory, Register, Registers, Reset, Second};
use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_sim::{Answer, BT, Bus, CrashedKernel, KCS, SSIF, SSIF_BMC, Sim};
use proptest::{prelude::*, test_runner::RngSeed};

/// How often an answer is replaced: never, or one in so many.
#[derive(Clone, Copy, Debug)]
struct Noise {
    one_in: Option<u32>,
    /// By this value, or by any.
    by: Option<u8>,
}

fn noise() -> impl Strategy<Value = Noise> {
    let one_in =
        prop_oneof![3 => Just(None), 1 => prop::sample::select(vec![1, 2, 16, 300, 5000]).prop_map(Some)];
    let by = prop_oneof![
        Just(None),
        prop::sample::select(vec![0x00, 0xff, 0x01, 0x02, 0x03, 0x40, 0x41, 0x80, 0xc0, 0xc1]).prop_map(Some)
    ];
    (one_in, by).prop_map(|(one_in, by)| Noise { one_in, by })
}

/// The simulated machine with noise.
struct Noisy {
    sim: Sim,
    state: u64,
    bmc_status: Noise,
    bmc_data: Noise,
    rtc: Noise,
    uart: Noise,
    memory: Noise,
    tsc: Noise,
}

impl Noisy {
    /// The next random number (xorshift).
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn or_noise(&mut self, value: u8, noise: Noise) -> u8 {
        let Some(one_in) = noise.one_in else { return value };
        let random = self.random();
        if (random as u32).is_multiple_of(one_in) { noise.by.unwrap_or((random >> 32) as u8) } else { value }
    }
}

impl Registers for Noisy {
    fn get(&mut self, register: Register) -> u8 {
        let value = self.sim.get(register);
        let noise = match register {
            Register::Port(0xca3 | 0xe4 | 0x700) => self.bmc_status,
            Register::Port(0xca2 | 0xe5 | 0x701..=0x71f) => self.bmc_data,
            Register::Port(0x71) => self.rtc,
            _ => self.uart,
        };
        self.or_noise(value, noise)
    }

    fn put(&mut self, register: Register, value: u8) {
        self.sim.put(register, value);
    }
}

impl Memory for Noisy {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        let read = self.sim.read(addr, buf);
        for byte in &mut *buf {
            *byte = self.or_noise(*byte, self.memory);
        }
        read
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) {
        self.sim.write(addr, bytes);
    }
}

impl Clock for Noisy {
    fn ticks(&mut self) -> u64 {
        let ticks = self.sim.ticks();
        let random = self.random();
        match self.tsc.one_in {
            Some(one_in) if (random as u32).is_multiple_of(one_in) => random >> 8,
            _ => ticks,
        }
    }

    fn second(&mut self) -> Second {
        let mut cmos = self.sim.cmos;
        let second = cmos.second(self);
        self.sim.cmos = cmos;
        second
    }

    fn relax(&mut self) {}
}

impl Reset for Noisy {
    fn reset(&mut self, way: usize) -> bool {
        arch::reset(self, way)
    }
}

/// What the plan of these tests says.
const LINE: &str = "console=ttyS0 lastwords.budget=1 lastwords.ipmi_timeout=1 lastwords.ipmi_watchdog=start=60 \
                    lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.output_log=2000";

/// The most port accesses that a plan's report can take, whatever the machine answers.
///
/// Nearly all of them are waiting. Asking for the time counts its own accesses, so many of which are a millisecond, and the
/// budget and what comes last have so many milliseconds. What does not ask for the time has a cap of its own: a
/// transfer's bytes, with the output buffer emptied before each; and what is written to the UART.
fn most_accesses(plan: &Plan, cpus: u64) -> u64 {
    // Watchdog twice with two requests, event, Get SEL Info; what is reported of damage.
    let commands = 8 + 4 + u64::from(plan.sel_records) + 16;
    let lines = 40 + cpus + u64::from(plan.output_log);
    waiting(plan) + commands * ATTEMPTS * TRANSFER + lines * LINE_ACCESSES
}

/// Request and answer, each byte with eight reads of both registers. Over BT that is eight answers that are dropped; over SSIF a
/// try takes 50, but comes every 10 ms only.
const TRANSFER: u64 = (20 + 40) * (2 * 8 + 4);
/// Garbled, busy and silent answers of one command.
const ATTEMPTS: u64 = 3 + 10 + 2 + 1;
/// A byte is one look and one write; a line has 290.
const LINE_ACCESSES: u64 = 2 * 290;

/// Accesses while waiting: what is reported of a corrupt dump kernel, the last watchdog start and the last lines have 0.9 s
/// of their own.
fn waiting(plan: &Plan) -> u64 {
    const LAST_MS: u64 = 200 + 400 + 300;
    (u64::from(plan.budget) * 1000 + LAST_MS) * ACCESSES_PER_MS * BESIDE_A_CLOCK
}

/// The same cases each time, but where more are wanted (`PROPTEST_CASES`). Known and not mended: over SSIF, where every data
/// register shows anything and a byte to the UART takes 0.1 s, the watchdog is not started.
fn noisy_machines() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig { cases: 96, rng_seed: RngSeed::Fixed(96), ..ProptestConfig::default() },
    }
}

proptest! {
    #![proptest_config(noisy_machines())]
    #[test]
    fn whatever_the_machine_answers_the_report_ends_and_the_watchdog_is_started_last(
        seed in 1u64.., bmc_status in noise(), bmc_data in noise(), rtc in noise(), uart in noise(), memory in noise(), tsc in noise(),
        answers in prop::collection::vec(answer(), 0..12), then in answer(), stuck in prop::option::weighted(0.1, any::<u8>()),
        tsc_khz in prop::sample::select(vec![2_400_000u32, 0, 240_000, 24_000_000]), rtc_stopped: bool, plan_khz: bool,
        byte_us in prop::sample::select(vec![87, 0, 100_000, u64::MAX]),
        interface in prop::sample::select(vec![KCS, BT, SSIF]), left in any::<prop::sample::Index>(),
    ) {
        let mut sim = Sim { tsc_khz, ..Sim::default() };
        sim.bmc.answers = answers.into();
        sim.bmc.then = then;
        sim.bmc.stuck_status = stuck;
        left.get(&LEFT)(&mut sim);
        sim.rtc.stopped = rtc_stopped;
        sim.uart.byte_us = byte_us;
        let kernel = CrashedKernel::idle(4).with_log(&["BUG: kernel NULL pointer dereference, address: 0", "Kernel panic - not syncing: why"]);
        let elfcorehdr = kernel.put(&mut sim.memory);
        let mut machine = Noisy { sim, state: seed, bmc_status, bmc_data, rtc, uart, memory, tsc };
        let mut plan = Plan::new(interface, LINE);
        plan.tsc_khz = plan_khz.then_some(2_400_000);
        let bound = most_accesses(&plan, 8192);
        let mut sequence = Sequence::new(&mut machine, plan, plan.bmc(), elfcorehdr, ThisCpu { apic_id: 6, tsc_aux: Some(3) });
        for step in Step::ALL {
            if step == Step::WatchdogAgain {
                // From here on the machine is well again: what is started now must have been started.
                let none = Noise { one_in: None, by: None };
                machine = Noisy { bmc_status: none, bmc_data: none, uart: none, ..machine };
                machine.sim.bmc.then = Answer::Obey;
                machine.sim.bmc.answers.clear();
                machine.sim.bmc.stuck_status = None;
                machine.sim.i801.firmware_us = 0..0;
                // A look that took the semaphore, but showed something else, is nobody's fault.
                machine.sim.i801.release();
                machine.sim.uart.byte_us = 87;
            }
            sequence.step(&mut machine, step);
        }
        let accesses = machine.sim.accesses;
        prop_assert!(accesses <= bound, "{accesses} of {bound}");
        let text = machine.sim.uart.text();
        let started = machine.sim.bmc.watchdog.as_ref().is_some_and(|watchdog| watchdog.running);
        // On SMBus a command takes milliseconds, and so does the crashed kernel's last one, which BT lets end: a clock of
        // seconds that shows anything ends all the time there is in them.
        let is_under_way = interface == BT && left.index(LEFT.len()) == REQUEST_UNDER_WAY;
        let is_cut_short = (interface == SSIF || is_under_way) && rtc.one_in.is_some();
        prop_assert!(started || sequence.bmc().is_given_up() || is_cut_short, "{text}");
        // Whatever was read, nothing is written but to the interface that is named, and nobody is spoken to but the BMC.
        let sim = &machine.sim;
        let others = sim.written.iter().filter(|port| match port {
            0xca2..=0xca9 => interface != KCS,
            0xe4..=0xe6 => interface != BT || **port == 0xe6,
            0x700..=0x71f => interface != SSIF || ![0, 2, 3, 4, 5, 7, 0xd].contains(&(*port - 0x700)),
            _ => false,
        });
        prop_assert_eq!(others.count(), 0, "{:x?}", sim.written);
        let bmc = SSIF_BMC << 1;
        prop_assert!(sim.i801.transactions.iter().all(|one| [(bmc, 2), (bmc | 1, 3)].contains(one)));
    }
}

/// What a crashed kernel leaves behind: the place of a BT request under way, and all.
const REQUEST_UNDER_WAY: usize = 2;
const LEFT: [fn(&mut Sim); 6] = [
    |_| {},
    |sim| sim.bt.leave_reading(&[4, 0x1c, 1, 0x01, 0]),
    |sim| sim.bt.leave_request(20_000, 50_000, &[4, 0x1c, 1, 0x01, 0]),
    |sim| sim.i801.leave_busy(true, 0x15, SSIF_BMC << 1, None),
    |sim| sim.i801.leave_busy(false, 0x14, 0xa1, Some(400)),
    |sim| sim.i801.firmware_us = 0..800_000,
];

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Obey),
        1 => prop::sample::select(vec![0xc0, 0xc1, 0xc4, 0xcc, 0xd4, 0xff]).prop_map(Answer::Code),
        1 => Just(Answer::Nothing),
        1 => Just(Answer::Error),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Answer::Bytes),
    ]
}

#[test]
fn the_bound_of_the_default_plan_is_what_the_documents_say() {
    let plan = Plan::new(
        KCS,
        "lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.ipmi_watchdog=start=300",
    );
    let bound = most_accesses(&plan, 8192);
    println!("at most {bound} port accesses, {} of them for waiting", waiting(&plan));
    let documents = include_str!("../../docs/how-it-works.md");
    assert!(documents.contains(&format!("{} million port accesses", bound / 1_000_000)), "{bound}");
}

/// A way in which one part of the machine fails.
type Fault = (&'static str, fn(&mut Sim));

/// Of the other two interfaces; those before hold for them, too, as far as they are the BMC's own.
const BTS: [Fault; 10] = [
    ("works", |_| {}),
    ("absent", |sim| sim.bt.absent = true),
    ("B_BUSY stuck", |sim| sim.bt.stuck = Some(0x80)),
    ("B2H_ATN stuck", |sim| sim.bt.stuck = Some(0x08)),
    ("all bits but one stuck", |sim| sim.bt.stuck = Some(0xfe)),
    ("mute", |sim| sim.bmc.then = Answer::Nothing),
    ("answers at the last moment", |sim| sim.bmc.answer_us = 950_000),
    ("answers too late", |sim| sim.bmc.answer_us = 1_500_000),
    ("answers under another number", |sim| sim.bt.wrong_seq = 1),
    ("garbled", |sim| sim.bt.wrong_len = Some(255)),
];
const SSIFS: [Fault; 11] = [
    ("works", |_| {}),
    ("absent", |sim| sim.i801.absent = true),
    ("bus held low", |sim| sim.i801.bus = Bus::Low),
    ("another master on the bus", |sim| sim.i801.bus = Bus::Taken),
    ("nobody at the address", |sim| sim.i801.bus = Bus::Empty),
    ("mute", |sim| sim.bmc.then = Answer::Nothing),
    ("answers at the last moment", |sim| sim.bmc.answer_us = 950_000),
    ("answers too late", |sim| sim.bmc.answer_us = 1_500_000),
    ("garbled", |sim| sim.i801.wrong_len = Some(33)),
    ("firmware has the controller for ever", |sim| sim.i801.firmware_us = 0..u64::MAX),
    ("busy for ever", |sim| sim.i801.stuck = Some(0x01)),
];

const BMCS: [Fault; 22] = [
    ("works", |_| {}),
    ("absent", |sim| sim.bmc.absent = true),
    ("status stuck at 0x00", |sim| sim.bmc.stuck_status = Some(0x00)),
    ("OBF stuck", |sim| sim.bmc.stuck_status = Some(0x01)),
    ("IBF stuck", |sim| sim.bmc.stuck_status = Some(0x02)),
    ("status stuck at 0x40", |sim| sim.bmc.stuck_status = Some(0x40)),
    ("status stuck at 0x41", |sim| sim.bmc.stuck_status = Some(0x41)),
    ("status stuck at 0x80", |sim| sim.bmc.stuck_status = Some(0x80)),
    ("ERROR_STATE for ever", |sim| sim.bmc.stuck_status = Some(0xc0)),
    ("status stuck at 0xc3", |sim| sim.bmc.stuck_status = Some(0xc3)),
    ("ERROR_STATE for every command", |sim| sim.bmc.then = Answer::Error),
    ("answers too late", |sim| sim.bmc.answer_us = 1_500_000),
    ("answers at the last moment", |sim| sim.bmc.answer_us = 950_000),
    ("silent", |sim| sim.bmc.then = Answer::Nothing),
    ("silent from the third command on", |sim| {
        sim.bmc.answers = [Answer::Obey, Answer::Obey].into();
        sim.bmc.then = Answer::Nothing;
    }),
    ("busy for ever", |sim| sim.bmc.then = Answer::Code(0xc0)),
    ("refuses all", |sim| sim.bmc.then = Answer::Code(0xc1)),
    ("answers too short", |sim| sim.bmc.then = Answer::Bytes(vec![0x1c])),
    ("answers too long", |sim| sim.bmc.then = Answer::Bytes(vec![0x1c; 300])),
    ("answers to another command", |sim| sim.bmc.then = Answer::Bytes(vec![0x1c, 0x01, 0])),
    ("resets itself in the middle of a transaction", |sim| sim.bmc.away_us = 400..2_000_000),
    ("was writing for the crashed kernel", |sim| sim.bmc.leave_writing(&[0x28, 0x44])),
];

const CLOCKS: [Fault; 9] = [
    ("work", |_| {}),
    ("RTC stopped", |sim| sim.rtc.stopped = true),
    ("RTC absent", |sim| sim.rtc.absent = true),
    ("RTC updating for ever", |sim| sim.rtc.updating = true),
    ("TSC stopped", |sim| sim.tsc_khz = 0),
    ("TSC ten times slower", |sim| sim.tsc_khz /= 10),
    ("TSC ten times faster", |sim| sim.tsc_khz *= 10),
    ("both stopped", |sim| (sim.tsc_khz, sim.rtc.stopped) = (0, true)),
    ("TSC stopped, RTC absent", |sim| (sim.tsc_khz, sim.rtc.absent) = (0, true)),
];

const UARTS: [Fault; 4] = [
    ("works", |_| {}),
    ("absent", |sim| sim.uart.absent = true),
    ("never ready", |sim| sim.uart.byte_us = u64::MAX),
    ("very slow", |sim| sim.uart.byte_us = 40_000),
];

#[test]
fn the_budget_is_kept_whatever_fails() {
    let mut longest = (0, String::new());
    let faults = |interface, faults: &'static [Fault]| faults.iter().map(move |fault| (interface, *fault));
    for (interface, (bmc, break_bmc)) in
        faults(KCS, &BMCS).chain(faults(BT, &BTS)).chain(faults(SSIF, &SSIFS))
    {
        // What a UART does is the same whatever the BMC is behind.
        let uarts = if interface == KCS { &UARTS[..] } else { &UARTS[..1] };
        for (clock, break_clock) in CLOCKS {
            for (uart, break_uart) in uarts {
                let mut sim = Sim::default();
                let log: Vec<_> = (0..30)
                    .map(|line| format!("line {line} of a log that is longer than a slow UART likes"))
                    .collect();
                let kernel =
                    CrashedKernel::idle(32).with_log(&log.iter().map(String::as_str).collect::<Vec<_>>());
                let elfcorehdr = kernel.put(&mut sim.memory);
                break_bmc(&mut sim);
                break_clock(&mut sim);
                break_uart(&mut sim);
                let mut plan = Plan::new(interface, LINE);
                plan.budget = 3;
                // As the tool has measured it, whatever it does now.
                plan.tsc_khz = Some(2_400_000);
                let mut sequence = Sequence::new(
                    &mut sim,
                    plan,
                    plan.bmc(),
                    elfcorehdr,
                    ThisCpu { apic_id: 62, tsc_aux: Some(31) },
                );
                for step in Step::ALL {
                    sequence.step(&mut sim, step);
                }
                let name = format!("{interface}, BMC {bmc}, clocks {clock}, UART {uart}");
                longest = longest.max((sim.time_us, name.clone()));
                // A second more than the budget, and the jump. Where no clock goes nothing tells the time: what is
                // bounded there is the number of accesses.
                if clock.contains("both") || clock.contains("TSC stopped, ") {
                    let (accesses, bound) = (sim.accesses, most_accesses(&plan, 32));
                    assert!(accesses <= bound, "{name}: {accesses} of {bound}");
                } else {
                    assert!(sim.time_us <= 4_001_000, "{name}: {} us", sim.time_us);
                }
            }
        }
    }
    println!("longest: {} us, {}", longest.0, longest.1);
}
