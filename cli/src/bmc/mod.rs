//! Talking to the BMC from a running system: through the kernel's driver, through the KCS ports where there is no
//! driver, or over the LAN. All three carry a request there and its answer back; what is asked is in `commands`.
//!
//! Every request ends: at its own time limit, and at the deadline of the whole conversation where one is set.

mod commands;
mod device;
pub mod discovery;
#[cfg(test)]
mod fake;
mod kcs;
mod lan;
mod local;
mod remote;

pub use commands::{DeviceId, Entry, LAST, SelInfo, WatchdogTimer};
#[cfg(test)]
pub use fake::Fake;
pub use lan::Host;
pub use local::Local;
pub use remote::Remote;

use lastwords_core::{cmdline, plan::KcsPorts};
use std::{
    fmt, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Longest wait for one answer. OpenBMC itself gives a request up after 5 s.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Completion code: node busy. Such a request is sent again.
const NODE_BUSY: u8 = 0xc0;
const BUSY_RETRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The KCS ports that a line of parameters names.
#[must_use]
pub fn named_ports(line: &str) -> Option<KcsPorts> {
    KcsPorts::parse(cmdline::last_value(line, "lastwords.ipmi_kcs_ports")?).ok()
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Network function, even (IPMI 2.0 table 5-1).
    pub net_fn: u8,
    /// The command (IPMI 2.0 appendix G).
    pub cmd: u8,
    /// Its data.
    pub data: &'a [u8],
}

/// A way to a BMC.
pub trait Transport: Send {
    /// Sends a request and returns its answer: the completion code and the data. Ends at `deadline`.
    ///
    /// # Errors
    /// When there is no answer.
    fn transfer(&mut self, request: Request<'_>, deadline: Instant) -> Result<Vec<u8>, Error>;
}

/// A BMC that answers.
pub struct Bmc {
    transport: Box<dyn Transport>,
    way: String,
    ports: Option<KcsPorts>,
    deadline: Option<Instant>,
}

impl Bmc {
    /// This machine's own: through /dev/ipmi0 when it is there, else through the KCS `ports`, or when none are given,
    /// those that the machine's tables tell of, else the usual ones.
    ///
    /// # Errors
    /// When there is neither, or we may not.
    pub fn local(root: &Path, ports: Option<KcsPorts>) -> Result<Self, Error> {
        let device = root.join("dev/ipmi0");
        if device.exists() {
            return Self::device(&device);
        }
        let found = || discovery::best(&discovery::interfaces(root))?.ports();
        Self::kcs(root, ports.or_else(found).unwrap_or(KcsPorts::DEFAULT))
    }

    /// The one behind the kernel's driver.
    ///
    /// # Errors
    /// When the device cannot be opened.
    pub fn device(path: &Path) -> Result<Self, Error> {
        Ok(Self::new(device::Device::open(path)?, path.display().to_string()))
    }

    /// The one behind these I/O ports.
    ///
    /// # Errors
    /// When the kernel's driver has the ports, or we may not use them. Whether a BMC is there shows in the first
    /// request.
    pub fn kcs(root: &Path, ports: KcsPorts) -> Result<Self, Error> {
        let bmc = Self::new(kcs::Interface::open(root, ports)?, format!("KCS ports {ports}"));
        Ok(Self { ports: Some(ports), ..bmc })
    }

    /// The one at this host, over the LAN, at privilege level User: enough to read.
    ///
    /// # Errors
    /// When the host does not answer, or does not let us in.
    pub fn lan(host: &Host, user: &str, password: &[u8]) -> Result<Self, Error> {
        Ok(Self::new(lan::Session::open(host, user, password)?, host.to_string()))
    }

    /// The one behind this transport, which errors and reports call `way`.
    pub fn new(transport: impl Transport + 'static, way: impl Into<String>) -> Self {
        Self { transport: Box::new(transport), way: way.into(), ports: None, deadline: None }
    }

    /// Through what it is reached: `/dev/ipmi0`, `KCS ports 0xca2,0xca3`, `host:623`.
    #[must_use]
    pub fn way(&self) -> &str {
        &self.way
    }

    /// The KCS ports, when it is reached through them.
    #[must_use]
    pub fn ports(&self) -> Option<KcsPorts> {
        self.ports
    }

    /// From `deadline` on every request fails at once.
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sends a command to the BMC itself (LUN 0) and returns the answer's data, without the completion code.
    ///
    /// # Errors
    /// When the BMC refuses, does not answer in time, or answers nonsense.
    pub fn request(&mut self, net_fn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, Error> {
        let request = Request { net_fn, cmd, data };
        let mut busy = 0;
        loop {
            let mut answer = self.answer(request)?;
            match answer.first() {
                None => return Err(Error::Garbled(request.name())),
                Some(0) => {
                    answer.remove(0);
                    return Ok(answer);
                }
                Some(&NODE_BUSY) if busy < BUSY_RETRIES => {
                    busy += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                Some(&code) => return Err(Error::Refused(request.name(), Code(code))),
            }
        }
    }

    /// Sends a request once and returns the answer as it comes: the completion code and the data.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn answer(&mut self, request: Request<'_>) -> Result<Vec<u8>, Error> {
        let now = Instant::now();
        let deadline = self.deadline.map_or(now + TIMEOUT, |deadline| deadline.min(now + TIMEOUT));
        if now >= deadline {
            return Err(Error::Silent(request.name()));
        }
        self.transport.transfer(request, deadline)
    }
}

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
         modprobe ipmi_si and ipmi_devintf, or say where it is with --ipmi-kcs-ports"
    )]
    Absent(KcsPorts),
    /// The driver, or the network, failed.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// Nobody answers on the LAN.
    #[error("{0} does not answer: is it the BMC's address, and is IPMI over LAN switched on there?")]
    NoAnswer(String),
    /// No common cipher suite.
    #[error("{0} takes neither cipher suite 17 nor 3: switch on one of them (ipmitool lan print shows them)")]
    NoSuite(String),
    /// It does not let us in.
    #[error("{0} does not let us in: {1}")]
    Login(String, &'static str),
    /// No answer in time.
    #[error("the BMC did not answer {0} in time: try again, or restart it (ipmitool mc reset cold)")]
    Silent(Name),
    /// An answer that the specification does not have.
    #[error("the BMC's answer to {0} makes no sense: try again, or restart it (ipmitool mc reset cold)")]
    Garbled(Name),
    /// Reset Watchdog Timer's own completion code.
    #[error("the BMC's watchdog was never started: do that first, with start=SECONDS")]
    NoWatchdog,
    /// A completion code other than 0.
    #[error("the BMC refused {0}: {1}")]
    Refused(Name, Code),
}

impl Error {
    /// The completion code, when the BMC has refused.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Refused(_, Code(code)) => Some(*code),
            _ => None,
        }
    }
}

impl Request<'_> {
    fn name(&self) -> Name {
        Name { net_fn: self.net_fn, cmd: self.cmd }
    }
}

/// A command's name in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    net_fn: u8,
    cmd: u8,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match commands::name(self.net_fn, self.cmd) {
            Some(name) => f.write_str(name),
            None => write!(f, "command {:#04x}/{:#04x}", self.net_fn, self.cmd),
        }
    }
}

/// A completion code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u8);

impl fmt::Display for Code {
    /// The number, and what it means (IPMI 2.0 table 5-2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0 {
            0xc0 => "busy",
            0xc1 => "unknown command",
            0xc2 => "unknown command for this LUN",
            0xc3 => "it took too long",
            0xc4 => "out of space",
            0xc5 => "reservation cancelled",
            0xc7 => "wrong length of request",
            0xc9 => "parameter out of range",
            0xcb => "not present",
            0xcc => "invalid data field",
            0xcd => "not for this sensor or record type",
            0xce => "no response",
            0xd0 | 0xd2 => "not ready, it is still initializing",
            0xd1 => "it is being updated",
            0xd4 => "not allowed at this privilege or on this interface",
            0xd5 | 0xd6 => "not supported in its present state",
            0xff => "unspecified error",
            _ => return write!(f, "completion code {:#04x}", self.0),
        };
        write!(f, "completion code {:#04x}, {meaning}", self.0)
    }
}
