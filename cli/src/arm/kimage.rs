//! Which dump kernel the kernel holds: nothing in /proc or /sys shows it, only whether there is one. But root can read
//! the kernel's own record of it, `struct kimage`, in /proc/kcore. A checksum of its beginning is enough to know it
//! again: there are the entry point, the segments, and the addresses that the loader's buffers had, which differ from
//! load to load.

use object::{
    Endianness,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
};

/// The kernel's pointer to its record (`kernel/kexec_core.c`).
const POINTER: &str = "kexec_crash_image";
/// Bytes of the record that count: its head and the first segments.
const LEN: usize = 256;
/// The headers of /proc/kcore take less than this.
const HEADERS: u64 = 64 << 10;

/// A checksum (SHA-256, in hex) of the record of the loaded dump kernel. `None` where none is loaded, or where the kernel
/// does not show it: without privileges, in lockdown mode "confidentiality", with CONFIG_KALLSYMS_ALL=n.
pub fn checksum(root: &Path) -> Option<String> {
    let kallsyms = File::open(root.join("proc/kallsyms")).ok()?;
    let pointer = address(BufReader::with_capacity(64 << 10, kallsyms), POINTER)?;
    let kcore = Kcore::open(root)?;
    let image = u64::from_le_bytes(kcore.read(pointer)?);
    let record: [u8; LEN] = kcore.read(image)?;
    let digest = Sha256::new().chain_update(image.to_le_bytes()).chain_update(record).finalize();
    Some(digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A symbol's address, unless it is hidden. The kernel makes the text while it is read, so no more of it than is needed.
fn address(mut kallsyms: impl BufRead, name: &str) -> Option<u64> {
    let mut line = String::new();
    while kallsyms.read_line(&mut line).ok()? > 0 {
        // `ffffffff82000008 B kexec_crash_image`
        if line.trim_ascii_end().rsplit(' ').next() == Some(name) {
            let address = u64::from_str_radix(line.split(' ').next()?, 16).ok();
            return address.filter(|address| *address != 0);
        }
        line.clear();
    }
    None
}

/// The kernel's memory by its virtual addresses.
struct Kcore {
    file: File,
    /// First address, bytes, and where they are in the file.
    segments: Vec<(u64, u64, u64)>,
}

impl Kcore {
    fn open(root: &Path) -> Option<Self> {
        let file = File::open(root.join("proc/kcore")).ok()?;
        let mut head = Vec::new();
        (&file).take(HEADERS).read_to_end(&mut head).ok()?;
        let header = FileHeader64::<Endianness>::parse(&head[..]).ok()?;
        let endian = header.endian().ok()?;
        let loads = header.program_headers(endian, &head[..]).ok()?.iter();
        let segments = loads
            .filter(|load| load.p_type(endian) == PT_LOAD)
            .map(|load| (load.p_vaddr(endian), load.p_filesz(endian), load.p_offset(endian)))
            .collect();
        Some(Self { file, segments })
    }

    fn read<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let (start, _, offset) = self.segments.iter().find(|(start, len, _)| {
            address
                .checked_sub(*start)
                .and_then(|from| len.checked_sub(from))
                .is_some_and(|left| left >= N as u64)
        })?;
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, offset.checked_add(address - start)?).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::fs;

    /// Makes a kernel below `root` that holds this record.
    pub fn hold(root: &Path, record: &[u8; LEN]) {
        fs::create_dir_all(root.join("proc")).unwrap();
        let kallsyms = "ffffffff81000000 T _stext\nffffffff82000008 B kexec_crash_image\n";
        fs::write(root.join("proc/kallsyms"), kallsyms).unwrap();
        // ELF64, little-endian, ET_CORE, x86_64, two program headers behind the header.
        let mut kcore = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        for number in [0u64, 64, 0] {
            kcore.extend(number.to_le_bytes());
        }
        for number in [0u16, 0, 64, 56, 2, 0, 0, 0] {
            kcore.extend(number.to_le_bytes());
        }
        for (vaddr, len, offset) in [(0xffffffff82000000u64, 16u64, 176u64), (0xffff888000001000, 256, 192)] {
            kcore.extend([1u32, 7].into_iter().flat_map(u32::to_le_bytes));
            for number in [offset, vaddr, 0, len, len, 0] {
                kcore.extend(number.to_le_bytes());
            }
        }
        kcore.extend([0u64, 0xffff888000001000].into_iter().flat_map(u64::to_le_bytes));
        kcore.extend(record);
        fs::write(root.join("proc/kcore"), kcore).unwrap();
    }

    #[test]
    fn another_record_is_another_checksum() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(checksum(root.path()), None);
        hold(root.path(), &[1; LEN]);
        let one = checksum(root.path()).unwrap();
        assert_eq!((one.len(), Some(&one)), (64, checksum(root.path()).as_ref()));
        hold(root.path(), &[2; LEN]);
        assert_ne!(checksum(root.path()), Some(one));
    }

    #[test]
    fn what_is_hidden_or_broken_has_none() {
        let root = tempfile::tempdir().unwrap();
        hold(root.path(), &[1; LEN]);
        fs::write(root.path().join("proc/kallsyms"), "0000000000000000 B kexec_crash_image\n").unwrap();
        assert_eq!(checksum(root.path()), None);
        hold(root.path(), &[1; LEN]);
        let kcore = fs::read(root.path().join("proc/kcore")).unwrap();
        for len in [0, 20, 100, 180, kcore.len() - 1] {
            fs::write(root.path().join("proc/kcore"), &kcore[..len]).unwrap();
            assert_eq!(checksum(root.path()), None, "{len}");
        }
    }
}
