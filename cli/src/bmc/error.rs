//! Why a BMC could not be asked, and what the user can do about it.

use crate::message;
use lastwords_core::{
    hw::Register,
    ipmi::{TransferError, interface::Interface, message::CompletionCode},
};
use std::io;

/// Why a BMC could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BmcError {
    /// We lack the right.
    #[error("{0}: only root may use it\nhint: run it as root")]
    Permission(String),
    /// A device that cannot be opened for another reason.
    #[error("cannot open {0}: {error}", error = message::system(.1))]
    Open(String, io::Error),
    /// The driver is there, but no device to reach it.
    #[error("the ipmi_si driver uses the port {0}, but /dev/ipmi0 is missing\nhint: modprobe ipmi_devintf")]
    DriverHasPorts(Register),
    /// They are another device's.
    #[error("{0}\nhint: give the registers of a BMC to --ipmi-interface")]
    Stranger(String),
    /// I/O ports cannot be used.
    #[error(
        "cannot use I/O ports (/dev/port, ioperm): {error}\nhint: modprobe -a ipmi_si ipmi_devintf",
        error = message::system(.0)
    )]
    NoPorts(io::Error),
    /// Registers in memory are the driver's alone.
    #[error(
        "only the ipmi_si driver can use the registers in memory ({0})\nhint: modprobe -a ipmi_si ipmi_devintf"
    )]
    InMemory(Register),
    /// So is the SMBus: the kernel's own driver uses the controller for other devices.
    #[error(
        "only the ipmi_ssif driver can use the BMC on the SMBus ({0}): lastwords leaves a running kernel's SMBus controller alone\n\
         hint: modprobe -a i2c_i801 ipmi_ssif ipmi_devintf"
    )]
    OnSmbus(Interface),
    /// Nobody is at the registers.
    #[error(
        "no BMC answers at {0}\n\
         hint: modprobe -a ipmi_si ipmi_devintf, or name the BMC's interface with --ipmi-interface"
    )]
    Absent(String),
    /// No interface that can be used is known, and none was named.
    #[error(
        "no BMC interface was found: {0}; /dev/ipmi0 is missing\n\
         hint: modprobe -a ipmi_si ipmi_devintf, or name the BMC's interface with --ipmi-interface"
    )]
    NotFound(String),
    /// The driver, or the network, failed.
    #[error("{0}: {error}", error = message::system(.1))]
    Io(String, io::Error),
    /// Nobody answers on the LAN.
    #[error(
        "{0} does not answer\nhint: check the BMC's address and port, and that IPMI over LAN is enabled there"
    )]
    NoAnswer(String),
    /// It answers, and no session was open in time.
    #[error(
        "{0} answers too slowly, or packets are lost: no session in time\nhint: retry, with a longer --timeout"
    )]
    Slow(String),
    /// No common cipher suite.
    #[error(
        "{0} accepts neither cipher suite 17 nor 3 ({1})\nhint: enable one of them (ipmitool lan print shows them)"
    )]
    NoSuite(String, String),
    /// All of its sessions are somebody else's.
    #[error(
        "{0} has no session free ({1})\nhint: end other programs' sessions with this BMC, or retry in a minute"
    )]
    NoSession(String, String),
    /// The BMC refuses the login.
    #[error("{0} refuses the login: {1}")]
    Login(String, String),
    /// What IPMI has no room for. Nobody was asked.
    #[error(
        "the {0} has {1} bytes, and IPMI has room for {2}\nhint: a BMC that takes longer ones has Redfish: --redfish https://HOST"
    )]
    TooLong(&'static str, usize, usize),
    /// It knows the password, and another key.
    #[error(
        "{0} accepts the password, but its key (Kg) is another one\nhint: give the BMC's key with --kg-file FILE"
    )]
    Kg(String),
    /// It has no RMCP+.
    #[error(
        "{0} has IPMI 1.5 only on the LAN, without encryption\n\
         hint: lastwords read on the server, or --redfish https://HOST; unencrypted: \
         ipmitool -I lan -H {0} -U USER sel writeraw FILE, then lastwords read --file FILE"
    )]
    Only15(String),
    /// No answer in time.
    #[error("the BMC did not answer {0} in time\nhint: retry, or restart the BMC: ipmitool mc reset cold")]
    Silent(&'static str),
    /// An answer that the specification does not have.
    #[error("the BMC's answer to {0} is invalid\nhint: retry, or restart the BMC: ipmitool mc reset cold")]
    Garbled(&'static str),
    /// Reset Watchdog Timer's own completion code.
    #[error("the BMC's watchdog was never started\nhint: lastwords mark --ipmi-watchdog start=SECONDS")]
    NoWatchdog,
    /// A completion code other than 0.
    #[error("the BMC refused {0}: {1}")]
    Refused(&'static str, CompletionCode),
}

impl BmcError {
    /// The completion code, when the BMC has refused.
    #[must_use]
    pub fn code(&self) -> Option<CompletionCode> {
        match self {
            Self::Refused(_, code) => Some(*code),
            _ => None,
        }
    }
}

/// A system call's error of a transport to the BMC.
pub fn os(error: &io::Error) -> TransferError {
    TransferError::Os(error.raw_os_error().unwrap_or(libc::EIO))
}
