//! The panic report: what is known of a crash, in terms that neither tell where it was read nor where it will be stored.
//!
//! `crash` fills it from the crashed kernel's memory, the stores of `store` keep it, `sequence` prints it. Which lines
//! come in which order, and what is left out where there is little room, is in `order`.

mod class;
mod groups;
mod identity;
mod order;

pub use class::Class;
pub use groups::{GROUPS, Group, Groups};
pub use identity::{CrashId, Fnv, ID_LEN, SIGNATURE_TEXT_LEN, signature, signature_text};
pub use order::{CUT, Content, Cost, cut, lines};

use crate::text::Text;

/// Where a CPU was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// It did not respond to the NMI that stops all CPUs.
    NotResponding,
    /// Its note is there and cannot be read, or none is there for its number.
    Unread,
    /// In user space.
    User,
    /// In the kernel's image, this many bytes from `_stext` on.
    Kernel(u32),
    /// At this address, which is not in the kernel's image, or it is not known where that lies.
    Address(u64),
    /// It was off, or did not respond: nothing tells which.
    OffOrNotResponding,
    /// It was off: not among the CPUs that the kernel had online.
    Off,
}

impl Location {
    /// May it be that this CPU had no part in what happened?
    #[must_use]
    pub fn may_be_off(self) -> bool {
        matches!(self, Self::OffOrNotResponding | Self::Off)
    }
}

/// Callers that are kept.
pub const CALLERS: usize = 4;
/// So much of their names.
pub const CALLER_LEN: usize = 20;
/// The longest reason.
pub const REASON_LEN: usize = 88;

/// Why a kernel panicked. All texts are empty where nothing is known.
#[derive(Clone, Copy, Default)]
pub struct Cause {
    /// The text of the panic, or the kernel's report where there was no panic.
    pub reason: Text<REASON_LEN>,
    /// What the kernel reported before.
    pub report: Text<48>,
    /// Where that was: symbol, offset and module, or file and line.
    pub rip: Text<64>,
    /// The process that ran.
    pub comm: Text<15>,
    /// The call trace's first functions.
    pub callers: [Text<CALLER_LEN>; CALLERS],
}

/// A CPU and where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuLocation {
    /// The kernel's number of the CPU.
    pub cpu: u32,
    /// Where it was.
    pub location: Location,
}

/// What is known of a crash.
#[derive(Default)]
pub struct Report {
    /// The kernel's release, as `uname -r` has it.
    pub release: Text<64>,
    /// The first four bytes of its build id.
    pub build_id: Option<u32>,
    /// What the crash is known by.
    pub id: Option<CrashId>,
    /// The CPU that panicked, where something tells which.
    pub panicked: Option<CpuLocation>,
    /// The other CPUs, counted by where they were; all CPUs where nothing tells which one panicked.
    pub groups: Groups,
    /// Why it panicked.
    pub cause: Cause,
}

/// One line of the report. The texts are printable ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// What stands behind "Kernel panic - not syncing: ". Always the first line; ends in `..` where it was cut.
    Reason(&'a [u8]),
    /// The first four bytes of the kernel's build id.
    BuildId(u32),
    /// The CPU that panicked, and where.
    Panicked(CpuLocation),
    /// Nothing tells which CPU panicked; it is among the groups.
    PanickedUnknown,
    /// What the kernel reported before it panicked.
    Cause(&'a [u8]),
    /// Where that was, symbol and offset.
    Rip(&'a [u8]),
    /// The process that ran.
    Comm(&'a [u8]),
    /// What the crash is known by.
    CrashId(CrashId),
    /// What its cause is known by.
    Signature(u32),
    /// So many other CPUs in one place.
    Group {
        /// How many, at least 1.
        count: u32,
        /// Where they were.
        location: Location,
    },
    /// So many CPUs left out, because there was no more room.
    Omitted(u32),
    /// The next function of the call trace.
    Caller(&'a [u8]),
    /// This part of the dump kernel is not what was loaded.
    Corrupt(&'a [u8]),
    /// This part of the dump kernel was not what was loaded, and was put right by its copy.
    Restored(&'a [u8]),
    /// There is no dump kernel, and will be no dump.
    NoDump,
}

/// How far the dump came, as the dump kernel tells (`lastwords mark`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has begun.
    Started,
    /// It is saved.
    Saved,
    /// It could not be saved.
    Failed,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Started, Self::Saved, Self::Failed];

    /// The stage's text in a store.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Started => "dump start",
            Self::Saved => "dump saved",
            Self::Failed => "dump failed",
        }
    }

    /// The stage that has this text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.text().as_bytes() == text)
    }
}
