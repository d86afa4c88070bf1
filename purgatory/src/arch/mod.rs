//! The image's own hardware: entry and way out, exceptions, page tables, the machine behind core's traits. One folder
//! an architecture, and all of the image's unsafe code in it.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("purgatory/src/arch/ has no folder for this architecture yet");
