//! The texts of console lines: what became of each step, which kernel panicked and why, where a CPU was.

use super::console::{LINE_LEN, PREFIX};
use super::{Fault, Outcome, Step};
use crate::budget::Millis;
use crate::crash::{CoreHeaderError, Cpu};
use crate::hw::Register;
use crate::ipmi::CommandError;
use crate::ipmi::interface::Interface;
use crate::ipmi::sel_writer::SelType;
use crate::ipmi::watchdog::Watchdog;
use crate::plan::{Bad, Plan, Then};
use crate::report::{Group, Location, Report, signature};
use crate::text::{Buffer, Text};

/// A line that is being written.
type ConsoleLine = Buffer<[u8]>;

/// Which kernel panicked, on which CPU, and the reason. `crashed`: its memory was read.
pub fn headline(text: &mut ConsoleLine, report: &Report, crashed: bool, apic_id: u32) {
    text.str(concat!(env!("CARGO_PKG_VERSION"), ": "));
    if report.release.is_empty() {
        text.str("the kernel");
    } else {
        text.str("kernel ").bytes(report.release.as_bytes());
    }
    text.str(" panicked");
    match report.panicked {
        Some(panicked) => {
            text.str(" on CPU ").dec(u64::from(panicked.cpu));
        }
        None if crashed => {
            text.str(" on an unknown CPU, local APIC ID ").dec(u64::from(apic_id));
        }
        None => {}
    }
    if !report.cause.reason.is_empty() {
        text.str(": ").bytes(report.cause.reason.as_bytes());
    }
}

/// What led to the panic, and what crash and cause are known by; false where nothing of it is known.
pub fn details(text: &mut ConsoleLine, report: &Report) -> bool {
    let cause = &report.cause;
    let mut comma = "";
    let [caller, ..] = &cause.callers;
    for (name, value) in [
        ("cause ", cause.report.as_bytes()),
        ("RIP ", cause.rip.as_bytes()),
        ("Comm ", cause.comm.as_bytes()),
        ("called by ", caller.as_bytes()),
    ] {
        if !value.is_empty() {
            text.str(comma).str(name).bytes(value);
            comma = ", ";
        }
    }
    if let Some(id) = report.id {
        id.put(text.str(comma).str("crash ID "));
        comma = ", ";
    }
    if let Some(signature) = signature(cause) {
        text.str(comma).str("signature ").hex_padded(u64::from(signature), 8);
        comma = ", ";
    }
    !comma.is_empty()
}

/// A parameter that was not understood.
pub fn bad_parameter(text: &mut ConsoleLine, bad: Bad) {
    text.bytes(bad.word.as_bytes()).str(": not understood; ignored");
}

/// A CPU's line: number, `*` for the one that panicked, pid, RIP raw and from `_stext`.
pub fn cpu(text: &mut ConsoleLine, cpu: &Cpu, panicked: bool) {
    text.str("CPU ").dec(u64::from(cpu.number)).byte(if panicked { b'*' } else { b' ' });
    if let Some(regs) = cpu.regs {
        text.str(" pid ").dec(u64::from(regs.pid)).str(" RIP ").hex_padded(regs.rip, 16);
    } else if !panicked && cpu.location.may_be_off() {
        text.str(" is");
    }
    // Who panicked was there to do it.
    place(text, if panicked && cpu.regs.is_none() { Location::Unread } else { cpu.location });
}

/// Where a CPU was, behind RIP, or what is known instead.
#[inline(never)]
fn place(text: &mut ConsoleLine, location: Location) {
    text.str(match location {
        Location::Kernel(offset) => {
            text.str(" _stext+0x").hex(u64::from(offset));
            return;
        }
        Location::Address(_) => return,
        Location::User => " user",
        Location::Off => " offline",
        Location::OffOrNotResponding => " offline or did not respond to the stop NMI",
        Location::NotResponding => " did not respond to the stop NMI",
        Location::Unread => " crash note unreadable",
    });
}

/// CPUs that there is no line for.
pub fn left_out(text: &mut ConsoleLine, count: u32) {
    text.dec(u64::from(count)).str(" more CPUs left out");
}

/// CPUs in one place: of few the line of each; of many how many, RIP raw and from `_stext`, and their numbers as far as there
/// is room, such as `0-3,7 and 2 more`.
pub struct CpuList {
    /// Where they are, and how many.
    pub group: Group,
    /// How many are in the text.
    told: u32,
    /// The numbers that stand next, first and last.
    run: (u32, u32),
    text: Text<{ LINE_LEN - PREFIX.len() }>,
}

impl CpuList {
    /// CPUs that are few.
    const FEW: u32 = 2;
    /// Room for `,4294967295-4294967295 and 4294967295 more`.
    const ROOM: usize = 42;

    /// Of CPUs that are to be added.
    pub const fn new() -> Self {
        Self { group: (Location::NotResponding, 0), told: 0, run: (0, 0), text: Text::new() }
    }

    /// Adds one of them.
    #[inline(never)]
    pub fn add(&mut self, new: &Cpu) {
        let (location, count) = self.group;
        let number = new.number;
        let text = &mut *self.text;
        let begun = !text.is_empty();
        if count <= Self::FEW {
            if begun {
                text.byte(b'\n');
            }
            cpu(text, new, false);
            return;
        }
        let (_, last) = &mut self.run;
        if begun && last.wrapping_add(1) == number {
            *last = number;
            return;
        }
        if begun {
            self.put();
        } else {
            text.dec(u64::from(count)).str(" CPUs");
            if let Some(regs) = new.regs.filter(|regs| !regs.user) {
                text.str(" RIP ").hex_padded(regs.rip, 16);
            }
            place(text, location);
            text.str(": ");
        }
        self.run = (number, number);
    }

    #[inline(never)]
    fn put(&mut self) {
        let (text, (first, last)) = (&mut *self.text, self.run);
        if text.room() <= Self::ROOM {
            return;
        }
        if !text.as_bytes().ends_with(b" ") {
            text.byte(b',');
        }
        text.dec(u64::from(first));
        if last != first {
            text.byte(b'-').dec(u64::from(last));
        }
        self.told = self.told.wrapping_add(last - first + 1);
    }

    /// The text, where all are added; a line each.
    pub fn end(&mut self) -> &[u8] {
        let (_, count) = self.group;
        if count > Self::FEW {
            self.put();
            let left = count.saturating_sub(self.told);
            if left > 0 {
                self.text.str(" and ").dec(u64::from(left)).str(" more");
            }
        }
        self.text.as_bytes()
    }
}

/// Bytes of `[    2.818706] `.
pub const STAMP_LEN: usize = 32;

/// What stands before a line of the log, as dmesg prints it: `[    2.818706] `.
pub fn stamp(text: &mut ConsoleLine, ts_nsec: u64) {
    let micros = ts_nsec / 1000;
    text.byte(b'[').dec_padded(micros / 1_000_000, 5, b' ').byte(b'.');
    text.dec_padded(micros % 1_000_000, 6, b'0').str("] ");
}

/// A segment of the dump kernel is not what was loaded.
pub fn corrupt(text: &mut ConsoleLine, segment: &[u8]) {
    text.str("dump kernel corrupt: checksum of ").bytes(segment).str(" differs from the one loaded");
}

/// A segment of the dump kernel was not what was loaded, and is again.
pub fn restored(text: &mut ConsoleLine, segment: &[u8]) {
    text.str("dump kernel: ").bytes(segment).str(" was corrupt, restored from its copy");
}

/// The last line, `ms` after the first.
pub fn farewell(text: &mut ConsoleLine, then: Option<Then>, ms: Millis) {
    text.str(match then {
        None => "starting the dump kernel",
        Some(Then::Reset) => "resetting the machine",
        Some(Then::PowerCycle) => "power-cycling the machine",
        Some(Then::PowerOff) => "powering the machine off",
        Some(Then::Halt) => "halting the machine",
    });
    seconds(text, ms);
}

/// Behind a number.
const RECORDS_ADDED: &str = " records added";

/// What became of a step; false where there is nothing to tell.
pub fn outcome(
    text: &mut ConsoleLine,
    step: Step,
    outcome: Outcome,
    plan: &Plan,
    sel_type: SelType,
    elfcorehdr: u64,
) -> bool {
    text.str(step.name()).str(": ");
    match outcome {
        Outcome::Quiet => return false,
        Outcome::Done { count, ms } => {
            match step {
                Step::Watchdog | Step::WatchdogAgain => match plan.watchdog {
                    Watchdog::Start { seconds, action } => {
                        text.str("started, ").dec(u64::from(seconds)).str(" s to ").str(action.name());
                    }
                    _ => {
                        text.str("stopped");
                    }
                },
                Step::Pstore => {
                    text.dec(u64::from(count)).str(RECORDS_ADDED);
                }
                Step::Sel | Step::Checksum => {
                    text.dec(u64::from(count)).str(match sel_type {
                        SelType::Oem => RECORDS_ADDED,
                        SelType::System => " system event records added",
                        SelType::Event => " platform events sent",
                    });
                }
                Step::Crash => {
                    text.dec(u64::from(count)).str(" CPUs");
                }
                _ => {
                    text.str("sent");
                }
            }
            seconds(text, ms);
        }
        Outcome::Bmc { count, ms, .. } | Outcome::Pstore { count, ms, .. } => {
            if matches!(step, Step::Sel | Step::Checksum | Step::Pstore) {
                text.str("gave up after ").dec(u64::from(count)).str(" records: ");
            }
            match outcome {
                Outcome::Bmc { error, .. } => bmc_error(text, error, plan.interface),
                Outcome::Pstore { error, .. } => {
                    text.bytes(error.text());
                }
                _ => {}
            }
            seconds(text, ms);
        }
        Outcome::NoCore(CoreHeaderError::Unreadable) => {
            text.str("ELF core header unreadable at 0x").hex(elfcorehdr);
        }
        Outcome::NoCore(CoreHeaderError::NoElfCore) => {
            text.str("no ELF core header at 0x").hex(elfcorehdr);
        }
        Outcome::NoLog => {
            text.str("not found in the crashed kernel's memory");
        }
        Outcome::NotTaken => {
            text.str("no pvpanic device that takes it");
        }
        Outcome::NoTime => {
            text.str("skipped, total time limit reached");
        }
        Outcome::Fault(Fault { vector, offset, address }) => {
            text.str("exception ").dec(u64::from(vector)).str(" at image+0x").hex(offset);
            text.str(", CR2 0x").hex(address);
        }
    }
    true
}

fn bmc_error(text: &mut ConsoleLine, error: CommandError, interface: Option<Interface>) {
    match error {
        CommandError::Absent => {
            match interface.map(|interface| interface.status()) {
                Some(Register::Port(port)) => text.str("port 0x").hex(u64::from(port)),
                Some(Register::Memory(addr)) => text.str("register mmio:0x").hex(addr),
                None => text.str("the interface"),
            };
            text.str(" reads 0xff, no BMC answers there");
        }
        CommandError::Unnamed(status) => {
            text.str("no BMC interface is named; port 0xca3 reads 0x").hex_padded(u64::from(status), 2);
            text.str(match status {
                0xff => ", no BMC answers there",
                _ => ", lastwords.ipmi_kcs_ports=0xca2,0xca3 would use it",
            });
        }
        CommandError::Silent => {
            text.str("the BMC does not respond");
        }
        CommandError::Garbled => {
            text.str("the BMC's response is invalid");
        }
        CommandError::Refused(code) => {
            text.str("the BMC refused with completion code 0x").hex_padded(u64::from(code.0), 2);
        }
        CommandError::NoTime => {
            text.str("no time left");
        }
        CommandError::Os(error) => {
            text.str("error number ").dec(u64::from(error.unsigned_abs()));
        }
    }
}

/// `, ` and milliseconds as seconds with three places; nothing where the clock has not moved, which without a known
/// counter is a second or two.
fn seconds(text: &mut ConsoleLine, ms: Millis) {
    if ms != 0 {
        text.str(", ")
            .dec(u64::from(ms / 1000))
            .byte(b'.')
            .dec_padded(u64::from(ms % 1000), 3, b'0')
            .str(" s");
    }
}
