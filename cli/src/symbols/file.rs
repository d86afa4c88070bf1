//! A file of symbols: kallsyms, System.map, vmlinux or a saved one, packed or not. Which it is shows in its bytes.
//!
//! A file may be from anywhere, and a few KB can unpack to gigabytes. So what is text is read line by line and bounded, and
//! of a vmlinux only what its symbols need.

use super::{error::SymbolError, table::Table};
use crate::{unpack, visible};
use anyhow::{Context, Result};
use flate2::bufread::ZlibDecoder;
use object::{ReadCache, ReadRef};
use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
    ops::Range,
    path::Path,
};

/// Most bytes of a table's text, of a packed vmlinux, or of a vmlinux' symbols. The kallsyms of a distribution's kernel with
/// all of its modules loaded takes 15 to 20 MB.
pub const MOST: u64 = 64 << 20;

/// Reads the file that the user has named, also from a pipe.
///
/// # Errors
/// When it cannot be read, or is no table of symbols.
pub fn open(path: &Path) -> Result<Table> {
    File::open(path).map_err(Into::into).and_then(|file| read(&file)).with_context(|| visible::path(path))
}

/// Reads an open file.
///
/// # Errors
/// As [`open`].
pub fn read(mut file: impl Read + Seek) -> Result<Table> {
    const ELF: &[u8] = b"\x7fELF";
    const GZIP: &[u8] = b"\x1f\x8b";
    // As those are that `load` saves (RFC 1950, at level 1).
    const ZLIB: &[u8] = b"\x78\x01";
    let (head, rest) = head(&mut file)?;
    if head.starts_with(ELF) {
        drop(rest);
        return vmlinux(&ReadCache::new(file));
    }
    if head.starts_with(ZLIB) {
        let unpacked = Limited { reader: ZlibDecoder::new(BufReader::new(rest)), left: MOST };
        return Ok(Table::read(BufReader::new(unpacked))?);
    }
    let limited = Limited { reader: rest, left: MOST };
    if !head.starts_with(GZIP) {
        return Ok(Table::read(BufReader::new(limited))?);
    }
    let bytes = gunzip(limited)?;
    if bytes.starts_with(ELF) {
        return vmlinux(&*bytes);
    }
    Ok(Table::read(&*bytes)?)
}

/// Unpacks what gzip has packed.
fn gunzip(mut packed: impl Read) -> Result<Vec<u8>, SymbolError> {
    let mut bytes = Vec::new();
    packed.read_to_end(&mut bytes)?;
    let bytes = unpack::with("gzip", &bytes, MOST)?.ok_or(SymbolError::NoGzip)?;
    if bytes.len() as u64 > MOST { Err(SymbolError::TooLong) } else { Ok(bytes) }
}

/// Reads a vmlinux. Its symbols may share their names, or the ends of them: what is taken of it may be more than it has.
fn vmlinux<'a>(file: impl ReadRef<'a>) -> Result<Table> {
    let left = Cell::new(Some(MOST));
    let table = Table::vmlinux(Bounded { file, left: &left });
    // What was left out for that would make other names of those that are there.
    if left.get().is_none() {
        return Err(SymbolError::TooLong.into());
    }
    Ok(table?)
}

/// The first bytes of a stream, and the stream with them.
fn head<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, impl Read)> {
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// A stream that fails where it is longer than this.
struct Limited<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more shows whether it ends here.
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).saturating_add(1).min(buffer.len());
        let len = self.reader.read(&mut buffer[..most])?;
        self.left =
            self.left.checked_sub(len as u64).ok_or_else(|| io::Error::other(SymbolError::TooLong))?;
        Ok(len)
    }
}

/// A file of which so many bytes are taken at most; `None` once that was not enough.
#[derive(Clone, Copy)]
struct Bounded<'a, R> {
    file: R,
    left: &'a Cell<Option<u64>>,
}

impl<R> Bounded<'_, R> {
    fn take(&self, size: u64) -> Result<(), ()> {
        self.left.set(self.left.get().and_then(|left| left.checked_sub(size)));
        self.left.get().map(drop).ok_or(())
    }
}

impl<'a, R: ReadRef<'a>> ReadRef<'a> for Bounded<'_, R> {
    fn len(self) -> Result<u64, ()> {
        self.file.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.take(size)?;
        self.file.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let bytes = self.file.read_bytes_at_until(range, delimiter)?;
        self.take(bytes.len() as u64)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use object::write::{Object, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
    use std::io::Write;

    const TABLE: &[u8] = b"ffffffff81000000 T _stext\nffffffff81000010 t do_one\nffffffff81000020 T _etext\n";

    fn packed(parts: &[&[u8]]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        for part in parts {
            gz.write_all(part).unwrap();
        }
        gz.finish().unwrap()
    }

    fn table(bytes: &[u8]) -> Result<Table> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        open(file.path())
    }

    fn error(bytes: &[u8]) -> String {
        format!("{:#}", table(bytes).unwrap_err())
    }

    /// So many bytes of lines that are no symbols.
    fn zeros(gz: &mut GzEncoder<Vec<u8>>, mut len: u64) {
        let lines = vec![0; 1 << 16];
        while len > 0 {
            let part = len.min(1 << 16);
            gz.write_all(&lines[..part as usize]).unwrap();
            len -= part;
        }
    }

    #[test]
    fn a_packed_file_is_read_to_its_limit_and_no_further() {
        let padded = |len| {
            let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
            gz.write_all(TABLE).unwrap();
            zeros(&mut gz, len);
            gz.finish().unwrap()
        };
        let room = MOST - TABLE.len() as u64;
        assert!(table(&padded(room)).unwrap().kernel(0x10).is_some());
        for len in [room + 1, 300 << 20] {
            let packed = padded(len);
            assert!(packed.len() < 4 << 20);
            let error = error(&packed);
            assert!(error.contains("64 MiB") && error.contains("\nhint: "), "{error}");
        }
        let elf = [&b"\x7fELF"[..], &vec![0; MOST as usize]].concat();
        assert!(error(&packed(&[&elf])).contains("64 MiB"));
    }

    #[test]
    fn a_text_that_is_not_packed_has_the_same_limit() {
        // Few lines: reading each of 64 million takes half a minute.
        let line = [&vec![b' '; 0xffff][..], b"\n"].concat();
        let long = [TABLE, &line.repeat(MOST as usize >> 16)].concat();
        assert!(error(&long).contains("64 MiB"));
    }

    #[test]
    fn a_truncated_or_corrupt_packed_file_is_an_error_with_a_hint() {
        let whole = packed(&[TABLE]);
        for len in 3..whole.len() {
            let error = error(&whole[..len]);
            assert!(error.contains("truncated or corrupt") && error.contains("\nhint: "), "{len}: {error}");
        }
        let mut flipped = whole.clone();
        flipped[whole.len() - 6] ^= 1;
        assert!(error(&flipped).contains("truncated or corrupt"));
        let garbage = [&whole[..], b"garbage"].concat();
        assert!(error(&garbage).contains("truncated or corrupt"));
    }

    #[test]
    fn packed_files_one_after_the_other_are_one_file() {
        let (one, other) = TABLE.split_at(3);
        let both = [packed(&[one]), packed(&[other])].concat();
        assert_eq!(table(&both).unwrap().kernel(0x12).unwrap().to_string(), "do_one+0x2");
    }

    #[test]
    fn lines_without_end_and_nul_bytes_are_passed_over() {
        let name = vec![b'x'; 1 << 20];
        let long = [b"ffffffff81000018 t ", &name[..], b"\n\0\0\0\n", TABLE].concat();
        let table = table(&long).unwrap();
        assert_eq!(table.kernel(0x19).unwrap().to_string(), "do_one+0x9");
        let nul = [TABLE, b"ffffffff81000018 t a\0b\x1b[2J\xc2\x9bm\n"].concat();
        assert_eq!(self::table(&nul).unwrap().kernel(0x18).unwrap().to_string(), "a?b?[2J?m+0x0");
    }

    #[test]
    fn more_symbols_than_any_kernel_has_are_refused() {
        let mut text = TABLE.to_vec();
        for _ in 0..1_000_000 {
            text.extend(b"1 t a\n");
        }
        assert!(error(&text).contains("more than 1000000 symbols"));
    }

    #[test]
    fn a_vmlinux_that_claims_huge_tables_takes_no_memory_for_them() {
        // A sparse file of 1 TiB whose symbol table is nearly all of it (ELF-64 header and section header).
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(0x10, 0);
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        elf.extend([0u64, 0, 0x40].map(u64::to_le_bytes).concat());
        elf.extend([0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0x40, 0, 3, 0, 2, 0]);
        let section = |kind: u32, offset: u64, size: u64, link: u32, entry: u64| {
            let head = [0u32.to_le_bytes(), kind.to_le_bytes()].concat();
            let middle = [0, 0, offset, size].map(u64::to_le_bytes).concat();
            let link = [link.to_le_bytes(), 0u32.to_le_bytes()].concat();
            [head, middle, link, [1, entry].map(u64::to_le_bytes).concat()].concat()
        };
        elf.extend(section(0, 0, 0, 0, 0));
        elf.extend(section(2, 0x1000, 24 << 30, 2, 24));
        elf.extend(section(3, 0x1000, 1 << 30, 0, 0));
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all(&elf).unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let error = format!("{:#}", open(file.path()).unwrap_err());
        assert!(error.contains("64 MiB"), "{error}");
    }

    /// A vmlinux with so many symbols of one name.
    fn with_one_name(symbols: usize, name: usize) -> Vec<u8> {
        let mut elf = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = elf.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
        let mut add = |name: &[u8], value| {
            elf.add_symbol(Symbol {
                name: name.to_vec(),
                value,
                size: 0,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        };
        add(b"_stext", 0x1000);
        let name = vec![b'x'; name];
        (0..symbols).for_each(|at| add(&name, 0x1000 + at as u64 % 2));
        elf.write().unwrap()
    }

    #[test]
    fn a_vmlinux_whose_symbols_share_a_name_takes_no_more_than_one_whose_do_not() {
        // Before: the name once in the file, and in memory once a symbol.
        let name = 4000;
        let (few, many) = (with_one_name(100, name), with_one_name(20_000, name));
        assert!(many.len() < 600_000 && 20_000 * name as u64 > MOST);
        for elf in [&few, &packed(&[&few])] {
            assert_eq!(table(elf).unwrap().image.len(), 101);
        }
        assert!(packed(&[&many]).len() < 20_000, "{}", packed(&[&many]).len());
        for elf in [&many, &packed(&[&many])] {
            let error = error(elf);
            assert!(error.contains("64 MiB"), "{error}");
        }
    }
}
