//! The plan: what the image is to do, as `lastwords.NAME=VALUE` parameters of a kernel command line.
//!
//! One grammar for the tool's options, the parameters embedded in a wrapped kernel and the dump kernel's command
//! line. A value that makes no sense leaves what held before and is remembered, so that it can be reported. What each
//! parameter is stands in one table, `parameters`; the types of values are their devices' own, those that have no
//! device are here.
//!
//! ```
//! use lastwords_core::plan::Plan;
//!
//! let plan = Plan::new("", "quiet lastwords.ipmi_handle_panic lastwords.budget=20 lastwords.budget=30");
//! assert!(plan.handle_panic);
//! assert_eq!(plan.budget, 30);
//! assert_eq!(plan.to_string(), "lastwords.ipmi_handle_panic lastwords.budget=30");
//!
//! let plan = Plan::new("", "lastwords.budget=soon");
//! assert_eq!(plan.budget, Plan::default().budget);
//! assert_eq!(plan.bad[0].unwrap().to_string(), "lastwords.budget=soon: takes 1 to 600 seconds");
//! ```

mod console;
mod parameters;

pub use console::{ConsoleDevices, is_console};
pub use parameters::{PARAMETERS, Parameter, parameter};

use crate::budget::Millis;
use crate::cmdline;
use crate::device::pvpanic::Hypervisor;
use crate::ipmi::Bmc;
use crate::ipmi::interface::{Interface, SystemInterface};
use crate::ipmi::sel_writer::SelType;
use crate::ipmi::watchdog::Watchdog;
use crate::numbers::Numbers;
use core::fmt;

/// What stands before every parameter's name.
pub const PREFIX: &str = "lastwords.";

/// Everything the image is to do. [`Plan::default`] is: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The BMC's system interface, where one is named.
    pub interface: Option<Interface>,
    /// Send the platform event and store the panic's cause.
    pub handle_panic: bool,
    /// What to do with the BMC's watchdog.
    pub watchdog: Watchdog,
    /// Where the instruction pointers of all CPUs go.
    pub cpu_ip: CpuIp,
    /// Longest wait for one BMC command, in seconds (1 to 60).
    pub ipmi_timeout: u16,
    /// Longest time for the whole report, in seconds (1 to 600).
    pub budget: u16,
    /// Where console lines go.
    pub console: ConsoleDevices,
    /// Most records that are added to the SEL (1 to 128).
    pub sel_records: u8,
    /// How text is put into the SEL.
    pub sel_type: SelType,
    /// So many bytes of the log's end go to the console (at most 1 MiB).
    pub output_log: u32,
    /// So many bytes of records go to the platform's error store: report and log's end (1 KiB to 64 KiB; 0, none).
    pub pstore: u32,
    /// Whether the hypervisor is told.
    pub hypervisor: Hypervisor,
    /// What to do when the dump kernel is not what was loaded.
    pub on_corrupt: OnCorrupt,
    /// What to do at the end where no dump kernel is loaded. The image takes it out where there is one.
    pub then: Option<Then>,
    /// Frequency of the CPU's counter in kHz, where the tool has measured it.
    pub tsc_khz: Option<u32>,
    /// Local APIC ids of the CPUs, where they are not the kernel's own numbers.
    pub apic_ids: Option<Numbers<'a>>,
    /// The kernel's numbers of the CPUs in the order of their notes, where they have holes.
    pub cpu_numbers: Option<Numbers<'a>>,
    /// Where the kernel's mask of online CPUs lies: its distance from `_stext`, and the build id's first four bytes.
    pub cpu_online_mask: Option<Numbers<'a>>,
    /// The first parameters of the command line that were not understood.
    pub bad: [Option<Bad<'a>>; 4],
}

/// A parameter that was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad<'a> {
    /// The parameter as it stands on the command line.
    pub word: &'a str,
}

impl Bad<'_> {
    /// What is wrong with it. For the tool: the image has no room for these texts.
    #[must_use]
    pub fn why(self) -> &'static str {
        let (name, value) = name_and_value(self.word.strip_prefix(PREFIX).unwrap_or(self.word));
        Plan::default().set(name, value).err().unwrap_or_default()
    }
}

impl fmt::Display for Bad<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word, self.why())
    }
}

/// The two sides of a parameter's `=`.
fn name_and_value(parameter: &str) -> (&str, Option<&str>) {
    match cmdline::cut(parameter, b'=') {
        Some((name, value)) => (name, Some(value)),
        None => (parameter, None),
    }
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            interface: None,
            handle_panic: false,
            watchdog: Watchdog::Leave,
            cpu_ip: CpuIp { sel: false, console: false },
            ipmi_timeout: 5,
            budget: 15,
            console: ConsoleDevices { serial: None, vga: false },
            sel_records: 32,
            sel_type: SelType::Oem,
            output_log: 0,
            pstore: 0,
            hypervisor: Hypervisor::Leave,
            on_corrupt: OnCorrupt::Reset,
            then: None,
            tsc_khz: None,
            apic_ids: None,
            cpu_numbers: None,
            cpu_online_mask: None,
            bad: [None; 4],
        }
    }
}

impl<'a> Plan<'a> {
    /// The plan of a command line: first the parameters embedded in the image, then those of the line, the last one
    /// winning. Where neither says where console lines go, they go to the dump kernel's own serial console
    /// ([`ConsoleDevices::of_kernel`]).
    #[must_use]
    pub fn new(embedded: &'a str, line: &'a str) -> Self {
        let mut plan = Self { console: ConsoleDevices::of_kernel(line), ..Self::default() };
        plan.read(embedded);
        plan.read(line);
        plan
    }

    /// Takes the `lastwords.` parameters of a line into the plan.
    pub fn read(&mut self, line: &'a str) {
        for word in cmdline::words(line) {
            let Some(parameter) = word.strip_prefix(PREFIX) else { continue };
            let (name, value) = name_and_value(parameter);
            if self.set(name, value).is_err()
                && let Some(slot) = self.bad.iter_mut().find(|slot| slot.is_none())
            {
                *slot = Some(Bad { word });
            }
        }
    }

    /// Is anything to be reported at all? A parameter that was not understood is.
    #[must_use]
    pub fn reports_something(&self) -> bool {
        self.talks_to_bmc()
            || self.cpu_ip.console
            || self.output_log > 0
            || self.pstore > 0
            || self.hypervisor != Hypervisor::Leave
            || self.bad.iter().any(Option::is_some)
    }

    /// The BMC that the plan names. Touches nothing.
    #[must_use]
    pub fn bmc(&self) -> Bmc<SystemInterface> {
        Bmc::new(SystemInterface::new(self.interface), Millis::from(self.ipmi_timeout) * 1000)
    }

    /// Does the BMC get a request?
    #[must_use]
    pub fn talks_to_bmc(&self) -> bool {
        self.handle_panic
            || self.watchdog != Watchdog::Leave
            || self.cpu_ip.sel
            || matches!(self.then, Some(Then::PowerCycle | Then::PowerOff))
    }
}

/// What becomes of the machine behind the report, where no dump kernel is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is reset.
    Reset,
    /// The BMC switches it off and on again.
    PowerCycle,
    /// The BMC switches it off.
    PowerOff,
    /// Its CPU is halted.
    Halt,
}

impl Then {
    /// All of them with their names in the parameter.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("reset", Self::Reset),
        ("power-cycle", Self::PowerCycle),
        ("power-off", Self::PowerOff),
        ("halt", Self::Halt),
    ];

    /// Reads `reset`, `power-cycle`, `power-off` or `halt`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        cmdline::named(&Self::NAMES, text).ok_or("takes reset, power-cycle, power-off or halt")
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(cmdline::name_of(&Self::NAMES, *self))
    }
}

/// What to do when the dump kernel is not what was loaded: somebody has written to the reserved memory. Only as
/// the purgatory does the image find that out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorrupt {
    /// Reset the machine.
    Reset,
    /// Halt the CPU.
    Halt,
    /// Start it all the same.
    Boot,
}

impl OnCorrupt {
    /// All of them with their names in the parameter.
    pub const NAMES: [(&'static str, Self); 3] =
        [("reset", Self::Reset), ("halt", Self::Halt), ("boot", Self::Boot)];

    /// Reads `reset`, `halt` or `boot`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        cmdline::named(&Self::NAMES, text).ok_or("takes reset, halt or boot")
    }
}

impl fmt::Display for OnCorrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(cmdline::name_of(&Self::NAMES, *self))
    }
}

/// Where the instruction pointers of all CPUs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuIp {
    /// Into the BMC's System Event Log (SEL).
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
        for output in cmdline::fields(text) {
            match output {
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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::arch;
    use crate::device::pvpanic::Event;
    use crate::device::uart::Serial;
    use crate::hw::Register;
    use crate::ipmi::commands::Action;
    use crate::ipmi::interface::{BtPorts, I801, KcsPorts};
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
    fn nothing_is_reported_unless_asked_for() {
        let plan = Plan::new("", "console=ttyS0 elfcorehdr=0x1000 lastwords.budget=3");
        assert!(!plan.reports_something());
    }

    #[test]
    fn console_lines_follow_the_kernels_console() {
        for (line, console) in [
            ("console=tty0 console=ttyS1,115200n8", "ttyS1"),
            ("console=ttyS0 console=tty0", "ttyS0"),
            ("console=ttyS9", "none"),
            ("console=ttyAMA0", "none"),
            ("console=0x3f8", "none"),
            ("console=uart8250,io,0x3f8", "ttyS0"),
            ("console=uart,io,0x2f0,115200n8", "0x2f0"),
            ("console=uart8250,mmio,0xfedc9000,115200n8", "mmio:0xfedc9000"),
            ("console=ttyS0 console=uart8250,mmio32,0xfe040000 console=tty0", "mmio32:0xfe040000"),
            ("console=uart8250,mmio32be,0xfe040000", "none"),
            ("console=uart8250,0x3f8", "none"),
            ("console=uart8250,io,0x70", "none"),
            ("console=uart8250,mmio,0x3f8", "none"),
            ("console=uart8250", "none"),
            ("earlycon=uart8250,io,0x2f8,115200", "ttyS1"),
            ("earlycon=uart,mmio32,0xfe040000 console=hvc0", "mmio32:0xfe040000"),
            ("earlycon", "none"),
            ("earlycon=pl011,0x9000000", "none"),
            ("earlyprintk=serial,ttyS1,115200,keep", "ttyS1"),
            ("earlyprintk=serial,0x3e8,115200", "ttyS2"),
            ("earlyprintk=serial", "ttyS0"),
            ("earlyprintk=ttyS1,9600", "ttyS1"),
            ("earlyprintk=pciserial,0:16.3,115200 console=tty0", "none"),
            ("earlyprintk=vga earlyprintk=xdbc", "none"),
            // One that lasts counts before those that print for a moment.
            ("console=ttyS1 earlycon=uart8250,io,0x3f8 earlyprintk=serial,ttyS0", "ttyS1"),
            ("earlyprintk=serial,ttyS0 earlycon=uart8250,io,0x2f8", "ttyS1"),
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
            ("lastwords.ipmi_interface", "takes kcs:"),
            ("lastwords.ipmi_interface=0xca2", "takes kcs:"),
            ("lastwords.ipmi_interface=smic:0xca9", "takes kcs:"),
            ("lastwords.ipmi_interface=kcs:", "takes DATA"),
            ("lastwords.ipmi_interface=kcs:0x70", "names a port"),
            ("lastwords.ipmi_interface=bt:0", "takes kcs:"),
            ("lastwords.ipmi_interface=bt:0xe4,0", "takes kcs:"),
            ("lastwords.ipmi_interface=bt:0xe4,257", "takes kcs:"),
            ("lastwords.ipmi_interface=bt:0xfffe", "takes kcs:"),
            ("lastwords.ipmi_interface=bt:0xff00,128", "takes kcs:"),
            ("lastwords.ipmi_interface=bt:0x6e,1", "names a port"),
            ("lastwords.ipmi_interface=bt:0x50,16", "names a port"),
            ("lastwords.ipmi_interface=bt:mmio:0xfff", "takes kcs:"),
            ("lastwords.ipmi_interface=ssif:0x700,0x42", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x700", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x701,0x42", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x0,0x42", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x700,0x84", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x700,0x7", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x700,0x30", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x700,0x37", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x700,0x50", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0x700,0x57", "takes ssif:"),
            ("lastwords.ipmi_interface=ssif:i801:0xce0,0x42", "names a port"),
            ("lastwords.console=mmio:0xfff", "takes ttyS0"),
            ("lastwords.ipmi_handle_panic=maybe", "takes no value"),
            ("lastwords.ipmi_watchdog=start=0", "takes start"),
            ("lastwords.ipmi_watchdog=start=6554", "takes start"),
            ("lastwords.ipmi_watchdog=start=60,explode", "takes start"),
            ("lastwords.output_cpu_ip=screen", "takes sel"),
            ("lastwords.ipmi_timeout=0", "takes 1 to 60"),
            ("lastwords.budget=-1", "takes 1 to 600"),
            ("lastwords.ipmi_kcs_ports=0x70", "names a port"),
            ("lastwords.ipmi_kcs_ports=0xca2,0xcf9", "names a port"),
            ("lastwords.console=0xcf2,9600", "names a port"),
            ("lastwords.console=ttyS4", "takes ttyS0"),
            ("lastwords.console=ttyS0,110000", "takes ttyS0"),
            ("lastwords.sel_records=129", "takes 1 to 128"),
            ("lastwords.sel_type=sdr", "takes oem, system or event"),
            ("lastwords.output_log=2M", "takes a number of bytes"),
            ("lastwords.output_pstore=1", "takes 1K to 64K bytes"),
            ("lastwords.on_corrupt=explode", "takes reset, halt or boot"),
            ("lastwords.then=boot", "takes reset, power-cycle, power-off or halt"),
            ("lastwords.then", "takes reset, power-cycle, power-off or halt"),
            ("lastwords.notify_hypervisor=0x505,dead", "takes auto"),
            ("lastwords.tsc_khz=1", "takes a frequency"),
            ("lastwords.apic_ids=0-3/0", "takes numbers"),
            ("lastwords.cpu_numbers=3-0", "takes numbers"),
            ("lastwords.cpu_online_mask", "takes numbers"),
            ("lastwords.cpu_online_mask=0x100000000", "takes numbers"),
            ("lastwords.cpu_online_mask=0x1000,", "takes numbers"),
            ("lastwords.nonsense=1", "no such parameter"),
        ] {
            let plan = Plan::new("", word);
            let bad = plan.bad[0].expect(word);
            assert_eq!(bad.word, word);
            assert!(bad.why().starts_with(why), "{bad}");
            assert_eq!(Plan { bad: [None; 4], ..plan }, Plan::default(), "{word}");
        }
    }

    #[test]
    fn two_parameters_name_the_interface_and_the_last_one_wins() {
        for (line, printed) in [
            ("lastwords.ipmi_interface=kcs:0xca8", "lastwords.ipmi_kcs_ports=0xca8,0xca9"),
            ("lastwords.ipmi_interface=kcs:0xca2,0xca3", "lastwords.ipmi_kcs_ports=0xca2,0xca3"),
            ("lastwords.ipmi_interface=kcs:mmio:0xfe000000", "lastwords.ipmi_kcs_ports=mmio:0xfe000000,1"),
            ("lastwords.ipmi_interface=bt:228", "lastwords.ipmi_interface=bt:0xe4"),
            ("lastwords.ipmi_interface=bt:0xc00,4", "lastwords.ipmi_interface=bt:0xc00,4"),
            (
                "lastwords.ipmi_interface=bt:mmio:0xfe000000,16",
                "lastwords.ipmi_interface=bt:mmio:0xfe000000,16",
            ),
            (
                "lastwords.ipmi_interface=ssif:i801:0x700,0x42",
                "lastwords.ipmi_interface=ssif:i801:0x700,0x42",
            ),
            (
                "lastwords.ipmi_interface=bt:0xe4 lastwords.ipmi_kcs_ports=0xca8,0xcac",
                "lastwords.ipmi_kcs_ports=0xca8,0xcac",
            ),
            (
                "lastwords.ipmi_kcs_ports=0xca8,0xcac lastwords.ipmi_interface=bt:0xe4",
                "lastwords.ipmi_interface=bt:0xe4",
            ),
            (
                "lastwords.ipmi_interface=bt:0xe4 lastwords.ipmi_kcs_ports=0",
                "lastwords.ipmi_interface=bt:0xe4",
            ),
            ("quiet", ""),
        ] {
            assert_eq!(Plan::new("", line).to_string(), printed, "{line}");
        }
    }

    fn watchdog() -> impl Strategy<Value = Watchdog> {
        let action = prop::sample::select(Action::NAMES.map(|(_, action)| action).to_vec());
        prop_oneof![
            Just(Watchdog::Leave),
            Just(Watchdog::Stop),
            (1u16..=6553, action).prop_map(|(seconds, action)| Watchdog::Start { seconds, action }),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop::sample::select(&[Event::Panicked, Event::CrashLoaded][..])
    }

    fn kcs_ports() -> impl Strategy<Value = KcsPorts> {
        prop_oneof![
            (1u16.., 1u16..)
                .prop_filter("two free ports", |(data, status)| {
                    data != status && ![data, status].into_iter().any(|port| arch::is_reserved(*port, 1))
                })
                .prop_map(|(data, status)| KcsPorts::io(data, status)),
            (Register::ADDRESSES, KcsPorts::SPACINGS)
                .prop_map(|(addr, spacing)| KcsPorts::memory(addr, spacing).unwrap()),
        ]
    }

    fn interface() -> impl Strategy<Value = Interface> {
        let bt_port = (1u16..0xfe00, KcsPorts::SPACINGS)
            .prop_filter("free ports", |(port, spacing)| !arch::is_reserved(*port, 2 * spacing + 1))
            .prop_map(|(port, spacing)| BtPorts::new(Register::Port(port), spacing).unwrap());
        let bt_memory = (Register::ADDRESSES, KcsPorts::SPACINGS)
            .prop_map(|(addr, spacing)| BtPorts::new(Register::Memory(addr), spacing).unwrap());
        let i801 = (1u16..2048, I801::ADDRESSES)
            .prop_filter("free ports", |(at, _)| !arch::is_reserved(at * I801::PORTS, I801::PORTS))
            .prop_filter_map("no memory module", |(at, address)| I801::new(at * I801::PORTS, address));
        prop_oneof![
            kcs_ports().prop_map(Interface::Kcs),
            prop_oneof![bt_port, bt_memory].prop_map(Interface::Bt),
            i801.prop_map(Interface::Ssif),
        ]
    }

    fn console() -> impl Strategy<Value = ConsoleDevices> {
        let bauds: Vec<u32> = (2..=115_200).filter(|baud| 115_200 % baud == 0).collect();
        let base = prop_oneof![
            (1u16..=0xfff8)
                .prop_filter("free ports", |port| !arch::is_reserved(*port, 8))
                .prop_map(|port| (Register::Port(port), 1)),
            (Register::ADDRESSES, prop::sample::select([1, 4].to_vec()))
                .prop_map(|(addr, spacing)| (Register::Memory(addr), spacing)),
        ];
        let serial = (base, prop::option::of(prop::sample::select(bauds)));
        (prop::option::of(serial), any::<bool>()).prop_map(|(serial, vga)| ConsoleDevices {
            serial: serial.map(|((base, spacing), baud)| Serial { base, spacing, baud }),
            vga,
        })
    }

    #[test]
    fn the_document_has_every_parameter_and_its_default() {
        let document = include_str!("../../../docs/parameters.md");
        for parameter in PARAMETERS {
            let row = document.lines().find(|line| line.starts_with(&format!("| `{}`", parameter.name)));
            let row = row.unwrap_or_else(|| panic!("docs/parameters.md has no row for {}", parameter.name));
            assert!(row.contains(parameter.default), "{row}: default {}", parameter.default);
            for value in parameter.values {
                assert!(row.contains(&format!("`{value}`")), "{row}: {value}");
            }
        }
        let rows = document.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, PARAMETERS.len(), "docs/parameters.md has a row too many");
    }

    #[test]
    fn what_help_says_holds() {
        for parameter in PARAMETERS {
            let name = parameter.name;
            assert_eq!(Plan::default().set(name, None).is_ok(), parameter.alone.is_some(), "{name}");
            for value in parameter.values.iter().copied().chain(parameter.alone) {
                assert_eq!(Plan::default().set(name, Some(value)), Ok(()), "{name}={value}");
            }
            let (help, details) = (parameter.help, parameter.details);
            assert!(
                help.is_ascii() && help.len() <= 70 && !help.contains('\n') && !help.ends_with('.'),
                "{help}"
            );
            assert!(details.is_ascii() && (details.is_empty() || details.ends_with('.')), "{details}");
        }
    }

    /// The list is written out here: a changed digit on a command line shall not reset the machine.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn no_parameter_names_a_port_that_every_pc_has_for_something_else() {
        let ranges = [0x00..=0xdf, 0xcf8..=0xcff];
        let reserved = |port: u16| ranges.iter().any(|range| range.contains(&port));
        for port in 1..=0xfff7u16 {
            let serial = ConsoleDevices::parse(&format!("{port:#x}"));
            assert_eq!(serial.is_err(), (port..port + 8).any(reserved), "{port:#x}");
            let data = KcsPorts::parse(&format!("{port:#x},0xca3"));
            assert_eq!(data.is_err(), reserved(port) || port == 0xca3, "{port:#x}");
            let status = KcsPorts::parse(&format!("{port:#x}"));
            assert_eq!(status.is_err(), reserved(port) || reserved(port + 1), "{port:#x}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_to_the_same_plan(
            interface in prop::option::of(interface()),
            handle_panic: bool, watchdog in watchdog(), cpu_ip in 0u8..4, ipmi_timeout in 1u16..=60,
            budget in 1u16..=600, console in console(), sel_records in 1u8..=128,
            sel_type in prop::sample::select(SelType::NAMES.map(|(_, sel_type)| sel_type).to_vec()),
            output_log in 0u32..=1 << 20,
            pstore in prop_oneof![Just(0), 1024u32..=1 << 16],
            hypervisor in prop_oneof![
                Just(Hypervisor::Leave),
                event().prop_map(Hypervisor::Find),
                (
                    prop_oneof![(0xe0u16..0xcf8).prop_map(Register::Port), (0x1000u64..1 << 52).prop_map(Register::Memory)],
                    event(),
                )
                    .prop_map(|(register, event)| Hypervisor::At(register, event)),
            ],
            on_corrupt in prop::sample::select(OnCorrupt::NAMES.map(|(_, on_corrupt)| on_corrupt).to_vec()),
            then in prop::option::of(prop::sample::select(Then::NAMES.map(|(_, then)| then).to_vec())),
            tsc_khz in prop::option::of(10_000u32..=20_000_000),
            apic_ids in prop::option::of("[0-9]{1,3}(,[0-9]-[1-9][0-9](/[1-9])?){0,3}"),
            cpu_numbers in prop::option::of("[0-9]{1,3}(,[0-9]-[1-9][0-9](/[1-9])?){0,3}"),
            mask in prop::option::of("0x[0-9a-f]{1,8}(,0x[0-9a-f]{1,8})?"),
        ) {
            let apic_ids = apic_ids.as_deref().map(|text| Numbers::parse(text).unwrap());
            let cpu_numbers = cpu_numbers.as_deref().map(|text| Numbers::parse(text).unwrap());
            let cpu_online_mask = mask.as_deref().map(|text| Numbers::parse(text).unwrap());
            let plan = Plan {
                interface, handle_panic, watchdog,
                cpu_ip: CpuIp { sel: cpu_ip & 1 != 0, console: cpu_ip & 2 != 0 },
                ipmi_timeout, budget, console, sel_records, sel_type, output_log, pstore, hypervisor, on_corrupt, then, tsc_khz, apic_ids, cpu_numbers, cpu_online_mask,
                bad: [None; 4],
            };
            let line = plan.to_string();
            prop_assert_eq!(Plan::new("", &line), plan, "{}", line);
        }

        #[test]
        fn any_value_is_taken_or_refused(name in "[a-z_]{0,20}", value in "\\PC{0,40}") {
            let line: String = format!("lastwords.{name}={value}");
            let _ = Plan::new(&line, &line);
            for parameter in PARAMETERS {
                let _ = Plan::default().set(parameter.name, Some(&value));
            }
        }
    }
}
