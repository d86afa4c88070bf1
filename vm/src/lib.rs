//! The bench: a real kernel in QEMU with a BMC, panicked on purpose, and what came of it.
//!
//! Three rooms, each of which knows only those before it:
//!
//! - [`machine`]: QEMU, its monitor and debugger, BMCs, kernels and what the guests run.
//! - [`judge`]: reads what came of it, with nothing of lastwords' own.
//! - [`scenarios`]: what happens to a machine; its [`judge::outcome::Outcome`] holds the console's lines with their
//!   times and all that the dump kernel found.
//!
//! Everything is Debian's own (kernels, kexec-tools, ipmitool, makedumpfile), because the point is to show that
//! lastwords works with what people have. `vm/README.md` tells how to run and to extend it.

pub mod judge;
pub mod machine;
pub mod scenarios;
