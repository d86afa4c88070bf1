//! Which dump kernel the kernel holds: nothing in /proc or /sys shows it, only whether there is one. But root can read
//! the kernel's own record of it, `struct kimage`, and what was loaded, in /proc/kcore. Whoever has loaded it, it is there.
//!
//! A checksum of the record's beginning is enough to know it again: there are the entry point, the segments, and the
//! addresses that the loader's buffers had, which differ from load to load.

use super::ranges::IoMem;
use crate::symbols::{KEXEC_CRASH_IMAGE, store};
use object::{
    Endianness,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

/// Bytes of the record that count for the checksum: its head and the first segments.
const SUMMED: usize = 256;
/// Bytes of the record with all segments (`include/linux/kexec.h`).
const LEN: usize = SEGMENTS_AT + SEGMENTS_MAX * SEGMENT_LEN;
/// Offsets in `struct kimage` since 4.13, which brought `vmcoreinfo_data_copy`.
const START_AT: usize = 24;
const COUNT_AT: usize = 56;
const SEGMENTS_AT: usize = 64;
/// `struct kexec_segment`: buf, bufsz, mem, memsz.
const SEGMENT_LEN: usize = 32;
/// KEXEC_SEGMENT_MAX.
const SEGMENTS_MAX: usize = 16;
/// The headers of /proc/kcore take less than this.
const HEADERS: u64 = 64 << 10;
/// Buffers of kexec_file_load(2) are the kernel's own, in the upper half of the addresses.
const KERNEL_HALF: u64 = 1 << 63;

/// A part of what is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Physical addresses of what was given. Behind it there are zeros.
    pub data: Range<u64>,
    /// Bytes of memory.
    pub memory_size: u64,
    /// Was it read from a file by the kernel itself: kexec_file_load(2)?
    pub by_file: bool,
}

/// The loaded dump kernel as the kernel has it.
#[derive(Debug)]
pub struct KImage {
    kcore: Kcore,
    /// A checksum (SHA-256, in hex) of the record.
    pub checksum: String,
    /// Where the kernel jumps to.
    pub entry: u64,
    /// What is loaded; empty where the record is none that is understood.
    pub segments: Vec<Segment>,
}

impl KImage {
    /// Reads the record. `None` where none is loaded, or where the kernel does not show it: without privileges, in lockdown
    /// mode "confidentiality", with CONFIG_KALLSYMS_ALL=n.
    pub fn read(root: &Path) -> Option<Self> {
        let kcore = Kcore::open(root)?;
        let printed = || {
            let kallsyms = File::open(root.join("proc/kallsyms")).ok()?;
            address(BufReader::with_capacity(64 << 10, kallsyms), KEXEC_CRASH_IMAGE)
        };
        let saved = store::variable(root, KEXEC_CRASH_IMAGE).map(|[_, pointer]| pointer);
        let pointer = saved.or_else(printed)?;
        let image = u64::from_le_bytes(kcore.read_virtual(pointer)?);
        let record: [u8; LEN] = kcore.read_virtual(image)?;
        let digest =
            Sha256::new().chain_update(image.to_le_bytes()).chain_update(&record[..SUMMED]).finalize();
        let iomem = IoMem::parse(&fs::read_to_string(root.join("proc/iomem")).unwrap_or_default());
        let reserved: Vec<_> = iomem.named("Crash kernel").collect();
        Some(Self {
            kcore,
            checksum: hex(&digest),
            entry: number(&record, START_AT)?,
            segments: segments(&record, &reserved).unwrap_or_default(),
        })
    }

    /// Do these bytes lie there, in what is loaded? They are compared piece by piece.
    pub fn holds(&self, start: u64, bytes: &[u8]) -> bool {
        const PIECE: usize = 64 << 10;
        bytes
            .chunks(PIECE)
            .zip((start..).step_by(PIECE))
            .all(|(piece, at)| self.bytes(at..at + piece.len() as u64).is_some_and(|held| held == piece))
    }

    /// What lies at these physical addresses, if they belong to what is loaded.
    pub fn bytes(&self, range: Range<u64>) -> Option<Vec<u8>> {
        let segment = self.segments.iter().find(|one| one.data.contains(&range.start))?;
        let len = range.end.checked_sub(range.start).filter(|_| range.end <= segment.data.end)?;
        self.kcore.read_physical(range.start, usize::try_from(len).ok()?)
    }
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    crate::symbols::build_id::hex(bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The record's segments, if all of them lie where a dump kernel does.
fn segments(record: &[u8], reserved: &[Range<u64>]) -> Option<Vec<Segment>> {
    let count = usize::try_from(number(record, COUNT_AT)?).ok()?;
    if !(1..=SEGMENTS_MAX).contains(&count) {
        return None;
    }
    let segment = |index: usize| {
        let at = SEGMENTS_AT + index * SEGMENT_LEN;
        let [buffer, len, start, memory_size] =
            [0, 8, 16, 24].map(|field| number(record, at + field).unwrap_or(u64::MAX));
        let end = start.checked_add(memory_size)?;
        let fits = len <= memory_size
            && start.is_multiple_of(4096)
            && reserved.iter().any(|range| range.start <= start && end <= range.end);
        fits.then(|| Segment { data: start..start + len, memory_size, by_file: buffer & KERNEL_HALF != 0 })
    };
    (0..count).map(segment).collect()
}

/// A symbol's address, unless it is hidden. The kernel makes the text while it is read, so no more of it than is needed.
fn address(mut kallsyms: impl BufRead, name: &str) -> Option<u64> {
    let mut line = Vec::new();
    while kallsyms.read_until(b'\n', &mut line).ok()? > 0 {
        // `ffffffff82000008 B kexec_crash_image`
        if line.trim_ascii_end().rsplit(|byte| *byte == b' ').next() == Some(name.as_bytes()) {
            let address = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
            return u64::from_str_radix(address, 16).ok().filter(|address| *address != 0);
        }
        line.clear();
    }
    None
}

/// The kernel's memory.
#[derive(Debug)]
struct Kcore {
    file: File,
    loads: Vec<Load>,
}

/// A part of the kernel's memory, and where it is in the file.
#[derive(Debug)]
struct Load {
    virtual_address: u64,
    /// All ones where it is none of RAM (`fs/proc/kcore.c`).
    physical_address: u64,
    len: u64,
    offset: u64,
}

impl Kcore {
    fn open(root: &Path) -> Option<Self> {
        let file = File::open(root.join("proc/kcore")).ok()?;
        let mut head = Vec::new();
        (&file).take(HEADERS).read_to_end(&mut head).ok()?;
        let header = FileHeader64::<Endianness>::parse(&head[..]).ok()?;
        let endian = header.endian().ok()?;
        let loads = header.program_headers(endian, &head[..]).ok()?.iter();
        let load = |load: &object::elf::ProgramHeader64<Endianness>| Load {
            virtual_address: load.p_vaddr(endian),
            physical_address: load.p_paddr(endian),
            len: load.p_filesz(endian),
            offset: load.p_offset(endian),
        };
        let loads = loads.filter(|load| load.p_type(endian) == PT_LOAD).map(load).collect();
        Some(Self { file, loads })
    }

    fn read_virtual<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let bytes = self.read(address, N, |load| load.virtual_address)?;
        bytes.try_into().ok()
    }

    fn read_physical(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        self.read(address, len, |load| load.physical_address)
    }

    fn read(&self, address: u64, len: usize, start: impl Fn(&Load) -> u64) -> Option<Vec<u8>> {
        let (from, load) = self.loads.iter().find_map(|load| {
            let from = address.checked_sub(start(load))?;
            (load.len.checked_sub(from)? >= len as u64).then_some((from, load))
        })?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, load.offset.checked_add(from)?).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Where the made-up machine has its reserved memory.
    pub const RESERVED: u64 = 0x2f00_0000;
    const RECORD: u64 = 0xffff_8880_0000_1000;
    const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;

    /// Makes a kernel below `root` that holds a dump kernel of these segments (offset in the reserved memory, bytes), whose
    /// loader had its buffers at `buffer`.
    pub fn hold_segments(root: &Path, buffer: u64, entry: u64, segments: &[(u64, &[u8])]) {
        let mut record = vec![0; LEN];
        let mut put = |at: usize, value: u64| record[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(START_AT, RESERVED + entry);
        put(COUNT_AT, segments.len() as u64);
        let mut memory = Vec::new();
        for (index, (at, bytes)) in segments.iter().enumerate() {
            let memory_size = (bytes.len() as u64).next_multiple_of(4096);
            for (field, value) in
                [buffer, bytes.len() as u64, RESERVED + at, memory_size].into_iter().enumerate()
            {
                put(SEGMENTS_AT + index * SEGMENT_LEN + field * 8, value);
            }
            let end = usize::try_from(at + memory_size).unwrap();
            memory.resize(end.max(memory.len()), 0);
            memory[usize::try_from(*at).unwrap()..][..bytes.len()].copy_from_slice(bytes);
        }
        write(root, &record, &memory);
    }

    /// Makes a kernel below `root` whose record is full of this byte, so that it is no record.
    pub fn hold(root: &Path, byte: u8) {
        write(root, &[byte; LEN], &[]);
    }

    fn write(root: &Path, record: &[u8], memory: &[u8]) {
        fs::create_dir_all(root.join("proc")).unwrap();
        let kallsyms = "ffffffff81000000 T _stext\nffffffff82000008 B kexec_crash_image\n";
        fs::write(root.join("proc/kallsyms"), kallsyms).unwrap();
        let iomem = format!("00100000-3ffdbfff : System RAM\n  {RESERVED:x}-3effffff : Crash kernel\n");
        fs::write(root.join("proc/iomem"), iomem).unwrap();
        // ELF64, little-endian, ET_CORE, x86_64, three program headers behind the header.
        let mut kcore = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        for number in [0u64, 64, 0] {
            kcore.extend(number.to_le_bytes());
        }
        for number in [0u16, 0, 64, 56, 3, 0, 0, 0] {
            kcore.extend(number.to_le_bytes());
        }
        let (behind, record_len) = (64 + 3 * 56, record.len() as u64);
        for (vaddr, paddr, len, offset) in [
            (0xffff_ffff_8200_0000u64, u64::MAX, 16, behind),
            (RECORD, RECORD - DIRECT_MAP, record_len, behind + 16),
            (DIRECT_MAP + RESERVED, RESERVED, memory.len() as u64, behind + 16 + record_len),
        ] {
            kcore.extend([1u32, 7].into_iter().flat_map(u32::to_le_bytes));
            for number in [offset, vaddr, paddr, len, len, 0] {
                kcore.extend(number.to_le_bytes());
            }
        }
        kcore.extend([0u64, RECORD].into_iter().flat_map(u64::to_le_bytes));
        kcore.extend(record);
        kcore.extend(memory);
        fs::write(root.join("proc/kcore"), kcore).unwrap();
    }

    fn checksum(root: &Path) -> Option<String> {
        KImage::read(root).map(|image| image.checksum)
    }

    #[test]
    fn another_record_is_another_checksum() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(checksum(root.path()), None);
        hold(root.path(), 1);
        let one = checksum(root.path()).unwrap();
        assert_eq!((one.len(), Some(&one)), (64, checksum(root.path()).as_ref()));
        hold(root.path(), 2);
        assert_ne!(checksum(root.path()), Some(one));
    }

    #[test]
    fn what_is_loaded_is_read_within_its_bounds() {
        let root = tempfile::tempdir().unwrap();
        hold_segments(root.path(), 0x7f00_0000_1000, 0x200, &[(0, b"kernel"), (0x2000, b"initrd")]);
        let image = KImage::read(root.path()).unwrap();
        assert_eq!((image.entry, image.segments.len()), (RESERVED + 0x200, 2));
        assert!(!image.segments[1].by_file);
        let data = image.segments[1].data.clone();
        assert_eq!(image.bytes(data.clone()).unwrap(), b"initrd");
        assert_eq!(image.bytes(data.start..data.end + 1), None);
        assert_eq!(image.bytes(data.end..data.end + 1), None);
        hold_segments(root.path(), 0xffff_c900_0000_1000, 0x200, &[(0, b"kernel")]);
        assert!(KImage::read(root.path()).unwrap().segments[0].by_file);
    }

    #[test]
    fn a_record_that_leads_out_of_the_reserved_memory_is_none() {
        let good = |record: &mut Vec<u8>, at: usize, value: u64| {
            record[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        let mut record = vec![0; LEN];
        for (at, value) in
            [(COUNT_AT, 1), (SEGMENTS_AT + 8, 9), (SEGMENTS_AT + 16, 0x1000), (SEGMENTS_AT + 24, 0x1000)]
        {
            good(&mut record, at, value);
        }
        let reserved = std::iter::once(0x1000..0x3000).collect::<Vec<_>>();
        assert!(segments(&record, &reserved).is_some());
        for (at, value) in [
            (COUNT_AT, 0),
            (COUNT_AT, 17),
            (COUNT_AT, u64::MAX),
            (SEGMENTS_AT + 8, 0x1001),
            (SEGMENTS_AT + 16, 0x1001),
            (SEGMENTS_AT + 16, 0x3000),
            (SEGMENTS_AT + 16, u64::MAX - 0xfff),
            (SEGMENTS_AT + 24, 0x3000),
            (SEGMENTS_AT + 24, u64::MAX),
        ] {
            let mut record = record.clone();
            good(&mut record, at, value);
            assert_eq!(segments(&record, &reserved), None, "{at} {value:#x}");
        }
        // Without privileges /proc/iomem hides where it is.
        assert_eq!(segments(&record, &[0..1, 2..3]), None);
    }

    #[test]
    fn what_is_hidden_or_broken_has_none() {
        let root = tempfile::tempdir().unwrap();
        hold(root.path(), 1);
        fs::write(root.path().join("proc/kallsyms"), "0000000000000000 B kexec_crash_image\n").unwrap();
        assert_eq!(checksum(root.path()), None);
        hold(root.path(), 1);
        let kcore = fs::read(root.path().join("proc/kcore")).unwrap();
        for len in [0, 20, 100, 180, kcore.len() - 1] {
            fs::write(root.path().join("proc/kcore"), &kcore[..len]).unwrap();
            assert_eq!(checksum(root.path()), None, "{len}");
        }
    }
}
