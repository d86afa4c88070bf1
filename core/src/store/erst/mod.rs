//! The platform's error store (ACPI ERST, Error Record Serialization Table; ACPI 6.5, 18.5): records that outlast a reset, and
//! that Linux's own pstore lists after it.
//!
//! How it is written to stands in a table of the firmware's (`actions`). Each operation can be an SMI, which nothing bounds:
//! so it is only done when asked for, as few as can be, and every wait between them has a deadline. What is in the store is
//! neither overwritten nor cleared.

mod actions;
mod record;

pub use actions::{Actions, MOST as MOST_INSTRUCTIONS, action};
pub use record::{HEADER_LEN, first_id, header};

use crate::acpi;
use crate::budget::{Millis, Timer};
use crate::cmdline;
use crate::crash::overlap;
use crate::hw::{Machine, Memory, PHYSICAL_END, Registers};
use core::fmt;
use core::ops::Range;

/// Most operations of one report: each record is looked for before it is written.
const OPERATIONS: u32 = 16;
/// Longest wait for one of them. Linux waits for a millisecond, which real machines exceed; the slowest table that was seen
/// says a second.
const LONGEST_WAIT: Millis = 1000;
/// So much more is given than the table says.
const GRACE: Millis = 10;

/// Lengths of the exchange range that are used, in bytes. Real ones have 7 to 16 KiB.
pub const RANGE_LEN: core::ops::RangeInclusive<u64> = 1024..=1 << 16;

/// Attributes of the range.
pub const NVRAM: u64 = 1 << 1;
/// The store takes longer than others.
pub const SLOW: u64 = 1 << 2;

/// Status of an operation.
const SUCCESS: u64 = 0;
const STORE_EMPTY: u64 = 4;
const NOT_FOUND: u64 = 5;

/// Whether the report goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pstore {
    /// So many bytes of records at most; 0, none.
    pub bytes: u32,
    /// Physical address of ACPI's root pointer, where the loader does not tell it in boot_params; else 0.
    pub rsdp: u64,
}

impl Pstore {
    /// Not at all.
    pub const OFF: Self = Self { bytes: 0, rsdp: 0 };
    /// What is meant without a number: two records in a store of 8 KiB records, as is usual.
    pub const DEFAULT: u32 = 16 << 10;

    /// Reads `BYTES[,RSDP]`, BYTES being 1K to 64K; nothing means [`Pstore::DEFAULT`].
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: Option<&str>) -> Result<Self, &'static str> {
        let Some(text) = text else { return Ok(Self { bytes: Self::DEFAULT, rsdp: 0 }) };
        let (bytes, rsdp) = match cmdline::cut(text, b',') {
            Some((bytes, rsdp)) => (bytes, cmdline::number(rsdp).filter(|rsdp| *rsdp < PHYSICAL_END)),
            None => (text, Some(0)),
        };
        let bytes = cmdline::size(bytes).filter(|bytes| *bytes == 0 || RANGE_LEN.contains(bytes));
        match (bytes, rsdp) {
            (Some(bytes), Some(rsdp)) => Ok(Self { bytes: bytes as u32, rsdp }),
            _ => Err("takes 1K to 64K bytes, or nothing for 16K"),
        }
    }
}

impl fmt::Display for Pstore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes)?;
        if self.rsdp == 0 { Ok(()) } else { write!(f, ",{:#x}", self.rsdp) }
    }
}

/// Why nothing, or no more, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErstError {
    /// There is no ERST table, or no way to it.
    NoTable,
    /// The table is not consistent with itself, or lacks what is needed.
    Malformed,
    /// It has an instruction that is not known.
    Instruction,
    /// It names a register that must not be accessed, or that is none.
    Register,
    /// The exchange range is too short, or not the firmware's own, or no memory.
    Range,
    /// The range is the store itself, which neither Linux nor this writes to.
    Nvram,
    /// An operation did not end.
    Silent,
    /// An operation ended with this status.
    Status(u8),
    /// There was no time left, or as many operations were made as may be.
    NoTime,
}

impl ErstError {
    /// What is wrong, as a sentence's end.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NoTable => "no ERST table",
            Self::Malformed => "malformed ERST table",
            Self::Instruction => "unknown instruction in the ERST table",
            Self::Register => "the ERST table names a register that is not the firmware's",
            Self::Range => "the exchange range cannot be used",
            Self::Nvram => "NVRAM mode is not supported",
            Self::Silent => "the firmware does not respond",
            Self::Status(1) => "the store is full",
            Self::Status(_) => "the firmware refused",
            Self::NoTime => "no time left",
        }
    }
}

/// What the table tells, without an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The exchange range.
    pub range: Range<u64>,
    /// Its attributes: [`NVRAM`], [`SLOW`].
    pub attributes: u64,
    /// Typical and longest time of an operation, in microseconds; `None` where the table does not tell.
    pub timings: Option<(u32, u32)>,
}

impl Facts {
    /// Asks by the table's own instructions, which read registers.
    #[inline(never)]
    pub fn ask<M: Registers>(actions: &Actions, machine: &mut M) -> Self {
        let mut get = |action| if actions.has(action) { Some(actions.run(machine, action, 0)) } else { None };
        let start = get(action::GET_ERROR_LOG_ADDRESS_RANGE).unwrap_or(0);
        let len = get(action::GET_ERROR_LOG_ADDRESS_RANGE_LENGTH).unwrap_or(0);
        let attributes = get(action::GET_ERROR_LOG_ADDRESS_RANGE_ATTRIBUTES).unwrap_or(0);
        let timings = get(action::GET_EXECUTE_OPERATION_TIMINGS);
        let timings = timings.map(|timings| (timings as u32, (timings >> 32) as u32));
        Self { range: start..start.saturating_add(len), attributes, timings }
    }

    /// Can records be exchanged so? The range that is used, which may be shorter.
    ///
    /// # Errors
    /// [`ErstError::Nvram`] or [`ErstError::Range`].
    pub fn usable(&self) -> Result<Range<u64>, ErstError> {
        if self.attributes & NVRAM != 0 {
            return Err(ErstError::Nvram);
        }
        let start = self.range.start;
        let len = self.range.end.saturating_sub(start).min(*RANGE_LEN.end());
        if len < *RANGE_LEN.start() || start < 4096 || start >= PHYSICAL_END - len {
            return Err(ErstError::Range);
        }
        Ok(start..start + len)
    }
}

/// What the loader tells of the machine.
#[derive(Clone, Copy, Default)]
pub struct Platform<'a> {
    /// Physical address of ACPI's root pointer; 0 where it does not tell.
    pub rsdp: u64,
    /// The dump kernel's memory map, an E820 table: entries of 20 bytes, as boot_params has them (Linux
    /// `Documentation/arch/x86/zero-page.rst`). RAM in it is what the dump kernel may write to.
    pub e820: &'a [u8],
    /// An address in the image.
    pub image: u64,
}

impl Platform<'_> {
    /// Has this range a byte in the memory that was reserved for the dump kernel? Where nothing tells where that is, any has.
    #[must_use]
    pub fn is_reserved(&self, range: &Range<u64>) -> bool {
        /// Type: RAM.
        const RAM: u32 = 1;
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let (entries, _) = self.e820.as_chunks::<20>();
        let mut is_known = false;
        let is_in_one = entries.iter().any(|entry| {
            let ([start, len], kind) = match entry.as_chunks() {
                ([start, len], kind) => ([start, len].map(number), kind),
                _ => return false,
            };
            let ram = start..start.saturating_add(len);
            let is_ram = kind == RAM.to_le_bytes();
            is_known |= is_ram && ram.contains(&self.image);
            is_ram && overlap(range, &ram)
        });
        is_in_one || !is_known
    }
}

/// The store, ready to be written to.
pub struct Erst {
    actions: Actions,
    /// Where records are exchanged.
    pub range: Range<u64>,
    /// How long an operation is waited for.
    wait: Millis,
    /// How many may still be made.
    left: u32,
}

impl Erst {
    /// Finds the table, checks it, and ends an operation that the crashed kernel may have left open. `is_free` tells whether
    /// physical memory is nobody's who matters here.
    ///
    /// # Errors
    /// When nothing can be written so.
    pub fn open<M: Machine>(
        machine: &mut M,
        timer: &mut Timer,
        rsdp: u64,
        is_free: &mut dyn FnMut(&mut M, &Range<u64>) -> bool,
    ) -> Result<Self, ErstError> {
        let table = acpi::table(machine, rsdp, *b"ERST").ok_or(ErstError::NoTable)?;
        let actions = Actions::read(machine, table, is_free)?;
        let facts = Facts::ask(&actions, machine);
        let range = facts.usable()?;
        if !is_free(machine, &range) {
            return Err(ErstError::Range);
        }
        // What the table says is believed where it is less.
        let says = facts.timings.map_or(0, |(_, longest)| longest.div_ceil(1000));
        let wait = if says == 0 { LONGEST_WAIT } else { says.saturating_add(GRACE).min(LONGEST_WAIT) };
        let mut erst = Self { actions, range, wait, left: OPERATIONS };
        erst.end(machine, timer)?;
        Ok(erst)
    }

    /// Waits until no operation is under way, takes its status, and ends it.
    fn end<M: Machine>(&mut self, machine: &mut M, timer: &mut Timer) -> Result<u64, ErstError> {
        let actions = &self.actions;
        let idle = timer.wait_for(machine, self.wait, |machine| {
            (actions.run(machine, action::CHECK_BUSY_STATUS, 0) == 0).then_some(())
        });
        idle.ok_or(ErstError::Silent)?;
        let status = actions.run(machine, action::GET_COMMAND_STATUS, 0);
        actions.run(machine, action::END, 0);
        Ok(status)
    }

    /// Makes an operation, and returns its status.
    fn operation<M: Machine>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        begin: u8,
        id: u64,
    ) -> Result<u64, ErstError> {
        if timer.spent(machine) || self.left == 0 {
            return Err(ErstError::NoTime);
        }
        self.left -= 1;
        self.actions.run(machine, begin, 0);
        self.actions.run(machine, action::SET_RECORD_OFFSET, 0);
        if begin == action::BEGIN_READ {
            self.actions.run(machine, action::SET_RECORD_IDENTIFIER, id);
        }
        self.actions.run(machine, action::EXECUTE_OPERATION, 0);
        self.end(machine, timer)
    }

    /// The first id from this one on that no record has. The exchange range is then undefined.
    ///
    /// # Errors
    /// When the store does not tell.
    #[inline(never)]
    pub fn free_id<M: Machine>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        first: u64,
    ) -> Result<u64, ErstError> {
        for id in first..first.saturating_add(OPERATIONS.into()) {
            match self.operation(machine, timer, action::BEGIN_READ, id)? {
                STORE_EMPTY | NOT_FOUND => return Ok(id),
                SUCCESS => {}
                status => return Err(ErstError::Status(status as u8)),
            }
        }
        Err(ErstError::NoTime)
    }

    /// Writes the record whose text of `len` bytes lies in the range, behind [`HEADER_LEN`] bytes.
    ///
    /// # Errors
    /// When the store does not take it, or the range is no memory.
    #[inline(never)]
    pub fn write<M: Machine>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        id: u64,
        seconds: u64,
        len: u32,
    ) -> Result<(), ErstError> {
        let (header, mut there) = (header(id, seconds, len), [0; HEADER_LEN]);
        machine.write_firmware(self.range.start, &header);
        if !machine.read_firmware(self.range.start, &mut there) || there != header {
            return Err(ErstError::Range);
        }
        match self.operation(machine, timer, action::BEGIN_WRITE, id)? {
            SUCCESS => Ok(()),
            status => Err(ErstError::Status(status as u8)),
        }
    }
}

/// Text that is put into the exchange range, or only counted.
pub struct Text {
    /// Physical address of the next byte.
    pub at: u64,
    /// Where the room ends.
    pub end: u64,
    /// Nothing is written.
    pub counts: bool,
    /// Something did not fit, and is left out.
    pub is_full: bool,
}

impl Text {
    /// Goes on from this address, as if nothing had been left out so far.
    pub fn restart(&mut self, at: u64, counts: bool) {
        (self.at, self.counts, self.is_full) = (at, counts, false);
    }

    /// Appends bytes as they are.
    pub fn put<M: Memory>(&mut self, machine: &mut M, bytes: &[u8]) {
        let behind = self.at.saturating_add(bytes.len() as u64);
        if behind > self.end {
            self.is_full = true;
            return;
        }
        if !self.counts {
            machine.write_firmware(self.at, bytes);
        }
        self.at = behind;
    }
}
