//! The seam between what is said and the machine: three traits, implemented once for the real machine (the
//! image) and once for a simulated one (the tests).

use core::fmt;

/// Where a device has a register of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// At an I/O port.
    Port(u16),
    /// In memory, at a physical address.
    Memory(u64),
}

impl Register {
    /// The register that lies `distance` behind this one; `None` where there is no such port or address.
    #[must_use]
    pub fn behind(self, distance: u16) -> Option<Self> {
        Some(match self {
            Self::Port(port) => Self::Port(port.checked_add(distance)?),
            Self::Memory(addr) => Self::Memory(addr.checked_add(u64::from(distance))?),
        })
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port:#x}"),
            Self::Memory(addr) => write!(f, "mmio:{addr:#x}"),
        }
    }
}

/// The registers of devices: x86 I/O ports, one byte wide, and memory-mapped ones.
pub trait Ports {
    /// Reads one byte from an I/O port. A port that nobody answers at reads 0xff.
    fn inb(&mut self, port: u16) -> u8;
    /// Writes one byte to an I/O port.
    fn outb(&mut self, port: u16, value: u8);

    /// Reads one byte from a memory-mapped register. Where nobody can, it reads 0xff.
    fn readb(&mut self, _addr: u64) -> u8 {
        0xff
    }

    /// Writes one byte to a memory-mapped register.
    fn writeb(&mut self, _addr: u64, _value: u8) {}

    /// Reads a register.
    fn get(&mut self, register: Register) -> u8 {
        match register {
            Register::Port(port) => self.inb(port),
            Register::Memory(addr) => self.readb(addr),
        }
    }

    /// Writes a register.
    fn put(&mut self, register: Register, value: u8) {
        match register {
            Register::Port(port) => self.outb(port, value),
            Register::Memory(addr) => self.writeb(addr, value),
        }
    }
}

/// Physical memory, as the identity map of the moment shows it.
pub trait Memory {
    /// Fills `buf` from physical address `addr`. False when the range cannot be read; `buf` is then undefined.
    ///
    /// The caller has checked the range against what it knows of RAM: an implementation may fault on a bad one.
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool;
    /// Writes `bytes` to physical address `addr` (the VGA text buffer is all that is ever written).
    fn write(&mut self, addr: u64, bytes: &[u8]);
}

/// The CPU's own counter, the fine clock beside the CMOS RTC.
pub trait Clock {
    /// The time stamp counter, in cycles. May stand still or run at any speed.
    fn tsc(&mut self) -> u64;
}

/// The whole machine, as the sequence of saying needs it.
pub trait Machine: Ports + Memory + Clock {}

impl<T: Ports + Memory + Clock> Machine for T {}
