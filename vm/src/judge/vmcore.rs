//! The head of /proc/vmcore: the crash notes of every CPU and VMCOREINFO, what lastwords' words are checked against.
//!
//! Read with a reader of its own (`object`) and not with lastwords' one, which it is to judge.

use anyhow::{Context, Result, bail};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use std::collections::BTreeMap;
use std::ops::Range;

/// A CPU's crash note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The process that ran on it.
    pub pid: u32,
    /// Instruction pointer.
    pub rip: u64,
}

/// What the notes of a /proc/vmcore say.
#[derive(Clone, Debug)]
pub struct Notes {
    /// The CPUs in the kernel's order. One that never answered has no note here: Linux leaves empty ones out.
    pub cpus: Vec<Cpu>,
    /// VMCOREINFO as it is.
    pub vmcoreinfo: Vec<u8>,
    info: BTreeMap<String, String>,
    /// Virtual addresses that the dump holds: the kernel's image, and parts of the direct map; and where in the file.
    loads: Vec<(Range<u64>, u64)>,
}

/// Offsets in the kernel's `struct elf_prstatus` of x86-64: `pr_pid`, and `rip` in `pr_reg`.
const PID: usize = 32;
const RIP: usize = 112 + 16 * 8;

impl Notes {
    /// Reads the notes from the first bytes of a /proc/vmcore.
    ///
    /// # Errors
    /// When they are no ELF64 core file or end before the notes do.
    pub fn parse(head: &[u8]) -> Result<Self> {
        let header =
            elf::FileHeader64::<object::Endianness>::parse(head).context("/proc/vmcore is no ELF file")?;
        let endian = header.endian()?;
        let mut notes =
            Self { cpus: Vec::new(), vmcoreinfo: Vec::new(), info: BTreeMap::new(), loads: Vec::new() };
        for segment in header.program_headers(endian, head)? {
            if segment.p_type(endian) == elf::PT_LOAD {
                let start = segment.p_vaddr(endian);
                let range = start..start.saturating_add(segment.p_memsz(endian));
                notes.loads.push((range, segment.p_offset(endian)));
            }
            let Some(mut list) = segment.notes(endian, head)? else { continue };
            while let Some(note) = list.next()? {
                match (note.name(), note.n_type(endian)) {
                    (b"CORE", elf::NT_PRSTATUS) => notes.cpus.push(cpu(note.desc())?),
                    (b"VMCOREINFO", _) => {
                        notes.vmcoreinfo = note.desc().to_vec();
                        let text = String::from_utf8_lossy(note.desc());
                        let pairs = text.lines().filter_map(|line| line.split_once('='));
                        notes.info.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
                    }
                    _ => {}
                }
            }
        }
        if notes.info.is_empty() {
            bail!("/proc/vmcore has no VMCOREINFO");
        }
        Ok(notes)
    }

    /// A value of VMCOREINFO, such as `BUILD-ID` or `SYMBOL(_stext)`.
    ///
    /// # Errors
    /// When there is none.
    pub fn info(&self, key: &str) -> Result<&str> {
        self.info.get(key).map(String::as_str).with_context(|| format!("VMCOREINFO has no {key}"))
    }

    /// The dead kernel's image in virtual memory, from `_stext` on.
    ///
    /// # Errors
    /// When VMCOREINFO or the program headers do not say.
    pub fn image(&self) -> Result<Range<u64>> {
        let stext = u64::from_str_radix(self.info("SYMBOL(_stext)")?, 16)?;
        Ok(stext..self.load(stext)?.0.end)
    }

    /// Where in the file an address of the dead kernel's lies.
    ///
    /// # Errors
    /// When the dump does not hold it.
    pub fn offset(&self, address: u64) -> Result<u64> {
        let (range, offset) = self.load(address)?;
        Ok(offset + (address - range.start))
    }

    fn load(&self, address: u64) -> Result<&(Range<u64>, u64)> {
        let found = self.loads.iter().find(|(range, _)| range.contains(&address));
        found.with_context(|| format!("no PT_LOAD holds {address:x}"))
    }

    /// Were the dead kernel's addresses drawn by lot (KASLR)? Either its image or its direct map is not where it
    /// is without (Linux `Documentation/arch/x86/x86_64/mm.rst`); a lot can fall on the old place, two hardly.
    ///
    /// # Errors
    /// When VMCOREINFO does not say.
    pub fn randomized(&self) -> Result<bool> {
        const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
        let moved = u64::from_str_radix(self.info("KERNELOFFSET")?, 16)? != 0;
        let usual =
            |(load, _): &(Range<u64>, u64)| (DIRECT_MAP..DIRECT_MAP + (1 << 32)).contains(&load.start);
        Ok(moved || !self.loads.iter().any(usual))
    }
}

fn cpu(status: &[u8]) -> Result<Cpu> {
    let pid = status.get(PID..PID + 4).context("a crash note is too short")?;
    let rip = status.get(RIP..RIP + 8).context("a crash note is too short")?;
    Ok(Cpu { pid: u32::from_le_bytes(pid.try_into()?), rip: u64::from_le_bytes(rip.try_into()?) })
}
