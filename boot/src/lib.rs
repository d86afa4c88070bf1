//! The dump kernel's file: reads it, and puts the flat image with its hook in and takes them out again. Likewise a
//! signature, which others have made.
//!
//! The kernel stays what it is: no section of its PE view grows, no length but `syssize` changes, and every other way
//! in (real mode, 32-bit, EFI) works as before. The file may be damaged, or made to deceive: every length and offset is
//! checked before it is used.
#![forbid(unsafe_code)]

mod alone;
mod bytes;
mod bzimage;
mod error;
mod hook;
mod pe;
mod signature;
#[cfg(feature = "synthetic")]
pub mod synthetic;
mod uki;

pub use alone::{alone, is_alone};
pub use bzimage::{BzImage, Patched, SETUP_MAX, SetupHeader};
pub use error::Error;
pub use hook::{
    Unhooked, as_built, embedded_parameters, fill_in, has_no_dump_kernel, image_parameters, unhook, unwrap,
    unwrapped, wrap, wrapped,
};
pub use signature::{attach, signature, signed_parts, unsigned};
pub use uki::{Uki, is_uki};
