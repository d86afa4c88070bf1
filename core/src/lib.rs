//! What lastwords says, and how: everything that does not depend on the machine it runs on.
//!
//! The freestanding image and the command-line tool meet here and nowhere else. The machine is reached through
//! the three traits of [`hw`], so that all of it runs on a host against a simulated machine. Nothing here
//! allocates, panics, or waits without a bound, because in the image there is nobody to catch it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("lastwords speaks x86_64 only so far: port-mapped KCS, CMOS RTC and the x86 boot protocol");

pub mod budget;
pub mod cmdline;
pub mod console;
pub mod crash;
pub mod hw;
pub mod ipmi;
pub mod kcs;
pub mod plan;
pub mod rtc;
pub mod say;
pub mod sel;
pub mod stub;
pub mod text;
