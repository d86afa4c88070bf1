//! The option that names the registers of this machine's own BMC. It is declared here and nowhere else; a subcommand that takes it
//! for another purpose gives it another help text.

use clap::Args;
use lastwords_core::{ipmi::interface::KcsPorts, plan::parameter};

/// This machine's own BMC.
#[derive(Args, Clone, Debug, Default)]
pub struct Local {
    #[arg(long, value_name = "DATA[,STATUS]", value_parser = KcsPorts::parse, help = help(), long_help = long_help())]
    pub ipmi_kcs_ports: Option<KcsPorts>,
}

/// The parameter's own help, with its default.
fn help() -> String {
    let parameter = parameter("ipmi_kcs_ports").expect("the table has it");
    format!("{} [default: {}]", parameter.help, parameter.default)
}

/// The same, and its details.
fn long_help() -> String {
    let parameter = parameter("ipmi_kcs_ports").expect("the table has it");
    format!("{}\n\n{}", help(), parameter.details)
}
