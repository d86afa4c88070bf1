//! ACPI tables, as far as one is to be found: from the root pointer to the table of a signature (ACPI 6.5, 5.2.5 to
//! 5.2.8).
//!
//! The tables are the firmware's, and lie where anybody may have written to. Each length has a cap, each checksum is made.

use crate::crash::{u32_at, u64_at};
use crate::hw::{Memory, PHYSICAL_END};

/// Length of a table's header.
pub const HEADER_LEN: usize = 36;

/// Length of the root pointer: the first version, whose checksum is of these bytes alone, and the second.
const RSDP_1_LEN: u32 = 20;
const RSDP_LEN: usize = 36;

/// Longest table that is looked at, and most tables that a root table may name. Real machines have some fifty.
const LONGEST: u32 = 1 << 16;
const TABLES: u32 = 256;

/// A table whose length and checksum are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Physical address of its header.
    pub addr: u64,
    /// Its length in bytes, header included: [`HEADER_LEN`] to 64 KiB.
    pub len: u32,
}

/// The table of this signature, by the root pointer at physical address `rsdp`; `None` where there is none, or what leads there
/// is not right.
#[inline(never)]
pub fn table<M: Memory>(memory: &mut M, rsdp: u64, signature: [u8; 4]) -> Option<Table> {
    let mut root = [0; RSDP_LEN];
    if rsdp == 0 || !read(memory, rsdp, &mut root) || !root.starts_with(b"RSD PTR ") {
        return None;
    }
    sum_is_right(memory, rsdp, RSDP_1_LEN)?;
    let [.., revision, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = root;
    let (root, entry_len) = if revision < 2 {
        (check(memory, u32_at(&root, 16).into(), *b"RSDT")?, 4)
    } else {
        sum_is_right(memory, rsdp, u32_at(&root, 20).clamp(RSDP_LEN as u32, LONGEST))?;
        (check(memory, u64_at(&root, 24), *b"XSDT")?, 8)
    };
    let count = (root.len - HEADER_LEN as u32) / entry_len;
    (0..count.min(TABLES)).find_map(|number| {
        let mut entry = [0; 8];
        let at = root.addr + u64::from(HEADER_LEN as u32 + number * entry_len);
        let read = read(memory, at, entry.get_mut(..entry_len as usize)?);
        check(memory, u64::from_le_bytes(entry), signature).filter(|_| read)
    })
}

/// The table at this address, where it is one of this signature.
fn check<M: Memory>(memory: &mut M, addr: u64, signature: [u8; 4]) -> Option<Table> {
    let mut header = [0; HEADER_LEN];
    if addr == 0 || !read(memory, addr, &mut header) || !header.starts_with(&signature) {
        return None;
    }
    let len = u32_at(&header, 4);
    sum_is_right(memory, addr, len).filter(|()| len >= HEADER_LEN as u32)?;
    Some(Table { addr, len })
}

/// Is the sum of these bytes 0?
fn sum_is_right<M: Memory>(memory: &mut M, addr: u64, len: u32) -> Option<()> {
    let mut sum = 0u8;
    for at in 0..len.min(LONGEST) {
        let mut byte = [0];
        if !read(memory, addr + u64::from(at), &mut byte) {
            return None;
        }
        sum = sum.wrapping_add(u8::from_le_bytes(byte));
    }
    (len <= LONGEST && sum == 0).then_some(())
}

/// Reads, where there can be memory.
fn read<M: Memory>(memory: &mut M, addr: u64, buf: &mut [u8]) -> bool {
    addr < PHYSICAL_END - LONGEST as u64 && memory.read_firmware(addr, buf)
}
