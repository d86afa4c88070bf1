//! Names for addresses in the kernel: what `lastwords load` keeps of the running kernel (`store`), and what `lastwords
//! read` looks up in it or in a file (`boots`).

mod boots;
pub mod build_id;
mod file;
pub mod kallsyms;
pub mod store;
mod stream;
mod table;
mod vmlinux;

pub use boots::{Symbols, When};
pub use stream::KEXEC_CRASH_IMAGE;

use std::{error, fmt, io};

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
    /// No kernel's symbols take so much.
    #[error(
        "more than {} MiB of symbols, unpacked\nhint: use a copy of /proc/kallsyms; unpack a packed vmlinux (gunzip)",
        file::MOST >> 20
    )]
    TooLong,
    /// Nor are there so many.
    #[error("more than {} symbols\nhint: use a copy of /proc/kallsyms", table::SYMBOLS)]
    TooMany,
    /// The file cannot be unpacked.
    #[error("truncated or corrupt gzip file\nhint: copy it again, or lastwords load saves it again")]
    Corrupt,
    /// It cannot be read.
    #[error("{}", crate::message::system(.0))]
    Read(io::Error),
}

/// An error of reading: the system's, or one of unpacking.
impl From<io::Error> for SymbolError {
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(<dyn error::Error + Send + Sync>::is::<Self>) {
            return Self::TooLong;
        }
        match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Corrupt
            }
            _ => Self::Read(error),
        }
    }
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
