//! The machine: QEMU with its monitor and debugger, BMCs, kernels, and what runs in the guests.

pub mod bmc;
pub mod cache;
pub mod callgrind;
pub mod console;
pub mod count;
pub mod cpio;
pub mod crash_module;
pub mod debian;
pub mod gdb;
pub mod initramfs;
pub mod kept;
pub mod kernels;
pub mod lastwords;
pub mod monitor;
pub mod orders;
pub mod packages;
pub mod payload;
pub mod process;
pub mod qemu;
pub mod snapshot;
pub mod user_programs;
