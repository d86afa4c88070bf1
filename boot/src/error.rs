//! What keeps a kernel from being read, wrapped or unwrapped, and what the user can do about it.

use crate::hook::{TRAMPOLINE_LEN, TRAMPOLINE_MARGIN};
use lastwords_core::abi::{PARAMETERS_LEN, VERSION};

/// Why a file was not wrapped or unwrapped.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No boot sector with `HdrS` in it.
    #[error(
        "not a bzImage: no boot_flag 0xAA55 and header \"HdrS\"\nhint: use the kernel as it is in /boot, not a vmlinux"
    )]
    NotBzImage,
    /// Boot protocol before 2.12.
    #[error("boot protocol {}.{:02}, but 2.12 or later is needed (Linux 3.8)", .0 >> 8, .0 & 0xff)]
    Old(u16),
    /// No 64-bit entry.
    #[error("a 32-bit kernel (xloadflags without XLF_KERNEL_64)\nhint: use one built for x86_64")]
    Not64Bit,
    /// The file ends before what its header needs.
    #[error("truncated: {has} bytes, but the header needs at least {needs}\nhint: get the file again")]
    Truncated {
        /// Bytes that the header asks for.
        needs: usize,
        /// Bytes that there are.
        has: usize,
    },
    /// The file is too large for its own 32-bit fields.
    #[error("larger than a bzImage can be")]
    TooLarge,
    /// A PE header that contradicts itself or the file.
    #[error("corrupt PE header: {0}\nhint: get the file again")]
    Pe(&'static str),
    /// No PE header, or none that has room for a signature.
    #[error("no signature can be put into it: it has no PE header (CONFIG_EFI_STUB=n)")]
    Unsignable,
    /// No zeros before the 64-bit entry.
    #[error("no room for the hook: no {} zero bytes in a row before the 64-bit entry", TRAMPOLINE_MARGIN + TRAMPOLINE_LEN)]
    NoRoomForHook,
    /// `init_size` too small.
    #[error("no room for the image: init_size is {init_size:#x}, but {needs:#x} bytes are needed")]
    NoRoomForImage {
        /// The kernel's `init_size` in bytes.
        init_size: usize,
        /// What it would have to be.
        needs: usize,
    },
    /// It has an image already.
    #[error("already wrapped\nhint: use the original kernel, or replace what is in this one with --force")]
    AlreadyWrapped,
    /// It has a hook, but not all that belongs to it.
    #[error("wrapped, but corrupt\nhint: use the original kernel")]
    Damaged,
    /// Wrapped by a version whose header this one does not know.
    #[error(
        "wrapped by another version of lastwords (layout {0}, this one knows 1 to {known})\nhint: wrap the original kernel again",
        known = VERSION
    )]
    OtherVersion(u32),
    /// The parameters do not fit in the image's header.
    #[error("parameters to embed are {0} bytes long, at most {max} fit\nhint: put some on the command line", max = PARAMETERS_LEN - 1)]
    ParametersTooLong(usize),
    /// The flat image itself is not what it should be: an error of the build.
    #[error("lastwords was built with an unusable image: {0}")]
    Image(&'static str),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
