//! Drivers over the seam for what is not the BMC: a UART, a text screen, the CMOS clock, pvpanic. Each owns the type of its
//! parameter.

pub mod pvpanic;
pub mod rtc;
pub mod uart;
pub mod vga;
