//! What lastwords reports, and how: everything that does not depend on the machine it runs on.
//!
//! The freestanding image and the command-line tool meet here and nowhere else. The machine is reached through
//! the traits of [`hw`], so that all of it runs on a host against a simulated machine. Nothing here allocates, panics,
//! or waits without a bound, because in the image there is nobody to catch it.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod abi;
pub mod acpi;
pub mod arch;
pub mod budget;
pub mod cmdline;
pub mod crash;
pub mod device;
pub mod digest;
pub mod hw;
pub mod ipmi;
pub mod numbers;
pub mod plan;
pub mod report;
pub mod sequence;
pub mod store;
pub mod text;
