//! The layout that the tool and the image share: the header at the start of the flat image.
//!
//! The build fills in the image's own sizes and sum; the tool the rest. Wrapped behind a kernel, the image finds here
//! how to get to the kernel, which bytes of it the hook displaced, and which parameters were embedded. Loaded as the
//! purgatory, it finds the [`Handoff`]: where everything lies and what it was when it was loaded.
//!
//! Nothing here is gone by before its sum is right. What leads out of the image is here twice, each with a sum of its
//! own ([`WayOut`]), because without it the dump is lost; all else has the image's sum, without which nothing is
//! reported.

use crate::digest;

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
    /// Bytes of the flat image in the file, at most those that the linker made. Filled in by the build.
    pub file_size: u32,
    /// Bytes of memory the image needs from its first byte on, stack and zeroed data included. Filled in by
    /// the build.
    pub memory_size: u32,
    /// [`NO_DUMP_KERNEL`] where the image is loaded alone, and where the way out leads only resets the machine. Filled in by
    /// the tool. Not summed: by any other value what is loaded is jumped to.
    pub no_dump_kernel: u32,
    /// How the dump kernel is reached, twice: the second one counts where the first one has been written to. Filled in
    /// by the tool.
    pub ways_out: [WayOut; 2],
    /// [`digest::sum`] of all that follows it in the file: addresses and lengths that somebody has written to are not
    /// gone by. Filled in by the build; anew by the tool when it fills in the rest.
    pub own_sum: u64,
    /// Parameters embedded when the kernel was wrapped, NUL-padded. Filled in by the tool.
    pub parameters: [u8; PARAMETERS_LEN],
    /// What the image needs as the purgatory. All zero in a wrapped kernel. Filled in by the tool.
    pub handoff: Handoff,
}

/// How the dump kernel is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WayOut {
    /// In a wrapped kernel: how far before the header its 64-bit entry lies.
    pub kernel_entry_back: u64,
    /// In a wrapped kernel: the bytes that the hook displaced at that entry, zeros behind them.
    pub displaced: [u8; 8],
    /// As the purgatory: physical address of the dump kernel's boot_params.
    pub boot_params: u64,
    /// As the purgatory: physical address of its 64-bit entry point.
    pub kernel_entry: u64,
    /// [`digest::sum`] of the fields above.
    pub sum: u64,
}

impl WayOut {
    /// None yet.
    pub const NONE: Self =
        Self { kernel_entry_back: 0, displaced: [0; 8], boot_params: 0, kernel_entry: 0, sum: 0 };

    /// The way out of an image that lies so far behind a wrapped kernel's entry, and what the hook displaced there.
    #[must_use]
    pub fn of_wrapped(kernel_entry_back: u64, displaced: [u8; DISPLACED_LEN]) -> Self {
        let mut way_out = Self { kernel_entry_back, ..Self::NONE };
        for (to, from) in way_out.displaced.iter_mut().zip(displaced) {
            *to = from;
        }
        way_out
    }

    /// The way out as the purgatory.
    #[must_use]
    pub fn of_purgatory(boot_params: u64, kernel_entry: u64) -> Self {
        Self { boot_params, kernel_entry, ..Self::NONE }
    }

    /// Its bytes in the header, the sum filled in.
    #[must_use]
    pub fn bytes(&self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        let fields = [
            self.kernel_entry_back.to_le_bytes(),
            self.displaced,
            self.boot_params.to_le_bytes(),
            self.kernel_entry.to_le_bytes(),
        ];
        let sum = digest::sum(fields.as_flattened()).to_le_bytes();
        for (to, from) in bytes.as_chunks_mut().0.iter_mut().zip(fields.into_iter().chain([sum])) {
            *to = from;
        }
        bytes
    }
}

/// [`Header::no_dump_kernel`]: no changed bit makes it of a zero, and a dump kernel that is there starts.
pub const NO_DUMP_KERNEL: u32 = u32::from_le_bytes(*b"none");

/// Most segments that are checked.
pub const SEGMENTS: usize = 4;

/// What the loader hands to the image as the purgatory, to check the dump kernel by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Handoff {
    /// How many of `segments` are used.
    pub segment_count: u64,
    /// How `segments` were summed up: [`LANES`] or [`SHA256`].
    pub digest: u64,
    /// Which of `segments` holds boot_params and the command line.
    pub boot_params: u64,
    /// Physical address of a copy of that segment.
    pub boot_params_copy: u64,
    /// The segments that are to be what they were.
    pub segments: [Segment; SEGMENTS],
}

/// [`Handoff::digest`]: [`digest::lanes`].
pub const LANES: u64 = 1;
/// [`Handoff::digest`]: SHA-256.
pub const SHA256: u64 = 2;

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
    /// Digest of its bytes.
    pub digest: [u8; 32],
}

impl Segment {
    /// Its name without the NULs.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or(&[])
    }
}

impl Handoff {
    /// None: not the purgatory.
    pub const EMPTY: Self = Self {
        segment_count: 0,
        digest: 0,
        boot_params: 0,
        boot_params_copy: 0,
        segments: [Segment { addr: 0, len: 0, name: [0; 16], digest: [0; 32] }; SEGMENTS],
    };
}

/// Version of this layout. An image of another version is refused.
pub const VERSION: u32 = 2;

/// Offset of [`Header::ways_out`].
pub const WAYS_OUT: usize = core::mem::offset_of!(Header, ways_out);
/// Offset of [`Header::parameters`].
pub const PARAMETERS: usize = core::mem::offset_of!(Header, parameters);
/// Offset of [`Header::entry`].
pub const ENTRY: usize = core::mem::offset_of!(Header, entry);
/// Offset of [`Header::purgatory_entry`].
pub const PURGATORY_ENTRY: usize = core::mem::offset_of!(Header, purgatory_entry);
/// Offset of [`Header::own_sum`].
pub const OWN_SUM: usize = core::mem::offset_of!(Header, own_sum);
/// Offset of what [`Header::own_sum`] is the sum of.
pub const SUMMED: usize = OWN_SUM + size_of::<u64>();
/// Offset of [`Header::handoff`].
pub const HANDOFF: usize = core::mem::offset_of!(Header, handoff);
/// Offset of [`Header::file_size`].
pub const FILE_SIZE: usize = core::mem::offset_of!(Header, file_size);
/// Offset of [`Header::memory_size`].
pub const MEMORY_SIZE: usize = core::mem::offset_of!(Header, memory_size);
/// Offset of [`Header::no_dump_kernel`].
pub const NO_DUMP_KERNEL_AT: usize = core::mem::offset_of!(Header, no_dump_kernel);
/// Offset of [`Header::version`].
pub const VERSION_AT: usize = core::mem::offset_of!(Header, version);
