//! The seam between what is reported and the machine: four traits, implemented for the real machine (the image), for
//! the running system (the tool) and for a simulated one (the tests). Nothing in them is a PC's own.

use core::fmt;

/// Physical addresses lie below: 52 bits of them, on x86_64 (Intel SDM volume 3, 4.1.4) as on aarch64 (FEAT_LPA).
pub const PHYSICAL_END: u64 = 1 << 52;

/// Where a device has a register of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// At an I/O port.
    Port(u16),
    /// In memory, at a physical address.
    Memory(u64),
}

impl Register {
    /// What stands before a memory-mapped register's address in a parameter.
    pub const MMIO: &'static str = "mmio:";
    /// Where a memory-mapped register can be: within the physical addresses there are, not in the first page.
    pub const ADDRESSES: core::ops::Range<u64> = 0x1000..PHYSICAL_END;

    /// The register in memory at this physical address; `None` where no device can be.
    #[must_use]
    pub fn memory(addr: u64) -> Option<Self> {
        Self::ADDRESSES.contains(&addr).then_some(Self::Memory(addr))
    }

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
            Self::Memory(addr) => write!(f, "{}{addr:#x}", Self::MMIO),
        }
    }
}

/// A register of up to eight bytes, as the firmware's tables name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wide {
    /// Its I/O port or physical address.
    pub addr: u64,
    /// Is it at an I/O port?
    pub is_port: bool,
    /// 1, 2, 4 or 8; at a port not 8.
    pub bytes: u8,
}

impl Wide {
    /// One of its bytes as a register of its own.
    #[must_use]
    pub fn byte(&self, at: u8) -> Option<Register> {
        let addr = self.addr.checked_add(at.into())?;
        if self.is_port { u16::try_from(addr).ok().map(Register::Port) } else { Some(Register::Memory(addr)) }
    }
}

/// The registers of devices, in every address space that the machine has. Those that are named by a parameter are one
/// byte wide; the firmware's are up to eight.
pub trait Registers {
    /// Reads a register. One that nobody answers at, or that cannot be reached, reads 0xff.
    fn get(&mut self, register: Register) -> u8;
    /// Writes a register. What cannot be reached is not written.
    fn put(&mut self, register: Register, value: u8);

    /// Reads one of the firmware's in one access, as it wants it; at first, byte by byte.
    fn get_wide(&mut self, register: &Wide) -> u64 {
        (0..register.bytes).rev().fold(0, |value, at| {
            let byte = register.byte(at).map_or(0xff, |register| self.get(register));
            value << 8 | u64::from(byte)
        })
    }

    /// Writes one, likewise.
    fn put_wide(&mut self, register: &Wide, value: u64) {
        for (at, byte) in (0..register.bytes).zip(value.to_le_bytes()) {
            if let Some(register) = register.byte(at) {
                self.put(register, byte);
            }
        }
    }
}

/// Physical memory, as the identity map of the moment shows it.
pub trait Memory {
    /// Fills `buf` from physical address `addr`. False when the range cannot be read; `buf` is then undefined.
    ///
    /// The caller has checked the range against what it knows of RAM: an implementation may fault on a bad one.
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool;
    /// Writes `bytes` to physical address `addr` (a text screen's buffer is all that is ever written).
    fn write(&mut self, addr: u64, bytes: &[u8]);

    /// As [`Memory::read`], of memory that the identity map may not have: what firmware keeps for itself.
    fn read_firmware(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        self.read(addr, buf)
    }

    /// As [`Memory::write`], likewise. What cannot be mapped is not written.
    fn write_firmware(&mut self, addr: u64, bytes: &[u8]) {
        self.write(addr, bytes);
    }
}

/// A look at the clock that counts whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// Second of the day, below [`DAY`]. `None` where it cannot be read now: there is no such clock, or it is just
    /// being updated.
    pub shows: Option<u32>,
    /// Register accesses that the look took.
    pub accesses: u64,
}

/// Seconds in a day.
pub const DAY: u32 = 86_400;

/// The machine's clocks.
pub trait Clock {
    /// The fine one: the CPU's own counter, in ticks. It may stop or run at any speed.
    fn ticks(&mut self) -> u64;
    /// The one that counts seconds.
    fn second(&mut self) -> Second;
    /// Called between two looks at the clock when there is nothing else to do but wait.
    fn relax(&mut self);
}

/// The ways in which the machine resets itself.
pub trait Reset {
    /// Tries the way of this number, from 0 on, which may not work. False when there is none of this number.
    fn reset(&mut self, way: usize) -> bool;
}

/// The whole machine, as the sequence needs it.
pub trait Machine: Registers + Memory + Clock + Reset {}

impl<T: Registers + Memory + Clock + Reset> Machine for T {}
