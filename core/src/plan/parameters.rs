//! The one table of parameters: from it come reading them ([`Plan::set`]), printing them ([`Plan`]'s `Display`), the
//! tool's options, and the test that docs/parameters.md has them all. A new parameter is a row here and a field in
//! [`Plan`].
//!
//! It is a macro, because the image wants only names and parsers of it: a table with help texts and printers in it would
//! bring them all, and `core::fmt` with its panics, into the image.

use super::{ConsoleDevices, CpuIp, OnCorrupt, PREFIX, Plan, Then};
use crate::budget::PLAUSIBLE_KHZ;
use crate::cmdline;
use crate::device::pvpanic::Hypervisor;
use crate::ipmi::interface::{Interface, KcsPorts};
use crate::ipmi::sel_writer::SelType;
use crate::ipmi::watchdog::Watchdog;
use crate::numbers::Numbers;
use crate::store::erst;
use core::fmt;

/// A parameter, for the tool.
pub struct Parameter {
    /// Its name, without `lastwords.`.
    pub name: &'static str,
    /// The option that sets it, without dashes in front, where it has one of its own.
    pub option: Option<&'static str>,
    /// What its value is, as help shows it; empty where it takes none.
    pub value: &'static str,
    /// What is meant where its name stands alone; `None` where it must have a value.
    pub alone: Option<&'static str>,
    /// The values that there are, where they are few: for completion.
    pub values: &'static [&'static str],
    /// What it does: an imperative sentence of at most 70 characters, without a full stop.
    pub help: &'static str,
    /// What else there is to know, its range among it; empty where that is nothing.
    pub details: &'static str,
    /// Its default, as help shows it.
    pub default: &'static str,
    is_default: fn(&Plan) -> bool,
    print: fn(&Plan, &mut fmt::Formatter) -> fmt::Result,
}

/// The parameter of this name.
#[must_use]
pub fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

/// `name => field @ (shape): parse |value| …, print |value, f| …; the other fields of [`Parameter`]`. Of two names for
/// one field each prints values of its own shape.
macro_rules! parameters {
    ($($name:ident => $field:ident $(@ ($shape:pat))?:
       parse |$text:ident| $parse:expr, print |$shown:ident, $f:ident| $print:expr;
       $($key:ident: $setting:expr),* $(,)?;)*) => {
        impl<'a> Plan<'a> {
            /// Sets one parameter. The error says what is wrong with the value; the plan is then unchanged.
            ///
            /// # Errors
            /// When the parameter is unknown or its value malformed or out of range.
            pub fn set(&mut self, name: &str, value: Option<&'a str>) -> Result<(), &'static str> {
                // A comparison for each name would be longer than all of them together.
                #[expect(non_camel_case_types, reason = "they are the parameters' names")]
                enum Place {
                    $($name,)*
                }
                const NAMES: &[u8] = concat!($(stringify!($name), " ",)*).as_bytes();
                match NAMES.split(|byte| *byte == b' ').position(|one| one == name.as_bytes()) {
                    $(Some(place) if place == Place::$name as usize => {
                        let $text = value;
                        self.$field = $parse?;
                    })*
                    _ => return Err("no such parameter"),
                }
                Ok(())
            }
        }

        /// All parameters, in the order in which they are printed.
        pub static PARAMETERS: &[Parameter] = &[$(
            Parameter {
                name: stringify!($name),
                $($key: $setting,)*
                is_default: |plan| plan.$field == Plan::default().$field $(|| !matches!(plan.$field, $shape))?,
                print: |plan, $f| {
                    let $shown = plan.$field;
                    $print
                },
            },
        )*];
    };
}

parameters! {
    ipmi_interface => interface @ (Some(Interface::Bt(_) | Interface::Ssif(_))):
        parse |text| Interface::parse(text.unwrap_or("")).map(Some),
        print |interface, f| interface.map_or(Ok(()), |interface| write!(f, "={interface}"));
        option: Some("ipmi-interface"),
        value: "KIND:PLACE",
        alone: None,
        values: &[],
        help: "Set the BMC's system interface: KCS, BT or SSIF, and its registers",
        details: "BMC is the server's baseboard management controller. KIND:PLACE is one of kcs:DATA[,STATUS], \
                  kcs:mmio:ADDR[,SPACING], bt:CTRL[,SPACING], bt:mmio:ADDR[,SPACING] and ssif:i801:PORT,ADDRESS. DATA, STATUS, \
                  CTRL and PORT are I/O ports, ADDR is a physical address, SPACING is 1 to 256 bytes from one register to the \
                  next, 1 when left out. ADDRESS is the BMC's SMBus address in 7 bits, 0x08 to 0x77, and \
                  not a memory module's (0x30 to 0x37, 0x50 to 0x57).",
        default: "from the running driver, SMBIOS, ACPI or PCI";

    ipmi_kcs_ports => interface @ (Some(Interface::Kcs(_))):
        parse |text| KcsPorts::parse(text.unwrap_or("")).map(|ports| Some(Interface::Kcs(ports))),
        print |interface, f| match interface {
            Some(Interface::Kcs(ports)) => write!(f, "={ports}"),
            _ => Ok(()),
        };
        option: Some("ipmi-kcs-ports"),
        value: "DATA[,STATUS]",
        alone: None,
        values: &[],
        help: "Set the registers of the BMC's KCS interface",
        details: "KCS is the keyboard controller style interface to the BMC (baseboard management controller): two I/O \
                  ports, STATUS being DATA + 1 when left out, or mmio:ADDR[,SPACING], SPACING being 1 to 256 bytes, 1 \
                  when left out.",
        default: "from the running driver, SMBIOS, ACPI or PCI";

    ipmi_handle_panic => handle_panic:
        parse |text| switch(text), print |_on, _f| Ok(());
        option: Some("ipmi-handle-panic"),
        value: "",
        alone: Some("1"),
        values: &["1", "0"],
        help: "Send a platform event and write the panic's cause to the SEL",
        details: "",
        default: "off";

    ipmi_watchdog => watchdog:
        parse |text| Watchdog::parse(text.unwrap_or("")), print |watchdog, f| write!(f, "={watchdog}");
        option: Some("ipmi-watchdog"),
        value: "start=SECONDS[,ACTION]|stop",
        alone: None,
        values: &[],
        help: "Start the BMC's watchdog for the dump kernel, or stop it",
        details: "SECONDS is 1 to 6553. ACTION is what the BMC does when the countdown ends: reset (default), power-cycle, \
                  power-off or none. `lastwords mark saved` in the dump kernel stops the watchdog, and so does \
                  the next boot where the package's units are installed.",
        default: "left alone";

    output_cpu_ip => cpu_ip:
        parse |text| CpuIp::parse(text.unwrap_or("")), print |outputs, f| write!(f, "={outputs}");
        option: Some("output-cpu-ip"),
        value: "sel,console",
        alone: Some("sel,console"),
        values: &["sel", "console", "sel,console"],
        help: "Write all CPUs' instruction pointers to the SEL, the console or both",
        details: "SEL is the BMC's System Event Log. Without a value both get them.",
        default: "off";

    ipmi_timeout => ipmi_timeout:
        parse |text| cmdline::up_to(text.unwrap_or(""), 60).ok_or("takes 1 to 60 seconds"),
        print |seconds, f| write!(f, "={seconds}");
        option: Some("ipmi-timeout"),
        value: "SECONDS",
        alone: None,
        values: &[],
        help: "Wait at most this long for one BMC command, 1 to 60 seconds",
        details: "",
        default: "5";

    budget => budget:
        parse |text| cmdline::up_to(text.unwrap_or(""), 600).ok_or("takes 1 to 600 seconds"),
        print |seconds, f| write!(f, "={seconds}");
        option: Some("budget"),
        value: "SECONDS",
        alone: None,
        values: &[],
        help: "Limit the total time of the report, 1 to 600 seconds",
        details: "",
        default: "15";

    console => console:
        parse |text| ConsoleDevices::parse(text.unwrap_or("")), print |console, f| write!(f, "={console}");
        option: None,
        value: "UART[,BAUD][,vga]|vga|none",
        alone: None,
        values: &[],
        help: "Print console lines to a UART, the VGA text screen, both or neither",
        details: "",
        default: "the dump kernel's own serial console";

    sel_records => sel_records:
        parse |text| cmdline::up_to(text.unwrap_or(""), 128).map(|count| count as u8).ok_or("takes 1 to 128 records"),
        print |count, f| write!(f, "={count}");
        option: Some("sel-records"),
        value: "N",
        alone: None,
        values: &[],
        help: "Add at most N records to the SEL, 1 to 128",
        details: "",
        default: "32";

    sel_type => sel_type:
        parse |text| SelType::parse(text.unwrap_or("")), print |sel_type, f| write!(f, "={sel_type}");
        option: Some("sel-type"),
        value: "TYPE",
        alone: None,
        values: &["oem", "system", "event"],
        help: "Begin with this type of SEL record",
        details: "oem is type 0xF0, system is type 02, event sends platform events. Where the BMC refuses a type, the \
                  next one is tried. `lastwords probe --write-test` shows which types the BMC stores.",
        default: "oem";

    output_log => output_log:
        parse |text| log_bytes(text), print |bytes, f| write!(f, "={bytes}");
        option: Some("output-log"),
        value: "BYTES",
        alone: Some("4096"),
        values: &[],
        help: "Print the end of the crashed kernel's log to the console",
        details: "BYTES is up to 1M, 4096 without a number.",
        default: "off";

    output_pstore => pstore:
        parse |text| erst::parse_bytes(text), print |bytes, f| write!(f, "={bytes}");
        option: Some("output-pstore"),
        value: "BYTES",
        alone: Some("16384"),
        values: &[],
        help: "Write reason, CPUs and the log's end to the platform's pstore (ERST)",
        details: "ERST is ACPI's error record serialization table. After the reset, Linux shows the records in \
                  /sys/fs/pstore, and systemd-pstore files them. BYTES is 1K to 64K, 16K without a number. Nothing can \
                  limit the time that the firmware takes.",
        default: "off";

    notify_hypervisor => hypervisor:
        parse |text| Hypervisor::parse(text.unwrap_or(Hypervisor::FIND)), print |hypervisor, f| write!(f, "={hypervisor}");
        option: Some("notify-hypervisor"),
        value: "REGISTER|panicked",
        alone: Some(Hypervisor::FIND),
        values: &[],
        help: "Tell the hypervisor of the panic (pvpanic)",
        details: "Raises the event CRASH_LOADED, which the host's management shows; the guest goes on and dumps. REGISTER is an I/O \
                  port, or mmio:ADDR. Without a value it is that of this machine's pvpanic device, ISA or PCI. A device that does \
                  not take the event is left alone. With `load --no-dump-kernel`, panicked or REGISTER,panicked raises PANICKED \
                  right before the end: the host may pause, reset or destroy the guest.",
        default: "off";

    on_corrupt => on_corrupt:
        parse |text| OnCorrupt::parse(text.unwrap_or("")), print |action, f| write!(f, "={action}");
        option: Some("on-corrupt"),
        value: "ACTION",
        alone: None,
        values: &["reset", "halt", "boot"],
        help: "Reset, halt, or boot when the dump kernel is corrupt",
        details: "It is corrupt when its checksum (--digest) differs from the one loaded. Only with `load --via \
                  purgatory`: else the kernel's own purgatory has checked before.",
        default: "reset";

    then => then:
        parse |text| Then::parse(text.unwrap_or("")).map(Some),
        print |then, f| then.map_or(Ok(()), |then| write!(f, "={then}"));
        option: Some("then"),
        value: "ACTION",
        alone: None,
        values: &["reset", "power-cycle", "power-off", "halt"],
        help: "Choose what the machine does after the report (--no-dump-kernel)",
        details: "Only without a dump kernel. power-cycle and power-off are the BMC's; where the BMC does not do it, the machine is \
                  reset.",
        default: "reset";

    tsc_khz => tsc_khz:
        parse |text| frequency(text).map(Some), print |khz, f| write!(f, "={}", khz.unwrap_or_default());
        option: None,
        value: "KHZ",
        alone: None,
        values: &[],
        help: "Set the frequency of the time stamp counter, 10000 to 20000000 kHz",
        details: "",
        default: "from CPUID, else measured";

    apic_ids => apic_ids:
        parse |text| Numbers::parse(text.unwrap_or("")).map(Some).ok_or(NUMBERS),
        print |ids, f| ids.map_or(Ok(()), |ids| write!(f, "={ids}"));
        option: None,
        value: "LIST",
        alone: None,
        values: &[],
        help: "List the local APIC IDs in the order of the kernel's CPU numbers",
        details: "LIST is one of ID, FIRST-LAST and FIRST-LAST/STEP, such as 0-14/2,1-15/2.",
        default: "the CPU's own record of its number";

    cpu_numbers => cpu_numbers:
        parse |text| Numbers::parse(text.unwrap_or("")).map(Some).ok_or(NUMBERS),
        print |numbers, f| numbers.map_or(Ok(()), |numbers| write!(f, "={numbers}"));
        option: None,
        value: "LIST",
        alone: None,
        values: &[],
        help: "List the kernel's CPU numbers in the order of the crash notes",
        details: "LIST is as for apic_ids. Ignored where there are more or fewer crash notes.",
        default: "0, 1, 2 and so on";

    cpu_online_mask => cpu_online_mask:
        parse |text| Numbers::parse(text.unwrap_or("")).map(Some).ok_or(NUMBERS),
        print |mask, f| mask.map_or(Ok(()), |mask| write!(f, "={mask}"));
        option: None,
        value: "OFFSET,BUILD-ID",
        alone: None,
        values: &[],
        help: "Set where the crashed kernel's mask of online CPUs is",
        details: "OFFSET is the distance of __cpu_online_mask from _stext, in the kernel whose build ID begins with these \
                  four bytes.",
        default: "unknown";
}

/// What is wrong with a list that is none.
const NUMBERS: &str = "takes numbers such as 0-14/2,1-15/2 or 0x2c";

/// A parameter that is on when it stands there: `name`, `name=1`, and off again with `name=0`.
fn switch(value: Option<&str>) -> Result<bool, &'static str> {
    match value {
        None | Some("1" | "y") => Ok(true),
        Some("0" | "n") => Ok(false),
        Some(_) => Err("takes no value, or 0 or 1"),
    }
}

/// Bytes of the log that are printed when no number is given.
const LOG: u32 = 4096;
/// Most bytes of it.
const LONGEST_LOG: u32 = 1 << 20;

fn log_bytes(value: Option<&str>) -> Result<u32, &'static str> {
    let bytes = value.map_or(Some(LOG), |text| u32::try_from(cmdline::size(text)?).ok());
    bytes.filter(|bytes| *bytes <= LONGEST_LOG).ok_or("takes a number of bytes up to 1M, or nothing for 4096")
}

fn frequency(value: Option<&str>) -> Result<u32, &'static str> {
    let khz = value.and_then(|text| u32::try_from(cmdline::number(text)?).ok());
    khz.filter(|khz| PLAUSIBLE_KHZ.contains(khz)).ok_or("takes a frequency in kHz, 10000 to 20000000")
}

impl fmt::Display for Plan<'_> {
    /// The parameters that make this plan, with blanks between; what is default is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blank = "";
        for parameter in PARAMETERS.iter().filter(|parameter| !(parameter.is_default)(self)) {
            write!(f, "{blank}{PREFIX}{}", parameter.name)?;
            (parameter.print)(self, f)?;
            blank = " ";
        }
        Ok(())
    }
}
