//! Why a BMC could not be asked, and what the user can do about it.

use lastwords_core::ipmi::{TransferError, interface::KcsPorts, message::CompletionCode};
use std::io;

/// Why a BMC could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// We lack the right.
    #[error("only root may use {0}")]
    Permission(String),
    /// A device that cannot be opened for another reason.
    #[error("cannot open {0}: {1}")]
    Open(String, io::Error),
    /// The driver is there, but no device to reach it.
    #[error("the ipmi_si driver uses the ports {0}, but /dev/ipmi0 is not there: modprobe ipmi_devintf")]
    DriverHasPorts(KcsPorts),
    /// There is no way to I/O ports.
    #[error("cannot use I/O ports: {0}; modprobe ipmi_si and ipmi_devintf, so that /dev/ipmi0 is there")]
    NoPorts(io::Error),
    /// Nobody is at the ports.
    #[error(
        "no BMC answers at the ports {0}, and /dev/ipmi0 is not there: \
         modprobe ipmi_si and ipmi_devintf, or name its registers with --ipmi-kcs-ports"
    )]
    Absent(KcsPorts),
    /// The driver, or the network, failed.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// Nobody answers on the LAN.
    #[error("{0} does not answer: is it the BMC's address, and is IPMI over LAN switched on there?")]
    NoAnswer(String),
    /// No common cipher suite.
    #[error("{0} accepts neither cipher suite 17 nor 3: enable one of them (ipmitool lan print shows them)")]
    NoSuite(String),
    /// It does not let us in.
    #[error("{0} refuses the login: {1}")]
    Login(String, &'static str),
    /// No answer in time.
    #[error("the BMC did not answer {0} in time: try again, or restart it (ipmitool mc reset cold)")]
    Silent(&'static str),
    /// An answer that the specification does not have.
    #[error("the BMC's answer to {0} is invalid: try again, or restart it (ipmitool mc reset cold)")]
    Garbled(&'static str),
    /// Reset Watchdog Timer's own completion code.
    #[error("the BMC's watchdog was never started: start it first, with start=SECONDS")]
    NoWatchdog,
    /// A completion code other than 0.
    #[error("the BMC refused {0}: {1}")]
    Refused(&'static str, CompletionCode),
}

impl Error {
    /// The completion code, when the BMC has refused.
    #[must_use]
    pub fn code(&self) -> Option<CompletionCode> {
        match self {
            Self::Refused(_, code) => Some(*code),
            _ => None,
        }
    }
}

/// A system call's error on the way to the BMC.
pub fn os(error: &io::Error) -> TransferError {
    TransferError::Os(error.raw_os_error().unwrap_or(libc::EIO))
}
