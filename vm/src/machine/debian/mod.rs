//! A real Debian with kdump: its own systemd, kernel, kdump-tools and ipmitool on a disk, in a machine with a BMC that
//! crashes, dumps and comes up again by itself.
//!
//! The other machines of the bench are two kernels and a script, which is quick and shows what happens to the byte.
//! This one shows whether the distribution's own services do their part.

mod guest;
mod image;

pub use guest::{Boot, Debian};
pub use image::{Image, Suite, second_kernel};
