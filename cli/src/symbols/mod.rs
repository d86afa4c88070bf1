//! Names for addresses in the kernel: what `lastwords load` keeps of the running kernel (`store`), and what `lastwords
//! read` looks up in it or in a file (`boots`).

mod boots;
pub mod build_id;
mod file;
pub mod store;
mod table;
mod vmlinux;

pub use boots::{Symbols, When};

use std::fmt;

/// Why there are no symbols.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// All addresses are zero.
    #[error("the addresses are hidden (sysctl kernel.kptr_restrict, or no privileges)\nhint: run it as root")]
    Hidden,
    /// Something else.
    #[error("no symbols of a kernel: no _stext\nhint: use a copy of /proc/kallsyms, System.map or vmlinux")]
    NoStext,
    /// A damaged ELF file.
    #[error("not a whole vmlinux")]
    Elf(#[from] object::Error),
}

/// A name for an address, as the kernel prints it: `sysrq_handle_crash+0x16`, `deaf_init+0x5 [deaf]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The symbol.
    pub symbol: String,
    /// Bytes from it on.
    pub offset: u64,
    /// The module that it is in, if it is in one.
    pub module: Option<String>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.symbol, self.offset)?;
        self.module.as_ref().map_or(Ok(()), |module| write!(f, " [{module}]"))
    }
}
