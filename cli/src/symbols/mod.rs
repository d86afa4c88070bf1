//! Names for addresses in the kernel: what `lastwords load` keeps of the running kernel (`store`), and what `lastwords
//! read` looks up in it or in a file (`boots`).

mod boots;
pub mod build_id;
mod error;
mod file;
pub mod kallsyms;
pub mod store;
mod stream;
mod table;
mod vmlinux;

pub use boots::{Symbols, When};
pub use stream::KEXEC_CRASH_IMAGE;
pub use table::Name;
