//! The dead kernel's log record by record, with who wrote each: what vmcore-dmesg leaves out. Read from the dump's own
//! memory, in the dump kernel (`src/bin/vmcore-log.rs`).
//!
//! Written from Linux' documents (`Documentation/admin-guide/kdump/gdbmacros.txt`) and not with core's reader, which this
//! is to judge.

use crate::judge::vmcore::Notes;
use anyhow::{Context, Result};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Nanoseconds since the boot.
    pub ts_nsec: u64,
    /// 0 for the kernel's own.
    pub facility: u8,
    /// A process, or with bit 31 a CPU that was in an interrupt.
    pub caller_id: u32,
    /// One line, or several.
    pub text: String,
}

/// As a kernel with CONFIG_PRINTK_CALLER prints it: `[    4.271538][   T93] text`. A second line of the same record has
/// nothing before it.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.caller_id >> 31 == 1 { 'C' } else { 'T' };
        let caller = format!("{kind}{}", self.caller_id & !(1 << 31));
        let micros = self.ts_nsec / 1000;
        write!(f, "[{:5}.{:06}][{caller:>6}] {}", micros / 1_000_000, micros % 1_000_000, self.text)
    }
}

/// A dump, and what is known of it.
struct Dump<'a> {
    file: &'a File,
    notes: &'a Notes,
}

impl Dump<'_> {
    fn bytes(&self, address: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, self.notes.offset(address)?)?;
        Ok(bytes)
    }

    fn number(&self, address: u64) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(address, 8)?.try_into().unwrap_or_default()))
    }

    fn info(&self, kind: &str, name: &str) -> Result<u64> {
        Ok(self.notes.info(&format!("{kind}({name})"))?.parse()?)
    }

    /// Where a member of a structure lies.
    fn member(&self, of: u64, name: &str) -> Result<u64> {
        Ok(of + self.info("OFFSET", name)?)
    }
}

/// The log's records, the oldest first, without those that cannot be read.
///
/// # Errors
/// When the dump has no such log.
pub fn records(file: &File, notes: &Notes) -> Result<Vec<Record>> {
    let dump = Dump { file, notes };
    let prb = dump.number(u64::from_str_radix(notes.info("SYMBOL(prb)")?, 16)?)?;
    let ring = dump.member(prb, "printk_ringbuffer.desc_ring")?;
    let texts = dump.member(prb, "printk_ringbuffer.text_data_ring")?;
    let descs = dump.number(dump.member(ring, "prb_desc_ring.descs")?)?;
    let infos = dump.number(dump.member(ring, "prb_desc_ring.infos")?)?;
    let data = dump.number(dump.member(texts, "prb_data_ring.data")?)?;
    let bits = |at: u64| -> Result<u64> { Ok(1 << (dump.number(at)? & 0xff)) };
    let count = bits(dump.member(ring, "prb_desc_ring.count_bits")?)?;
    let size = bits(dump.member(texts, "prb_data_ring.size_bits")?)?;
    let head = dump.number(dump.member(ring, "prb_desc_ring.head_id")?)?;
    let tail = dump.number(dump.member(ring, "prb_desc_ring.tail_id")?)?;
    let (desc_size, info_size) = (dump.info("SIZE", "prb_desc")?, dump.info("SIZE", "printk_info")?);
    let [descs, infos] = [(descs, desc_size), (infos, info_size)].map(|(start, size)| {
        dump.bytes(start, usize::try_from(count * size)?).context("no ring in the dump")
    });
    let (descs, infos) = (descs?, infos?);
    let texts = dump.bytes(data, usize::try_from(size)?)?;

    let lpos = dump.info("OFFSET", "prb_desc.text_blk_lpos")?;
    let begin = lpos + dump.info("OFFSET", "prb_data_blk_lpos.begin")?;
    let next = lpos + dump.info("OFFSET", "prb_data_blk_lpos.next")?;
    let state = dump.info("OFFSET", "prb_desc.state_var")?;
    let [ts_nsec, text_len, caller_id] =
        ["ts_nsec", "text_len", "caller_id"].map(|name| dump.info("OFFSET", &format!("printk_info.{name}")));
    let (ts_nsec, text_len, caller_id) = (ts_nsec?, text_len?, caller_id?);

    let mut records = Vec::new();
    let (mut id, ids) = (tail, 1_u64 << 62);
    loop {
        let desc = |field: u64| number::<8>(&descs, id % count * desc_size + field);
        let info = |field: u64| id % count * info_size + field;
        let state = desc(state)?;
        // Committed or finalized; and of this turn of the ring.
        if matches!(state >> 62, 1 | 2) && state % ids == id % ids {
            let (begin, next) = (desc(begin)?, desc(next)?);
            let len = number::<2>(&infos, info(text_len))?;
            // A block begins with its id. It never runs over the ring's end: then it lies at its beginning.
            let wraps = begin / size != next / size && next % size != 0;
            let start = if wraps { 0 } else { begin % size } + 8;
            let text = if begin % 2 == 1 { &[] } else { slice(&texts, start, len)? };
            records.push(Record {
                ts_nsec: number::<8>(&infos, info(ts_nsec))?,
                facility: number::<1>(&infos, info(text_len + 2))? as u8,
                caller_id: number::<4>(&infos, info(caller_id))? as u32,
                text: String::from_utf8_lossy(text).into_owned(),
            });
        }
        if id % ids == head % ids {
            return Ok(records);
        }
        id = (id + 1) % ids;
    }
}

fn slice(bytes: &[u8], start: u64, len: u64) -> Result<&[u8]> {
    let start = usize::try_from(start)?;
    bytes.get(start..start + usize::try_from(len)?).context("a record lies outside of its ring")
}

/// A little-endian number of so many bytes.
fn number<const N: usize>(bytes: &[u8], start: u64) -> Result<u64> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(slice(bytes, start, N as u64)?);
    Ok(u64::from_le_bytes(number))
}
