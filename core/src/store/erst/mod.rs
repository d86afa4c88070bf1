//! The platform's error store (ACPI ERST, Error Record Serialization Table; ACPI 6.5, 18.5): records that outlast a reset, and
//! that Linux's own pstore lists after it.
//!
//! How it is written to stands in a table of the firmware's (`actions`). Each operation can be an SMI, which nothing bounds:
//! so it is only done when asked for, as few as can be, and every wait between them has a deadline. What is in the store is
//! neither overwritten nor cleared.

mod actions;
mod record;

pub use actions::{Actions, MOST as MOST_INSTRUCTIONS, action};
pub use record::{HEADER, HEADER_LEN, fill, first_id};

use crate::acpi;
use crate::budget::{Millis, Timer};
use crate::cmdline;
use crate::crash::{Crash, overlap, u32_at, u64_at};
use crate::hw::{Machine, Memory, PHYSICAL_END, Registers};
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
const NO_SPACE: u64 = 1;
const STORE_EMPTY: u64 = 4;
const NOT_FOUND: u64 = 5;

/// So many bytes of records are meant where no number is given: two records in a store of 8 KiB records, as is usual.
pub const DEFAULT_BYTES: u32 = 16 << 10;

/// Reads how many bytes of records a report takes at most: 1K to 64K, or 0 for none; nothing means [`DEFAULT_BYTES`].
///
/// # Errors
/// When it is none of these.
pub fn parse_bytes(text: Option<&str>) -> Result<u32, &'static str> {
    let bytes = text.map_or(Some(DEFAULT_BYTES.into()), cmdline::size);
    let bytes = bytes.filter(|bytes| *bytes == 0 || RANGE_LEN.contains(bytes));
    bytes.map(|bytes| bytes as u32).ok_or("takes 1K to 64K bytes, or nothing for 16K")
}

/// Why nothing, or no more, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErstError {
    /// The table has an instruction that is not known.
    Instruction,
    /// It names a register that must not be accessed, or that is none.
    Register,
    /// It is not consistent with itself, or lacks what is needed.
    Malformed,
    /// There is no ERST table, or no way to it.
    NoTable,
    /// The exchange range is too short, or not the firmware's own.
    Range,
    /// The range is the store itself, which neither Linux nor this writes to.
    Nvram,
    /// An operation did not end.
    Silent,
    /// The store is full (status 1).
    Full,
    /// An operation ended with another status: no hardware (2), failed (3).
    Refused,
    /// There was no time left, or as many operations were made as may be.
    NoTime,
    /// There is no record of the id (status 4 and 5).
    NoRecord,
}

/// What is wrong, in the order of [`ErstError`], for the console, each of so many bytes: a table of texts would be longer than
/// all of them together.
const TEXTS: &[u8] = b"bad table no table  bad range NVRAM mode\
no answer store fullrefused   no time   ";
const TEXT_LEN: usize = 10;

impl ErstError {
    /// What is wrong, in ten bytes. Of a bad table the tool tells more.
    #[must_use]
    pub fn text(self) -> &'static [u8] {
        let place = (self as usize).saturating_sub(Self::Malformed as usize);
        let at = place * TEXT_LEN;
        TEXTS.get(at..at + TEXT_LEN).unwrap_or(&[])
    }
}

/// What the table tells, without an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The exchange range.
    pub range: Range<u64>,
    /// Its attributes: [`NVRAM`], [`SLOW`].
    pub attributes: u64,
    /// Typical and longest time of an operation, in microseconds; 0 where the table does not tell.
    pub timings: (u32, u32),
}

impl Facts {
    /// Asks by the table's own instructions, which read registers.
    pub fn ask<M: Registers>(actions: &Actions, machine: &mut M) -> Self {
        let mut get = |action| actions.run(machine, action, 0);
        let start = get(action::GET_ERROR_LOG_ADDRESS_RANGE);
        let len = get(action::GET_ERROR_LOG_ADDRESS_RANGE_LENGTH);
        let timings = get(action::GET_EXECUTE_OPERATION_TIMINGS);
        Self {
            range: start..start.saturating_add(len),
            attributes: get(action::GET_ERROR_LOG_ADDRESS_RANGE_ATTRIBUTES),
            timings: (timings as u32, (timings >> 32) as u32),
        }
    }
}

/// What the loader tells of the machine.
#[derive(Clone, Copy, Default)]
pub struct Platform<'a> {
    /// Physical address of ACPI's root pointer; 0 where it does not tell.
    pub rsdp: u64,
    /// The dump kernel's memory map, an E820 table, as boot_params has it (Linux
    /// `Documentation/arch/x86/zero-page.rst`). RAM in it is what the dump kernel may write to.
    pub e820: &'a [[u8; 20]],
    /// An address in the image.
    pub image: u64,
}

impl Platform<'_> {
    /// Has this range a byte in the memory that was reserved for the dump kernel? Where nothing tells where that is, any has.
    #[must_use]
    pub fn is_reserved(&self, range: &Range<u64>) -> bool {
        /// Type: RAM.
        const RAM: u32 = 1;
        let mut is_known = false;
        for entry in self.e820 {
            if u32_at(entry, 16) != RAM {
                continue;
            }
            let (start, len) = (u64_at(entry, 0), u64_at(entry, 8));
            if overlap(range, &(start..start.saturating_add(len))) {
                return true;
            }
            is_known |= self.image.wrapping_sub(start) < len;
        }
        !is_known
    }
}

/// The store, and the record that is being written.
// What is used most comes first: a short distance makes short instructions.
#[repr(C)]
pub struct Erst {
    /// Where records are exchanged.
    pub start: u64,
    /// Where that ends.
    pub end: u64,
    /// Physical address of the text's next byte.
    pub at: u64,
    /// Where its room ends.
    pub limit: u64,
    /// The record's id.
    pub id: u64,
    /// How long an operation is waited for.
    wait: Millis,
    /// How many may still be made.
    left: u32,
    /// The text is only counted.
    pub counts: bool,
    /// Something of the text did not fit, and is left out.
    pub is_full: bool,
    actions: Actions,
}

impl Erst {
    /// One that is to be opened, with the id of the first record.
    #[must_use]
    #[inline]
    pub fn new(id: u64) -> Self {
        Self {
            start: 0,
            end: 0,
            at: 0,
            limit: 0,
            id,
            wait: LONGEST_WAIT,
            left: OPERATIONS,
            counts: false,
            is_full: false,
            actions: Actions::NONE,
        }
    }

    /// Finds the table, checks it, and ends an operation that the crashed kernel may have left open. Nothing is done where the
    /// table asks for the RAM of `crash`, or for what is reserved.
    ///
    /// # Errors
    /// When nothing can be written so.
    #[inline(never)]
    pub fn open<M: Machine>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        platform: &Platform,
        crash: &Crash,
    ) -> Result<(), ErstError> {
        let table = acpi::table(machine, platform.rsdp, *b"ERST").ok_or(ErstError::NoTable)?;
        let Self { actions, .. } = self;
        actions.read(machine, table)?;
        let is_free =
            |machine: &mut M, range| !platform.is_reserved(&range) && !crash.overlaps(machine, &range);
        for register in actions.registers() {
            if !is_free(machine, register) {
                return Err(ErstError::Register);
            }
        }
        let mut get = |action| actions.run(machine, action, 0);
        if get(action::GET_ERROR_LOG_ADDRESS_RANGE_ATTRIBUTES) & NVRAM != 0 {
            return Err(ErstError::Nvram);
        }
        let start = get(action::GET_ERROR_LOG_ADDRESS_RANGE);
        let len = get(action::GET_ERROR_LOG_ADDRESS_RANGE_LENGTH).min(*RANGE_LEN.end());
        // What the table says is believed where it is less.
        let says = (get(action::GET_EXECUTE_OPERATION_TIMINGS) >> 32) as u32;
        if says != 0 {
            self.wait = LONGEST_WAIT.min(says / 1024 + GRACE);
        }
        let is_memory = len >= *RANGE_LEN.start() && (4096..PHYSICAL_END - RANGE_LEN.end()).contains(&start);
        (self.start, self.end) = (start, start.wrapping_add(len));
        if !is_memory || !is_free(machine, self.start..self.end) {
            return Err(ErstError::Range);
        }
        // Whatever became of what the crashed kernel has begun.
        if self.finish(machine, timer) == Err(ErstError::Silent) {
            return Err(ErstError::Silent);
        }
        Ok(())
    }

    /// Waits until no operation is under way, takes its status, and ends it.
    #[inline(never)]
    fn finish<M: Machine>(&mut self, machine: &mut M, timer: &mut Timer) -> Result<(), ErstError> {
        let actions = &self.actions;
        timer.now(machine);
        let deadline = timer.within(self.wait);
        let idle = timer.wait(machine, deadline, |machine| {
            (actions.run(machine, action::CHECK_BUSY_STATUS, 0) == 0).then_some(())
        });
        if idle.is_none() {
            return Err(ErstError::Silent);
        }
        let status = actions.run(machine, action::GET_COMMAND_STATUS, 0);
        actions.run(machine, action::END, 0);
        match status {
            SUCCESS => Ok(()),
            NO_SPACE => Err(ErstError::Full),
            STORE_EMPTY | NOT_FOUND => Err(ErstError::NoRecord),
            _ => Err(ErstError::Refused),
        }
    }

    /// Makes an operation on the record of this id.
    #[inline(never)]
    fn operation<M: Machine>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        begin: u8,
    ) -> Result<(), ErstError> {
        if timer.spent(machine) || self.left == 0 {
            return Err(ErstError::NoTime);
        }
        self.left -= 1;
        let mut run = |action, value| self.actions.run(machine, action, value);
        run(begin, 0);
        run(action::SET_RECORD_OFFSET, 0);
        if begin == action::BEGIN_READ {
            run(action::SET_RECORD_IDENTIFIER, self.id);
        }
        run(action::EXECUTE_OPERATION, 0);
        self.finish(machine, timer)
    }

    /// Looks for the first id from this one on that no record has. What is in the range is then undefined.
    ///
    /// # Errors
    /// When the store does not tell.
    #[inline(never)]
    pub fn find_free_id<M: Machine>(&mut self, machine: &mut M, timer: &mut Timer) -> Result<(), ErstError> {
        // The operations are counted.
        for _ in 0..=OPERATIONS {
            match self.operation(machine, timer, action::BEGIN_READ) {
                Ok(()) => self.id = self.id.wrapping_add(1),
                Err(ErstError::NoRecord) => break,
                error => return error,
            }
        }
        Ok(())
    }

    /// Begins a record of at most `room` bytes.
    pub fn begin(&mut self, room: u64) {
        self.at = self.start + HEADER_LEN as u64;
        self.limit = self.start + room;
    }

    /// Appends bytes to its text as they are.
    #[inline(never)]
    pub fn put<M: Memory>(&mut self, machine: &mut M, bytes: &[u8]) {
        let behind = self.at + bytes.len() as u64;
        if behind > self.limit {
            self.is_full = true;
            return;
        }
        if !self.counts {
            machine.write_firmware(self.at, bytes);
        }
        self.at = behind;
    }

    /// Writes the record into the store.
    ///
    /// # Errors
    /// When the store does not take it.
    #[inline(never)]
    pub fn write<M: Machine>(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        seconds: u64,
    ) -> Result<(), ErstError> {
        let mut record = HEADER;
        fill(&mut record, self.id, seconds, self.at - self.start);
        machine.write_firmware(self.start, &record);
        self.operation(machine, timer, action::BEGIN_WRITE)
    }
}
