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
