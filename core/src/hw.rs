//! The seam between what is said and the machine: three traits, implemented once for the real machine (the
//! image) and once for a simulated one (the tests).

/// x86 I/O ports, one byte wide.
pub trait Ports {
    /// Reads one byte from an I/O port. A port that nobody answers at reads 0xff.
    fn inb(&mut self, port: u16) -> u8;
    /// Writes one byte to an I/O port.
    fn outb(&mut self, port: u16, value: u8);
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
