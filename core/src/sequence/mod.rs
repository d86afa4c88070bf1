//! The sequence: what is reported, in which order, and that the next step comes whatever became of the one before.
//!
//! The most important comes first, because any step can be the last one. The image runs the steps one by one and
//! guards each of them, so that a step which faults is noted and the next one runs; the jump is the image's own. The
//! texts of console lines are in `lines`, where they go in `console`.

mod console;
mod lines;
mod pstore;

use crate::budget::{Millis, Timer};
use crate::crash::{CoreHeaderError, Crash, MAX_CPUS, Panicked, Record, cut};
use crate::device::pvpanic::{self, Event, Hypervisor};
use crate::hw::{Clock, Machine};
use crate::ipmi::commands::{ChassisControl, ResetWatchdogTimer, SetWatchdogTimer};
use crate::ipmi::sel_writer::{SelWriter, critical_stop};
use crate::ipmi::watchdog::Watchdog;
use crate::ipmi::{Bmc, CommandError, Transport};
use crate::plan::{OnCorrupt, Plan, Then};
use crate::report::{Content, CpuLocation, Line, Location, Report};
use crate::store::erst::{ErstError, Platform};
use crate::store::{Store, sel::Sel};
use console::Console;
use lines::CpuList;

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The watchdog, so that whatever hangs after it is cut off.
    Watchdog,
    /// Look at the crashed kernel's memory: which kernel it was, where its CPUs were.
    Crash,
    /// Look at the end of its log: why it panicked.
    Cause,
    /// The platform event, which makes the BMC send its alert.
    Event,
    /// The hypervisor, where the machine is a guest.
    Hypervisor,
    /// Console: what has happened so far, which kernel panicked, why, and on which CPU.
    Headline,
    /// The records in the SEL.
    Sel,
    /// The platform's error store. Nothing bounds what it may take, so it comes behind what is most important.
    Pstore,
    /// Console: where every CPU was.
    Cpus,
    /// Console: the end of the log.
    Log,
    /// What was found wrong with the dump kernel ([`Sequence::corrupt`]), to the BMC and the console.
    Checksum,
    /// The watchdog once more, so that the dump kernel gets the full countdown.
    WatchdogAgain,
    /// Console: the last line.
    Farewell,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Self; 13] = [
        Self::Watchdog,
        Self::Crash,
        Self::Cause,
        Self::Event,
        Self::Hypervisor,
        Self::Headline,
        Self::Sel,
        Self::Pstore,
        Self::Cpus,
        Self::Log,
        Self::Checksum,
        Self::WatchdogAgain,
        Self::Farewell,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Watchdog => "watchdog",
            Self::Crash => "crashed kernel",
            Self::Cause => "reason",
            Self::Event => "platform event",
            Self::Hypervisor => "hypervisor",
            Self::Headline => "headline",
            Self::Sel => "SEL",
            Self::Pstore => "pstore",
            Self::Cpus => "CPUs",
            Self::Log => "log",
            Self::Checksum => "checksum",
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
    /// The BMC did not accept it.
    Bmc { error: CommandError, count: u32, ms: Millis },
    /// The platform's error store did not accept it.
    Pstore { error: ErstError, count: u32, ms: Millis },
    /// There is no ELF core header at the address.
    NoCore(CoreHeaderError),
    /// The kernel's log is not found.
    NoLog,
    /// The hypervisor's device does not take it.
    NotTaken,
    /// The budget was spent before.
    NoTime,
    /// An exception ended it.
    Fault(Fault),
}

impl Outcome {
    /// Of a command, or of `count` records that the BMC has accepted.
    fn of(result: Result<(), CommandError>, count: u32) -> Self {
        match result {
            Ok(()) => Self::Done { count, ms: 0 },
            Err(error) => Self::Bmc { error, count, ms: 0 },
        }
    }

    /// The same, after so much time.
    fn after(self, took: Millis) -> Self {
        match self {
            Self::Done { count, .. } => Self::Done { count, ms: took },
            Self::Bmc { error, count, .. } => Self::Bmc { error, count, ms: took },
            Self::Pstore { error, count, .. } => Self::Pstore { error, count, ms: took },
            other => other,
        }
    }
}

/// What all ways of resetting the machine may take together, and each by itself.
const RESET: Millis = 8000;
const RESET_PAUSE: Millis = 1000;
/// What the BMC may take of it where it is to switch the machine off and the budget is spent: by its own ways the machine
/// is reset at once.
const CHASSIS: Millis = 500;
/// What a UART takes for the bytes that it still has, which are lost when it is reset: 64 at 115200 baud are 6 ms.
const LAST_BYTES: Millis = 10;
/// Most of the machine's own ways that are tried.
const RESET_WAYS: usize = 4;

/// What the BMC's steps leave of the budget for the console, at most: some hundred lines at 115200 baud.
const FOR_THE_CONSOLE: Millis = 2000;

/// What a corrupt dump kernel's report, the last watchdog start and the last lines may take when the budget is spent:
/// together less than a second.
const LAST_CHECKSUM: Millis = 200;
const LAST_WATCHDOG: Millis = 400;
const LAST_LINES: Millis = 300;

/// More CPUs than these are grouped on the console, in as many places as there are these. Where few CPUs are they have lines of their
/// own.
const MANY: u32 = PLACES as u32;
const PLACES: usize = 64;

/// Most records of the log that are looked at for its end, readable or not: a ring says of itself how long it is.
const LOG_RECORDS: u64 = 32_768;

/// What of a report is to be stored.
#[inline(never)]
fn content(report: &mut Report, with_cause: bool, with_cpus: bool, no_dump: bool) -> Content<'_> {
    let Report { build_id, id, panicked, groups, cause, .. } = report;
    Content {
        cause: with_cause.then_some(&*cause),
        build_id: *build_id,
        id: *id,
        panicked: with_cpus.then(|| panicked.map_or(Line::PanickedUnknown, Line::Panicked)),
        no_dump,
        groups: if with_cpus { Some(groups) } else { None },
    }
}

/// The sequence under way.
// What is short comes first: a short distance makes short instructions, here and in what is named below.
#[repr(C)]
pub struct Sequence<'a, T> {
    timer: Timer,
    /// The BMC has accepted what the watchdog is to do.
    watchdog_set: bool,
    sel: SelWriter,
    printed: usize,
    bmc: Bmc<T>,
    plan: Plan<'a>,
    elfcorehdr: u64,
    this_cpu: ThisCpu,
    platform: Platform<'a>,
    /// Who panicked, for the log.
    panicked_on: Option<Panicked>,
    corrupt: Option<&'a [u8]>,
    restored: Option<&'a [u8]>,
    outcomes: [Outcome; Step::ALL.len()],
    console: Console,
    crash: Option<Crash<'a>>,
    report: Report,
}

impl<'a, T> Sequence<'a, T> {
    /// Begins: the clock runs from here on. Nothing is reported yet, and nothing but the clocks is touched.
    ///
    /// `bmc` is asked as the plan says; `elfcorehdr` is the physical address of the crashed kernel's ELF core header.
    pub fn new<M: Clock>(
        machine: &mut M,
        plan: Plan<'a>,
        bmc: Bmc<T>,
        elfcorehdr: u64,
        this_cpu: ThisCpu,
    ) -> Self {
        Self {
            timer: Timer::start(machine, plan.tsc_khz, Millis::from(plan.budget) * 1000),
            bmc,
            sel: SelWriter::new(plan.sel_type),
            console: Console::new(plan.console),
            plan,
            elfcorehdr,
            this_cpu,
            platform: Platform::default(),
            crash: None,
            report: Report::default(),
            panicked_on: None,
            corrupt: None,
            restored: None,
            watchdog_set: false,
            outcomes: [Outcome::Quiet; Step::ALL.len()],
            printed: 0,
        }
    }

    /// What the loader tells of the machine, for [`Step::Pstore`]: without it there is no way to the error store.
    pub fn platform(&mut self, platform: Platform<'a>) {
        self.platform = platform;
    }

    /// What is reported instead of what a crashed kernel's memory tells, for a test: the steps [`Step::Crash`] and
    /// [`Step::Cause`] are then to be left out.
    pub fn report_this(&mut self, report: Report) {
        self.report = report;
    }

    /// The BMC.
    pub fn bmc(&self) -> &Bmc<T> {
        &self.bmc
    }

    /// The BMC, at the end.
    pub fn into_bmc(self) -> Bmc<T> {
        self.bmc
    }

    /// Notes that an exception ended a step, to be printed with the next console lines.
    pub fn fault(&mut self, step: Step, fault: Fault) {
        self.note(step, Outcome::Fault(fault));
    }

    /// The segment of this name is not what was loaded: it is reported in the step [`Step::Checksum`].
    pub fn corrupt(&mut self, name: &'a [u8]) {
        self.corrupt = Some(name);
    }

    /// The segment of this name was not what was loaded, and was put right: it is reported in the same step.
    pub fn restored(&mut self, name: &'a [u8]) {
        self.restored = Some(name);
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
            Step::Event => self.plan.handle_panic,
            Step::Cause => self.plan.handle_panic || self.plan.pstore > 0,
            Step::Hypervisor => self.plan.hypervisor != Hypervisor::Leave,
            Step::Crash => {
                self.asked(Step::Sel)
                    || self.plan.cpu_ip.console
                    || self.plan.output_log | self.plan.pstore > 0
            }
            Step::Pstore => self.plan.pstore > 0,
            Step::Sel => self.plan.handle_panic || self.plan.cpu_ip.sel,
            Step::Cpus => self.plan.cpu_ip.console,
            Step::Log => self.plan.output_log > 0,
            Step::Headline | Step::Checksum | Step::Farewell => true,
        }
    }

    /// The kernel's number of this CPU, where something tells: the kernel itself, or the plan's list.
    ///
    /// The list is of the time of loading, and a CPU that came later is not in it. That one's number stands in IA32_TSC_AUX;
    /// but there KVM leaves what a guest has put into it, until the CPU goes back to user space.
    fn this_cpu_number(&self) -> Option<u32> {
        const CPU: u32 = 0xfff;
        let listed = self.plan.apic_ids.and_then(|ids| ids.position(self.this_cpu.apic_id));
        listed.or(self.this_cpu.tsc_aux.map(|aux| aux & CPU))
    }

    /// What a slow BMC shall leave of the budget for the console.
    fn for_the_console(&self) -> Millis {
        let console = self.plan.cpu_ip.console || self.plan.output_log > 0;
        let quarter = Millis::from(self.plan.budget) * 250;
        if console { quarter.min(FOR_THE_CONSOLE) } else { 0 }
    }

    /// Runs one step.
    pub fn step<M: Machine>(&mut self, machine: &mut M, step: Step)
    where
        T: Transport<M>,
    {
        let began = self.timer.now(machine);
        self.timer.hold_back(match step {
            Step::Watchdog | Step::Event | Step::Pstore => self.for_the_console(),
            // Its first line is the reason.
            Step::Sel => self.for_the_console() / 4,
            _ => 0,
        });
        let spent = self.timer.spent(machine);
        if spent && !matches!(step, Step::Checksum | Step::WatchdogAgain | Step::Farewell) {
            if self.asked(step) {
                self.note(step, Outcome::NoTime);
            }
            return;
        }
        let outcome = match step {
            Step::Watchdog => self.watchdog(machine),
            Step::Crash => self.crash(machine),
            Step::Cause => self.cause(machine),
            Step::Event => self.event(machine),
            Step::Hypervisor => self.hypervisor(machine),
            Step::Headline => self.headline(machine),
            Step::Sel => self.sel(machine),
            Step::Pstore => self.pstore(machine),
            Step::Cpus => self.cpus(machine),
            Step::Log => self.log(machine),
            Step::Checksum => self.checksum(machine),
            Step::WatchdogAgain => self.watchdog_again(machine),
            Step::Farewell => self.farewell(machine),
        };
        let took = self.timer.now(machine).saturating_sub(began);
        self.note(step, outcome.after(took));
    }

    fn watchdog<M: Machine>(&mut self, machine: &mut M) -> Outcome
    where
        T: Transport<M>,
    {
        let (bmc, timer) = (&mut self.bmc, &mut self.timer);
        let set = match self.plan.watchdog {
            Watchdog::Leave => return Outcome::Quiet,
            Watchdog::Stop => SetWatchdogTimer::STOP,
            Watchdog::Start { seconds, action } => SetWatchdogTimer { seconds, action },
        };
        let mut result = bmc.send(machine, timer, &set);
        self.watchdog_set = result.is_ok();
        if result.is_ok() && self.plan.watchdog != Watchdog::Stop {
            result = bmc.send(machine, timer, &ResetWatchdogTimer);
        }
        Outcome::of(result, 0)
    }

    /// Starts the countdown over; or tries again what failed the first time.
    fn watchdog_again<M: Machine>(&mut self, machine: &mut M) -> Outcome
    where
        T: Transport<M>,
    {
        self.timer.grant(LAST_WATCHDOG);
        self.bmc.look_again();
        match self.plan.watchdog {
            Watchdog::Leave => Outcome::Quiet,
            Watchdog::Stop if self.watchdog_set => Outcome::Quiet,
            // To set it again would stop it, and a slow BMC may then leave no time for the start.
            Watchdog::Start { .. } if self.watchdog_set => {
                match self.bmc.send(machine, &mut self.timer, &ResetWatchdogTimer) {
                    // It has forgotten what it was set to, by a reset of its own perhaps.
                    Err(CommandError::Refused(_)) => self.watchdog(machine),
                    result => Outcome::of(result, 0),
                }
            }
            _ => self.watchdog(machine),
        }
    }

    fn event<M: Machine>(&mut self, machine: &mut M) -> Outcome
    where
        T: Transport<M>,
    {
        if !self.plan.handle_panic {
            return Outcome::Quiet;
        }
        // The reason's first characters, as Linux has it.
        let event = critical_stop(self.report.cause.reason.as_bytes());
        Outcome::of(self.bmc.send(machine, &mut self.timer, &event), 0)
    }

    fn hypervisor<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        match self.plan.hypervisor.event() {
            None => Outcome::Quiet,
            // In the end. With a dump kernel a host that stopped the guest would take the dump with it.
            Some(Event::Panicked) if self.plan.then.is_some() => Outcome::Quiet,
            Some(_) if self.raise(machine, Event::CrashLoaded) => Outcome::of(Ok(()), 0),
            Some(_) => Outcome::NotTaken,
        }
    }

    /// Raises an event, where the hypervisor's device takes it.
    #[inline(never)]
    fn raise<M: Machine>(&self, machine: &mut M, event: Event) -> bool {
        matches!(self.plan.hypervisor, Hypervisor::At(register, _) if pvpanic::raise(machine, register, event))
    }

    // Not inlined, here and where else it says so: all of it in one function, whose stack frame is larger than what a
    // byte reaches, is larger by 3 % of the image.
    #[inline(never)]
    fn crash<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        if !self.asked(Step::Crash) {
            return Outcome::Quiet;
        }
        let mut crash = match Crash::read(machine, self.elfcorehdr) {
            Ok(crash) => crash,
            Err(error) => return Outcome::NoCore(error),
        };
        let number = self.this_cpu_number();
        crash.know(machine, self.plan.cpu_numbers, self.plan.cpu_online_mask, number);
        let (report, panicked_on) = (&mut self.report, &mut self.panicked_on);
        // Where no note has its number, the number is known all the same.
        report.panicked = number.map(|cpu| CpuLocation { cpu, location: Location::Unread });
        let mut notes = crash.notes();
        while let Some(cpu) = crash.next_cpu(machine, &mut notes) {
            if Some(cpu.number) != number {
                report.groups.add(cpu.location);
            } else if let Some(regs) = cpu.regs {
                report.panicked = Some(CpuLocation { cpu: cpu.number, location: cpu.location });
                *panicked_on = Some(Panicked { cpu: cpu.number, pid: Some(regs.pid) });
            }
        }
        let count = notes.cpus.min(MAX_CPUS);
        report.release = crash.info.release;
        report.build_id = crash.info.build_id;
        report.id = crash.id(machine);
        self.crash = Some(crash);
        Outcome::Done { count, ms: 0 }
    }

    #[inline(never)]
    fn cause<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        if let Some(crash) = self.crash.as_ref().filter(|_| self.plan.handle_panic || self.plan.pstore > 0) {
            self.report.cause = crash.cause(machine, self.panicked_on);
        }
        Outcome::Quiet
    }

    #[inline(never)]
    fn sel<M: Machine>(&mut self, machine: &mut M) -> Outcome
    where
        T: Transport<M>,
    {
        // Of a kernel that could not be read there is nothing to store.
        let nothing =
            matches!(self.outcomes.get(Step::Crash as usize), Some(Outcome::NoCore(_) | Outcome::Fault(_)));
        if nothing || !self.asked(Step::Sel) {
            return Outcome::Quiet;
        }
        let (limit, hold_back) = (u32::from(self.plan.sel_records), self.for_the_console());
        let no_dump = self.plan.then.is_some();
        let mut content = content(&mut self.report, self.plan.handle_panic, self.plan.cpu_ip.sel, no_dump);
        let mut sel = Sel { bmc: &mut self.bmc, writer: &mut self.sel, limit, hold_back };
        let result = sel.report(machine, &mut self.timer, &mut content);
        Outcome::of(result, self.sel.written)
    }

    #[inline(never)]
    fn headline<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        let (crashed, apic_id) = (self.crash.is_some(), self.this_cpu.apic_id);
        lines::headline(self.console.our_line(), &self.report, crashed, apic_id);
        self.print(machine);
        if lines::details(self.console.our_line(), &self.report) {
            self.print(machine);
        }
        for bad in self.plan.bad.into_iter().flatten() {
            lines::bad_parameter(self.console.our_line(), bad);
            self.print(machine);
        }
        self.print_outcomes(machine, Step::Headline);
        Outcome::Quiet
    }

    /// Every CPU; of many those that are unlike the rest, and the rest in groups.
    #[inline(never)]
    fn cpus<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        self.print_outcomes(machine, Step::Cpus);
        match self.outcomes.get(Step::Crash as usize) {
            _ if !self.plan.cpu_ip.console => Outcome::Quiet,
            Some(Outcome::Done { count, .. }) if *count > MANY => self.many_cpus(machine, *count),
            _ => self.print_cpus(machine, &mut [], 0),
        }
    }

    /// So many CPUs, which are gathered by place.
    // There is no heap. Of the stack this takes 20 KiB, and most machines need none of it.
    #[expect(clippy::large_stack_arrays)]
    #[inline(never)]
    fn many_cpus<M: Machine>(&mut self, machine: &mut M, count: u32) -> Outcome {
        let (mut lists, mut group, mut used) = ([const { CpuList::new() }; PLACES], None, 0);
        for list in &mut lists {
            group = self.report.groups.next(group);
            let Some(group) = group else { break };
            list.group = group;
            used += 1;
        }
        self.print_cpus(machine, lists.get_mut(..used).unwrap_or(&mut []), count)
    }

    /// Prints every CPU's line; where there are lists, only that of the one that panicked, and the others as they say.
    #[inline(never)]
    fn print_cpus<M: Machine>(&mut self, machine: &mut M, lists: &mut [CpuList], count: u32) -> Outcome {
        let Some(crash) = &self.crash else { return Outcome::Quiet };
        let (console, timer) = (&mut self.console, &mut self.timer);
        let panicked = self.report.panicked.map(|panicked| panicked.cpu);
        let mut left = count;
        let mut notes = crash.notes();
        while let Some(cpu) = crash.next_cpu(machine, &mut notes) {
            let is_panicked = panicked == Some(cpu.number);
            if !lists.is_empty() && !is_panicked {
                if let Some(list) = lists.iter_mut().find(|list| list.group.0 == cpu.location) {
                    list.add(&cpu);
                }
                continue;
            }
            if timer.spent(machine) {
                break;
            }
            left = left.saturating_sub(1);
            lines::cpu(console.our_line(), &cpu, is_panicked);
            console.print(machine, timer);
        }
        for list in lists {
            left = left.saturating_sub(list.group.1);
            let mut text = list.end();
            while !text.is_empty() && !timer.spent(machine) {
                let line;
                (line, text) = cut(text, b'\n');
                console.our_line().bytes(line);
                console.print(machine, timer);
            }
        }
        if timer.was_spent() {
            return Outcome::NoTime;
        }
        if left > 0 {
            lines::left_out(console.our_line(), left);
            console.print(machine, timer);
        }
        Outcome::Quiet
    }

    /// The end of the log, as dmesg prints it.
    #[inline(never)]
    fn log<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        let Some(crash) = self.crash.as_ref().filter(|_| self.plan.output_log > 0) else {
            return Outcome::Quiet;
        };
        let Some(log) = crash.log(machine) else { return Outcome::NoLog };
        let (mut bytes, mut records, mut record) = (0, 0, Record::default());
        while records < log.len.min(LOG_RECORDS) && bytes < self.plan.output_log as usize {
            if crash.read_record(machine, &log, records, &mut record) {
                bytes += lines::STAMP_LEN + record.text().len();
            }
            records += 1;
        }
        for before in (0..records).rev() {
            if self.timer.spent(machine) {
                return Outcome::NoTime;
            }
            if !crash.read_record(machine, &log, before, &mut record) {
                continue;
            }
            for line in record.text().split(|byte| *byte == b'\n') {
                let text = self.console.line();
                lines::stamp(text, record.ts_nsec);
                text.bytes(line);
                self.console.print(machine, &mut self.timer);
            }
        }
        Outcome::Quiet
    }

    fn checksum<M: Machine>(&mut self, machine: &mut M) -> Outcome
    where
        T: Transport<M>,
    {
        let mut outcome = Outcome::Quiet;
        for (segment, corrupt) in [(self.restored, false), (self.corrupt, true)] {
            let Some(segment) = segment else { continue };
            if corrupt {
                self.timer.grant(LAST_CHECKSUM);
            }
            let text = self.console.our_line();
            if corrupt {
                lines::corrupt(text, segment);
            } else {
                lines::restored(text, segment);
            }
            self.print(machine);
            if !self.plan.talks_to_bmc() {
                continue;
            }
            let before = self.sel.written;
            let limit = u32::from(self.plan.sel_records);
            let mut sel = Sel { bmc: &mut self.bmc, writer: &mut self.sel, limit, hold_back: 0 };
            let line = if corrupt { Line::Corrupt(segment) } else { Line::Restored(segment) };
            let result = sel.line(machine, &mut self.timer, line);
            // Where the type has changed it counts anew.
            let after = self.sel.written;
            outcome = Outcome::of(result, after.checked_sub(before).unwrap_or(after));
        }
        outcome
    }

    fn farewell<M: Machine>(&mut self, machine: &mut M) -> Outcome {
        self.timer.grant(LAST_LINES);
        self.print_outcomes(machine, Step::Farewell);
        let (then, now) = (self.then(), self.timer.now(machine));
        lines::farewell(self.console.our_line(), then, now);
        self.print(machine);
        Outcome::Quiet
    }

    /// What becomes of the machine; `None` where the dump kernel starts.
    #[must_use]
    pub fn then(&self) -> Option<Then> {
        match self.plan.on_corrupt {
            _ if self.plan.then.is_some() => self.plan.then,
            OnCorrupt::Reset if self.corrupt.is_some() => Some(Then::Reset),
            OnCorrupt::Halt if self.corrupt.is_some() => Some(Then::Halt),
            _ => None,
        }
    }

    /// Does that, by every way there is without the CPU's own: the BMC, where the plan talks to it, and the machine's. Each
    /// gets a second to work; returns when none did, or where the CPU is to be halted.
    pub fn end<M: Machine>(&mut self, machine: &mut M, then: Then)
    where
        T: Transport<M>,
    {
        let alone = self.plan.then.is_some();
        if alone && self.plan.hypervisor.event() == Some(Event::Panicked) {
            self.raise(machine, Event::Panicked);
        }
        let control = match then {
            Then::Halt => return,
            Then::Reset => ChassisControl::HardReset,
            Then::PowerCycle => ChassisControl::PowerCycle,
            Then::PowerOff => ChassisControl::PowerDown,
        };
        // The machine's own ways are quicker; the BMC comes first where somebody has written to memory.
        let own_first = alone && then == Then::Reset;
        self.timer.grant(if alone && !own_first { CHASSIS } else { RESET });
        if own_first {
            self.timer.pause(machine, LAST_BYTES);
            self.own_ways(machine);
        }
        if self.plan.talks_to_bmc() && self.bmc.send(machine, &mut self.timer, &control).is_ok() {
            self.timer.pause(machine, RESET_PAUSE);
        }
        if !own_first {
            if alone {
                self.timer.grant(RESET);
            }
            self.own_ways(machine);
        }
    }

    #[inline(never)]
    fn own_ways<M: Machine>(&mut self, machine: &mut M) {
        for way in 0..RESET_WAYS {
            if !machine.reset(way) {
                return;
            }
            self.timer.pause(machine, RESET_PAUSE);
        }
    }

    #[inline(never)]
    fn print<M: Machine>(&mut self, machine: &mut M) {
        self.console.print(machine, &mut self.timer);
    }

    /// Prints what became of the steps before `until`, as far as that was not printed yet.
    fn print_outcomes<M: Machine>(&mut self, machine: &mut M, until: Step) {
        // What there is no time for now comes with the last lines.
        while self.printed < until as usize && !self.timer.spent(machine) {
            let step = Step::ALL.get(self.printed).copied();
            let outcome = self.outcomes.get(self.printed).copied();
            self.printed += 1;
            let (Some(step), Some(outcome)) = (step, outcome) else { return };
            let (text, sel_type) = (self.console.our_line(), self.sel.sel_type);
            if lines::outcome(text, step, outcome, &self.plan, sel_type, self.elfcorehdr) {
                self.print(machine);
            }
        }
    }
}
