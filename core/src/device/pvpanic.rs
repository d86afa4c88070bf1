//! pvpanic, by which a guest tells its hypervisor of a panic (QEMU, `docs/specs/pvpanic.rst`): one register. It reads as the
//! events that the hypervisor takes; what is written is raised.
//!
//! CRASH_LOADED says that the guest takes care of itself: the hypervisor notes it, and the guest goes on. At PANICKED hosts
//! pause or destroy the guest, and a dump would be lost: it is for a guest without a dump kernel, whose last act it is.

use crate::arch;
use crate::cmdline;
use crate::hw::{Register, Registers};
use core::fmt;

/// What is read where nobody is.
const NOBODY: u8 = 0xff;

/// What is raised, with its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// The guest has panicked.
    Panicked = 1 << 0,
    /// It has, and does itself what is to be done.
    CrashLoaded = 1 << 1,
}

/// Whether the hypervisor is told, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// It is not.
    Leave,
    /// Through the device that the tool finds; without the tool there is none.
    Find(Event),
    /// Through the register here.
    At(Register, Event),
}

impl Hypervisor {
    /// What stands for [`Hypervisor::Find`].
    pub const FIND: &'static str = "auto";
    /// What stands for [`Event::Panicked`].
    pub const PANICKED: &'static str = "panicked";

    /// Reads `auto`, an I/O port such as `0x505`, or `mmio:ADDR`; with `,panicked` behind it, or `panicked` alone, for that
    /// event.
    ///
    /// # Errors
    /// When it is none of these, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes auto, an I/O port such as 0x505, or mmio:ADDR, and panicked behind a comma or alone";
        if text == Self::PANICKED {
            return Ok(Self::Find(Event::Panicked));
        }
        let (text, event) = match cmdline::cut(text, b',') {
            None => (text, Event::CrashLoaded),
            Some((text, Self::PANICKED)) => (text, Event::Panicked),
            Some(_) => return Err(WHY),
        };
        if text == Self::FIND {
            return Ok(Self::Find(event));
        }
        let register = match text.strip_prefix(Register::MMIO) {
            Some(addr) => cmdline::number(addr).and_then(Register::memory),
            None => cmdline::number(text).and_then(|port| u16::try_from(port).ok()).map(Register::Port),
        };
        match register {
            Some(Register::Port(port)) if arch::is_reserved(port, 1) => Err(arch::RESERVED),
            register => register.map(|register| Self::At(register, event)).ok_or(WHY),
        }
    }

    /// The event that is raised.
    #[expect(
        clippy::inline_always,
        reason = "cli/build.rs refuses symbols with this module's name in the image"
    )]
    #[inline(always)]
    #[must_use]
    pub fn event(self) -> Option<Event> {
        match self {
            Self::Leave => None,
            Self::Find(event) | Self::At(_, event) => Some(event),
        }
    }
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave => return Ok(()),
            Self::Find(_) => f.write_str(Self::FIND)?,
            Self::At(register, _) => register.fmt(f)?,
        }
        match self.event() {
            Some(Event::Panicked) => write!(f, ",{}", Self::PANICKED),
            _ => Ok(()),
        }
    }
}

/// Raises an event. False where the device does not take that one: nothing is written then.
#[expect(clippy::inline_always, reason = "as Hypervisor::event")]
#[inline(always)]
pub fn raise<M: Registers>(machine: &mut M, register: Register, event: Event) -> bool {
    let (events, event) = (machine.get(register), event as u8);
    let takes_it = events != NOBODY && events & event != 0;
    if takes_it {
        machine.put(register, event);
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
    fn only_a_device_that_takes_it_is_told_and_of_nothing_but_what_is_asked_for() {
        for (event, bit) in [(Event::Panicked, 1), (Event::CrashLoaded, 2)] {
            for events in 0..=u8::MAX {
                let mut device = Device(events, None);
                let told = raise(&mut device, Register::Port(0x505), event);
                let takes_it = events & bit != 0 && events != 0xff;
                assert_eq!((told, device.1), (takes_it, takes_it.then_some(bit)), "{events:#x}");
            }
        }
    }

    #[test]
    fn a_register_is_read_as_it_is_printed_and_no_other_place_is_taken() {
        for text in ["auto", "0x505", "mmio:0xfebf1000"] {
            let one = Hypervisor::parse(text).unwrap();
            assert_eq!((one.to_string().as_str(), one.event()), (text, Some(Event::CrashLoaded)));
            let text = format!("{text},panicked");
            let one = Hypervisor::parse(&text).unwrap();
            assert_eq!((one.to_string(), one.event()), (text, Some(Event::Panicked)));
        }
        assert_eq!(Hypervisor::parse("panicked"), Ok(Hypervisor::Find(Event::Panicked)));
        for wrong in [
            "",
            "on",
            ",panicked",
            "auto,",
            "panicked,auto",
            "0x505,panicked,panicked",
            "0x10000",
            "mmio:",
            "mmio:0",
            "mmio:0x10000000000000",
            "0x505,1",
            "-1",
        ] {
            assert!(Hypervisor::parse(wrong).is_err(), "{wrong}");
        }
        for (first, last) in arch::RESERVED_PORTS {
            assert_eq!(Hypervisor::parse(&format!("{first:#x}")), Err(arch::RESERVED));
            assert_eq!(Hypervisor::parse(&format!("{last:#x}")), Err(arch::RESERVED));
        }
    }
}
