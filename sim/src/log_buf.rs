//! The log of Linux before 5.10 in memory (`kernel/printk/printk.c`, 3.11 to 5.9): records one behind the other, each a
//! `struct printk_log`, text and dictionary, and a header of zeros where the next one is at the beginning again.

/// Of `struct printk_log`, without and with a caller (CONFIG_PRINTK_CALLER, 5.1).
const HEADER: usize = 16;
const CALLER: usize = 4;
/// Where things lie behind `base`: the variables, one beside the other as the linker has them, and the buffer.
const LOG_BUF: u64 = 0;
const LOG_BUF_LEN: u64 = 8;
const FIRST_IDX: u64 = 12;
const NEXT_IDX: u64 = 16;
const BUFFER: u64 = 0x40;

/// The form of such a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBuf {
    /// The buffer's length.
    pub len: usize,
    /// Who wrote all of it, where records have that.
    pub caller_id: Option<u32>,
}

impl LogBuf {
    fn header(self) -> usize {
        HEADER + if self.caller_id.is_some() { CALLER } else { 0 }
    }

    /// What VMCOREINFO says of it.
    #[must_use]
    pub fn vmcoreinfo(self, base: u64) -> String {
        format!(
            "SYMBOL(log_buf)={:x}\nSYMBOL(log_buf_len)={:x}\nSYMBOL(log_first_idx)={:x}\nSYMBOL(clear_idx)={:x}\n\
             SYMBOL(log_next_idx)={:x}\nSIZE(printk_log)={}\nOFFSET(printk_log.ts_nsec)=0\nOFFSET(printk_log.len)=8\n\
             OFFSET(printk_log.text_len)=10\nOFFSET(printk_log.dict_len)=12\n",
            base + LOG_BUF,
            base + LOG_BUF_LEN,
            base + FIRST_IDX,
            base + NEXT_IDX + 4,
            base + NEXT_IDX,
            self.header()
        )
    }

    /// The memory from `base` on, when this log was written. A line that begins with `<` is user space's; every third record
    /// has a dictionary.
    #[must_use]
    pub fn memory(self, base: u64, log: &[(u64, String)]) -> Vec<u8> {
        let mut buffer = vec![0; self.len];
        let (mut first, mut next, mut held) = (0, 0, 0);
        let header = self.header();
        for (number, (micros, text)) in log.iter().enumerate() {
            let dict: &[u8] = if number % 3 == 0 { b"SUBSYSTEM=pci\0DEVICE=+pci:0000:00:1f.2" } else { b"" };
            let len = (header + text.len() + dict.len()).next_multiple_of(4);
            // The oldest ones go until there is room for it, and for a header of zeros.
            loop {
                let free =
                    if next > first || held == 0 { (self.len - next).max(first) } else { first - next };
                if held == 0 || free >= len + header {
                    break;
                }
                let length = |at: usize| usize::from(u16::from_le_bytes([buffer[at + 8], buffer[at + 9]]));
                first = if length(first) == 0 { length(0) } else { first + length(first) };
                held -= 1;
            }
            if next + len + header > self.len {
                buffer[next..next + header].fill(0);
                next = 0;
            }
            let record = &mut buffer[next..next + len];
            record.fill(0);
            record[..8].copy_from_slice(&(micros * 1000).to_le_bytes());
            record[8..10].copy_from_slice(&(len as u16).to_le_bytes());
            record[10..12].copy_from_slice(&(text.len() as u16).to_le_bytes());
            record[12..14].copy_from_slice(&(dict.len() as u16).to_le_bytes());
            // Facility, then five bits of flags (a whole line) and three of the level.
            record[14] = u8::from(text.starts_with('<'));
            record[15] = 2 | 4 << 5;
            if let Some(caller_id) = self.caller_id {
                record[16..20].copy_from_slice(&caller_id.to_le_bytes());
            }
            record[header..header + text.len()].copy_from_slice(text.as_bytes());
            record[header + text.len()..][..dict.len()].copy_from_slice(dict);
            next += len;
            held += 1;
        }
        let mut bytes = vec![0; BUFFER as usize];
        bytes[..8].copy_from_slice(&(base + BUFFER).to_le_bytes());
        for (at, value) in [(LOG_BUF_LEN, self.len), (FIRST_IDX, first), (NEXT_IDX, next)] {
            bytes[at as usize..at as usize + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        bytes.extend(buffer);
        bytes
    }
}
