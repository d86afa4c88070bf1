//! The machine's BMC: which one, and how QEMU is connected to it.

pub mod ipmi_sim;
pub mod manners;
pub mod recording;

use anyhow::{Result, bail};
use ipmi_sim::IpmiSim;
use recording::{Manner, Recording, Request};
use std::path::Path;

/// The machine's BMC.
#[derive(Default)]
pub enum Bmc {
    /// None: nobody answers at the ports.
    None,
    /// QEMU's simulator. Its SEL holds 128 records and dies with the machine.
    #[default]
    Simulator,
    /// OpenIPMI's ipmi_sim, reachable over the LAN too.
    OpenIpmi,
    /// One of our own, which remembers what it is asked.
    Ours(Manner),
}

impl Bmc {
    /// QEMU's devices for it, `bmc0` and the one by which it is reached. The two at the other end of a socket are the same
    /// device to the machine.
    #[must_use]
    pub fn devices(&self, interface: &str) -> Vec<String> {
        let bmc = match self {
            Self::None => return Vec::new(),
            Self::Simulator => "ipmi-bmc-sim,id=bmc0",
            Self::OpenIpmi | Self::Ours(_) => "ipmi-bmc-extern,id=bmc0,chardev=ipmi0",
        };
        ["-device", bmc, "-device", interface].map(str::to_owned).to_vec()
    }

    /// Starts it, with its files in this folder.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(self, folder: &Path) -> Result<Running> {
        Ok(match self {
            Self::None | Self::Simulator => Running::InQemu,
            Self::OpenIpmi => Running::OpenIpmi(IpmiSim::start(folder)?),
            Self::Ours(manner) => Running::Ours(Recording::start(folder, manner)?),
        })
    }
}

/// A BMC that may still be asked when the machine is off.
#[derive(Debug)]
pub enum Running {
    /// It is gone with QEMU, or there is none.
    InQemu,
    /// ipmi_sim.
    OpenIpmi(IpmiSim),
    /// Our own.
    Ours(Recording),
}

impl Running {
    /// The socket at which QEMU finds it, as `-chardev socket` has it.
    #[must_use]
    pub fn socket(&self) -> Option<String> {
        match self {
            Self::InQemu => None,
            Self::OpenIpmi(bmc) => Some(bmc.socket()),
            Self::Ours(bmc) => Some(bmc.socket()),
        }
    }

    /// ipmi_sim, which has a LAN side.
    ///
    /// # Errors
    /// When it is another BMC.
    pub fn on_the_lan(&self) -> Result<&IpmiSim> {
        match self {
            Self::OpenIpmi(bmc) => Ok(bmc),
            _ => bail!("only ipmi_sim has a LAN side"),
        }
    }

    /// What our own BMC was asked.
    ///
    /// # Errors
    /// When it is another one.
    pub fn requests(&self) -> Result<Vec<Request>> {
        match self {
            Self::Ours(bmc) => Ok(bmc.requests()),
            _ => bail!("only our own BMC remembers what it is asked"),
        }
    }
}

/// QEMU's options for the connection to a BMC at the other end of a socket, which speaks OpenIPMI's protocol for virtual
/// machines.
#[must_use]
pub fn connection(socket: &str) -> [String; 2] {
    // Without `reconnect` QEMU 7.2 crashes when it connects.
    ["-chardev".to_owned(), format!("socket,id=ipmi0,{socket},reconnect=1")]
}
