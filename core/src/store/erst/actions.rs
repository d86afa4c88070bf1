//! The ERST table: what is to be done to registers for each action (ACPI 6.5, 18.5.1.2).
//!
//! It is a program that the firmware has written, and it runs with the machine's every right. So it is checked as a whole before
//! its first instruction is executed: what it does, and to which registers.

use super::ErstError;
use crate::acpi::number;
use crate::arch;
use crate::hw::{Memory, Register, Registers, Wide};
use core::ops::Range;

/// Most instructions. Real tables have 16 to 19.
pub const MOST: usize = 32;

/// Where the instructions begin, and how long each is.
const HEADER_LEN: usize = 48;
const ENTRY_LEN: usize = 32;

/// The actions that matter here.
pub mod action {
    /// Begins a write.
    pub const BEGIN_WRITE: u8 = 0x0;
    /// Begins a read.
    pub const BEGIN_READ: u8 = 0x1;
    /// Ends an operation.
    pub const END: u8 = 0x3;
    /// Sets where in the range the record lies.
    pub const SET_RECORD_OFFSET: u8 = 0x4;
    /// Executes what was begun.
    pub const EXECUTE_OPERATION: u8 = 0x5;
    /// Is it still under way?
    pub const CHECK_BUSY_STATUS: u8 = 0x6;
    /// What became of it.
    pub const GET_COMMAND_STATUS: u8 = 0x7;
    /// Sets which record is read.
    pub const SET_RECORD_IDENTIFIER: u8 = 0x9;
    /// Where the range is that records are exchanged in.
    pub const GET_ERROR_LOG_ADDRESS_RANGE: u8 = 0xd;
    /// How long it is.
    pub const GET_ERROR_LOG_ADDRESS_RANGE_LENGTH: u8 = 0xe;
    /// Attributes of the range.
    pub const GET_ERROR_LOG_ADDRESS_RANGE_ATTRIBUTES: u8 = 0xf;
    /// How long an operation takes.
    pub const GET_EXECUTE_OPERATION_TIMINGS: u8 = 0x10;

    /// One bit for each action without which nothing can be written.
    pub const NEEDED: u32 = 1 << BEGIN_WRITE
        | 1 << BEGIN_READ
        | 1 << END
        | 1 << SET_RECORD_OFFSET
        | 1 << EXECUTE_OPERATION
        | 1 << CHECK_BUSY_STATUS
        | 1 << GET_COMMAND_STATUS
        | 1 << SET_RECORD_IDENTIFIER
        | 1 << GET_ERROR_LOG_ADDRESS_RANGE
        | 1 << GET_ERROR_LOG_ADDRESS_RANGE_LENGTH;
    /// The same, of all that are executed.
    pub const USED: u32 =
        NEEDED | 1 << GET_ERROR_LOG_ADDRESS_RANGE_ATTRIBUTES | 1 << GET_EXECUTE_OPERATION_TIMINGS;
}

/// The instructions that are known: those of every real table that was seen. Above are variables, jumps, pauses and copies.
const READ_REGISTER: u8 = 0;
/// READ_REGISTER_VALUE (1) is what is left of those that read, WRITE_REGISTER_VALUE (3) of those that write.
const WRITE_REGISTER: u8 = 2;
const NOOP: u8 = 4;

/// Flag: the register's other bits stay.
const PRESERVE_REGISTER: u8 = 1;

/// Address spaces (ACPI 6.5, 5.2.3.2): system memory (0), and this one.
const SYSTEM_IO: u8 = 1;

/// One instruction as it stands in the table: what it does to which register, the register's address, a value and a mask. In
/// the place of the reserved byte is the access's width in bytes: 1, 2, 4 or 8; 0 where nothing is to be done.
type Instruction = [[u8; 8]; 4];

/// A table's instructions, checked.
pub struct Actions([Instruction; MOST]);

impl Actions {
    /// None yet.
    pub const NONE: Self = Self([[[0; 8]; 4]; MOST]);

    /// Reads and checks the table at this physical address, in the place of none. What is left to check is where its
    /// registers in memory are ([`Actions::registers`]).
    ///
    /// # Errors
    /// When it is malformed, incomplete, or asks for what must not be. It is not to be executed then.
    #[inline(never)]
    pub fn read<M: Memory>(&mut self, memory: &mut M, table: u64) -> Result<(), ErstError> {
        let len = number(memory, table + 4, 4);
        let count = number(memory, table + 44, 4) as usize;
        // The serialization header's length is with the table's header or without, firmware has both.
        let is_whole = matches!(number(memory, table + 36, 4), 12 | 48)
            && (HEADER_LEN + count * ENTRY_LEN) as u64 == len;
        let Some(used) = self.0.get_mut(..count).filter(|_| is_whole) else {
            return Err(ErstError::Malformed);
        };
        if !memory.read_firmware(table + HEADER_LEN as u64, used.as_flattened_mut().as_flattened_mut()) {
            return Err(ErstError::Malformed);
        }
        let mut known = 0;
        for instruction in used {
            let [[action, opcode, _, bytes, space, width, shift, access], ..] = instruction;
            let bit = 1u32.checked_shl((*action).into()).unwrap_or(0) & action::USED;
            known |= bit;
            *bytes = 0;
            // What is never executed may be anything.
            if bit == 0 || *opcode == NOOP {
                continue;
            }
            if *opcode > NOOP {
                return Err(ErstError::Instruction);
            }
            *bytes = access_bytes(*width, *shift, *access);
            if *space > SYSTEM_IO || !may_be(&register(instruction)) {
                return Err(ErstError::Register);
            }
        }
        if known & action::NEEDED == action::NEEDED { Ok(()) } else { Err(ErstError::Malformed) }
    }

    /// Where its registers in memory are.
    pub fn registers(&self) -> impl Iterator<Item = Range<u64>> {
        let all = self.0.iter().map(register);
        let used = all.filter(|register| register.bytes > 0 && !register.is_port);
        used.map(|register| register.addr..register.addr + u64::from(register.bytes))
    }

    /// Executes an action's instructions, `value` being what they write; returns what they read last, or `value` where they
    /// read nothing.
    #[inline(never)]
    pub fn run<M: Registers>(&self, machine: &mut M, action: u8, mut value: u64) -> u64 {
        for instruction in &self.0 {
            let [[of, opcode, flags, bytes, _, _, shift, _], _, own, mask] = instruction;
            if *of != action || *bytes == 0 {
                continue;
            }
            let register = register(instruction);
            let (own, mask) = (u64::from_le_bytes(*own), u64::from_le_bytes(*mask));
            // A field of no width at a register's end is 64 bits away, which is no distance for a shift: it is taken for 0.
            let is_write = *opcode >= WRITE_REGISTER;
            let mut now = 0;
            if !is_write || flags & PRESERVE_REGISTER != 0 {
                now = machine.get_wide(&register);
            }
            if is_write {
                let new = if *opcode == WRITE_REGISTER { value } else { own };
                let new =
                    (new & mask).wrapping_shl((*shift).into()) | now & !mask.wrapping_shl((*shift).into());
                machine.put_wide(&register, new);
            } else {
                now = now.wrapping_shr((*shift).into()) & mask;
                value = if *opcode == READ_REGISTER { now } else { u64::from(now == own) };
            }
        }
        value
    }
}

/// The register of an instruction that was checked.
#[inline]
fn register([[_, _, _, bytes, space, ..], addr, ..]: &Instruction) -> Wide {
    Wide { addr: u64::from_le_bytes(*addr), is_port: *space == SYSTEM_IO, bytes: *bytes }
}

/// The width of an access to a register, in bytes; 0 where the table's fields are not of one. Real tables have byte
/// accesses to registers of 32 and 64 bits: where all of such a register is meant, it is accessed as a whole (so Linux,
/// `drivers/acpi/apei/apei-base.c`).
fn access_bytes(width: u8, shift: u8, access: u8) -> u8 {
    let whole = if shift == 0 { width } else { 0 };
    // In bits; the table's access size is a power of two, from a byte on.
    let bits = whole.max(4u8.checked_shl(access.into()).unwrap_or(0));
    let fits = u32::from(shift) + u32::from(width) <= u32::from(bits);
    if fits && matches!(bits, 8 | 16 | 32 | 64) { bits / 8 } else { 0 }
}

/// Can there be such a register?
fn may_be(register: &Wide) -> bool {
    let (start, bytes) = (register.addr, u64::from(register.bytes));
    let last = start.wrapping_add(bytes).wrapping_sub(1);
    if register.is_port {
        (1..8).contains(&bytes) && last <= 0xffff && arch::is_firmwares(start as u16, last as u16)
    } else {
        // Not across a page's end, where two would have to be mapped.
        bytes > 0 && Register::ADDRESSES.contains(&start) && start / 4096 == last / 4096
    }
}
