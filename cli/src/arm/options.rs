//! The options that make the plan, the same for `load` and `wrap`. Each is one parameter of `lastwords_core::plan`,
//! read by core's own parser, so that what the tool accepts the image understands.

use crate::bmc::Local;
use clap::{ArgGroup, Args};
use lastwords_core::hw::Register;
use lastwords_core::plan::{Console, PREFIX, Plan, Serial};

/// What is to be said when the kernel panics. With none of these the BMC gets no request at all.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What to say", group = ArgGroup::new("uart").multiple(true))]
#[command(mut_arg("ipmi_kcs_ports", |option| option.help("\
I/O ports of the BMC's KCS interface, or mmio:ADDR[,SPACING] [default: what the machine's tables say, else 0xca2,0xca3]")))]
pub struct PlanOptions {
    #[command(flatten)]
    local: Local,

    /// Send the BMC a platform event (run-time critical stop) and write the reason of the panic to the SEL
    #[arg(long)]
    ipmi_handle_panic: bool,

    /// Start the BMC's watchdog for the dump kernel, or stop it [default: leave it alone]
    ///
    /// `start=SECONDS[,ACTION]` or `stop`; ACTION is reset (default), power-cycle, power-off or none.
    #[arg(long, value_name = "start=SECONDS|stop", value_parser = parameter("ipmi_watchdog"))]
    ipmi_watchdog: Option<String>,

    /// Write the instruction pointers of all CPUs to the SEL, the console, or both
    #[arg(
        long, value_name = "sel,console", num_args = 0..=1, require_equals = true,
        default_missing_value = "sel,console", value_parser = parameter("output_cpu_ip")
    )]
    output_cpu_ip: Option<String>,

    /// Longest wait for one BMC command [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = parameter("ipmi_timeout"))]
    ipmi_timeout: Option<String>,

    /// Longest time for everything that is said [default: 15]
    #[arg(long, value_name = "SECONDS", value_parser = parameter("budget"))]
    budget: Option<String>,

    /// At most N records in the SEL [default: 32]
    #[arg(long, value_name = "N", value_parser = parameter("sel_records"))]
    sel_records: Option<String>,

    /// How to begin writing to the SEL: oem (records of type 0xF0), system (type 02) or event (platform events) [default: oem]
    ///
    /// Where the BMC refuses one, the next is tried. `lastwords probe --write-test` says which ones it keeps.
    #[arg(long, value_name = "TYPE", value_parser = parameter("sel_type"))]
    sel_type: Option<String>,

    /// Write the end of the dead kernel's log to the console: so many bytes, 4096 when no number is given
    #[arg(
        long, value_name = "BYTES", num_args = 0..=1, require_equals = true, default_missing_value = "4096",
        value_parser = parameter("output_log")
    )]
    output_log: Option<String>,

    /// What to do with a dump kernel that is no longer what was loaded: reset, halt, or boot it all the same [default: reset]
    ///
    /// Only where the image is the purgatory (see `load --via`): else the kernel's own purgatory has checked before.
    #[arg(long, value_name = "ACTION", value_parser = parameter("on_corrupt"))]
    on_corrupt: Option<String>,

    /// Console words go to this UART: ttyS0 to ttyS3, its I/O port, mmio:ADDR or mmio32:ADDR [default: the dump kernel's console=ttySn]
    #[arg(long, value_name = "PORT", value_parser = serial, group = "uart")]
    serial: Option<Serial>,

    /// Set this line speed: 115200/n [default: as it is]
    #[arg(long, value_name = "BAUD", value_parser = baud, requires = "uart")]
    serial_baud: Option<u32>,

    /// Console words go to a UART: that of --serial, else ttyS0
    #[arg(long, group = "uart")]
    console_serial: bool,

    /// Console words go to the VGA text screen
    #[arg(long)]
    console_vga: bool,
}

impl PlanOptions {
    /// The parameters of the options that were given, with blanks between.
    pub fn parameters(&self) -> String {
        let kcs_ports = self.local.ipmi_kcs_ports.map(|ports| ports.to_string());
        let console = self.console().map(|console| console.to_string());
        [
            ("ipmi_kcs_ports", kcs_ports.as_deref()),
            ("ipmi_handle_panic", self.ipmi_handle_panic.then_some("")),
            ("ipmi_watchdog", self.ipmi_watchdog.as_deref()),
            ("output_cpu_ip", self.output_cpu_ip.as_deref()),
            ("ipmi_timeout", self.ipmi_timeout.as_deref()),
            ("budget", self.budget.as_deref()),
            ("sel_records", self.sel_records.as_deref()),
            ("sel_type", self.sel_type.as_deref()),
            ("output_log", self.output_log.as_deref()),
            ("on_corrupt", self.on_corrupt.as_deref()),
            ("console", console.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| match value? {
            "" => Some(format!("{PREFIX}{name}")),
            value => Some(format!("{PREFIX}{name}={value}")),
        })
        .collect::<Vec<_>>()
        .join(" ")
    }

    fn console(&self) -> Option<Console> {
        /// The UART of kexec-tools' `--console-serial`.
        const TTY_S0: Serial = Serial { base: Register::Port(0x3f8), spacing: 1, baud: None };
        let serial = self.serial.or(self.console_serial.then_some(TTY_S0));
        let serial = serial.map(|serial| Serial { baud: self.serial_baud, ..serial });
        (serial.is_some() || self.console_vga).then_some(Console { serial, vga: self.console_vga })
    }
}

/// A parser for the value of one parameter: the plan's own.
fn parameter(name: &'static str) -> impl Fn(&str) -> Result<String, &'static str> + Clone + Send + Sync {
    move |value| {
        // A blank would end the parameter and start the next one.
        if value.contains(|letter: char| letter.is_ascii_whitespace() || letter == '"') {
            return Err("takes no blanks or quotation marks");
        }
        Plan::default().set(name, Some(value)).map(|()| value.to_owned())
    }
}

fn serial(value: &str) -> Result<Serial, &'static str> {
    Serial::parse(value).ok_or("takes ttyS0 to ttyS3, an I/O port such as 0x3f8, mmio:ADDR or mmio32:ADDR")
}

fn baud(value: &str) -> Result<u32, &'static str> {
    Serial::baud(value).ok_or("takes a line speed that is 115200/n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Parser, error::ErrorKind};

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        plan: PlanOptions,
    }

    fn parse(options: &str) -> Result<String, clap::Error> {
        Only::try_parse_from(std::iter::once("test").chain(options.split_whitespace()))
            .map(|only| only.plan.parameters())
    }

    #[test]
    fn options_become_parameters_that_the_plan_understands() {
        for (options, parameters) in [
            ("", ""),
            ("--ipmi-handle-panic", "lastwords.ipmi_handle_panic"),
            ("--ipmi-kcs-ports 0xca8,0xcac", "lastwords.ipmi_kcs_ports=0xca8,0xcac"),
            ("--ipmi-kcs-ports mmio:0xfe000000,4", "lastwords.ipmi_kcs_ports=mmio:0xfe000000,4"),
            ("--ipmi-watchdog start=60,power-cycle", "lastwords.ipmi_watchdog=start=60,power-cycle"),
            ("--ipmi-watchdog=stop", "lastwords.ipmi_watchdog=stop"),
            ("--output-cpu-ip", "lastwords.output_cpu_ip=sel,console"),
            ("--output-cpu-ip=sel", "lastwords.output_cpu_ip=sel"),
            // A default that is said must win over what is embedded in a wrapped kernel.
            ("--ipmi-timeout 5 --budget 15", "lastwords.ipmi_timeout=5 lastwords.budget=15"),
            ("--sel-records 8", "lastwords.sel_records=8"),
            ("--sel-type system", "lastwords.sel_type=system"),
            ("--output-log", "lastwords.output_log=4096"),
            ("--output-log=64K", "lastwords.output_log=64K"),
            ("--on-corrupt boot", "lastwords.on_corrupt=boot"),
            ("--console-serial", "lastwords.console=ttyS0"),
            ("--serial ttyS1 --serial-baud 9600 --console-vga", "lastwords.console=ttyS1,9600,vga"),
            ("--serial 0x2f0 --console-serial", "lastwords.console=0x2f0"),
            ("--serial mmio32:0xfe040000", "lastwords.console=mmio32:0xfe040000"),
            ("--console-vga", "lastwords.console=vga"),
        ] {
            let text = parse(options).expect(options);
            assert_eq!(text, parameters);
            assert_eq!(Plan::new("", &text).bad, [None; 4], "{text}");
        }
    }

    #[test]
    fn malformed_values_are_wrong_usage() {
        for (options, kind) in [
            ("--ipmi-kcs-ports 0", ErrorKind::ValueValidation),
            ("--ipmi-watchdog restart", ErrorKind::ValueValidation),
            ("--output-cpu-ip=screen", ErrorKind::ValueValidation),
            ("--output-cpu-ip sel", ErrorKind::UnknownArgument),
            ("--ipmi-timeout 0", ErrorKind::ValueValidation),
            ("--budget 601", ErrorKind::ValueValidation),
            ("--sel-records many", ErrorKind::ValueValidation),
            ("--sel-type sdr", ErrorKind::ValueValidation),
            ("--output-log=1G", ErrorKind::ValueValidation),
            ("--on-corrupt ignore", ErrorKind::ValueValidation),
            ("--serial ttyS4", ErrorKind::ValueValidation),
            ("--serial ttyS0 --serial-baud 110000", ErrorKind::ValueValidation),
            ("--serial-baud 9600", ErrorKind::MissingRequiredArgument),
        ] {
            assert_eq!(parse(options).expect_err(options).kind(), kind, "{options}");
        }
        let blank = Only::try_parse_from(["test", "--output-cpu-ip=sel lastwords.budget=1"]);
        assert!(blank.is_err());
    }
}
