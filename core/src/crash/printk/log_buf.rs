//! The log of Linux before 5.10 (`kernel/printk/printk.c`): records one behind the other in a buffer, each a
//! `struct printk_log` with its text and a dictionary behind it. A length of 0 says that the next one is at the buffer's
//! beginning.
//!
//! A record tells where the next one is, none where the one before. So the log is walked once, and where every so many
//! records begin is kept: from there it is a few steps to any of them. What is damaged ends the walk; what comes before
//! counts.

use super::{Layout, Record};
use crate::crash::elfcorehdr::{Ram, u16_at, u32_at, u64_at};
use crate::hw::Memory;

/// Offsets in `struct printk_log`, the same since it has this name (3.11). Facility and level are not in VMCOREINFO anyway.
mod offset {
    pub const TS_NSEC: usize = 0;
    pub const LEN: usize = 8;
    pub const TEXT_LEN: usize = 10;
    pub const DICT_LEN: usize = 12;
    /// With CONFIG_PRINTK_CALLER (5.1).
    pub const CALLER_ID: usize = 16;
}
/// Most of it that is read.
const STRUCT_LEN: usize = 32;

/// Records from one that is kept to the next.
const STRIDE: u32 = 64;
/// So many are kept, of the newest 32,768 records.
const KEPT: u32 = 512;
/// Most records that are walked: those of a buffer of some tens of MiB.
const MOST: u32 = 1 << 19;

/// The buffer.
pub struct LogBuf {
    buf: u64,
    len: u32,
    /// Of a `struct printk_log`.
    size: u32,
    /// How many records were walked.
    count: u32,
    /// Where each so many-th begins, the newest ones in the place of the oldest.
    kept: [u32; KEPT as usize],
}

/// A record's header, where it begins and where it ends.
struct Found {
    header: [u8; STRUCT_LEN],
    at: u32,
    end: u32,
}

impl LogBuf {
    /// Finds the buffer, and how many records can be read.
    pub fn find<M: Memory>(memory: &mut M, ram: &Ram, layout: &Layout) -> Option<(Self, u64)> {
        let [.., size, dict_len, buf, len, first, end, _] = *layout;
        let mut variables = [buf, len, first, end];
        for variable in &mut variables {
            *variable = ram.number(memory, *variable)?;
        }
        let [buf, len, first, end] = variables;
        let (mut at, end, mut left) = (first as u32, end as u32, len as u32);
        let mut log = Self { buf, len: len as u32, size: size as u32, count: 0, kept: [0; KEPT as usize] };
        while dict_len == offset::DICT_LEN as u64 && at != end && log.count < MOST {
            let Some(found) = log.next(memory, ram, at).filter(|found| found.at != end) else { break };
            // Where the end is damaged it would go round and round.
            let Some(rest) = left.checked_sub(found.end - found.at) else { break };
            left = rest;
            if log.count.is_multiple_of(STRIDE)
                && let Some(kept) = log.kept.get_mut((log.count / STRIDE % KEPT) as usize)
            {
                *kept = found.at;
            }
            log.count += 1;
            at = found.end;
        }
        let first = log.count.div_ceil(STRIDE).saturating_sub(KEPT) * STRIDE;
        let len = log.count - first;
        Some((log, len.into()))
    }

    /// The record at `at`, or at the buffer's beginning where there is none.
    fn next<M: Memory>(&self, memory: &mut M, ram: &Ram, at: u32) -> Option<Found> {
        for at in [at, 0] {
            let mut header = [0; STRUCT_LEN];
            let addr = self.buf.wrapping_add(at.into());
            if !ram.read_virtual(memory, addr, header.get_mut(..self.size as usize)?) {
                return None;
            }
            let len = u32::from(u16_at(&header, offset::LEN));
            let end = at.checked_add(len).filter(|end| *end <= self.len)?;
            if len != 0 {
                return (len >= self.size).then_some(Found { header, at, end });
            }
        }
        None
    }

    /// Reads the record that is so many before the newest one; `None` when it cannot be read.
    pub fn record<M: Memory>(
        &self,
        memory: &mut M,
        ram: &Ram,
        before: u64,
        record: &mut Record,
    ) -> Option<()> {
        let number = u64::from(self.count).checked_sub(before)?.checked_sub(1)? as u32;
        let mut at = *self.kept.get((number / STRIDE % KEPT) as usize)?;
        for _ in 0..number % STRIDE {
            at = self.next(memory, ram, at)?.end;
        }
        let Found { header, at, end } = self.next(memory, ram, at)?;
        let [_, _, facility, level] = u32_at(&header, offset::DICT_LEN).to_le_bytes();
        let has_caller = self.size as usize > offset::CALLER_ID;
        record.caller_id = has_caller.then(|| u32_at(&header, offset::CALLER_ID));
        record.ts_nsec = u64_at(&header, offset::TS_NSEC);
        let text = at + self.size;
        let len = u32::from(u16_at(&header, offset::TEXT_LEN)).min(end - text);
        let addr = self.buf.wrapping_add(text.into());
        record.take(memory, ram, [facility, level], addr, len.into())
    }
}
