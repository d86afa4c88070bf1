//! Where the BMC's system interface is, as a parameter names it. So far it is KCS, at I/O ports or in memory.

use crate::arch;
use crate::cmdline;
use crate::hw::Register;
use core::fmt;

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
    pub const SPACINGS: core::ops::RangeInclusive<u16> = 1..=256;

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
        if let Some(text) = text.strip_prefix(Register::MMIO) {
            let (addr, spacing) = cmdline::cut(text, b',').unwrap_or((text, "1"));
            let spacing = cmdline::number(spacing).and_then(|spacing| u16::try_from(spacing).ok());
            let addr = cmdline::number(addr);
            return addr.zip(spacing).and_then(|(addr, spacing)| Self::memory(addr, spacing)).ok_or(WHY);
        }
        let port =
            |text| cmdline::number(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
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
