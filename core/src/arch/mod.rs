//! What the crashed kernel's architecture decides: how its notes are laid out, how its log reads, and the devices that
//! every machine of the kind has. One file an architecture, each with the same items.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("core/src/arch/ has no file for this architecture");

/// What is wrong with a parameter that names such a port.
pub const RESERVED: &str = "names a port of the machine's own: PIC, PIT, keyboard, CMOS, SMI, PCI or reset";

/// May the firmware have the ports from `first` to `last` accessed?
#[must_use]
pub fn is_firmwares(first: u16, last: u16) -> bool {
    let free = !RESERVED_PORTS.iter().any(|(from, to)| *from <= last && first <= *to);
    free || Some((first, last)) == FIRMWARE_PORT.map(|port| (port, port))
}

/// Is one of so many ports, from `first` on, one of [`RESERVED_PORTS`]?
#[must_use]
pub fn is_reserved(first: u16, count: u16) -> bool {
    let last = first.saturating_add(count.saturating_sub(1));
    RESERVED_PORTS.iter().any(|(from, to)| *from <= last && first <= *to)
}
