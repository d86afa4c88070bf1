//! The printk ring of Linux 5.10 and later (`kernel/printk/printk_ringbuffer.c`).
//!
//! Each index in it is taken modulo its ring. Reading a record costs the same whatever is in it.

use super::{Layout, Record, STRUCT_LEN};
use crate::crash::elfcorehdr::{Ram, u32_at, u64_at};
use crate::hw::Memory;

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

    /// Reads the record that is so many before the newest one; `None` when it cannot be read.
    pub fn record<M: Memory>(
        &self,
        memory: &mut M,
        ram: &Ram,
        before: u64,
        record: &mut Record,
    ) -> Option<()> {
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
            _,
        ] = &self.layout;
        let id = self.head.wrapping_sub(before) & ID_MASK;
        let index = id & ((1 << self.count_bits) - 1);
        let mut read = |array: u64, size: u64, structure: &mut [u8; STRUCT_LEN]| {
            let addr = array.wrapping_add(index.wrapping_mul(size));
            ram.read_virtual(memory, addr, structure.get_mut(..size as usize)?).then_some(())
        };
        let at = |structure: &[u8], field: u64| u64_at(structure, field as usize);

        read(self.descs, *desc_size, &mut record.structure)?;
        let state = at(&record.structure, *state_var);
        if state & ID_MASK != id || !READABLE.contains(&(state >> ID_BITS)) {
            return None;
        }
        let (begin, next) = (at(&record.structure, lpos + begin), at(&record.structure, lpos + next));
        read(self.infos, *info_size, &mut record.structure)?;
        record.ts_nsec = at(&record.structure, *ts_nsec);
        // Facility and level are not in VMCOREINFO, but right behind the length since the ring exists.
        let [len, more, facility, level] = u32_at(&record.structure, *text_len as usize).to_le_bytes();
        let text_len = u16::from_le_bytes([len, more]);
        // At the beginning of printk_info is another field.
        record.caller_id = (*caller_id != 0).then(|| u32_at(&record.structure, *caller_id as usize));
        let head = [facility, level];
        // Odd positions are those of a record without text.
        if begin & next & 1 == 1 {
            return record.take(memory, ram, head, 0, 0);
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
        record.take(memory, ram, head, addr, room.min(text_len.into()))
    }
}
