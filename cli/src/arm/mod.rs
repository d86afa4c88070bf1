//! Loading a dump kernel with panic reporting, and unloading it: `load`, `unload`, `wrap`, `status`, and the calls that are
//! taken by the name `kexec`.
//!
//! What an architecture decides is in `x86_64`, what may stand in the way in `via` and `refusal`.

pub mod alone;
pub mod busy;
pub mod cmdline;
pub mod console;
pub mod cpus;
pub mod encryption;
pub mod file;
pub mod getopt;
pub mod held;
pub mod image;
pub mod initrd;
pub mod kdump;
pub mod kexec;
pub mod kimage;
pub mod load;
pub mod loaded;
pub mod loading;
pub mod memory;
pub mod options;
pub mod pstore;
pub mod pvpanic;
pub mod ranges;
pub mod refusal;
pub mod registers;
pub mod setup;
pub mod sign;
pub mod status;
pub mod unload;
pub mod via;
pub mod watchdogs;
pub mod wrap;
pub mod x86_64;
