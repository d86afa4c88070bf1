//! A crashed kernel in memory: ELF core header, CPU notes and VMCOREINFO, laid out as Linux and kexec-tools do.

use crate::{LogBuf, Ram, RingSize, printk};

/// Where things lie in it.
const RAM: u64 = 0x10_0000;
const NOTE_ROOM: usize = 0x200;
const ELFCOREHDR: u64 = 0x3000_0000;
/// Ranges of RAM that are there for their number.
const RANGES: u64 = 0x1_0000_0000;
const RANGE_STEP: u64 = 0x2000;
/// The printk ring, or what older kernels have.
pub const LOG: u64 = 0x2000_0000;
/// Where the kernel maps all RAM.
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;

/// One CPU of it.
#[derive(Clone, Copy, Debug)]
pub struct CrashedCpu {
    /// Process id.
    pub pid: u32,
    /// Instruction pointer.
    pub rip: u64,
    /// Code segment: 0x10 in the kernel, 0x33 in user space.
    pub cs: u64,
    /// Has it written its note?
    pub answered: bool,
}

/// A crashed kernel.
#[derive(Clone, Debug)]
pub struct CrashedKernel {
    /// Its CPUs.
    pub cpus: Vec<CrashedCpu>,
    /// VMCOREINFO's text.
    pub vmcoreinfo: String,
    /// All notes in one PT_NOTE, as some loaders have it.
    pub merged: bool,
    /// Its log, oldest line first, each with its time in microseconds; where there is none there is no memory for it either.
    pub log: Vec<(u64, String)>,
    /// How large its ring is.
    pub ring: RingSize,
    /// The form that its log has where it is older than the ring.
    pub log_buf: Option<LogBuf>,
    /// What VMCOREINFO has at its end.
    pub vmcoreinfo_end: String,
    /// Ranges of RAM that its header names before all that is of use here.
    pub ranges: u64,
    /// So many of those have the CPUs' notes, in turn; with 0 they lie together elsewhere.
    pub nodes: u64,
    /// CPUs that are online by its own mask, where it has one at [`CrashedKernel::ONLINE_MASK`].
    pub online: Option<Vec<u32>>,
}

impl CrashedKernel {
    /// `_stext` of the default VMCOREINFO.
    pub const STEXT: u64 = 0xffff_ffff_8e20_0000;
    /// Where its mask of online CPUs lies, from `_stext` on.
    pub const ONLINE_MASK: u32 = 0x300_0000;
    /// Length of its image.
    pub const IMAGE_LEN: u64 = 0x343_0000;

    /// A kernel whose CPUs idle at `_stext` + 0x103f0, but for the last one, which panicked.
    #[must_use]
    pub fn idle(cpus: usize) -> Self {
        let idle = CrashedCpu { pid: 0, rip: Self::STEXT + 0x103f0, cs: 0x10, answered: true };
        let mut cpus = vec![idle; cpus];
        if let Some(last) = cpus.last_mut() {
            *last = CrashedCpu { pid: 312, rip: Self::STEXT + 0x9c2a36, cs: 0x10, answered: true };
        }
        let vmcoreinfo = format!(
            "OSRELEASE=6.1.0-99-amd64\nBUILD-ID=5f3e9a1bc0ffee00112233445566778899aabbcc\nPAGESIZE=4096\n\
             SYMBOL(init_uts_ns)=ffffffff8fa14940\nSYMBOL(_stext)={:x}\nNUMBER(phys_base)=1090519040\n\
             KERNELOFFSET=d200000\nCRASHTIME=1764000000\n",
            Self::STEXT
        );
        Self {
            cpus,
            vmcoreinfo,
            merged: false,
            log: Vec::new(),
            ring: RingSize::SMALLEST,
            log_buf: None,
            vmcoreinfo_end: String::new(),
            ranges: 0,
            nodes: 0,
            online: None,
        }
    }

    /// The same one with a log, a millisecond a line.
    #[must_use]
    pub fn with_log(mut self, lines: &[&str]) -> Self {
        self.log = (1..).zip(lines).map(|(ms, line)| (1000 * ms, (*line).to_owned())).collect();
        self
    }

    /// Puts it into memory; returns the address of its ELF core header.
    ///
    /// # Panics
    /// When it has more CPUs than an ELF header counts.
    pub fn put(&self, memory: &mut Ram) -> u64 {
        let mut ram = Vec::new();
        let mut notes = Vec::new();
        for cpu in &self.cpus {
            let note = if cpu.answered { prstatus(cpu) } else { Vec::new() };
            if self.nodes > 0 {
                let number = notes.len() as u64;
                let addr = RANGES + number % self.nodes * RANGE_STEP + number / self.nodes * NOTE_ROOM as u64;
                notes.push((addr, NOTE_ROOM as u64));
                memory.put(addr, [&note[..], &[0; NOTE_ROOM]].concat()[..NOTE_ROOM].to_vec());
                continue;
            }
            notes.push((RAM + ram.len() as u64, NOTE_ROOM as u64));
            let end = ram.len() + NOTE_ROOM;
            ram.extend(note);
            if !self.merged {
                ram.resize(end, 0);
            }
        }
        if self.merged {
            ram.resize(ram.len() + 12, 0);
            notes = vec![(RAM, ram.len() as u64)];
        }
        let mut vmcoreinfo = self.vmcoreinfo.clone();
        if !self.log.is_empty() {
            vmcoreinfo += &match self.log_buf {
                Some(log_buf) => log_buf.vmcoreinfo(DIRECT_MAP + LOG),
                None => printk::vmcoreinfo(DIRECT_MAP + LOG),
            };
        }
        vmcoreinfo += &self.vmcoreinfo_end;
        let info = note(b"VMCOREINFO\0", 0, vmcoreinfo.as_bytes());
        notes.push((RAM + ram.len() as u64, info.len() as u64));
        ram.extend(info);
        ram.resize(ram.len() + 4096, 0);

        let mut phdrs = Vec::new();
        for (offset, len) in notes {
            phdrs.extend(phdr(4, offset, 0, offset, len));
        }
        // The kernel's own, then all RAM. The kernel's text is not there, nobody reads it.
        phdrs.extend(phdr(1, RAM, Self::STEXT, RAM, Self::IMAGE_LEN));
        for range in 0..self.ranges {
            let addr = RANGES + range * RANGE_STEP;
            phdrs.extend(phdr(1, addr, DIRECT_MAP + addr, addr, RANGE_STEP / 2));
        }
        if let Some(online) = &self.online {
            let mut mask = vec![0; 1024];
            for cpu in online {
                mask[*cpu as usize / 8] |= 1 << (cpu % 8);
            }
            memory.put(RAM + u64::from(Self::ONLINE_MASK), mask);
        }
        phdrs.extend(phdr(1, RAM, DIRECT_MAP + RAM, RAM, ram.len() as u64));
        if !self.log.is_empty() {
            let log = match self.log_buf {
                Some(log_buf) => log_buf.memory(DIRECT_MAP + LOG, &self.log),
                None => printk::ring(DIRECT_MAP + LOG, &self.log, self.ring),
            };
            phdrs.extend(phdr(1, LOG, DIRECT_MAP + LOG, LOG, log.len() as u64));
            memory.put(LOG, log);
        }
        let count = u16::try_from(phdrs.len() / 56).expect("few enough");
        let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        header.extend([0u64.to_le_bytes(), 64u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
        header.extend([0, 0, 0, 0, 64, 0, 56, 0]);
        header.extend(count.to_le_bytes());
        header.resize(64, 0);
        header.extend(phdrs);

        memory.put(RAM, ram);
        memory.put(ELFCOREHDR, header);
        ELFCOREHDR
    }
}

fn phdr(kind: u32, offset: u64, vaddr: u64, paddr: u64, len: u64) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), 0u32.to_le_bytes()].concat();
    for field in [offset, vaddr, paddr, len, len, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = [name.len() as u32, desc.len() as u32, kind].map(u32::to_le_bytes).concat();
    for part in [name, desc] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn prstatus(cpu: &CrashedCpu) -> Vec<u8> {
    let mut desc = [0; 336];
    desc[32..36].copy_from_slice(&cpu.pid.to_le_bytes());
    desc[240..248].copy_from_slice(&cpu.rip.to_le_bytes());
    desc[248..256].copy_from_slice(&cpu.cs.to_le_bytes());
    desc[264..272].copy_from_slice(&0xffff_c900_0012_3e50_u64.to_le_bytes());
    note(b"CORE\0", 1, &desc)
}
