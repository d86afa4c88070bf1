//! The ERST table: what is to be done to registers for each action (ACPI 6.5, 18.5.1.2).
//!
//! It is a program that the firmware has written, and it runs with the machine's every right. So it is checked as a whole before
//! its first instruction is executed: what it does, and to which registers.

use super::ErstError;
use crate::acpi::Table;
use crate::arch;
use crate::crash::{u32_at, u64_at};
use crate::hw::{Memory, PHYSICAL_END, Register, Registers};
use core::ops::Range;

/// Most instructions. Real tables have 16 to 19.
pub const MOST: usize = 32;

/// Where the instructions begin, and how long each is.
const HEADER_LEN: u32 = 48;
const ENTRY_LEN: u32 = 32;
/// Length of the serialization header, without the table's and with it: firmware has both.
const SERIALIZATION: [u32; 2] = [12, 48];

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
const READ_REGISTER_VALUE: u8 = 1;
const WRITE_REGISTER: u8 = 2;
const WRITE_REGISTER_VALUE: u8 = 3;
const NOOP: u8 = 4;

/// Flag: the register's other bits stay.
const PRESERVE_REGISTER: u8 = 1;

/// Address spaces (ACPI 6.5, 5.2.3.2).
const SYSTEM_MEMORY: u8 = 0;
const SYSTEM_IO: u8 = 1;

/// One instruction, checked.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    action: u8,
    opcode: u8,
    preserve: bool,
    register: Register,
    /// The access's width in bytes: 1, 2, 4 or 8.
    bytes: u8,
    /// The field's first bit, below 64.
    shift: u8,
    mask: u64,
    value: u64,
}

/// A table's instructions, checked.
pub struct Actions {
    instructions: [Instruction; MOST],
    used: usize,
    /// One bit for each action that there are instructions of.
    known: u32,
}

impl Actions {
    /// Reads and checks a table. `is_free` tells whether physical memory is nobody's who matters here: where a register
    /// may be.
    ///
    /// # Errors
    /// When it is malformed, incomplete, or asks for what must not be.
    #[inline(never)]
    pub fn read<M: Memory>(
        memory: &mut M,
        table: Table,
        is_free: &mut dyn FnMut(&mut M, &Range<u64>) -> bool,
    ) -> Result<Self, ErstError> {
        const NONE: Instruction = Instruction {
            action: 0,
            opcode: NOOP,
            preserve: false,
            register: Register::Port(0),
            bytes: 1,
            shift: 0,
            mask: 0,
            value: 0,
        };
        let mut header = [0; HEADER_LEN as usize];
        let entries = table.len.checked_sub(HEADER_LEN).ok_or(ErstError::Malformed)?;
        let read = memory.read_firmware(table.addr, &mut header);
        if !read
            || !SERIALIZATION.contains(&u32_at(&header, 36))
            || !entries.is_multiple_of(ENTRY_LEN)
            || u32_at(&header, 44) != entries / ENTRY_LEN
        {
            return Err(ErstError::Malformed);
        }
        let mut actions = Self { instructions: [NONE; MOST], used: 0, known: 0 };
        for number in 0..entries / ENTRY_LEN {
            let mut entry = [0; ENTRY_LEN as usize];
            let at = table.addr + u64::from(HEADER_LEN + number * ENTRY_LEN);
            if !memory.read_firmware(at, &mut entry) {
                return Err(ErstError::Malformed);
            }
            let [action, opcode, flags, _, space, width, shift, access, ..] = entry;
            if action::USED.checked_shr(action.into()).unwrap_or(0) & 1 == 0 {
                continue;
            }
            let mut instruction = Instruction {
                action,
                opcode,
                preserve: flags & PRESERVE_REGISTER != 0,
                shift,
                value: u64_at(&entry, 16),
                mask: u64_at(&entry, 24),
                ..NONE
            };
            if opcode > NOOP {
                return Err(ErstError::Instruction);
            }
            if opcode != NOOP {
                let addr = u64_at(&entry, 8);
                let bytes = access_bytes(width, shift, access, addr).ok_or(ErstError::Register)?;
                let range = addr..addr.saturating_add(bytes.into());
                instruction.bytes = bytes;
                instruction.register = match space {
                    // Not across a page's end, where two would have to be mapped.
                    SYSTEM_MEMORY
                        if Register::ADDRESSES.contains(&addr)
                            && addr % 4096 + u64::from(bytes) <= 4096
                            && range.end <= PHYSICAL_END
                            && is_free(memory, &range) =>
                    {
                        Register::Memory(addr)
                    }
                    SYSTEM_IO
                        if bytes <= 4
                            && range.end <= 1 << 16
                            && arch::is_firmwares(addr as u16, bytes.into()) =>
                    {
                        Register::Port(addr as u16)
                    }
                    _ => return Err(ErstError::Register),
                };
            }
            *actions.instructions.get_mut(actions.used).ok_or(ErstError::Malformed)? = instruction;
            actions.used += 1;
            actions.known |= 1 << action;
        }
        if actions.known & action::NEEDED == action::NEEDED { Ok(actions) } else { Err(ErstError::Malformed) }
    }

    /// Has the table this action?
    #[must_use]
    pub fn has(&self, action: u8) -> bool {
        self.known >> action & 1 == 1
    }

    /// Executes an action's instructions, `value` being what they write; returns what they read last.
    #[inline(never)]
    pub fn run<M: Registers>(&self, machine: &mut M, action: u8, mut value: u64) -> u64 {
        for instruction in self.instructions.iter().take(self.used).filter(|one| one.action == action) {
            let Instruction { opcode, register, bytes, shift, mask, .. } = *instruction;
            let mut read = || machine.get_wide(register, bytes);
            match opcode {
                READ_REGISTER => value = read() >> shift & mask,
                READ_REGISTER_VALUE => value = u64::from(read() >> shift & mask == instruction.value),
                WRITE_REGISTER | WRITE_REGISTER_VALUE => {
                    let new = if opcode == WRITE_REGISTER { value } else { instruction.value };
                    let others = if instruction.preserve { read() & !(mask << shift) } else { 0 };
                    machine.put_wide(register, bytes, (new & mask) << shift | others);
                }
                _ => {}
            }
        }
        value
    }
}

/// The width of an access to a register, in bytes; `None` where the table's fields are not of one. Real tables have byte
/// accesses to registers of 32 and 64 bits: where all of such a register is meant, it is accessed as a whole (so Linux,
/// `drivers/acpi/apei/apei-base.c`).
fn access_bytes(width: u8, shift: u8, access: u8, addr: u64) -> Option<u8> {
    let whole = width / 8;
    let bytes = match access {
        0 => whole,
        1..=4 => 1 << (access - 1),
        _ => return None,
    };
    let wider = shift == 0 && addr.is_multiple_of(u64::from(whole).max(1));
    let bytes = if matches!(whole, 4 | 8) && wider { bytes.max(whole) } else { bytes };
    let fits =
        matches!(width, 8 | 16 | 32 | 64) && u16::from(shift) + u16::from(width) <= u16::from(bytes) * 8;
    fits.then_some(bytes)
}
