//! What is x86_64 in the image.

pub mod boot_params;
pub mod entry;
pub mod interrupts;
mod libc;
pub mod machine;
mod paging;
pub mod reset;
