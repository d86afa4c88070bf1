//! The platform's error store as real firmware has it: registers in memory that it keeps for itself, not at a page's
//! beginning, and an SMI by port 0xb2 that executes what they say. And the tables that lead there.

use crate::Ram;
use std::collections::BTreeMap;

/// Where the tables, the registers and the exchange range are.
const RSDP: u64 = 0x7_f5a0;
const TABLES: u64 = 0xbf70_0000;
const REGISTERS: u64 = 0xbf80_0104;
const RANGE: u64 = 0xbf90_0011;
/// The port that executes, and what is written there.
const SMI: u16 = 0xb2;
const EXECUTE: u8 = 0x9f;

/// The registers, each of eight bytes.
const COMMAND: u64 = 0;
const OFFSET: u64 = 1;
const BUSY: u64 = 2;
const STATUS: u64 = 3;
const ID: u64 = 4;
const ADDRESS: u64 = 5;
const LENGTH: u64 = 6;
const ATTRIBUTES: u64 = 7;
const TIMINGS: u64 = 8;
const COUNT: u64 = 9;

/// What the command register is to begin; 0, nothing.
const WRITE: u64 = 1;
const READ: u64 = 2;

/// An instruction of the table: action, opcode, flags, address space, width, first bit, access size, address, value, mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Serialization action.
    pub action: u8,
    /// Instruction.
    pub opcode: u8,
    /// Flags.
    pub flags: u8,
    /// Address space.
    pub space: u8,
    /// The register's width in bits.
    pub width: u8,
    /// Its first bit.
    pub shift: u8,
    /// Access size.
    pub access: u8,
    /// Its address.
    pub addr: u64,
    /// Value.
    pub value: u64,
    /// Mask.
    pub mask: u64,
}

impl Entry {
    /// An instruction for the register of this number, of eight bytes.
    #[must_use]
    pub fn of(action: u8, opcode: u8, number: u64, value: u64) -> Self {
        let addr = REGISTERS + 8 * number;
        Self {
            action,
            opcode,
            flags: 0,
            space: 0,
            width: 64,
            shift: 0,
            access: 4,
            addr,
            value,
            mask: u64::MAX,
        }
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&[
            self.action,
            self.opcode,
            self.flags,
            0,
            self.space,
            self.width,
            self.shift,
            self.access,
        ]);
        bytes[8..16].copy_from_slice(&self.addr.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.value.to_le_bytes());
        bytes[24..].copy_from_slice(&self.mask.to_le_bytes());
        bytes
    }
}

/// A store. Each field is a way to misbehave.
#[derive(Clone, Debug)]
pub struct Erst {
    /// The records by their ids.
    pub records: BTreeMap<u64, Vec<u8>>,
    /// How many it holds.
    pub room: usize,
    /// The table's instructions.
    pub entries: Vec<Entry>,
    /// The exchange range's address and length, as the table has them.
    pub range: (u64, u64),
    /// Attributes of the range.
    pub attributes: u64,
    /// Longest time of an operation by the table, in microseconds.
    pub says_us: u32,
    /// How long an operation takes behind the SMI: it is busy for so long.
    pub busy_us: u64,
    /// How long the SMI takes.
    pub smi_us: u64,
    /// What operations end with, whatever they are.
    pub status: Option<u64>,
    /// How many operations were executed.
    pub executed: u32,
    /// Every register that was written to: port or address.
    pub written: Vec<u64>,
    /// What its registers hold.
    pub registers: [u64; 10],
    /// An operation is under way up to this microsecond.
    pub busy_until: u64,
}

impl Default for Erst {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            room: 7,
            entries: Self::entries(),
            range: (RANGE, 0x2000),
            attributes: 0,
            says_us: 0,
            busy_us: 500,
            smi_us: 200,
            status: None,
            executed: 0,
            written: Vec::new(),
            registers: [0; 10],
            busy_until: 0,
        }
    }
}

impl Erst {
    /// The table that a server has: an instruction for each action.
    #[must_use]
    pub fn entries() -> Vec<Entry> {
        let port = Entry {
            space: 1,
            width: 8,
            access: 1,
            addr: SMI.into(),
            mask: 0xff,
            ..Entry::of(5, 3, 0, EXECUTE.into())
        };
        vec![
            Entry::of(0x0, 3, COMMAND, WRITE),
            Entry::of(0x1, 3, COMMAND, READ),
            Entry::of(0x2, 3, COMMAND, 3),
            Entry::of(0x3, 3, COMMAND, 0),
            // As firmware has it: all of the register is meant.
            Entry { width: 32, access: 1, mask: 0xffff_ffff, ..Entry::of(0x4, 2, OFFSET, 0) },
            port,
            Entry { width: 8, access: 1, mask: 1, ..Entry::of(0x6, 1, BUSY, 1) },
            Entry { width: 8, shift: 1, access: 2, mask: 0x1f, ..Entry::of(0x7, 0, STATUS, 0) },
            Entry::of(0x8, 0, ID, 0),
            Entry::of(0x9, 2, ID, 0),
            Entry::of(0xa, 0, COUNT, 0),
            Entry::of(0xb, 4, 0, 0),
            Entry::of(0xd, 0, ADDRESS, 0),
            Entry::of(0xe, 0, LENGTH, 0),
            Entry::of(0xf, 0, ATTRIBUTES, 0),
            Entry::of(0x10, 0, TIMINGS, 0),
        ]
    }

    /// The table's bytes, checksum and all.
    #[must_use]
    pub fn table(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(12u32.to_le_bytes());
        body.extend([0; 4]);
        body.extend((self.entries.len() as u32).to_le_bytes());
        body.extend(self.entries.iter().flat_map(Entry::bytes));
        table(*b"ERST", &body)
    }

    /// Puts range and tables into memory, `erst` being the ERST table's bytes; returns the root pointer's address.
    pub fn put(&self, memory: &mut Ram, erst: &[u8]) -> u64 {
        memory.put(self.range.0, vec![0xaa; self.range.1 as usize]);
        let erst_at = TABLES + 0x1003;
        memory.put(erst_at, erst.to_vec());
        let other = table(*b"FACP", &[0; 200]);
        memory.put(TABLES + 0x800, other);
        let xsdt = table(*b"XSDT", [TABLES + 0x800, erst_at].map(u64::to_le_bytes).as_flattened());
        memory.put(TABLES, xsdt);
        let mut root = [0; 36];
        root[..8].copy_from_slice(b"RSD PTR ");
        root[15] = 2;
        root[20] = 36;
        root[24..32].copy_from_slice(&TABLES.to_le_bytes());
        root[8] = sum(&root[..20]).wrapping_neg();
        root[32] = sum(&root).wrapping_neg();
        memory.put(RSDP, root.to_vec());
        RSDP
    }

    /// Which register it is, at which byte of it.
    fn register(&self, addr: u64) -> Option<(usize, u32)> {
        let at = addr.checked_sub(REGISTERS).filter(|at| *at < 8 * self.registers.len() as u64)?;
        Some(((at / 8) as usize, (at % 8 * 8) as u32))
    }

    /// Reads a register in memory; `None` where there is none of its own.
    pub(crate) fn read(&mut self, addr: u64, now: u64) -> Option<u64> {
        let (number, shift) = self.register(addr)?;
        let value = match number as u64 {
            BUSY => u64::from(now < self.busy_until),
            ADDRESS => self.range.0,
            LENGTH => self.range.1,
            ATTRIBUTES => self.attributes,
            TIMINGS => u64::from(self.says_us) << 32,
            COUNT => self.records.len() as u64,
            _ => self.registers[number],
        };
        Some(value >> shift)
    }

    /// Writes one; false where there is none.
    pub(crate) fn write(&mut self, addr: u64, value: u64) -> bool {
        let Some((number, _)) = self.register(addr) else { return false };
        self.written.push(addr);
        self.registers[number] = value;
        true
    }

    /// What is written to the port; false where it is another one. Returns how long the SMI takes, in microseconds.
    pub(crate) fn smi(&mut self, port: u16, value: u8, memory: &mut Ram, now: u64) -> Option<u64> {
        if port != SMI || value != EXECUTE {
            return None;
        }
        self.written.push(port.into());
        self.executed += 1;
        let [command, offset, ..] = self.registers;
        let at = self.range.0.wrapping_add(offset & 0xffff_ffff);
        let status = match command {
            WRITE => self.store(memory, at),
            READ => match self.records.get(&self.registers[ID as usize]) {
                Some(record) if self.is_in_range(at, record.len()) => {
                    memory.write(at, record);
                    0
                }
                Some(_) => 3,
                None if self.records.is_empty() => 4,
                None => 5,
            },
            _ => 3,
        };
        self.registers[STATUS as usize] = self.status.unwrap_or(status) << 1;
        self.busy_until = now.saturating_add(self.smi_us).saturating_add(self.busy_us);
        Some(self.smi_us)
    }

    /// Leaves an operation open, as a kernel does that panics in the middle of it.
    pub fn leave_open(&mut self, memory: &mut Ram) {
        self.registers[COMMAND as usize] = READ;
        self.smi(SMI, EXECUTE, memory, 0);
        self.executed = 0;
    }

    fn store(&mut self, memory: &mut Ram, at: u64) -> u64 {
        let Some(header) = memory.copy(at, 200).filter(|_| self.is_in_range(at, 200)) else { return 3 };
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (id, len) = (number(96), number(20) & 0xffff_ffff);
        let record = memory.copy(at, len as usize);
        let Some(record) =
            record.filter(|record| record.starts_with(b"CPER") && self.is_in_range(at, record.len()))
        else {
            return 3;
        };
        if self.records.len() == self.room && !self.records.contains_key(&id) {
            return 1;
        }
        self.records.insert(id, record);
        0
    }

    /// Firmware writes and reads nowhere else.
    fn is_in_range(&self, at: u64, len: usize) -> bool {
        let (start, room) = self.range;
        at.checked_sub(start).is_some_and(|offset| offset.saturating_add(len as u64) <= room)
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// An ACPI table of this body.
#[must_use]
pub fn table(signature: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table = vec![0; 36];
    table[..4].copy_from_slice(&signature);
    table[4..8].copy_from_slice(&(36 + body.len() as u32).to_le_bytes());
    table[8] = 1;
    table.extend(body);
    table[9] = sum(&table).wrapping_neg();
    table
}
