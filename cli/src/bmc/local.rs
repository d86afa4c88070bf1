//! The option that says where this machine's own BMC is. It is declared here and nowhere else; a subcommand that takes it
//! for another purpose gives it another help text.

use clap::Args;
use lastwords_core::plan::KcsPorts;

/// This machine's own BMC.
#[derive(Args, Clone, Debug, Default)]
pub struct Local {
    /// I/O ports of the BMC's KCS interface [default: what the machine's tables say, else 0xca2,0xca3]
    #[arg(long, value_name = "DATA[,STATUS]", value_parser = KcsPorts::parse)]
    pub ipmi_kcs_ports: Option<KcsPorts>,
}
