//! The plan: what the image is to do, as `lastwords.NAME=VALUE` parameters of a kernel command line.
//!
//! One grammar for the tool's options, the parameters embedded in a wrapped kernel and the dump kernel's command
//! line. A value that makes no sense leaves what held before and is remembered, so that it can be said aloud.

use crate::budget::PLAUSIBLE_KHZ;
use crate::cmdline;
use crate::hw::Register;
use core::fmt;

/// What stands before every parameter's name.
pub const PREFIX: &str = "lastwords.";

/// Everything the image is to do. [`Plan::default`] is: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Ports of the BMC's KCS interface.
    pub kcs_ports: KcsPorts,
    /// Send the platform event and log the panic.
    pub handle_panic: bool,
    /// What to do with the BMC's watchdog.
    pub watchdog: Watchdog,
    /// Where the instruction pointers of all CPUs go.
    pub cpu_ip: CpuIp,
    /// Longest wait for one BMC command, in seconds (1 to 60).
    pub ipmi_timeout: u16,
    /// Longest time for everything that is said, in seconds (1 to 600).
    pub budget: u16,
    /// Where console words go.
    pub console: Console,
    /// Most records that are added to the SEL (1 to 128).
    pub sel_records: u8,
    /// How the words are put into the SEL.
    pub sel_type: SelType,
    /// So many bytes of the log's end go to the console (at most 1 MiB).
    pub output_log: u32,
    /// What to do when the dump kernel is not what was loaded.
    pub on_corrupt: OnCorrupt,
    /// Frequency of the TSC in kHz, where the tool has measured it.
    pub tsc_khz: Option<u32>,
    /// Local APIC ids of the CPUs, where they are not the kernel's own numbers.
    pub apic_ids: Option<ApicIds<'a>>,
    /// The first words of the command line that were not understood.
    pub bad: [Option<Bad<'a>>; 4],
}

/// A parameter that was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad<'a> {
    /// The word as it stands on the command line.
    pub word: &'a str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Bad<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word, self.why)
    }
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            kcs_ports: KcsPorts::DEFAULT,
            handle_panic: false,
            watchdog: Watchdog::Leave,
            cpu_ip: CpuIp { sel: false, console: false },
            ipmi_timeout: 5,
            budget: 15,
            console: Console { serial: None, vga: false },
            sel_records: 32,
            sel_type: SelType::Oem,
            output_log: 0,
            on_corrupt: OnCorrupt::Reset,
            tsc_khz: None,
            apic_ids: None,
            bad: [None; 4],
        }
    }
}

impl<'a> Plan<'a> {
    /// The plan of a command line: first the parameters embedded in the image, then those of the line, the last one
    /// winning. Where neither says where console words go, they go to the dump kernel's own serial console
    /// (`console=ttySn`).
    #[must_use]
    pub fn new(embedded: &'a str, line: &'a str) -> Self {
        let mut plan = Self { console: kernel_console(line), ..Self::default() };
        plan.read(embedded);
        plan.read(line);
        plan
    }

    /// Takes the `lastwords.` parameters of a line into the plan.
    pub fn read(&mut self, line: &'a str) {
        for word in cmdline::words(line) {
            let Some(parameter) = word.strip_prefix(PREFIX) else { continue };
            let (name, value) = match cmdline::cut(parameter, b'=') {
                Some((name, value)) => (name, Some(value)),
                None => (parameter, None),
            };
            if let Err(why) = self.set(name, value)
                && let Some(slot) = self.bad.iter_mut().find(|slot| slot.is_none())
            {
                *slot = Some(Bad { word, why });
            }
        }
    }

    /// Sets one parameter. The error says what is wrong with the value; the plan is then unchanged.
    ///
    /// # Errors
    /// When the parameter is unknown or its value malformed or out of range.
    pub fn set(&mut self, name: &str, value: Option<&'a str>) -> Result<(), &'static str> {
        let text = value.unwrap_or("");
        match name {
            "ipmi_kcs_ports" => self.kcs_ports = KcsPorts::parse(text)?,
            "ipmi_handle_panic" => self.handle_panic = switch(value)?,
            "ipmi_watchdog" => self.watchdog = Watchdog::parse(text)?,
            "output_cpu_ip" => self.cpu_ip = CpuIp::parse(text)?,
            "ipmi_timeout" => self.ipmi_timeout = seconds(text, 60).ok_or("takes 1 to 60 seconds")?,
            "budget" => self.budget = seconds(text, 600).ok_or("takes 1 to 600 seconds")?,
            "console" => self.console = Console::parse(text)?,
            "sel_records" => {
                self.sel_records = seconds(text, 128).ok_or("takes 1 to 128 records")? as u8;
            }
            "sel_type" => self.sel_type = SelType::parse(text)?,
            "output_log" => {
                let bytes = if value.is_none() { Some(LOG) } else { cmdline::size(text) };
                let bytes =
                    bytes.and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| *bytes <= LONGEST_LOG);
                self.output_log = bytes.ok_or("takes a number of bytes up to 1M, or nothing for 4096")?;
            }
            "on_corrupt" => self.on_corrupt = OnCorrupt::parse(text)?,
            "tsc_khz" => {
                let khz = cmdline::number(text).and_then(|khz| u32::try_from(khz).ok());
                let khz = khz.filter(|khz| PLAUSIBLE_KHZ.contains(khz));
                self.tsc_khz = Some(khz.ok_or("takes a frequency in kHz, 10000 to 20000000")?);
            }
            "apic_ids" => self.apic_ids = Some(ApicIds::parse(text)?),
            _ => return Err("no such parameter"),
        }
        Ok(())
    }

    /// Is anything to be said at all? A parameter that was not understood is.
    #[must_use]
    pub fn says_something(&self) -> bool {
        self.talks_to_bmc()
            || self.cpu_ip.console
            || self.output_log > 0
            || self.bad.iter().any(Option::is_some)
    }

    /// Is anything to be said to the BMC?
    #[must_use]
    pub fn talks_to_bmc(&self) -> bool {
        self.handle_panic || self.watchdog != Watchdog::Leave || self.cpu_ip.sel
    }
}

/// A parameter that is on when it stands there: `name`, `name=1`, and off again with `name=0`.
fn switch(value: Option<&str>) -> Result<bool, &'static str> {
    match value {
        None | Some("1" | "y") => Ok(true),
        Some("0" | "n") => Ok(false),
        Some(_) => Err("takes no value, or 0 or 1"),
    }
}

/// A whole number from 1 to `most`.
fn seconds(text: &str, most: u16) -> Option<u16> {
    cmdline::number(text)
        .and_then(|value| u16::try_from(value).ok())
        .filter(|value| (1..=most).contains(value))
}

/// The registers of a KCS interface (IPMI 2.0 section 9.1), at I/O ports mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KcsPorts {
    /// Data_In and Data_Out.
    pub data: Register,
    /// Status and Command.
    pub status: Register,
}

/// What stands before a memory-mapped register's address.
const MMIO: &str = "mmio:";
/// Physical addresses have 52 bits at most; the first page is no device's.
const ADDRESSES: core::ops::Range<u64> = 0x1000..1 << 52;
/// Most that lies between two registers of a device, in bytes.
const SPACINGS: core::ops::RangeInclusive<u16> = 1..=256;

/// A memory-mapped register.
fn memory(text: &str) -> Option<Register> {
    cmdline::number(text).filter(|addr| ADDRESSES.contains(addr)).map(Register::Memory)
}

impl KcsPorts {
    /// The ports of most servers, and the ones the specification recommends (IPMI 2.0 section 9.5).
    pub const DEFAULT: Self = Self::io(0xca2, 0xca3);

    /// At these two I/O ports.
    #[must_use]
    pub const fn io(data: u16, status: u16) -> Self {
        Self { data: Register::Port(data), status: Register::Port(status) }
    }

    /// In memory, from this physical address on, with so many bytes from one register to the next. `None` where
    /// that is no device's place.
    #[must_use]
    pub fn memory(addr: u64, spacing: u16) -> Option<Self> {
        let data = Some(addr).filter(|addr| ADDRESSES.contains(addr)).map(Register::Memory)?;
        let status = Some(spacing)
            .filter(|spacing| SPACINGS.contains(spacing))
            .and_then(|spacing| data.behind(spacing))?;
        Some(Self { data, status })
    }

    /// Reads `DATA[,STATUS]`, two I/O ports; STATUS is DATA + 1 when it is left out. Or `mmio:ADDR[,SPACING]`: in memory,
    /// with so many bytes (1 when left out) from one register to the next.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes DATA[,STATUS], two different I/O ports such as 0xca2,0xca3, or mmio:ADDR[,SPACING]";
        if let Some(text) = text.strip_prefix(MMIO) {
            let (addr, spacing) = cmdline::cut(text, b',').unwrap_or((text, "1"));
            let spacing = cmdline::number(spacing).and_then(|spacing| u16::try_from(spacing).ok());
            let addr = cmdline::number(addr);
            return addr.zip(spacing).and_then(|(addr, spacing)| Self::memory(addr, spacing)).ok_or(WHY);
        }
        let port =
            |text| cmdline::number(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let (data, status) = match cmdline::cut(text, b',') {
            Some((data, status)) => (port(data), port(status)),
            None => (port(text), port(text).and_then(|data| data.checked_add(1))),
        };
        match (data, status) {
            (Some(data), Some(status)) if data != status => Ok(Self::io(data, status)),
            _ => Err(WHY),
        }
    }
}

impl fmt::Display for KcsPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.data, self.status) {
            (Register::Memory(data), Register::Memory(status)) => {
                write!(f, "{},{}", self.data, status.wrapping_sub(data))
            }
            _ => write!(f, "{},{}", self.data, self.status),
        }
    }
}

/// What to do with the BMC's watchdog timer (IPMI 2.0 section 27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// Leave it alone.
    Leave,
    /// Stop it.
    Stop,
    /// Start it, so that a dump kernel that hangs is cut off.
    Start {
        /// Initial countdown in seconds (1 to 6553: the field has 16 bits of 100 ms).
        seconds: u16,
        /// What the BMC does when it runs out.
        action: Action,
    },
}

/// The watchdog's timeout action, with the specification's numbers (IPMI 2.0 section 27.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// No action (the expiry is logged).
    None = 0,
    /// Hard reset.
    Reset = 1,
    /// Power down.
    PowerOff = 2,
    /// Power cycle.
    PowerCycle = 3,
}

impl Action {
    const NAMES: [(&'static str, Self); 4] = [
        ("reset", Self::Reset),
        ("power-cycle", Self::PowerCycle),
        ("power-off", Self::PowerOff),
        ("none", Self::None),
    ];

    /// The action's name in the parameter.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, action)| *action == self).map_or("none", |(name, _)| name)
    }
}

impl Watchdog {
    /// Reads `start=SECONDS[,ACTION]` or `stop`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes start=SECONDS[,ACTION] (1 to 6553; reset, power-cycle, power-off or none) or stop";
        if text == "stop" {
            return Ok(Self::Stop);
        }
        let value = text.strip_prefix("start=").ok_or(WHY)?;
        let (count, action) = cmdline::cut(value, b',').unwrap_or((value, "reset"));
        let (_, action) = *Action::NAMES.iter().find(|(name, _)| *name == action).ok_or(WHY)?;
        Ok(Self::Start { seconds: seconds(count, 6553).ok_or(WHY)?, action })
    }
}

impl fmt::Display for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave => Ok(()),
            Self::Stop => f.write_str("stop"),
            Self::Start { seconds, action } => write!(f, "start={seconds},{}", action.name()),
        }
    }
}

/// Bytes of the log that are said when no number is given.
const LOG: u64 = 4096;
const LONGEST_LOG: u32 = 1 << 20;

/// How the words are put into the SEL. Where the BMC refuses one, the next is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelType {
    /// In OEM records of type 0xF0: all of the words.
    Oem,
    /// In system event records (type 02): the reason and the panicked CPU, three characters a record.
    System,
    /// The same by platform events, for a BMC that forbids Add SEL Entry.
    Event,
}

impl SelType {
    const NAMES: [(&'static str, Self); 3] =
        [("oem", Self::Oem), ("system", Self::System), ("event", Self::Event)];

    /// Reads `oem`, `system` or `event`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, sel_type)| *sel_type).ok_or("takes oem, system or event")
    }
}

impl fmt::Display for SelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, one)| one == self).map_or("", |(name, _)| name))
    }
}

/// What to do when the dump kernel is not what was loaded: somebody has written to the reserved memory. Only the
/// purgatory finds that out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorrupt {
    /// Reset the machine.
    Reset,
    /// Stand still.
    Halt,
    /// Start it all the same.
    Boot,
}

impl OnCorrupt {
    const NAMES: [(&'static str, Self); 3] =
        [("reset", Self::Reset), ("halt", Self::Halt), ("boot", Self::Boot)];

    /// Reads `reset`, `halt` or `boot`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, on_corrupt)| *on_corrupt).ok_or("takes reset, halt or boot")
    }
}

impl fmt::Display for OnCorrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, one)| one == self).map_or("", |(name, _)| name))
    }
}

/// Where the instruction pointers of all CPUs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuIp {
    /// Into the BMC's System Event Log.
    pub sel: bool,
    /// To the console.
    pub console: bool,
}

impl CpuIp {
    /// Reads `sel`, `console`, both with a comma, or nothing, which means both.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self { sel: true, console: true });
        }
        let mut cpu_ip = Self { sel: false, console: false };
        for place in cmdline::fields(text) {
            match place {
                "sel" => cpu_ip.sel = true,
                "console" => cpu_ip.console = true,
                _ => return Err("takes sel, console or both with a comma"),
            }
        }
        Ok(cpu_ip)
    }
}

impl fmt::Display for CpuIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.sel, self.console) {
            (true, false) => "sel",
            (false, true) => "console",
            _ => "sel,console",
        })
    }
}

/// Where console words go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    /// A 16550 UART.
    pub serial: Option<Serial>,
    /// The VGA text screen.
    pub vga: bool,
}

/// A 16550 UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// First of its eight registers.
    pub base: Register,
    /// Bytes from one register to the next: 1, or 4 (`mmio32`).
    pub spacing: u16,
    /// Line speed to set (8 data bits, no parity, 1 stop bit). `None`: as the crashed kernel left it.
    pub baud: Option<u32>,
}

/// What stands before the address of a UART with 32-bit registers.
const MMIO_32: &str = "mmio32:";

/// The I/O ports of ttyS0 to ttyS3 on a PC.
const TTY_S: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

impl Serial {
    /// Reads where one is: `ttyS0` to `ttyS3`, an I/O port such as 0x3f8, `mmio:ADDR`, or `mmio32:ADDR` with four bytes
    /// from one register to the next.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (base, spacing) = if let Some(addr) = text.strip_prefix(MMIO) {
            (memory(addr)?, 1)
        } else if let Some(addr) = text.strip_prefix(MMIO_32) {
            (memory(addr)?, 4)
        } else {
            (Register::Port(Self::port(text)?), 1)
        };
        Some(Self { base, spacing, baud: None })
    }

    /// Its register of this number, 0 to 7.
    #[must_use]
    pub fn register(&self, number: u16) -> Register {
        self.base.behind(number.saturating_mul(self.spacing)).unwrap_or(self.base)
    }

    fn port(text: &str) -> Option<u16> {
        if let Some(line) = text.strip_prefix("ttyS") {
            return TTY_S.get(usize::try_from(cmdline::number(line)?).ok()?).copied();
        }
        let port = u16::try_from(cmdline::number(text)?).ok()?;
        (1..=0xfff8).contains(&port).then_some(port)
    }

    /// Reads a line speed that a 16550's divisor gives exactly: 115200 / n.
    #[must_use]
    pub fn baud(text: &str) -> Option<u32> {
        let baud = u32::try_from(cmdline::number(text)?).ok()?;
        (baud > 1 && 115_200u32.checked_rem(baud) == Some(0)).then_some(baud)
    }
}

impl Console {
    /// Reads a list of `ttyS0` to `ttyS3` or a port, a line speed behind it, `vga`; or `none` alone.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes ttyS0 to ttyS3, a port or mmio[32]:ADDR, with ,BAUD (115200/n) if wanted; vga; or none";
        let mut console = Self { serial: None, vga: false };
        if text == "none" {
            return Ok(console);
        }
        for item in cmdline::fields(text) {
            if item == "vga" {
                console.vga = true;
            } else if let Some(serial) = &mut console.serial {
                if serial.baud.is_some() {
                    return Err(WHY);
                }
                serial.baud = Some(Serial::baud(item).ok_or(WHY)?);
            } else {
                console.serial = Some(Serial::parse(item).ok_or(WHY)?);
            }
        }
        Ok(console)
    }
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(serial) = self.serial else {
            return f.write_str(if self.vga { "vga" } else { "none" });
        };
        match (TTY_S.iter().position(|port| Register::Port(*port) == serial.base), serial.base) {
            (Some(line), _) => write!(f, "ttyS{line}")?,
            (None, Register::Memory(addr)) if serial.spacing == 4 => write!(f, "{MMIO_32}{addr:#x}")?,
            (None, base) => write!(f, "{base}")?,
        }
        if let Some(baud) = serial.baud {
            write!(f, ",{baud}")?;
        }
        f.write_str(if self.vga { ",vga" } else { "" })
    }
}

/// The dump kernel's own serial console: the last `console=ttySn` on the line. The line speed is left as it is,
/// because the crashed kernel has most likely used the same UART.
fn kernel_console(line: &str) -> Console {
    let serial = cmdline::words(line)
        .filter_map(|word| cmdline::fields(word.strip_prefix("console=")?).next())
        .filter(|name| name.starts_with("ttyS"))
        .filter_map(Serial::parse)
        .last();
    Console { serial, vga: false }
}

/// Local APIC ids in the order of the kernel's CPU numbers: a list of `ID`, `FIRST-LAST` and `FIRST-LAST/STEP`.
/// `0-14/2,1-15/2` are 16 CPUs, of which the kernel counts the second thread of each core last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicIds<'a>(&'a str);

impl<'a> ApicIds<'a> {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not such a list.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if cmdline::fields(text).all(|run| Self::run(run).is_some()) {
            Ok(Self(text))
        } else {
            Err("takes APIC ids in the order of the CPUs, such as 0-14/2,1-15/2")
        }
    }

    /// First id, last id and step of one entry.
    fn run(text: &str) -> Option<(u32, u32, u32)> {
        let id = |text| u32::try_from(cmdline::number(text)?).ok();
        let (range, step) = match cmdline::cut(text, b'/') {
            Some((range, step)) => (range, id(step)?),
            None => (text, 1),
        };
        let (first, last) = cmdline::cut(range, b'-').unwrap_or((range, range));
        let (first, last) = (id(first)?, id(last)?);
        (first <= last && step > 0).then_some((first, last, step))
    }

    /// The number of the CPU with this local APIC id.
    #[must_use]
    pub fn cpu(self, apic_id: u32) -> Option<u32> {
        let mut before = 0u32;
        for (first, last, step) in cmdline::fields(self.0).filter_map(Self::run) {
            let within = apic_id.checked_sub(first).filter(|_| apic_id <= last);
            match within.map(|distance| (distance.checked_div(step), distance.checked_rem(step))) {
                Some((Some(steps), Some(0))) => return before.checked_add(steps),
                _ => before = before.checked_add((last - first).checked_div(step)?)?.checked_add(1)?,
            }
        }
        None
    }
}

impl fmt::Display for ApicIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Plan<'_> {
    /// The parameters that make this plan, with blanks between; what is default is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        let mut blank = "";
        let mut say = |name: &str, value: Option<&dyn fmt::Display>| {
            write!(f, "{blank}{PREFIX}{name}")?;
            blank = " ";
            value.map_or(Ok(()), |value| write!(f, "={value}"))
        };
        if self.kcs_ports != default.kcs_ports {
            say("ipmi_kcs_ports", Some(&self.kcs_ports))?;
        }
        if self.handle_panic {
            say("ipmi_handle_panic", None)?;
        }
        if self.watchdog != default.watchdog {
            say("ipmi_watchdog", Some(&self.watchdog))?;
        }
        if self.cpu_ip != default.cpu_ip {
            say("output_cpu_ip", Some(&self.cpu_ip))?;
        }
        if self.ipmi_timeout != default.ipmi_timeout {
            say("ipmi_timeout", Some(&self.ipmi_timeout))?;
        }
        if self.budget != default.budget {
            say("budget", Some(&self.budget))?;
        }
        if self.console != default.console {
            say("console", Some(&self.console))?;
        }
        if self.sel_records != default.sel_records {
            say("sel_records", Some(&self.sel_records))?;
        }
        if self.sel_type != default.sel_type {
            say("sel_type", Some(&self.sel_type))?;
        }
        if self.output_log != default.output_log {
            say("output_log", Some(&self.output_log))?;
        }
        if self.on_corrupt != default.on_corrupt {
            say("on_corrupt", Some(&self.on_corrupt))?;
        }
        if let Some(khz) = &self.tsc_khz {
            say("tsc_khz", Some(khz))?;
        }
        if let Some(ids) = &self.apic_ids {
            say("apic_ids", Some(ids))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{
        format,
        string::{String, ToString},
        vec::Vec,
    };

    #[test]
    fn the_last_one_wins_and_the_line_wins_over_what_is_embedded() {
        let plan = Plan::new(
            "lastwords.ipmi_timeout=9 lastwords.budget=60 lastwords.ipmi_handle_panic",
            "quiet lastwords.budget=20 lastwords.budget=30 lastwords.ipmi_handle_panic=0",
        );
        assert_eq!((plan.ipmi_timeout, plan.budget, plan.handle_panic), (9, 30, false));
    }

    #[test]
    fn nothing_is_said_unless_asked_for() {
        let plan = Plan::new("", "console=ttyS0 elfcorehdr=0x1000 lastwords.budget=3");
        assert!(!plan.says_something());
    }

    #[test]
    fn console_words_follow_the_kernels_console() {
        for (line, console) in [
            ("console=tty0 console=ttyS1,115200n8", "ttyS1"),
            ("console=ttyS0 console=tty0", "ttyS0"),
            ("console=ttyS9", "none"),
            ("console=ttyAMA0", "none"),
            ("console=0x3f8", "none"),
            ("console=ttyS0 lastwords.console=0x2f0,9600,vga", "0x2f0,9600,vga"),
            ("console=ttyS0 lastwords.console=none", "none"),
            ("lastwords.console=mmio32:0xfe040000,115200", "mmio32:0xfe040000,115200"),
        ] {
            assert_eq!(Plan::new("", line).console.to_string(), console, "{line}");
        }
    }

    #[test]
    fn a_bad_value_keeps_what_held_before_and_is_remembered() {
        for (word, why) in [
            ("lastwords.ipmi_kcs_ports=0x1ffff", "takes DATA"),
            ("lastwords.ipmi_kcs_ports=0xca2,0xca2", "takes DATA"),
            ("lastwords.ipmi_kcs_ports", "takes DATA"),
            ("lastwords.ipmi_kcs_ports=mmio:0", "takes DATA"),
            ("lastwords.ipmi_kcs_ports=mmio:0xfed00000,0", "takes DATA"),
            ("lastwords.ipmi_kcs_ports=mmio:0x10000000000000", "takes DATA"),
            ("lastwords.console=mmio:0xfff", "takes ttyS0"),
            ("lastwords.ipmi_handle_panic=maybe", "takes no value"),
            ("lastwords.ipmi_watchdog=start=0", "takes start"),
            ("lastwords.ipmi_watchdog=start=6554", "takes start"),
            ("lastwords.ipmi_watchdog=start=60,explode", "takes start"),
            ("lastwords.output_cpu_ip=screen", "takes sel"),
            ("lastwords.ipmi_timeout=0", "takes 1 to 60"),
            ("lastwords.budget=-1", "takes 1 to 600"),
            ("lastwords.console=ttyS4", "takes ttyS0"),
            ("lastwords.console=ttyS0,110000", "takes ttyS0"),
            ("lastwords.sel_records=129", "takes 1 to 128"),
            ("lastwords.sel_type=sdr", "takes oem, system or event"),
            ("lastwords.output_log=2M", "takes a number of bytes"),
            ("lastwords.on_corrupt=explode", "takes reset, halt or boot"),
            ("lastwords.tsc_khz=1", "takes a frequency"),
            ("lastwords.apic_ids=0-3/0", "takes APIC ids"),
            ("lastwords.nonsense=1", "no such parameter"),
        ] {
            let plan = Plan::new("", word);
            let bad = plan.bad[0].expect(word);
            assert_eq!(bad.word, word);
            assert!(bad.why.starts_with(why), "{bad}");
            assert_eq!(Plan { bad: [None; 4], ..plan }, Plan::default(), "{word}");
        }
    }

    #[test]
    fn apic_ids_give_cpu_numbers() {
        let ids = ApicIds::parse("0-14/2,1-15/2,0x40").unwrap();
        let cpus: Vec<_> = [0, 2, 14, 1, 15, 64, 16].iter().map(|id| ids.cpu(*id)).collect();
        assert_eq!(cpus, [Some(0), Some(1), Some(7), Some(8), Some(15), Some(16), None]);
        assert_eq!(ApicIds::parse("0-4294967295,7").unwrap().cpu(7), Some(7));
    }

    fn watchdog() -> impl Strategy<Value = Watchdog> {
        let action = prop::sample::select(Action::NAMES.map(|(_, action)| action).to_vec());
        prop_oneof![
            Just(Watchdog::Leave),
            Just(Watchdog::Stop),
            (1u16..=6553, action).prop_map(|(seconds, action)| Watchdog::Start { seconds, action }),
        ]
    }

    fn kcs_ports() -> impl Strategy<Value = KcsPorts> {
        prop_oneof![
            (1u16.., 1u16..)
                .prop_filter("two ports", |(data, status)| data != status)
                .prop_map(|(data, status)| KcsPorts::io(data, status)),
            (ADDRESSES, SPACINGS).prop_map(|(addr, spacing)| KcsPorts::memory(addr, spacing).unwrap()),
        ]
    }

    fn console() -> impl Strategy<Value = Console> {
        let bauds: Vec<u32> = (2..=115_200).filter(|baud| 115_200 % baud == 0).collect();
        let base = prop_oneof![
            (1u16..=0xfff8).prop_map(|port| (Register::Port(port), 1)),
            (ADDRESSES, prop::sample::select([1, 4].to_vec()))
                .prop_map(|(addr, spacing)| (Register::Memory(addr), spacing)),
        ];
        let serial = (base, prop::option::of(prop::sample::select(bauds)));
        (prop::option::of(serial), any::<bool>()).prop_map(|(serial, vga)| Console {
            serial: serial.map(|((base, spacing), baud)| Serial { base, spacing, baud }),
            vga,
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_to_the_same_plan(
            kcs_ports in kcs_ports(),
            handle_panic: bool, watchdog in watchdog(), cpu_ip in 0u8..4, ipmi_timeout in 1u16..=60,
            budget in 1u16..=600, console in console(), sel_records in 1u8..=128,
            sel_type in prop::sample::select(SelType::NAMES.map(|(_, sel_type)| sel_type).to_vec()),
            output_log in 0u32..=1 << 20,
            on_corrupt in prop::sample::select(OnCorrupt::NAMES.map(|(_, on_corrupt)| on_corrupt).to_vec()),
            tsc_khz in prop::option::of(10_000u32..=20_000_000),
            apic_ids in prop::option::of("[0-9]{1,3}(,[0-9]-[1-9][0-9](/[1-9])?){0,3}"),
        ) {
            let apic_ids = apic_ids.as_deref().map(|text| ApicIds::parse(text).unwrap());
            let plan = Plan {
                kcs_ports, handle_panic, watchdog,
                cpu_ip: CpuIp { sel: cpu_ip & 1 != 0, console: cpu_ip & 2 != 0 },
                ipmi_timeout, budget, console, sel_records, sel_type, output_log, on_corrupt, tsc_khz, apic_ids, bad: [None; 4],
            };
            let line = plan.to_string();
            prop_assert_eq!(Plan::new("", &line), plan, "{}", line);
        }

        #[test]
        fn any_value_is_taken_or_refused(name in "[a-z_]{0,20}", value in "\\PC{0,40}") {
            let line: String = format!("lastwords.{name}={value}");
            let _ = Plan::new(&line, &line);
            for name in ["ipmi_kcs_ports", "ipmi_watchdog", "output_cpu_ip", "console", "apic_ids", "tsc_khz"] {
                let _ = Plan::default().set(name, Some(&value));
            }
        }
    }
}
