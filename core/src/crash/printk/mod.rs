//! The kernel's log, still in the crashed kernel's memory: the ring of Linux 5.10 and later (`ring`), or the records of
//! older kernels (`log_buf`). VMCOREINFO says which, and where the parts are.
//!
//! Nothing in it is trusted: each address must lie in RAM, each count has a cap, and what is not consistent with itself is
//! left out.

mod log_buf;
mod ring;

use super::VmCoreInfo;
use super::elfcorehdr::Ram;
use crate::hw::Memory;
use crate::report::Fnv;
use log_buf::LogBuf;
use ring::Ring;

/// What VMCOREINFO tells of them: sizes and offsets in bytes, and addresses of variables. First the ring's, then those of
/// log_buf, then what is not of the log; the order is that of [`Layout`].
const NAMES: &[u8] = b"prb printk_ringbuffer.desc_ring printk_ringbuffer.text_data_ring prb_desc_ring.count_bits \
prb_desc_ring.descs prb_desc_ring.infos prb_desc_ring.head_id prb_desc_ring.tail_id prb_desc prb_desc.state_var \
prb_desc.text_blk_lpos prb_data_blk_lpos.begin prb_data_blk_lpos.next printk_info printk_info.ts_nsec \
printk_info.text_len printk_info.caller_id prb_data_ring.size_bits prb_data_ring.data \
printk_log printk_log.dict_len log_buf log_buf_len log_first_idx log_next_idx CRASHTIME";

/// How many they are.
const COUNT: usize = 26;

/// Their names' hashes: the image has no room for the names.
pub static FIELDS: [u32; COUNT] = hashes();

/// The values, in the order of [`FIELDS`]; 0 where VMCOREINFO tells nothing.
pub type Layout = [u64; COUNT];

/// What a field is known by.
pub const fn hash(name: &[u8]) -> u32 {
    Fnv::new().bytes(name).fold(32) as u32
}

#[expect(clippy::indexing_slicing, reason = "it is computed by the compiler")]
const fn hashes() -> [u32; COUNT] {
    let (mut hashes, mut field, mut rest, mut len) = ([0; COUNT], 0, NAMES, 0);
    while field < COUNT {
        if len == rest.len() || rest[len] == b' ' {
            let (name, more) = rest.split_at(len);
            hashes[field] = hash(name);
            field += 1;
            rest = if let [_, more @ ..] = more { more } else { more };
            len = 0;
        } else {
            len += 1;
        }
    }
    assert!(rest.is_empty());
    hashes
}

/// Bytes of a record's text that are read.
pub const TEXT_LEN: usize = 256;

/// Most of one of the log's structures that is read.
const STRUCT_LEN: usize = 128;

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
    len: usize,
    /// Where what comes behind `text` lies, and how long it is.
    rest: (u64, u64),
    text: [u8; TEXT_LEN],
    /// The structure that tells of it. Here, because one record after the other is read into the same place.
    structure: [u8; STRUCT_LEN],
}

impl Default for Record {
    #[inline(never)]
    fn default() -> Self {
        Self {
            ts_nsec: 0,
            facility: 0,
            level: 0,
            caller_id: None,
            len: 0,
            rest: (0, 0),
            text: [0; TEXT_LEN],
            structure: [0; STRUCT_LEN],
        }
    }
}

impl Record {
    /// Takes the text, which lies at `addr`; `None` when it cannot be read. `facility` and `level` are the two bytes that
    /// Linux has for them in all forms, the level in the uppermost bits.
    fn take<M: Memory>(
        &mut self,
        memory: &mut M,
        ram: &Ram,
        [facility, level]: [u8; 2],
        addr: u64,
        len: u64,
    ) -> Option<()> {
        (self.facility, self.level) = (facility, level >> 5);
        self.rest = (addr, len);
        self.piece(memory, ram)
    }

    /// Takes the next piece of the text.
    fn piece<M: Memory>(&mut self, memory: &mut M, ram: &Ram) -> Option<()> {
        let (addr, len) = self.rest;
        let piece = len.min(TEXT_LEN as u64);
        self.len = piece as usize;
        self.rest = (addr.wrapping_add(piece), len - piece);
        ram.read_virtual(memory, addr, self.text.get_mut(..self.len)?).then_some(())
    }

    /// The same, where there is one.
    pub(super) fn go_on<M: Memory>(&mut self, memory: &mut M, ram: &Ram) -> Option<()> {
        let (_, left) = self.rest;
        if left == 0 { None } else { self.piece(memory, ram) }
    }

    /// Its text; may have several lines.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or(&[])
    }
}

/// The log.
pub struct Log {
    form: Form,
    /// How many records it holds, readable or not.
    pub len: u64,
}

// There is no heap to put the larger one on.
#[expect(clippy::large_enum_variant)]
enum Form {
    Ring(Ring),
    LogBuf(LogBuf),
}

impl Log {
    /// Finds the log by what VMCOREINFO tells.
    pub(super) fn find<M: Memory>(memory: &mut M, ram: &Ram, info: &VmCoreInfo) -> Option<Self> {
        if let Some((ring, len)) = Ring::find(memory, ram, &info.log) {
            return Some(Self { form: Form::Ring(ring), len });
        }
        let (log_buf, len) = LogBuf::find(memory, ram, &info.log)?;
        Some(Self { form: Form::LogBuf(log_buf), len })
    }

    /// Reads the record that is so many before the newest one; `None` when it cannot be read.
    #[inline(never)]
    pub(super) fn record<M: Memory>(
        &self,
        memory: &mut M,
        ram: &Ram,
        before: u64,
        record: &mut Record,
    ) -> Option<()> {
        match &self.form {
            Form::Ring(ring) => ring.record(memory, ram, before, record),
            Form::LogBuf(log_buf) => log_buf.record(memory, ram, before, record),
        }
    }
}
