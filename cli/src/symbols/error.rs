//! Why a file has no symbols.

use super::{file, table};
use std::{error, io};

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
    #[error("truncated or corrupt packed file\nhint: copy it again, or lastwords load saves it again")]
    Corrupt,
    /// Nothing here unpacks it.
    #[error("packed, and there is no gzip\nhint: unpack it where gzip is (gunzip)")]
    NoGzip,
    /// It cannot be read.
    #[error("{}", crate::visible::system(.0))]
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
