//! VMCOREINFO: what the kernel tells of itself, as text, a `KEY=value` a line
//! (Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`).

use super::elfcorehdr::Ram;
use super::printk::{FIELDS, Layout, hash};
use crate::cmdline::number;
use crate::hw::Memory;
use crate::report::Fnv;
use crate::text::{Text, hex};

/// Most of the text that is read: the kernel keeps it in one page.
const LEN: usize = 4096;

/// What is taken from it.
#[derive(Clone, Copy, Default)]
pub struct VmCoreInfo {
    /// `OSRELEASE`, the kernel's version, cut at 64 characters.
    pub release: Text<64>,
    /// `BUILD-ID` (5.14 and later): its first four bytes.
    pub build_id: Option<u32>,
    /// `SYMBOL(_stext)`: where the kernel's text began, KASLR included.
    pub stext: Option<u64>,
    /// A hash of the whole text: kernel, KASLR and the time of the crash (`CRASHTIME`) are in it.
    pub hash: Option<Fnv>,
    /// Where the log is, and how its structures are laid out; and last `CRASHTIME`.
    pub log: Layout,
}

impl VmCoreInfo {
    /// `CRASHTIME`, in seconds since 1970; 0 where it does not tell.
    #[must_use]
    pub fn time(&self) -> u64 {
        let [.., time] = self.log;
        time
    }

    /// Reads the text, `len` bytes at `addr`.
    pub(super) fn read<M: Memory>(memory: &mut M, ram: &Ram, addr: u64, len: u64) -> Self {
        let mut buf = [0; LEN];
        let text = usize::try_from(len).unwrap_or(LEN).min(LEN);
        let Some(text) = buf.get_mut(..text) else { return Self::default() };
        if ram.read(memory, addr, text) { Self::parse(text) } else { Self::default() }
    }

    /// Takes what is known from the text. What is missing or malformed stays unknown.
    #[must_use]
    #[inline(never)]
    pub fn parse(text: &[u8]) -> Self {
        let mut info = Self { hash: Some(Fnv::default().bytes(text)), ..Self::default() };
        for line in text.split(|byte| *byte == b'\n') {
            let mut parts = line.splitn(2, |byte| *byte == b'=');
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
            match key {
                b"OSRELEASE" => {
                    info.release = Text::new();
                    info.release.bytes(value);
                }
                b"BUILD-ID" => {
                    info.build_id = value.get(..8).and_then(hex).and_then(|id| u32::try_from(id).ok());
                }
                b"SYMBOL(_stext)" => info.stext = hex(value),
                // What stands in the parentheses is the name of one thing alone; the time of the crash has none.
                _ => {
                    let name = key.split(|byte| matches!(byte, b'(' | b')')).nth(1).unwrap_or(key);
                    let place = FIELDS.iter().position(|field| *field == hash(name));
                    if let Some(slot) = place.and_then(|place| info.log.get_mut(place)) {
                        // Sizes and offsets have 16 bits at most.
                        let value = match key {
                            [b'S', b'Y', ..] => hex(value),
                            [b'C', ..] => number(value),
                            _ => number(value).map(|value| value & 0xffff),
                        };
                        *slot = value.unwrap_or(0);
                    }
                }
            }
        }
        info
    }
}
