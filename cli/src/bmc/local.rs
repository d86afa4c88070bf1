//! The options that name the system interface of this machine's own BMC. They are declared here and nowhere else.

use clap::Args;
use lastwords_core::{
    ipmi::interface::{Interface, KcsPorts},
    plan::{Plan, parameter},
};

/// This machine's own BMC.
#[derive(Args, Clone, Debug, Default)]
pub struct Local {
    #[arg(long, value_name = value("ipmi_interface"), value_parser = Interface::parse, conflicts_with = "ipmi_kcs_ports",
        help = help("ipmi_interface"), long_help = long_help("ipmi_interface"))]
    ipmi_interface: Option<Interface>,

    #[arg(long, value_name = value("ipmi_kcs_ports"), value_parser = KcsPorts::parse,
        help = help("ipmi_kcs_ports"), long_help = long_help("ipmi_kcs_ports"))]
    ipmi_kcs_ports: Option<KcsPorts>,
}

/// The parameters that name the interface, as their options are declared here.
pub const PARAMETERS: [&str; 2] = ["ipmi_interface", "ipmi_kcs_ports"];

impl Local {
    /// The interface that an option names.
    #[must_use]
    pub fn interface(&self) -> Option<Interface> {
        self.ipmi_interface.or(self.ipmi_kcs_ports.map(Interface::Kcs))
    }
}

/// The parameter that names this interface: its name without `lastwords.`, and its value. KCS has the name that older images
/// know, too.
#[must_use]
pub fn named(interface: Interface) -> (&'static str, String) {
    match interface {
        Interface::Kcs(ports) => ("ipmi_kcs_ports", ports.to_string()),
        Interface::Bt(_) | Interface::Ssif(_) => ("ipmi_interface", interface.to_string()),
    }
}

/// The interface that a line of parameters names.
#[must_use]
pub fn named_interface(line: &str) -> Option<Interface> {
    Plan::new("", line).interface
}

fn value(name: &str) -> &'static str {
    parameter(name).expect("the table has it").value
}

/// The parameter's own help, with its default.
fn help(name: &str) -> String {
    let parameter = parameter(name).expect("the table has it");
    format!("{} [default: {}]", parameter.help, parameter.default)
}

/// The same, and its details.
fn long_help(name: &str) -> String {
    let parameter = parameter(name).expect("the table has it");
    format!("{}\n\n{}", help(name), parameter.details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        local: Local,
    }

    #[test]
    fn two_options_name_one_interface_and_exclude_each_other() {
        let parse =
            |line: &str| Only::try_parse_from(line.split_whitespace()).map(|only| only.local.interface());
        assert_eq!(parse("test").unwrap(), None);
        for (options, interface) in [
            ("test --ipmi-kcs-ports 0xca8,0xcac", "kcs:0xca8,0xcac"),
            ("test --ipmi-interface kcs:0xca8,0xcac", "kcs:0xca8,0xcac"),
            ("test --ipmi-interface bt:0xe4", "bt:0xe4"),
            ("test --ipmi-interface=ssif:i801:0x700,0x42", "ssif:i801:0x700,0x42"),
        ] {
            assert_eq!(parse(options).unwrap().unwrap().to_string(), interface);
        }
        for wrong in [
            "test --ipmi-interface 0xca2",
            "test --ipmi-interface ssif:i801:0x700,0x84",
            "test --ipmi-interface bt:0xe4 --ipmi-kcs-ports 0xca2",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_named_interface_is_read_as_it_was_written() {
        for line in ["lastwords.ipmi_kcs_ports=0xca2,0xca3", "lastwords.ipmi_interface=bt:mmio:0xfe000000,4"]
        {
            let (name, value) = named(named_interface(line).unwrap());
            assert_eq!(format!("lastwords.{name}={value}"), line);
        }
        assert_eq!(named_interface("lastwords.budget=9 lastwords.ipmi_interface=bt:0"), None);
    }
}
