//! The layout that the tool and the image share: the header at the start of the flat image.
//!
//! The build fills in the image's own sizes and sum; the tool the rest. Wrapped behind a kernel, the image finds here
//! how to get to the kernel, which bytes of it the hook displaced, and which parameters were embedded. Loaded as the
//! purgatory, it finds the [`Handoff`]: where everything lies and what it was when it was loaded.

/// First eight bytes of the flat image. The hook compares the first four before it jumps there.
pub const MAGIC: [u8; 8] = *b"lastword";

/// Length of the embedded parameters' field.
pub const PARAMETERS_LEN: usize = 512;

/// Length of the bytes at the kernel's 64-bit entry that are kept for putting back: room for a `jmp rel32`. The hook
/// itself displaces the first two of them.
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
    /// Offset of the entry point behind the hook (RSI = boot_params). Filled in by the build.
    pub entry: u32,
    /// Offset of the entry point as the purgatory. Filled in by the build.
    pub purgatory_entry: u32,
    /// Bytes of the flat image in the file. Filled in by the build.
    pub file_size: u32,
    /// Bytes of memory the image needs from its first byte on, stack and zeroed data included. Filled in by
    /// the build.
    pub memory_size: u32,
    /// How far before the header the kernel's 64-bit entry lies. Filled in by the tool.
    pub kernel_entry_back: u32,
    /// The bytes that the hook displaced at the kernel's entry. Filled in by the tool.
    pub displaced: [u8; DISPLACED_LEN],
    /// Keeps the next field aligned.
    pub reserved: [u8; 3],
    /// Parameters embedded when the kernel was wrapped, NUL-padded. Filled in by the tool.
    pub parameters: [u8; PARAMETERS_LEN],
    /// [`sum`] of all that follows it in the file, the [`Handoff`] and the image itself: addresses and lengths that
    /// somebody has written to are not gone by. Filled in by the build; anew by the tool when it fills in the handoff.
    pub own_sum: u64,
    /// What the image needs as the purgatory. All zero in a wrapped kernel. Filled in by the tool.
    pub handoff: Handoff,
}

/// Most segments that are checked.
pub const SEGMENTS: usize = 8;

/// What the loader hands to the image as the purgatory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Handoff {
    /// Physical address of the dump kernel's boot_params.
    pub boot_params: u64,
    /// Physical address of its 64-bit entry point.
    pub kernel_entry: u64,
    /// How many of `segments` are used.
    pub segment_count: u64,
    /// The segments that are to be what they were.
    pub segments: [Segment; SEGMENTS],
}

/// A loaded segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Physical address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// What it is, for people: `kernel`, `initrd`, `boot_params`, NUL-padded.
    pub name: [u8; 16],
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

impl Handoff {
    /// None: not the purgatory.
    pub const EMPTY: Self = Self {
        boot_params: 0,
        kernel_entry: 0,
        segment_count: 0,
        segments: [Segment { addr: 0, len: 0, name: [0; 16], sha256: [0; 32] }; SEGMENTS],
    };
}

/// Sum over whole 8-byte words, as the entry code makes it before it trusts the rest of the image: not against
/// malice, but against bytes that somebody's stray write has changed. FNV-1a, a word at a time.
#[must_use]
pub fn sum(words: &[u8]) -> u64 {
    words.chunks_exact(8).fold(SUM_START, |sum, word| {
        let word = word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        (sum ^ word).wrapping_mul(SUM_FACTOR)
    })
}

/// Where [`sum`] starts.
pub const SUM_START: u64 = 0xcbf2_9ce4_8422_2325;
/// What [`sum`] multiplies by.
pub const SUM_FACTOR: u64 = 0x0000_0100_0000_01b3;

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
/// Offset of [`Header::purgatory_entry`].
pub const PURGATORY_ENTRY: usize = core::mem::offset_of!(Header, purgatory_entry);
/// Offset of [`Header::own_sum`].
pub const OWN_SUM: usize = core::mem::offset_of!(Header, own_sum);
/// Offset of [`Header::handoff`].
pub const HANDOFF: usize = core::mem::offset_of!(Header, handoff);
/// Offset of [`Header::file_size`].
pub const FILE_SIZE: usize = core::mem::offset_of!(Header, file_size);
/// Offset of [`Header::memory_size`].
pub const MEMORY_SIZE: usize = core::mem::offset_of!(Header, memory_size);
/// Offset of [`Header::version`].
pub const VERSION_AT: usize = core::mem::offset_of!(Header, version);
