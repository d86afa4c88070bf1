//! The printk ring of Linux 5.10 and later (`kernel/printk/printk_ringbuffer.c`).
//!
//! Each index in it is taken modulo its ring. Reading a record costs the same whatever is in it.

use super::{Layout, Record};
use crate::crash::elfcorehdr::{Ram, u16_at, u32_at, u64_at};
use crate::hw::Memory;

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

/// The ring.
pub struct Ring {
    layout: Layout,
    count_bits: u32,
    descs: u64,
    infos: u64,
    size_bits: u32,
    data: u64,
    head: u64,
}

impl Ring {
    /// Finds the ring, and how many records it holds, readable or not.
    pub fn find<M: Memory>(memory: &mut M, ram: &Ram, layout: &Layout) -> Option<(Self, u64)> {
        let [
            prb,
            desc_ring,
            text_ring,
            count_bits,
            descs,
            infos,
            head_id,
            tail_id,
            ..,
            size_bits,
            data,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = *layout;
        let whole = ram.number(memory, prb)?;
        let (ring, text_ring) = (whole.wrapping_add(desc_ring), whole.wrapping_add(text_ring));
        let mut variables = [
            ring.wrapping_add(count_bits),
            ring.wrapping_add(descs),
            ring.wrapping_add(infos),
            ring.wrapping_add(head_id),
            ring.wrapping_add(tail_id),
            text_ring.wrapping_add(size_bits),
            text_ring.wrapping_add(data),
        ];
        for variable in &mut variables {
            *variable = ram.number(memory, *variable)?;
        }
        let [count_bits, descs, infos, head, tail, size_bits, data] = variables;
        let (count_bits, size_bits, head) = (count_bits as u32, size_bits as u32, head & ID_MASK);
        if count_bits > COUNT_BITS || size_bits > SIZE_BITS {
            return None;
        }
        let used = (head.wrapping_sub(tail) & ID_MASK).saturating_add(1);
        let ring = Self { layout: *layout, count_bits, descs, infos, size_bits, data, head };
        Some((ring, used.min(1 << count_bits)))
    }

    /// The record that is so many before the newest one; `None` when it cannot be read.
    pub fn record<M: Memory>(&self, memory: &mut M, ram: &Ram, before: u64) -> Option<Record> {
        let [
            ..,
            desc_size,
            state_var,
            lpos,
            begin,
            next,
            info_size,
            ts_nsec,
            text_len,
            caller_id,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = self.layout.map(|value| value as usize);
        let id = self.head.wrapping_sub(before) & ID_MASK;
        let index = id & ((1 << self.count_bits) - 1);
        let at = |array: u64, size: usize| array.wrapping_add(index * size as u64);

        let mut desc = [0; STRUCT_LEN];
        let desc = desc.get_mut(..desc_size)?;
        if !ram.read_virtual(memory, at(self.descs, desc_size), desc) {
            return None;
        }
        let state = u64_at(desc, state_var);
        if state & ID_MASK != id || !READABLE.contains(&(state >> ID_BITS)) {
            return None;
        }
        let mut info = [0; STRUCT_LEN];
        let info = info.get_mut(..info_size)?;
        if !ram.read_virtual(memory, at(self.infos, info_size), info) {
            return None;
        }
        // Facility and level are not in VMCOREINFO, but right behind the length since the ring exists.
        let [_, _, facility, level] = u32_at(info, text_len).to_le_bytes();
        // At the beginning of printk_info is another field.
        let caller_id = (caller_id != 0).then(|| u32_at(info, caller_id));
        let head = (u64_at(info, ts_nsec), [facility, level], caller_id);
        let (begin, next) = (u64_at(desc, lpos + begin), u64_at(desc, lpos + next));
        // Odd positions are those of a record without text.
        if begin & next & 1 == 1 {
            return Record::read(memory, ram, head, 0, 0);
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
        let addr = self.data.wrapping_add(from + BLOCK_ID);
        Record::read(memory, ram, head, addr, room.min(u16_at(info, text_len).into()))
    }
}
