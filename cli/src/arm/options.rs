//! The options that make the plan, the same for `load`, `wrap` and `test`. They come from core's table of parameters, each
//! read by the table's own parser, so that what the tool accepts the image understands; the console's alone has several
//! options, as kexec has them.

use crate::bmc::{self, Local};
use clap::{
    Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches,
    builder::{PossibleValue, TypedValueParser},
    error::ErrorKind,
};
use lastwords_core::arch;
use lastwords_core::device::uart::Serial;
use lastwords_core::hw::Register;
use lastwords_core::plan::{ConsoleDevices, PARAMETERS, PREFIX, Parameter, Plan};
use std::ffi::{OsStr, OsString};

/// What is to be reported when the kernel panics. With none of these the BMC gets no request at all.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    local: Local,
    /// Names and values of the parameters whose options were given, in the table's order.
    given: Vec<(&'static str, String)>,
    console: ConsoleOptions,
}

/// The heading of these options in help texts.
const HEADING: &str = "Reporting options";

/// Where console lines go.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING, group = ArgGroup::new("uart").multiple(true))]
struct ConsoleOptions {
    /// Print console lines to this UART [default: console='s]
    ///
    /// ttyS0 to ttyS3, an I/O port such as 0x3f8, mmio:ADDR or mmio32:ADDR. The default is the UART of the dump kernel's
    /// own console: ttySn or uart8250 in console= on its command line, else in earlycon= or earlyprintk=.
    #[arg(long, value_name = "PORT", group = "uart", hide_possible_values = true,
        value_parser = Usual { parse: serial, values: &["ttyS0", "ttyS1", "ttyS2", "ttyS3"] })]
    serial: Option<Serial>,

    /// Set the speed of the UART, 115200/n baud [default: unchanged]
    #[arg(long, value_name = "BAUD", requires = "uart", hide_possible_values = true,
        value_parser = Usual { parse: baud, values: &["9600", "19200", "38400", "57600", "115200"] })]
    serial_baud: Option<u32>,

    /// Print console lines to the UART of --serial, else ttyS0
    #[arg(long, group = "uart")]
    console_serial: bool,

    /// Print console lines to the VGA text screen [default: off]
    #[arg(long)]
    console_vga: bool,
}

impl ConsoleOptions {
    fn console(&self) -> Option<ConsoleDevices> {
        /// The UART of kexec-tools' `--console-serial`.
        const TTY_S0: Serial = Serial { base: Register::Port(0x3f8), spacing: 1, baud: None };
        let serial = self.serial.or(self.console_serial.then_some(TTY_S0));
        let serial = serial.map(|serial| Serial { baud: self.serial_baud, ..serial });
        (serial.is_some() || self.console_vga).then_some(ConsoleDevices { serial, vga: self.console_vga })
    }
}

impl PlanOptions {
    /// The parameters of the options that were given, with blanks between.
    pub fn parameters(&self) -> String {
        let interface = self.local.interface().map(bmc::named);
        let console = self.console.console().map(|console| ("console", console.to_string()));
        interface
            .into_iter()
            .chain(self.given.iter().cloned())
            .chain(console)
            .map(
                |(name, value)| {
                    if value.is_empty() {
                        format!("{PREFIX}{name}")
                    } else {
                        format!("{PREFIX}{name}={value}")
                    }
                },
            )
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The parameters with an option of their own that is declared here, and its name.
fn options() -> impl Iterator<Item = (&'static str, &'static Parameter)> {
    // The BMC's interface is `Local`'s.
    let declared_here = |parameter: &&Parameter| !bmc::PARAMETERS.contains(&parameter.name);
    PARAMETERS.iter().filter(declared_here).filter_map(|parameter| Some((parameter.option?, parameter)))
}

fn option(name: &'static str, parameter: &'static Parameter) -> Arg {
    let help = format!("{} [default: {}]", parameter.help, parameter.default);
    let arg = Arg::new(parameter.name).long(name).help_heading(HEADING);
    let arg = match parameter.details {
        "" => arg.help(help),
        details => arg.long_help(format!("{help}\n\n{details}")).help(help),
    };
    match (parameter.value, parameter.alone) {
        ("", _) => arg.action(ArgAction::SetTrue),
        (value, None) => arg.value_name(value).value_parser(ValueParser(parameter)),
        (value, Some(alone)) => arg
            .value_name(value)
            .value_parser(ValueParser(parameter))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(alone),
    }
}

impl Args for PlanOptions {
    fn augment_args(command: Command) -> Command {
        let command = Local::augment_args(command.next_help_heading(HEADING));
        let command =
            options().fold(command, |command, (name, parameter)| command.arg(option(name, parameter)));
        // What is declared next has no part in it.
        ConsoleOptions::augment_args(command).next_help_heading(None::<&str>)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PlanOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = options().filter_map(|(_, parameter)| {
            if parameter.value.is_empty() {
                matches.get_flag(parameter.name).then(|| (parameter.name, String::new()))
            } else {
                Some((parameter.name, matches.get_one::<String>(parameter.name)?.clone()))
            }
        });
        Ok(Self {
            local: Local::from_arg_matches(matches)?,
            given: given.collect(),
            console: ConsoleOptions::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Reads the value of one parameter as the plan does, and names the values that there are.
#[derive(Clone, Copy)]
struct ValueParser(&'static Parameter);

impl TypedValueParser for ValueParser {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        let text = value.to_string_lossy();
        // A blank would end the parameter and start the next one.
        let blank = text.contains(|letter: char| letter.is_ascii_whitespace() || letter == '"');
        let result = if blank {
            Err("takes no blanks or quotation marks")
        } else {
            Plan::default().set(self.0.name, Some(&text))
        };
        match result {
            Ok(()) => Ok(text.into_owned()),
            Err(what) => Err(invalid(command, arg, &text, what)),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = self.0.values;
        (!values.is_empty())
            .then(|| Box::new(values.iter().map(PossibleValue::new)) as Box<dyn Iterator<Item = _>>)
    }
}

/// An option whose value may be left out takes it behind a `=`. What to write where somebody has put a blank there.
pub fn missing_equals(arguments: impl IntoIterator<Item = OsString>) -> Option<String> {
    let mut arguments = arguments.into_iter();
    let mut before = arguments.next()?;
    for argument in arguments {
        let mut optional =
            options().filter(|(_, parameter)| parameter.alone.is_some() && !parameter.value.is_empty());
        if let Some((name, parameter)) = optional.find(|(name, _)| before == *format!("--{name}"))
            && let Some(value) = argument.to_str()
            && Plan::default().set(parameter.name, Some(value)).is_ok()
        {
            return Some(format!("--{name} takes its value behind a '=': --{name}={value}"));
        }
        before = argument;
    }
    None
}

/// Reads a value with a function. Completions offer the usual values; others are accepted, too.
#[derive(Clone, Copy)]
pub struct Usual<T> {
    /// Reads it; the error is what it should have been.
    pub parse: fn(&str) -> Result<T, &'static str>,
    /// The usual values.
    pub values: &'static [&'static str],
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Usual<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let text = value.to_string_lossy();
        (self.parse)(&text).map_err(|what| invalid(command, arg, &text, what))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().map(PossibleValue::new)))
    }
}

/// A value that an option does not take, and what it takes.
fn invalid(command: &Command, arg: Option<&Arg>, value: &str, what: &str) -> clap::Error {
    let name = arg.map(ToString::to_string).unwrap_or_default();
    let text = format!("invalid value '{value}' for '{name}': {what}\n");
    clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
}

fn serial(value: &str) -> Result<Serial, &'static str> {
    let serial = Some(value)
        .filter(|value| !value.contains(','))
        .and_then(Serial::parse)
        .ok_or("takes ttyS0 to ttyS3, an I/O port such as 0x3f8, mmio:ADDR or mmio32:ADDR")?;
    if serial.is_reserved() { Err(arch::RESERVED) } else { Ok(serial) }
}

fn baud(value: &str) -> Result<u32, &'static str> {
    Serial::parse_baud(value).ok_or("takes a line speed that is 115200/n")
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
            ("--ipmi-interface kcs:0xca8,0xcac", "lastwords.ipmi_kcs_ports=0xca8,0xcac"),
            ("--ipmi-interface bt:0xe4", "lastwords.ipmi_interface=bt:0xe4"),
            ("--ipmi-interface ssif:i801:0x700,0x42", "lastwords.ipmi_interface=ssif:i801:0x700,0x42"),
            ("--ipmi-watchdog start=60,power-cycle", "lastwords.ipmi_watchdog=start=60,power-cycle"),
            ("--ipmi-watchdog=stop", "lastwords.ipmi_watchdog=stop"),
            ("--output-cpu-ip", "lastwords.output_cpu_ip=sel,console"),
            ("--output-cpu-ip=sel", "lastwords.output_cpu_ip=sel"),
            // A default that is given must win over what is embedded in a wrapped kernel.
            ("--ipmi-timeout 5 --budget 15", "lastwords.ipmi_timeout=5 lastwords.budget=15"),
            ("--sel-records 8", "lastwords.sel_records=8"),
            ("--sel-type system", "lastwords.sel_type=system"),
            ("--output-log", "lastwords.output_log=4096"),
            ("--output-log=64K", "lastwords.output_log=64K"),
            ("--notify-hypervisor", "lastwords.notify_hypervisor=auto"),
            ("--notify-hypervisor=0x505", "lastwords.notify_hypervisor=0x505"),
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
            ("--ipmi-interface 0xca2", ErrorKind::ValueValidation),
            ("--ipmi-interface smic:0xca9", ErrorKind::ValueValidation),
            ("--ipmi-interface bt:0xe4 --ipmi-kcs-ports 0xca2", ErrorKind::ArgumentConflict),
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
            ("--serial ttyS0,9600", ErrorKind::ValueValidation),
            ("--serial ttyS0 --serial-baud 110000", ErrorKind::ValueValidation),
            ("--serial-baud 9600", ErrorKind::MissingRequiredArgument),
        ] {
            assert_eq!(parse(options).expect_err(options).kind(), kind, "{options}");
        }
        for (arguments, hint) in [
            ("load --output-cpu-ip sel KERNEL", Some("--output-cpu-ip=sel")),
            ("load --output-log 64K", Some("--output-log=64K")),
            ("load --output-log=64K KERNEL", None),
            ("load --output-cpu-ip KERNEL", None),
            ("load --sel-type oem", None),
        ] {
            let found = missing_equals(arguments.split(' ').map(OsString::from));
            assert_eq!(found.is_some(), hint.is_some(), "{arguments}");
            assert!(found.unwrap_or_default().ends_with(hint.unwrap_or_default()));
        }
        let blank = Only::try_parse_from(["test", "--output-cpu-ip=sel lastwords.budget=1"]);
        assert!(blank.is_err());
    }
}
