//! What is x86_64 in the image. All of its unsafe code is here and in `libc`.

pub mod boot_params;
mod entry;
pub mod interrupts;
pub mod machine;
mod paging;
