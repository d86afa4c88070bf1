//! The layout that the tool and the image share: the header at the start of the flat image.
//!
//! The tool puts the flat image behind a kernel and fills this header in; the image finds there how to get to the
//! kernel, which bytes of it the hook displaced, and which parameters were embedded when it was wrapped.

/// First eight bytes of the flat image. The hook compares the first four before it jumps there.
pub const MAGIC: [u8; 8] = *b"lastword";

/// Length of the embedded parameters' field.
pub const PARAMETERS_LEN: usize = 512;

/// Length of the bytes at the kernel's 64-bit entry that the hook displaces: one `jmp rel32`.
pub const DISPLACED_LEN: usize = 5;

/// Offset of the 64-bit entry in the kernel's protected-mode part (`Documentation/arch/x86/boot.rst`).
pub const ENTRY_64: u32 = 0x200;

/// The header. All numbers are little-endian, offsets are from the header's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Layout version, [`VERSION`].
    pub version: u32,
    /// Offset of the image's entry point (`wrap`: jumped to from the hook, RSI = boot_params).
    pub entry: u32,
    /// Bytes of the flat image in the file.
    pub file_size: u32,
    /// Bytes of memory the image needs from its first byte on, stack and zeroed data included.
    pub memory_size: u32,
    /// How far before the header the kernel's 64-bit entry lies. Filled in by the tool.
    pub kernel_entry_back: u32,
    /// The bytes that the hook displaced at the kernel's entry. Filled in by the tool.
    pub displaced: [u8; DISPLACED_LEN],
    /// Keeps the next field aligned.
    pub reserved: [u8; 3],
    /// Parameters embedded when the kernel was wrapped, NUL-padded. Filled in by the tool.
    pub parameters: [u8; PARAMETERS_LEN],
}

/// Version of this layout.
pub const VERSION: u32 = 1;

/// Offset of [`Header::kernel_entry_back`].
pub const KERNEL_ENTRY_BACK: usize = core::mem::offset_of!(Header, kernel_entry_back);
/// Offset of [`Header::displaced`].
pub const DISPLACED: usize = core::mem::offset_of!(Header, displaced);
/// Offset of [`Header::parameters`].
pub const PARAMETERS: usize = core::mem::offset_of!(Header, parameters);
/// Offset of [`Header::entry`].
pub const ENTRY: usize = core::mem::offset_of!(Header, entry);
/// Offset of [`Header::file_size`].
pub const FILE_SIZE: usize = core::mem::offset_of!(Header, file_size);
/// Offset of [`Header::memory_size`].
pub const MEMORY_SIZE: usize = core::mem::offset_of!(Header, memory_size);
/// Offset of [`Header::version`].
pub const VERSION_AT: usize = core::mem::offset_of!(Header, version);
