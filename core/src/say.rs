//! The sequence: what is said, in which order, and that the next step comes whatever became of the one before.
//!
//! The most important comes first, because any step can be the last one. The image runs the steps one by one and
//! guards each of them, so that a step which faults is noted and the next one runs; the jump is the image's own.

use crate::budget::{Millis, Timer};
use crate::console::Console;
use crate::crash::TEXT_LEN;
use crate::crash::{self, Cpu, Crash, Why};
use crate::hw::{Machine, Register};
use crate::ipmi::{self, Bmc};
use crate::plan::{OnCorrupt, Plan, SelType, Watchdog};
use crate::sel::{self, Groups, Known, Line, Place};
use crate::text::Text;

/// The steps, in the order of saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The watchdog, so that whatever hangs after it is cut off.
    Watchdog,
    /// Look at the dead kernel's memory: which kernel it was, where its CPUs were.
    Crash,
    /// Look at the end of its log: why it died.
    Why,
    /// The platform event, which makes the BMC send its alert.
    Event,
    /// Console: what has happened so far, which kernel died, why, and on which CPU.
    Headline,
    /// The records in the SEL.
    Sel,
    /// Console: where every CPU was.
    Cpus,
    /// Console: the end of the log.
    Log,
    /// What was found wrong with the dump kernel ([`Say::corrupt`]), to the BMC and the console.
    Digest,
    /// The watchdog once more, so that the dump kernel gets the full countdown.
    WatchdogAgain,
    /// Console: the last line.
    Farewell,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Self; 11] = [
        Self::Watchdog,
        Self::Crash,
        Self::Why,
        Self::Event,
        Self::Headline,
        Self::Sel,
        Self::Cpus,
        Self::Log,
        Self::Digest,
        Self::WatchdogAgain,
        Self::Farewell,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Watchdog => "watchdog",
            Self::Crash => "crashed kernel",
            Self::Why => "reason",
            Self::Event => "platform event",
            Self::Headline => "headline",
            Self::Sel => "SEL",
            Self::Cpus => "CPUs",
            Self::Log => "log",
            Self::Digest => "digest",
            Self::WatchdogAgain => "watchdog again",
            Self::Farewell => "farewell",
        }
    }
}

/// The CPU that all of this runs on, which is the one that panicked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThisCpu {
    /// Its local APIC id.
    pub apic_id: u32,
    /// IA32_TSC_AUX, where the CPU has it: Linux keeps its own number of the CPU in the low 12 bits, for
    /// `getcpu` (`arch/x86/include/asm/segment.h`, `vdso_encode_cpunode`).
    pub tsc_aux: Option<u32>,
}

/// A CPU exception that ended a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Its vector (Intel SDM volume 3, table 6-1).
    pub vector: u8,
    /// Where in the image it happened, as an offset from its start.
    pub offset: u64,
    /// CR2, the address of a page fault.
    pub address: u64,
}

/// What became of a step.
#[derive(Clone, Copy)]
enum Outcome {
    /// Nothing to do.
    Quiet,
    /// Done; so many SEL records or CPUs, where the step counts.
    Done { count: u32, ms: Millis },
    /// The BMC did not take it.
    Bmc { error: ipmi::Error, count: u32, ms: Millis },
    /// There is no ELF core header at the address.
    NoCore(crash::Error),
    /// The kernel's log is not found.
    NoLog,
    /// The budget was spent before.
    NoTime,
    /// An exception ended it.
    Fault(Fault),
}

/// What all ways of resetting the machine may take together.
const RESET: Millis = 8000;

/// What the BMC's steps leave of the budget for the console, at most: some hundred lines at 115200 baud.
const FOR_THE_CONSOLE: Millis = 2000;

/// What the last watchdog arming may take when the budget is spent, together with the last line.
const LAST: Millis = 800;

/// The sequence under way.
pub struct Say<'a> {
    plan: Plan<'a>,
    elfcorehdr: u64,
    this_cpu: ThisCpu,
    timer: Timer,
    bmc: Bmc,
    console: Console,
    crash: Option<Crash>,
    panicked: Option<Cpu>,
    groups: Groups,
    why: Why,
    /// How the SEL is written to: what the plan says, or what the BMC leaves of that.
    sel_type: SelType,
    /// Sequence number of the next record.
    sequence: u8,
    corrupt: Option<Text<16>>,
    outcomes: [Outcome; Step::ALL.len()],
    reported: usize,
}

impl<'a> Say<'a> {
    /// Begins: the clock runs from here on. Nothing is said yet, and no port but the RTC's is touched.
    pub fn new<M: Machine>(machine: &mut M, plan: Plan<'a>, elfcorehdr: u64, this_cpu: ThisCpu) -> Self {
        Self {
            timer: Timer::start(machine, plan.tsc_khz, Millis::from(plan.budget) * 1000),
            bmc: Bmc::new(plan.kcs_ports, Millis::from(plan.ipmi_timeout) * 1000),
            console: Console::new(plan.console),
            sel_type: plan.sel_type,
            why: Why::default(),
            plan,
            elfcorehdr,
            this_cpu,
            crash: None,
            panicked: None,
            groups: Groups::new(),
            sequence: 0,
            corrupt: None,
            outcomes: [Outcome::Quiet; Step::ALL.len()],
            reported: 0,
        }
    }

    /// Runs one step.
    pub fn step<M: Machine>(&mut self, machine: &mut M, step: Step) {
        let began = self.timer.now(machine);
        // A slow BMC shall not take the console's time, too.
        let for_bmc = matches!(step, Step::Watchdog | Step::Event | Step::Sel);
        let console = self.plan.cpu_ip.console || self.plan.output_log > 0;
        let quarter = Millis::from(self.plan.budget) * 250;
        self.timer.hold_back(if for_bmc && console { quarter.min(FOR_THE_CONSOLE) } else { 0 });
        let spent = self.timer.spent(machine);
        if spent && !matches!(step, Step::Digest | Step::WatchdogAgain | Step::Farewell) {
            if self.asked(step) {
                self.note(step, Outcome::NoTime);
            }
            return;
        }
        let outcome = match step {
            Step::Watchdog => self.watchdog(machine),
            Step::Crash => self.crash(machine),
            Step::Why => {
                if let Some(crash) = self.crash.as_ref().filter(|_| self.plan.handle_panic) {
                    self.why = crash.why(machine);
                }
                Outcome::Quiet
            }
            Step::Event => self.event(machine),
            Step::Headline => {
                self.headline(machine);
                Outcome::Quiet
            }
            Step::Sel => self.sel(machine),
            Step::Cpus => {
                self.cpus(machine);
                Outcome::Quiet
            }
            Step::Log => self.log(machine),
            Step::Digest => {
                if self.corrupt.is_some() {
                    self.timer.grant(LAST);
                }
                self.digest(machine)
            }
            Step::WatchdogAgain => {
                self.timer.grant(LAST);
                self.watchdog_again(machine)
            }
            Step::Farewell => {
                self.farewell(machine);
                Outcome::Quiet
            }
        };
        let took = self.timer.now(machine) - began;
        self.note(
            step,
            match outcome {
                Outcome::Done { count, .. } => Outcome::Done { count, ms: took },
                Outcome::Bmc { error, count, .. } => Outcome::Bmc { error, count, ms: took },
                other => other,
            },
        );
    }

    /// Has the BMC been given up, because it did not answer twice in a row?
    #[must_use]
    pub fn has_given_up_the_bmc(&self) -> bool {
        self.bmc.is_given_up()
    }

    /// Notes that an exception ended a step, to be said on the console with the next words there.
    pub fn fault(&mut self, step: Step, fault: Fault) {
        self.note(step, Outcome::Fault(fault));
    }

    fn note(&mut self, step: Step, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(step as usize) {
            *slot = outcome;
        }
    }

    /// Does the plan ask for this step?
    fn asked(&self, step: Step) -> bool {
        match step {
            Step::Watchdog | Step::WatchdogAgain => self.plan.watchdog != Watchdog::Leave,
            Step::Event | Step::Why => self.plan.handle_panic,
            Step::Crash => self.asked(Step::Sel) || self.plan.cpu_ip.console || self.plan.output_log > 0,
            Step::Sel => self.plan.handle_panic || self.plan.cpu_ip.sel,
            Step::Cpus => self.plan.cpu_ip.console,
            Step::Log => self.plan.output_log > 0,
            Step::Headline | Step::Digest | Step::Farewell => true,
        }
    }

    fn watchdog<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        let (bmc, timer) = (&mut self.bmc, &mut self.timer);
        result(match self.plan.watchdog {
            Watchdog::Leave => return Outcome::Quiet,
            // Its countdown then means nothing, but 0 would be "at once" to some BMC.
            Watchdog::Stop => bmc.set_watchdog_timer(machine, timer, 600, crate::plan::Action::None),
            Watchdog::Start { seconds, action } => bmc
                .set_watchdog_timer(machine, timer, seconds, action)
                .and_then(|()| bmc.reset_watchdog_timer(machine, timer)),
        })
    }

    /// Starts the countdown over; or tries again what failed the first time.
    fn watchdog_again<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        self.bmc.look_again();
        let first = self.outcomes.get(Step::Watchdog as usize).copied().unwrap_or(Outcome::Quiet);
        match (self.plan.watchdog, first) {
            (Watchdog::Leave, _) | (Watchdog::Stop, Outcome::Done { .. }) => Outcome::Quiet,
            (Watchdog::Start { .. }, Outcome::Done { .. }) => {
                match self.bmc.reset_watchdog_timer(machine, &mut self.timer) {
                    // It has forgotten what it was set to, by a reset of its own perhaps.
                    Err(ipmi::Error::Refused(_)) => self.watchdog(machine),
                    other => result(other),
                }
            }
            _ => self.watchdog(machine),
        }
    }

    fn event<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        if !self.plan.handle_panic {
            return Outcome::Quiet;
        }
        // The reason's first characters, as Linux has it.
        let (number, data) = match self.why.reason.as_bytes() {
            [] => (0, [sel::CRITICAL_STOP, 0xff, 0xff]),
            reason => event_text(reason),
        };
        result(self.bmc.platform_event(machine, &mut self.timer, number, data))
    }

    fn crash<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        if !self.asked(Step::Crash) {
            return Outcome::Quiet;
        }
        let crash = match Crash::read(machine, self.elfcorehdr) {
            Ok(crash) => crash,
            Err(error) => return Outcome::NoCore(error),
        };
        let number = self.this_cpu_number();
        let mut panicked = None;
        let mut count = 0;
        crash.cpus(machine, &mut |_, cpu| {
            count += 1;
            if Some(cpu.number) == number {
                panicked = Some(cpu);
            } else {
                self.groups.add(crash.place(&cpu));
            }
            true
        });
        self.panicked = panicked;
        self.crash = Some(crash);
        Outcome::Done { count, ms: 0 }
    }

    /// The kernel's number of this CPU, where something tells: the plan's list, or the kernel itself.
    fn this_cpu_number(&self) -> Option<u32> {
        match self.plan.apic_ids {
            Some(ids) => ids.cpu(self.this_cpu.apic_id),
            None => self.this_cpu.tsc_aux.map(|aux| aux & 0xfff),
        }
    }

    fn sel<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        let Some(crash) = self.crash.as_ref().filter(|_| self.asked(Step::Sel)) else {
            return Outcome::Quiet;
        };
        let with_cpus = self.plan.cpu_ip.sel;
        let known = Known {
            why: self.plan.handle_panic.then_some(&self.why),
            build_id: crash.info.build_id,
            panicked: with_cpus.then(|| match &self.panicked {
                Some(cpu) => Line::Panicked { cpu: cpu.number, place: crash.place(cpu) },
                None => Line::PanickedUnknown,
            }),
        };
        let groups = if with_cpus { Some(&mut self.groups) } else { None };
        let mut sel = Writer {
            bmc: &mut self.bmc,
            timer: &mut self.timer,
            way: &mut self.sel_type,
            sequence: &mut self.sequence,
        };
        let mut limit = u32::from(self.plan.sel_records);
        // A BMC that forbids to write may well forbid to ask.
        match sel.bmc.sel_free_space(machine, sel.timer) {
            Ok(u16::MAX) | Err(ipmi::Error::Refused(_) | ipmi::Error::Garbled) => {}
            // One that tells of no space at all may overwrite its oldest.
            Ok(bytes) => limit = limit.min(u32::from(bytes / 16).max(FEW)),
            Err(error) => return Outcome::Bmc { error, count: 0, ms: 0 },
        }
        let mut sent = Ok(());
        if *sel.way == SelType::Oem {
            sel::lines(limit, &known, groups, &mut |line| {
                sent = sel.line(machine, &line);
                sent.is_ok()
            });
        }
        if *sel.way != SelType::Oem {
            sent = sel.stream(machine, sel::short(limit as usize * sel::EVENT_LEN, &known).as_bytes());
        }
        let count = u32::from(self.sequence);
        match sent {
            Ok(()) => Outcome::Done { count, ms: 0 },
            Err(error) => Outcome::Bmc { error, count, ms: 0 },
        }
    }

    fn headline<M: Machine>(&mut self, machine: &mut M) {
        let mut text = line();
        text.str(concat!(env!("CARGO_PKG_VERSION"), ": "));
        match &self.crash {
            Some(crash) if !crash.info.release.as_bytes().is_empty() => {
                text.str("kernel ").bytes(crash.info.release.as_bytes()).str(" died");
            }
            _ => {
                text.str("the kernel died");
            }
        }
        match (&self.crash, &self.panicked) {
            (None, _) => {}
            (Some(_), Some(cpu)) => {
                text.str(" on CPU ").dec(u64::from(cpu.number));
            }
            (Some(_), None) => {
                text.str(" on a CPU that nothing tells, local APIC id ")
                    .dec(u64::from(self.this_cpu.apic_id));
            }
        }
        if let [_, ..] = self.why.reason.as_bytes() {
            text.str(": ").bytes(self.why.reason.as_bytes());
        }
        self.console.line(machine, &mut self.timer, text.as_bytes());
        let mut text = line();
        let begin = text.as_bytes().len();
        let [caller, ..] = &self.why.callers;
        for (name, words) in [
            ("cause ", self.why.cause.as_bytes()),
            ("RIP ", self.why.rip.as_bytes()),
            ("Comm ", self.why.comm.as_bytes()),
            ("called by ", caller.as_bytes()),
        ] {
            if !words.is_empty() {
                text.str(if text.as_bytes().len() == begin { "" } else { ", " }).str(name).bytes(words);
            }
        }
        if text.as_bytes().len() > begin {
            self.console.line(machine, &mut self.timer, text.as_bytes());
        }
        for bad in self.plan.bad.iter().flatten() {
            let mut text = line();
            text.bytes(bad.word.as_bytes()).str(": ").str(bad.why).str("; left as it was");
            self.console.line(machine, &mut self.timer, text.as_bytes());
        }
        self.report(machine, Step::Headline);
    }

    fn cpus<M: Machine>(&mut self, machine: &mut M) {
        self.report(machine, Step::Cpus);
        let Some(crash) = self.crash.as_ref().filter(|_| self.plan.cpu_ip.console) else { return };
        let (console, timer) = (&mut self.console, &mut self.timer);
        let panicked = self.panicked.map(|cpu| cpu.number);
        let mut all = true;
        crash.cpus(machine, &mut |machine, cpu| {
            if timer.spent(machine) {
                all = false;
                return false;
            }
            console.line(machine, timer, cpu_line(crash, &cpu, panicked == Some(cpu.number)).as_bytes());
            true
        });
        if !all {
            self.note(Step::Cpus, Outcome::NoTime);
        }
    }

    /// The end of the log, as dmesg prints it.
    fn log<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        let Some(crash) = self.crash.as_ref().filter(|_| self.plan.output_log > 0) else {
            return Outcome::Quiet;
        };
        let Some(log) = crash.log(machine) else { return Outcome::NoLog };
        let (mut bytes, mut records) = (0, 0);
        while records < log.len.min(LOG_RECORDS) && bytes < self.plan.output_log as usize {
            let record = crash.record(machine, &log, records);
            bytes += record.map_or(0, |record| STAMP_LEN + record.text().len());
            records += 1;
        }
        for before in (0..records).rev() {
            if self.timer.spent(machine) {
                return Outcome::NoTime;
            }
            let Some(record) = crash.record(machine, &log, before) else { continue };
            let micros = record.ts_nsec / 1000;
            for words in record.text().split(|byte| *byte == b'\n') {
                let mut text = Text::<{ STAMP_LEN + TEXT_LEN }>::new();
                text.byte(b'[').dec_padded(micros / 1_000_000, 5, b' ').byte(b'.');
                text.dec_padded(micros % 1_000_000, 6, b'0').str("] ").bytes(words);
                self.console.line(machine, &mut self.timer, text.as_bytes());
            }
        }
        Outcome::Quiet
    }

    /// The segment of this name is not what was loaded: it is said in the step [`Step::Digest`].
    pub fn corrupt(&mut self, name: &[u8]) {
        self.corrupt = Some(*Text::new().bytes(name));
    }

    fn digest<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        let Some(name) = &self.corrupt else { return Outcome::Quiet };
        let mut text = line();
        text.str("the dump kernel is damaged: ").bytes(name.as_bytes()).str(" is not what was loaded");
        self.console.line(machine, &mut self.timer, text.as_bytes());
        if !self.plan.talks_to_bmc() {
            return Outcome::Quiet;
        }
        let before = self.sequence;
        let mut sel = Writer {
            bmc: &mut self.bmc,
            timer: &mut self.timer,
            way: &mut self.sel_type,
            sequence: &mut self.sequence,
        };
        let words = Line::Bad(name.as_bytes());
        let mut sent = Ok(());
        if *sel.way == SelType::Oem {
            sent = sel.line(machine, &words);
        }
        if *sel.way != SelType::Oem {
            let words: Text<{ sel::SHORT }> = sel::stream([words.text().as_bytes()]);
            sent = sel.stream(machine, words.as_bytes());
        }
        let count = u32::from(self.sequence.wrapping_sub(before));
        match sent {
            Ok(()) => Outcome::Done { count, ms: 0 },
            Err(error) => Outcome::Bmc { error, count, ms: 0 },
        }
    }

    /// Resets the machine by every way there is without the CPU's own: the BMC, where the plan talks to it, the
    /// chipset's reset control register, the keyboard controller. Each gets a second to work; returns when none did.
    pub fn reset<M: Machine>(&mut self, machine: &mut M) {
        self.timer.grant(RESET);
        if self.plan.talks_to_bmc() && self.bmc.hard_reset(machine, &mut self.timer).is_ok() {
            self.pause(machine);
        }
        // Port 0xcf9 (Intel PCH, "Reset Control Register"): system reset, then CPU reset with it.
        let control = machine.inb(0xcf9) & !0x0e;
        machine.outb(0xcf9, control | 0x02);
        machine.outb(0xcf9, control | 0x06);
        self.pause(machine);
        // The keyboard controller's output port, pulsed low on the reset line.
        machine.outb(0x64, 0xfe);
        self.pause(machine);
    }

    fn pause<M: Machine>(&mut self, machine: &mut M) {
        self.timer.now(machine);
        let until = self.timer.within(1000);
        while !self.timer.passed(machine, until) {}
    }

    fn farewell<M: Machine>(&mut self, machine: &mut M) {
        self.report(machine, Step::Farewell);
        let mut text = line();
        text.str(match (&self.corrupt, self.plan.on_corrupt) {
            (Some(_), OnCorrupt::Reset) => "resetting the machine",
            (Some(_), OnCorrupt::Halt) => "halting the machine",
            _ => "handing over to the dump kernel",
        });
        seconds(&mut text, self.timer.now(machine));
        self.console.line(machine, &mut self.timer, text.as_bytes());
    }

    /// Says what became of the steps before `until` that nobody has heard of yet.
    fn report<M: Machine>(&mut self, machine: &mut M, until: Step) {
        while self.reported < until as usize {
            let step = Step::ALL.get(self.reported).copied();
            let outcome = self.outcomes.get(self.reported).copied();
            self.reported += 1;
            if let (Some(step), Some(outcome)) = (step, outcome)
                && let Some(text) = self.outcome_line(step, outcome)
            {
                self.console.line(machine, &mut self.timer, text.as_bytes());
            }
        }
    }

    fn outcome_line(&self, step: Step, outcome: Outcome) -> Option<Text<LINE_LEN>> {
        let mut text = line();
        text.str(step.name()).str(": ");
        match outcome {
            Outcome::Quiet => return None,
            Outcome::Done { count, ms } => {
                match step {
                    Step::Watchdog | Step::WatchdogAgain => match self.plan.watchdog {
                        Watchdog::Start { seconds, action } => {
                            text.str("started, ").dec(u64::from(seconds)).str(" s to ").str(action.name())
                        }
                        _ => text.str("stopped"),
                    },
                    Step::Sel | Step::Digest => text.dec(u64::from(count)).str(match self.sel_type {
                        SelType::Oem => " records added",
                        SelType::System => " system event records added",
                        SelType::Event => " platform events sent",
                    }),
                    Step::Crash => text.dec(u64::from(count)).str(" CPUs"),
                    _ => text.str("sent"),
                };
                seconds(&mut text, ms);
            }
            Outcome::Bmc { error, count, ms } => {
                if matches!(step, Step::Sel | Step::Digest) {
                    text.str("gave up after ").dec(u64::from(count)).str(" records: ");
                }
                let ports = self.plan.kcs_ports;
                match error {
                    ipmi::Error::Absent => {
                        let (kind, at) = match ports.status {
                            Register::Port(port) => ("port 0x", u64::from(port)),
                            Register::Memory(addr) => ("register mmio:0x", addr),
                        };
                        text.str(kind).hex(at).str(" reads 0xff, no BMC answers there")
                    }
                    ipmi::Error::Silent => text.str("the BMC does not answer in time"),
                    ipmi::Error::Garbled => text.str("the BMC answers out of step"),
                    ipmi::Error::Refused(code) => {
                        text.str("the BMC refuses with 0x").hex_padded(u64::from(code), 2)
                    }
                    ipmi::Error::NoTime => text.str("no time left"),
                };
                seconds(&mut text, ms);
            }
            Outcome::NoCore(crash::Error::Unreadable) => {
                text.str("ELF core header unreadable at 0x").hex(self.elfcorehdr);
            }
            Outcome::NoCore(crash::Error::NoElfCore) => {
                text.str("no ELF core header at 0x").hex(self.elfcorehdr);
            }
            Outcome::NoLog => {
                text.str("not found in the dead kernel's memory");
            }
            Outcome::NoTime => {
                text.str("left out, no time left");
            }
            Outcome::Fault(fault) => {
                text.str("exception ").dec(u64::from(fault.vector)).str(" at image+0x").hex(fault.offset);
                text.str(", CR2 0x").hex(fault.address);
            }
        }
        Some(text)
    }
}

/// Writing to the SEL, as far as the BMC lets us.
struct Writer<'a> {
    bmc: &'a mut Bmc,
    timer: &'a mut Timer,
    way: &'a mut SelType,
    sequence: &'a mut u8,
}

impl Writer<'_> {
    /// Adds a line's records. Where the BMC refuses such records, the next way to write is taken from here on.
    fn line<M: Machine>(&mut self, machine: &mut M, line: &Line) -> Result<(), ipmi::Error> {
        for record in sel::records(line.text().as_bytes(), *self.sequence) {
            if let Err(error) = self.bmc.add_sel_entry(machine, self.timer, &record) {
                if refuses(error) {
                    *self.way = SelType::System;
                }
                return Err(error);
            }
            *self.sequence = self.sequence.wrapping_add(1);
        }
        Ok(())
    }

    /// Adds a stream of characters in system event records, or sends it in platform events where those are refused.
    fn stream<M: Machine>(&mut self, machine: &mut M, text: &[u8]) -> Result<(), ipmi::Error> {
        *self.sequence = 0;
        for chunk in text.chunks(sel::EVENT_LEN) {
            let (number, data) = event_text(chunk);
            if *self.way == SelType::System {
                let [_, data2, data3] = data;
                let record = sel::event_record([number, data2, data3]);
                match self.bmc.add_sel_entry(machine, self.timer, &record) {
                    Err(error) if refuses(error) => *self.way = SelType::Event,
                    other => other?,
                }
            }
            if *self.way == SelType::Event {
                self.bmc.platform_event(machine, self.timer, number, data)?;
            }
            *self.sequence = self.sequence.wrapping_add(1);
        }
        Ok(())
    }
}

/// Does the BMC take no such records at all? Invalid command, invalid data field, insufficient privilege (table 5-2).
fn refuses(error: ipmi::Error) -> bool {
    matches!(error, ipmi::Error::Refused(0xc1 | 0xcc | 0xd4))
}

/// Sensor number and event data that say three characters.
fn event_text(text: &[u8]) -> (u8, [u8; 3]) {
    let at = |index| text.get(index).copied().unwrap_or(0);
    (at(0), [sel::CRITICAL_STOP_TEXT, at(1), at(2)])
}

/// Records that are tried even when the BMC tells of no space for them.
const FEW: u32 = 4;

/// Most records of the log that are looked at for its end, readable or not: a ring says of itself how long it is.
const LOG_RECORDS: u64 = 32_768;

/// Bytes of `[    2.818706] `.
const STAMP_LEN: usize = 32;

/// Bytes in a line on the console.
const LINE_LEN: usize = 240;

/// The beginning of every line on the console.
fn line() -> Text<LINE_LEN> {
    let mut text = Text::new();
    text.str("lastwords: ");
    text
}

fn result(result: Result<(), ipmi::Error>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done { count: 0, ms: 0 },
        Err(error) => Outcome::Bmc { error, count: 0, ms: 0 },
    }
}

/// `, ` and milliseconds as seconds with three places; nothing where the clock has not moved, which without a known
/// TSC is a second or two.
fn seconds(text: &mut Text<LINE_LEN>, ms: Millis) {
    if ms == 0 {
        return;
    }
    text.str(", ").dec(u64::from(ms / 1000)).byte(b'.').dec_padded(u64::from(ms % 1000), 3, b'0').str(" s");
}

/// A CPU's line: number, `*` for the one that panicked, pid, RIP raw and from `_stext`.
fn cpu_line(crash: &Crash, cpu: &Cpu, panicked: bool) -> Text<LINE_LEN> {
    let mut text = line();
    text.str("CPU ").dec(u64::from(cpu.number)).byte(if panicked { b'*' } else { b' ' });
    let Some(regs) = cpu.regs else {
        text.str(" never answered");
        return text;
    };
    text.str(" pid ").dec(u64::from(regs.pid)).str(" RIP ").hex_padded(regs.rip, 16);
    match crash.place(cpu) {
        Place::User => text.str(" user"),
        Place::Kernel(offset) => text.str(" _stext+0x").hex(u64::from(offset)),
        Place::Address(_) | Place::Dead => &mut text,
    };
    text
}
