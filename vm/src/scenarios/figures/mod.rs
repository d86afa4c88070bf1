//! The figures of `make bench`, each measured in one run beside the stock tool's: how large, how fast the digest, how fast
//! to load, and how long from the purgatory's entry to the dump kernel's. They are measured alone, with no other machine
//! beside.

mod digest;
mod entry;
mod load;
mod size;

pub use digest::digests;
pub use entry::{Way, entry_to_entry};
pub use load::{Load, Loader, loads};
pub use size::sizes;
