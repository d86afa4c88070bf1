//! The BMC's system interface, as a parameter names it: its kind and where its registers are; and the one transport that
//! speaks to whichever it is.

use super::bt::{self, Bt};
use super::kcs::Kcs;
use super::ssif::{self, Ssif};
use super::{TransferError, Transport};
use crate::arch;
use crate::budget::{Millis, Timer};
use crate::cmdline;
use crate::hw::{Clock, Register, Registers};
use core::fmt;
use core::ops::RangeInclusive;

/// Most that lies between two registers, in bytes.
const SPACINGS: RangeInclusive<u16> = 1..=256;

/// A system interface (IPMI 2.0 chapters 9, 11 and 12), and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Keyboard controller style.
    Kcs(KcsPorts),
    /// Block transfer.
    Bt(BtPorts),
    /// SMBus.
    Ssif(I801),
}

impl Interface {
    /// What is taken, in a few words.
    const WHY: &str = "takes kcs:DATA[,STATUS], bt:CTRL[,SPACING], ssif:i801:PORT,ADDRESS, or kcs: or bt: before \
                       mmio:ADDR[,SPACING]";

    /// Reads its kind, a colon, and what [`KcsPorts::parse`], [`BtPorts::parse`] or [`I801::parse`] take.
    ///
    /// # Errors
    /// When it is not that, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (kind, rest) = cmdline::cut(text, b':').ok_or(Self::WHY)?;
        match kind {
            "kcs" => KcsPorts::parse(rest).map(Self::Kcs),
            "bt" => BtPorts::parse(rest).map(Self::Bt),
            "ssif" => I801::parse(rest).map(Self::Ssif),
            _ => Err(Self::WHY),
        }
    }

    /// The register that tells whether anybody is there: it reads 0xff where nobody is.
    #[must_use]
    pub fn status(&self) -> Register {
        match self {
            Self::Kcs(ports) => ports.status,
            Self::Bt(ports) => ports.control,
            Self::Ssif(controller) => controller.register(ssif::HST_STS),
        }
    }

    /// The registers that are read or written in a transfer.
    pub fn registers(&self) -> impl Iterator<Item = Register> + use<> {
        let mut registers = [None; I801::USED.len()];
        let [first, second, ..] = &mut registers;
        match self {
            Self::Kcs(ports) => (*first, *second) = (Some(ports.data), Some(ports.status)),
            Self::Bt(ports) => (*first, *second) = (Some(ports.control), Some(ports.buffer)),
            Self::Ssif(controller) => registers = I801::USED.map(|at| Some(controller.register(at))),
        }
        registers.into_iter().flatten()
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kcs(ports) => write!(f, "kcs:{ports}"),
            Self::Bt(ports) => write!(f, "bt:{ports}"),
            Self::Ssif(controller) => write!(f, "ssif:{controller}"),
        }
    }
}

/// The registers of a KCS interface (IPMI 2.0 section 9.1), at I/O ports mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KcsPorts {
    /// Data_In and Data_Out.
    pub data: Register,
    /// Status and Command.
    pub status: Register,
}

impl KcsPorts {
    /// The ports of most servers, and the ones the specification recommends (IPMI 2.0 section 9.5).
    pub const DEFAULT: Self = Self::io(0xca2, 0xca3);

    /// Most that lies between two registers, in bytes.
    pub const SPACINGS: RangeInclusive<u16> = SPACINGS;

    /// At these two I/O ports.
    #[must_use]
    pub const fn io(data: u16, status: u16) -> Self {
        Self { data: Register::Port(data), status: Register::Port(status) }
    }

    /// In memory, from this physical address on, with so many bytes from one register to the next. `None` where
    /// that is no device's place.
    #[must_use]
    pub fn memory(addr: u64, spacing: u16) -> Option<Self> {
        let data = Register::memory(addr)?;
        let spacing = Some(spacing).filter(|spacing| Self::SPACINGS.contains(spacing))?;
        Some(Self { data, status: data.behind(spacing)? })
    }

    /// Reads `DATA[,STATUS]`, two I/O ports; STATUS is DATA + 1 when it is left out. Or `mmio:ADDR[,SPACING]`: in memory,
    /// with so many bytes (1 when left out) from one register to the next.
    ///
    /// # Errors
    /// When it is not that, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes DATA[,STATUS], two different I/O ports such as 0xca2,0xca3, or mmio:ADDR[,SPACING]";
        if text.starts_with(Register::MMIO) {
            let registers = place(text).and_then(|(data, spacing)| Some((data, data.behind(spacing)?)));
            return registers.map(|(data, status)| Self { data, status }).ok_or(WHY);
        }
        let (data, status) = match cmdline::cut(text, b',') {
            Some((data, status)) => (port(data), port(status)),
            None => (port(text), port(text).and_then(|data| data.checked_add(1))),
        };
        match (data, status) {
            (Some(data), Some(status)) if arch::is_reserved(data, 1) || arch::is_reserved(status, 1) => {
                Err(arch::RESERVED)
            }
            (Some(data), Some(status)) if data != status => Ok(Self::io(data, status)),
            _ => Err(WHY),
        }
    }
}

impl fmt::Display for KcsPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.data, self.status) {
            (Register::Memory(data), Register::Memory(status)) => {
                write!(f, "{},{}", self.data, status.wrapping_sub(data))
            }
            _ => write!(f, "{},{}", self.data, self.status),
        }
    }
}

/// The registers of a BT interface (IPMI 2.0 section 11). Behind these two comes INTMASK_REG, at the same distance, which
/// nobody touches who polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BtPorts {
    /// BT_CTRL.
    pub control: Register,
    /// BT2HOST, the BMC's buffer, when it is read; HOST2BT, ours, when it is written.
    pub buffer: Register,
}

impl BtPorts {
    /// From this register on, with so many bytes from one to the next. `None` where that is no device's place.
    #[must_use]
    pub fn new(control: Register, spacing: u16) -> Option<Self> {
        let buffer = control.behind(Some(spacing).filter(|spacing| SPACINGS.contains(spacing))?)?;
        buffer.behind(spacing)?;
        Some(Self { control, buffer })
    }

    /// Reads `CTRL[,SPACING]`, the I/O port of BT_CTRL and how many bytes (1 when left out) lie from one register to the
    /// next. Or `mmio:ADDR[,SPACING]`: in memory.
    ///
    /// # Errors
    /// When it is not that, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (control, spacing) = place(text).ok_or(Interface::WHY)?;
        match control {
            Register::Port(first) if arch::is_reserved(first, 2 * spacing + 1) => Err(arch::RESERVED),
            _ => Self::new(control, spacing).ok_or(Interface::WHY),
        }
    }
}

impl fmt::Display for BtPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spacing = match (self.control, self.buffer) {
            (Register::Port(control), Register::Port(buffer)) => u64::from(buffer.wrapping_sub(control)),
            (Register::Memory(control), Register::Memory(buffer)) => buffer.wrapping_sub(control),
            _ => 0,
        };
        match spacing {
            1 => write!(f, "{}", self.control),
            _ => write!(f, "{},{spacing}", self.control),
        }
    }
}

/// A BMC at an Intel i801, the SMBus controller of Intel's chipsets since 1999 (QEMU's q35 has one), polled (section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct I801 {
    /// The first of the controller's I/O ports (SMB_BASE).
    pub port: u16,
    /// The BMC's slave address, 7 bits.
    pub address: u8,
}

impl I801 {
    /// Slave addresses that a device can have; SMBus has reserved the others.
    pub const ADDRESSES: RangeInclusive<u8> = 0x08..=0x77;
    /// Those of memory modules among them: write protection, and the SPD EEPROMs themselves (JEDEC 21-C, 4.1.4). A BMC's
    /// command would be written into them.
    pub const MEMORY: [RangeInclusive<u8>; 2] = [0x30..=0x37, 0x50..=0x57];
    /// The controller has so many I/O ports, and begins at a multiple of that.
    pub const PORTS: u16 = 32;
    /// Its registers that are used, as distances from the first.
    pub const USED: [u16; 7] = [
        ssif::HST_STS,
        ssif::HST_CNT,
        ssif::HST_CMD,
        ssif::XMIT_SLVA,
        ssif::HST_D0,
        ssif::HOST_BLOCK_DB,
        ssif::AUX_CTL,
    ];

    /// At this controller and slave address. `None` where there can be none, and at [`I801::MEMORY`].
    #[must_use]
    pub fn new(port: u16, address: u8) -> Option<Self> {
        let is_memory = || Self::MEMORY.iter().any(|addresses| addresses.contains(&address));
        let good = port != 0
            && port.is_multiple_of(Self::PORTS)
            && Self::ADDRESSES.contains(&address)
            && !is_memory();
        good.then_some(Self { port, address })
    }

    /// The register at this distance.
    #[must_use]
    pub fn register(self, at: u16) -> Register {
        Register::Port(self.port.wrapping_add(at))
    }

    /// Reads `i801:PORT,ADDRESS`.
    ///
    /// # Errors
    /// When it is not that, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str = "takes ssif:i801:PORT,ADDRESS, PORT a multiple of 32, ADDRESS 0x08 to 0x77 (7 bits), no memory module's";
        let (base, address) =
            text.strip_prefix("i801:").and_then(|text| cmdline::cut(text, b',')).ok_or(WHY)?;
        let address = cmdline::number(address).and_then(|address| u8::try_from(address).ok());
        let found =
            port(base).zip(address).and_then(|(port, address)| Self::new(port, address)).ok_or(WHY)?;
        if arch::is_reserved(found.port, Self::PORTS) { Err(arch::RESERVED) } else { Ok(found) }
    }
}

impl fmt::Display for I801 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i801:{:#x},{:#x}", self.port, self.address)
    }
}

/// A first register, `PORT` or `mmio:ADDR`, and behind a comma the distance to the next, 1 when left out.
fn place(text: &str) -> Option<(Register, u16)> {
    let (first, spacing) = cmdline::cut(text, b',').unwrap_or((text, "1"));
    let first = match first.strip_prefix(Register::MMIO) {
        Some(addr) => Register::memory(cmdline::number(addr)?)?,
        None => Register::Port(port(first)?),
    };
    Some((first, cmdline::up_to(spacing, *SPACINGS.end())?))
}

/// An I/O port.
fn port(text: &str) -> Option<u16> {
    cmdline::number(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// The way to the BMC behind the interface that a plan names.
pub struct SystemInterface {
    interface: Option<Interface>,
    /// Where none is named: what was found when a BMC was looked for, which is done once.
    looked: Option<u8>,
    /// BT: the last request's sequence number.
    seq: u8,
    /// SSIF: what the last transfer has left.
    before: ssif::Before,
}

impl SystemInterface {
    /// The way to this one. Touches nothing.
    #[must_use]
    pub fn new(interface: Option<Interface>) -> Self {
        Self { interface, looked: None, seq: bt::SEQ, before: ssif::Before::default() }
    }
}

impl<M: Registers + Clock> Transport<M> for SystemInterface {
    /// Where no interface is named nothing is written, and one register is read.
    fn transfer(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        match self.interface {
            None => {
                let status = *self.looked.get_or_insert_with(|| machine.get(KcsPorts::DEFAULT.status));
                Err(TransferError::Unnamed(status))
            }
            Some(Interface::Kcs(ports)) => Kcs::new(ports).transfer(machine, timer, request, reply, deadline),
            Some(Interface::Bt(ports)) => {
                Bt { ports, seq: &mut self.seq }.transfer(machine, timer, request, reply, deadline)
            }
            Some(Interface::Ssif(controller)) => Ssif { controller, before: &mut self.before }
                .transfer(machine, timer, request, reply, deadline),
        }
    }
}
