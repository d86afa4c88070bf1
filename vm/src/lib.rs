//! The bench: a real kernel in QEMU with a BMC, panicked on purpose, and what came of it.
//!
//! A [`scenario::Scenario`] says which kernel, CPUs and BMC, how the dump kernel is armed and how the first one
//! dies; its [`scenario::Outcome`] holds the console's lines with their times and all that the dump kernel found.
//! Everything is Debian's own (kernels, kexec-tools, ipmitool, makedumpfile), because the point is to show that
//! lastwords works with what people have.

pub mod asked;
pub mod bmc;
pub mod cache;
pub mod cpio;
pub mod crash_kinds;
pub mod dmesg;
pub mod faults;
pub mod figures;
pub mod gdb;
pub mod initramfs;
pub mod kernels;
pub mod lastwords;
pub mod module;
pub mod monitor;
pub mod packages;
pub mod process;
pub mod qemu;
pub mod reading;
pub mod scenario;
pub mod segments;
pub mod sel;
pub mod story;
pub mod vmbmc;
pub mod vmcore;
pub mod watchdog;
pub mod words;
