//! The printk ring: the kernel's log, still in the crashed kernel's memory (Linux 5.10 and later,
//! `kernel/printk/printk_ringbuffer.c`; VMCOREINFO says where its parts are).
//!
//! Nothing in it is trusted: each address must lie in RAM, each index is taken modulo its ring, each count has a
//! cap, and a record that is not consistent with itself is left out. Reading one costs the same whatever is in it.

use super::elfcorehdr::{Ram, u16_at, u32_at, u64_at};
use crate::hw::Memory;

/// What VMCOREINFO tells of the structures; the order is that of [`Layout`].
pub const FIELDS: &[u8] = b"OFFSET(printk_ringbuffer.desc_ring) OFFSET(printk_ringbuffer.text_data_ring) \
OFFSET(prb_desc_ring.count_bits) OFFSET(prb_desc_ring.descs) OFFSET(prb_desc_ring.infos) \
OFFSET(prb_desc_ring.head_id) OFFSET(prb_desc_ring.tail_id) SIZE(prb_desc) OFFSET(prb_desc.state_var) \
OFFSET(prb_desc.text_blk_lpos) OFFSET(prb_data_blk_lpos.begin) OFFSET(prb_data_blk_lpos.next) SIZE(printk_info) \
OFFSET(printk_info.ts_nsec) OFFSET(printk_info.text_len) OFFSET(printk_info.caller_id) \
OFFSET(prb_data_ring.size_bits) OFFSET(prb_data_ring.data)";

/// Sizes and offsets in bytes, in the order of [`FIELDS`].
pub type Layout = [u16; 18];

/// Bytes of a record's text that are read.
pub const TEXT_LEN: usize = 256;
/// Most of a structure that is read.
const STRUCT_LEN: usize = 128;
/// Most records are 2^24, for a log of 1 GiB; and the text's ring is at most 2 GiB (`log_buf_len=`).
const COUNT_BITS: u32 = 24;
const SIZE_BITS: u32 = 31;
/// The state of a descriptor is in its topmost bits, the id below.
const ID_BITS: u32 = 62;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
/// States that can be read: committed, finalized.
const READABLE: core::ops::RangeInclusive<u64> = 1..=2;
/// A data block begins with its descriptor's id.
const BLOCK_ID: u64 = 8;

/// One record.
#[derive(Clone, Copy)]
pub struct Record {
    /// When it was written, in nanoseconds since the boot.
    pub ts_nsec: u64,
    /// 0 for the kernel's own text. User space cannot write those: what it sends to /dev/kmsg is changed to 1.
    pub facility: u8,
    /// How urgent it is, 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Who wrote it: a process id, or with bit 31 the CPU's number where that was in an interrupt
    /// (`printk_caller_id()` in Linux `kernel/printk/printk.c`); `None` where the log does not tell.
    pub caller_id: Option<u32>,
    text: [u8; TEXT_LEN],
    len: usize,
}

impl Record {
    /// Its text; may have several lines.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or(&[])
    }
}

/// The ring.
pub struct Log {
    layout: Layout,
    count_bits: u32,
    descs: u64,
    infos: u64,
    size_bits: u32,
    data: u64,
    head: u64,
    /// How many records it holds, readable or not.
    pub len: u64,
}

impl Log {
    /// Finds the ring by the address of the pointer to it.
    pub(super) fn find<M: Memory>(memory: &mut M, ram: &Ram, prb: u64, layout: Layout) -> Option<Self> {
        let [desc_ring, text_ring, count_bits, descs, infos, head_id, tail_id, .., size_bits, data] = layout;
        let mut number = |addr: u64, offset: u16| {
            let mut bytes = [0; 8];
            let addr = addr.checked_add(u64::from(offset))?;
            ram.read_virtual(memory, addr, &mut bytes).then_some(u64::from_le_bytes(bytes))
        };
        let ring = number(prb, 0)?;
        let text_ring = ring.checked_add(u64::from(text_ring))?;
        let ring = ring.checked_add(u64::from(desc_ring))?;
        let head = number(ring, head_id)? & ID_MASK;
        let count_bits = number(ring, count_bits)? as u32;
        let size_bits = number(text_ring, size_bits)? as u32;
        if count_bits > COUNT_BITS || size_bits > SIZE_BITS {
            return None;
        }
        let used = (head.wrapping_sub(number(ring, tail_id)?) & ID_MASK).saturating_add(1);
        Some(Self {
            layout,
            count_bits,
            descs: number(ring, descs)?,
            infos: number(ring, infos)?,
            size_bits,
            data: number(text_ring, data)?,
            head,
            len: used.min(1 << count_bits),
        })
    }

    /// The record that is so many before the newest one; `None` when it cannot be read.
    pub fn record<M: Memory>(&self, memory: &mut M, ram: &Ram, before: u64) -> Option<Record> {
        let [.., desc_size, state_var, lpos, begin, next, info_size, ts_nsec, text_len, caller_id, _, _] =
            self.layout.map(usize::from);
        let id = self.head.wrapping_sub(before) & ID_MASK;
        let index = id & ((1 << self.count_bits) - 1);
        let at = |array: u64, size: usize| array.checked_add(index * size as u64);

        let mut desc = [0; STRUCT_LEN];
        let desc = desc.get_mut(..desc_size)?;
        if !ram.read_virtual(memory, at(self.descs, desc_size)?, desc) {
            return None;
        }
        let state = u64_at(desc, state_var);
        if state & ID_MASK != id || !READABLE.contains(&(state >> ID_BITS)) {
            return None;
        }
        let mut info = [0; STRUCT_LEN];
        let info = info.get_mut(..info_size)?;
        if !ram.read_virtual(memory, at(self.infos, info_size)?, info) {
            return None;
        }
        // Facility and level are not in VMCOREINFO, but right behind the length since the ring exists.
        let [_, _, facility, flags_level] = u32_at(info, text_len).to_le_bytes();
        let mut record = Record {
            ts_nsec: u64_at(info, ts_nsec),
            facility,
            level: flags_level >> 5,
            // At the beginning of printk_info is another field.
            caller_id: (caller_id != 0).then(|| u32_at(info, caller_id)),
            text: [0; TEXT_LEN],
            len: 0,
        };
        let (begin, next) = (u64_at(desc, lpos + begin), u64_at(desc, lpos + next));
        // Odd positions are those of a record without text.
        if begin & next & 1 == 1 {
            return Some(record);
        }
        let size = 1 << self.size_bits;
        let wrap = |lpos: u64| lpos >> self.size_bits;
        let (from, to) = match wrap(next).wrapping_sub(wrap(begin)) {
            0 => (begin & (size - 1), next & (size - 1)),
            // Newer kernels fill the ring to its last byte.
            1 if next & (size - 1) == 0 => (begin & (size - 1), size),
            // A block that would not fit at the end lies at the beginning.
            1 => (0, next & (size - 1)),
            _ => return None,
        };
        let room = to.checked_sub(from)?.checked_sub(BLOCK_ID)?;
        let len = u64::from(u16_at(info, text_len)).min(room).min(TEXT_LEN as u64) as usize;
        let addr = self.data.checked_add(from + BLOCK_ID)?;
        if !ram.read_virtual(memory, addr, record.text.get_mut(..len)?) {
            return None;
        }
        record.len = len;
        Some(record)
    }
}
