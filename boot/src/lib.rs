//! The dump kernel's file: reads it, and puts the flat image and its hook in.
#![forbid(unsafe_code)]

mod bzimage;
#[cfg(feature = "synthetic")]
pub mod synthetic;

pub use bzimage::{BzImage, BzImageError as Error, embedded_parameters, unwrap, wrap};
