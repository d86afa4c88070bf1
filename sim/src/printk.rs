//! A printk ring in memory as Linux 6.x lays it out (`kernel/printk/printk_ringbuffer.h`): 2^n descriptors and infos, and
//! a ring of text blocks.

/// How large a ring is.
#[derive(Clone, Copy, Debug)]
pub struct RingSize {
    /// It has two to the power of this many records.
    pub count_bits: u32,
    /// Its text has two to the power of this many bytes.
    pub size_bits: u32,
}

impl RingSize {
    /// As small as it can be, so that a log of more than a few lines goes round.
    pub const SMALLEST: Self = Self { count_bits: 5, size_bits: 11 };
}

/// Sizes of the structures.
const DESC: u64 = 24;
const INFO: u64 = 88;
/// Where things lie behind the pointer to the ring.
const RING: u64 = 0x10;
const DESCS: u64 = 0x100;
/// The descriptors' first id (`DESC0_ID`), chosen by Linux so that it goes round early.
const FIRST_ID: u64 = (1 << 62) - 3;
const FINALIZED: u64 = 2;

/// What VMCOREINFO says of a ring whose pointer lies at `base`.
pub fn vmcoreinfo(base: u64) -> String {
    format!(
        "SYMBOL(prb)={base:x}\nSIZE(printk_ringbuffer)=88\nOFFSET(printk_ringbuffer.desc_ring)=0\n\
         OFFSET(printk_ringbuffer.text_data_ring)=48\nOFFSET(printk_ringbuffer.fail)=80\nSIZE(prb_desc_ring)=48\n\
         OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
         OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\nSIZE(prb_desc)={DESC}\n\
         OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=8\nSIZE(prb_data_blk_lpos)=16\n\
         OFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)=8\nSIZE(printk_info)={INFO}\n\
         OFFSET(printk_info.seq)=0\nOFFSET(printk_info.ts_nsec)=8\nOFFSET(printk_info.text_len)=16\n\
         OFFSET(printk_info.caller_id)=20\nOFFSET(printk_info.dev_info)=24\nSIZE(dev_printk_info)=64\n\
         SIZE(prb_data_ring)=32\nOFFSET(prb_data_ring.size_bits)=0\nOFFSET(prb_data_ring.data)=8\n"
    )
}

/// The memory from `base` on: a pointer to the ring, the ring, and this log in it, as far as it fits. A line that begins
/// with `<` is user space's, by /dev/kmsg. One that begins with `[T77] ` or `[C3] ` was written by this process, or by this CPU
/// in an interrupt; all others by process 0.
pub fn ring(base: u64, log: &[(u64, String)], RingSize { count_bits, size_bits }: RingSize) -> Vec<u8> {
    let infos = DESCS + (DESC << count_bits);
    let data = infos + (INFO << count_bits);
    let mut bytes = vec![0; usize::try_from(data + (1 << size_bits)).expect("it is small")];
    let mut put = |at: u64, value: &[u8]| {
        let at = usize::try_from(at).expect("it is small");
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    let mask = (1 << 62) - 1;
    let count = log.len() as u64;
    let head = FIRST_ID.wrapping_add(count - 1) & mask;
    let tail = FIRST_ID.wrapping_add(count.saturating_sub(1 << count_bits)) & mask;
    put(0, &(base + RING).to_le_bytes());
    put(RING, &count_bits.to_le_bytes());
    put(RING + 8, &(base + DESCS).to_le_bytes());
    put(RING + 16, &(base + infos).to_le_bytes());
    put(RING + 24, &head.to_le_bytes());
    put(RING + 32, &tail.to_le_bytes());
    put(RING + 48, &size_bits.to_le_bytes());
    put(RING + 56, &(base + data).to_le_bytes());
    let size = 1 << size_bits;
    // The text's ring begins before its wrap, too.
    let mut lpos: u64 = 3 * size - 200;
    for (number, (micros, text)) in (0..).zip(log) {
        let id = FIRST_ID.wrapping_add(number) & mask;
        let (caller_id, text) = caller(text);
        let index = id & ((1 << count_bits) - 1);
        let len = (8 + text.len() as u64).next_multiple_of(8);
        let begin = lpos;
        lpos += len;
        // A block that would not fit at the end lies at the beginning.
        let mut at = begin % size;
        if begin / size != lpos / size {
            lpos = lpos / size * size + len;
            at = 0;
        }
        put(DESCS + index * DESC, &(FINALIZED << 62 | id).to_le_bytes());
        put(DESCS + index * DESC + 8, &begin.to_le_bytes());
        put(DESCS + index * DESC + 16, &lpos.to_le_bytes());
        put(infos + index * INFO, &number.to_le_bytes());
        put(infos + index * INFO + 8, &(micros * 1000).to_le_bytes());
        put(infos + index * INFO + 16, &(text.len() as u16).to_le_bytes());
        put(infos + index * INFO + 20, &caller_id.to_le_bytes());
        put(infos + index * INFO + 18, &[u8::from(text.starts_with('<'))]);
        put(data + at, &id.to_le_bytes());
        put(data + at + 8, text.as_bytes());
    }
    bytes
}

/// Who wrote a line, and the line.
fn caller(line: &str) -> (u32, &str) {
    let caller = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).and_then(|(caller, text)| {
        let number: u32 = caller.get(1..)?.parse().ok()?;
        match caller.as_bytes() {
            [b'T', ..] => Some((number, text)),
            [b'C', ..] => Some((number | 1 << 31, text)),
            _ => None,
        }
    });
    caller.unwrap_or((0, line))
}
