//! pvpanic, by which a guest tells its hypervisor of a panic (QEMU, `docs/specs/pvpanic.rst`): one register. It reads as the
//! events that the hypervisor takes; what is written is raised.
//!
//! Only CRASH_LOADED is raised here: the hypervisor notes it, and the guest goes on. At PANICKED hosts pause or destroy the
//! guest, and the dump is lost.

use crate::arch;
use crate::cmdline;
use crate::hw::{Register, Registers};
use core::fmt;

/// Event: the guest has panicked, and its dump kernel will run.
const CRASH_LOADED: u8 = 1 << 1;
/// What is read where nobody is.
const NOBODY: u8 = 0xff;

/// Whether the hypervisor is told, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// It is not.
    Leave,
    /// Through the device that the tool finds; without the tool there is none.
    Find,
    /// Through the register here.
    At(Register),
}

impl Hypervisor {
    /// What stands for [`Hypervisor::Find`].
    pub const FIND: &'static str = "auto";

    /// Reads `auto`, an I/O port such as `0x505`, or `mmio:ADDR`.
    ///
    /// # Errors
    /// When it is none of these, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str = "takes auto, an I/O port such as 0x505, or mmio:ADDR";
        if text == Self::FIND {
            return Ok(Self::Find);
        }
        let register = match text.strip_prefix(Register::MMIO) {
            Some(addr) => cmdline::number(addr).and_then(Register::memory),
            None => cmdline::number(text).and_then(|port| u16::try_from(port).ok()).map(Register::Port),
        };
        match register {
            Some(Register::Port(port)) if arch::is_reserved(port, 1) => Err(arch::RESERVED),
            register => register.map(Self::At).ok_or(WHY),
        }
    }
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave => Ok(()),
            Self::Find => f.write_str(Self::FIND),
            Self::At(register) => register.fmt(f),
        }
    }
}

/// Tells of a panic that will be dumped. False where the device does not take that: nothing is written then.
pub fn crash_loaded<M: Registers>(machine: &mut M, register: Register) -> bool {
    let events = machine.get(register);
    let takes_it = events != NOBODY && events & CRASH_LOADED != 0;
    if takes_it {
        machine.put(register, CRASH_LOADED);
    }
    takes_it
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::{format, string::ToString};

    /// A register that reads as this, and what was written to it.
    struct Device(u8, Option<u8>);

    impl Registers for Device {
        fn get(&mut self, register: Register) -> u8 {
            assert_eq!(register, Register::Port(0x505));
            self.0
        }

        fn put(&mut self, register: Register, value: u8) {
            assert_eq!((register, self.1.replace(value)), (Register::Port(0x505), None));
        }
    }

    #[test]
    fn only_a_device_that_takes_it_is_told_and_never_that_the_guest_is_to_be_stopped() {
        for events in 0..=u8::MAX {
            let mut device = Device(events, None);
            let told = crash_loaded(&mut device, Register::Port(0x505));
            let takes_it = events & 2 != 0 && events != 0xff;
            assert_eq!((told, device.1), (takes_it, takes_it.then_some(2)), "{events:#x}");
        }
    }

    #[test]
    fn a_register_is_read_as_it_is_printed_and_no_other_place_is_taken() {
        for text in ["auto", "0x505", "mmio:0xfebf1000"] {
            assert_eq!(Hypervisor::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "on", "0x10000", "mmio:", "mmio:0", "mmio:0x10000000000000", "0x505,1", "-1"] {
            assert!(Hypervisor::parse(wrong).is_err(), "{wrong}");
        }
        for (first, last) in arch::RESERVED_PORTS {
            assert_eq!(Hypervisor::parse(&format!("{first:#x}")), Err(arch::RESERVED));
            assert_eq!(Hypervisor::parse(&format!("{last:#x}")), Err(arch::RESERVED));
        }
    }
}
