//! ACPI tables, as far as one is to be found: from the root pointer to the table of a signature (ACPI 6.5, 5.2.5 to
//! 5.2.8).
//!
//! The tables are the firmware's, and lie where anybody may have written to. Each length has a cap, each checksum is made.

use crate::hw::{Memory, PHYSICAL_END};

/// Length of a table's header.
pub const HEADER_LEN: u32 = 36;
/// Length of the root pointer: what its first checksum is of.
const RSDP_LEN: u32 = 20;

/// Longest table that is looked at, and most tables that a root table may name. Real machines have some fifty.
const LONGEST: u32 = 1 << 16;
const TABLES: u32 = 256;

/// The physical address of the table of this signature, by the root pointer at `rsdp`. Its length is [`HEADER_LEN`] to 64 KiB, and
/// its checksum right. `None` where there is none, or what leads there is not right.
#[inline(never)]
pub fn table<M: Memory>(memory: &mut M, rsdp: u64, signature: [u8; 4]) -> Option<u64> {
    if number(memory, rsdp, 8).to_le_bytes() != *b"RSD PTR " || !sum_is_right(memory, rsdp, RSDP_LEN) {
        return None;
    }
    // Behind the identification of who made it; from the second version on there is another table's address.
    let is_first = number(memory, rsdp + 15, 1) < 2;
    let (at, step, root) = if is_first { (16, 4, *b"RSDT") } else { (24, 8, *b"XSDT") };
    let addr = number(memory, rsdp + at, step);
    let len = check(memory, addr, root).min(HEADER_LEN + TABLES * 8);
    // Not only for speed: no sum is made of this address, and its end may lie behind that of all memory.
    if len == 0 {
        return None;
    }
    let (mut at, end) = (addr + u64::from(HEADER_LEN), addr + u64::from(len));
    while at < end {
        let addr = number(memory, at, step);
        if check(memory, addr, signature) > 0 {
            return Some(addr);
        }
        at += u64::from(step);
    }
    None
}

/// The length of the table at this address, 0 where it is none of this signature.
#[inline(never)]
fn check<M: Memory>(memory: &mut M, addr: u64, signature: [u8; 4]) -> u32 {
    let begin = number(memory, addr, 8);
    let len = (begin >> 32) as u32;
    let is_it = begin as u32 == u32::from_le_bytes(signature)
        && (HEADER_LEN..=LONGEST).contains(&len)
        && sum_is_right(memory, addr, len);
    if is_it { len } else { 0 }
}

/// Is the sum of these bytes 0?
#[inline(never)]
fn sum_is_right<M: Memory>(memory: &mut M, addr: u64, len: u32) -> bool {
    let mut sum = 0;
    for at in 0..len {
        sum += number(memory, addr + u64::from(at), 1);
    }
    sum as u8 == 0
}

/// The number of so many bytes at this address; 0 where it cannot be read.
#[inline(never)]
pub(crate) fn number<M: Memory>(memory: &mut M, addr: u64, len: u8) -> u64 {
    let mut bytes = [0; 8];
    let there = addr != 0 && addr < PHYSICAL_END - u64::from(LONGEST);
    let buf = bytes.get_mut(..usize::from(len)).filter(|_| there);
    let read = buf.is_some_and(|buf| memory.read_firmware(addr, buf));
    if read { u64::from_le_bytes(bytes) } else { 0 }
}
