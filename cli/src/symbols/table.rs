//! A kernel's symbols, and the nearest one to an address.
//!
//! The names are those that the kernel itself would print (`%pS`). Of several symbols at one address it takes the
//! first in its table, so the order of /proc/kallsyms is kept; where a file has another order, `vmlinux` makes the
//! kernel's.

use super::{error::SymbolError, vmlinux};
use crate::{sort, visible::printable};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Read},
    ops::Range,
};

/// A name for an address, as the kernel prints it: `sysrq_handle_crash+0x16`, `deaf_init+0x5 [deaf]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The symbol.
    pub symbol: String,
    /// Bytes from it on.
    pub offset: u64,
    /// The module that it is in, if it is in one.
    pub module: Option<String>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.symbol, self.offset)?;
        self.module.as_ref().map_or(Ok(()), |module| write!(f, " [{module}]"))
    }
}

/// One symbol of the kernel's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub address: u64,
    /// Where the code that it may stand for ends, if no other symbol comes before.
    pub end: u64,
    pub name: String,
    pub module: Option<String>,
}

/// Symbols of a kernel's text and of the modules that it had in one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The kernel's build id, where the file has it.
    pub build_id: Option<Vec<u8>>,
    /// `uname -r`, likewise.
    pub release: Option<String>,
    /// When the boot began whose modules these are, in seconds since 1970, likewise.
    pub booted: Option<i64>,
    /// Address of `_stext`.
    pub stext: u64,
    /// By address, those at one address in the kernel's order.
    pub image: Vec<Symbol>,
    /// Where the image has text, and where it had some while it booted.
    text: [Range<u64>; 2],
    /// As in `image`.
    pub modules: Vec<Symbol>,
}

/// Longest piece of code behind a module's last symbol, where nothing else shows where it ends.
const LAST: u64 = 0x4000;

/// Most symbols of a table: about four times those of a distribution's kernel with its modules.
pub const SYMBOLS: usize = 1_000_000;
/// Longest line. A symbol's name has at most 511 bytes (KSYM_NAME_LEN), a module's at most 55.
const LINE: usize = 1024;

impl Table {
    /// Reads the text of /proc/kallsyms, of a System.map, or of a saved table: `ADDRESS TYPE NAME [MODULE]` and lines
    /// of notes that begin with `#`. Other lines are passed over. Names are in printable ASCII, whatever the file has.
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn read(mut reader: impl BufRead) -> Result<Self, SymbolError> {
        let mut table = Self::default();
        let mut image = Vec::new();
        let mut modules = Vec::new();
        let mut ranges: BTreeMap<String, Range<u64>> = BTreeMap::new();
        let mut raw = Vec::new();
        while next_line(&mut reader, &mut raw)? {
            let line = String::from_utf8_lossy(&raw);
            let line = line.trim_end_matches('\r');
            if image.len() + modules.len() + ranges.len() >= SYMBOLS {
                return Err(SymbolError::TooMany);
            }
            if let Some(note) = line.strip_prefix("# ") {
                let mut words = note.split(' ');
                match (words.next(), words.next(), words.next(), words.next()) {
                    (Some("build-id"), Some(id), ..) => table.build_id = bytes(id),
                    (Some("release"), Some(release), ..) => table.release = Some(printable(release)),
                    (Some("booted"), Some(time), ..) => table.booted = time.parse().ok(),
                    (Some("module"), Some(name), Some(start), Some(end)) => {
                        if let (Some(start), Some(end)) = (address(start), address(end)) {
                            ranges.insert(printable(name), start..end);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (
                words.next().and_then(address),
                words.next().and_then(|kind| kind.chars().next()),
                words.next(),
            ) else {
                continue;
            };
            let module = words.next().and_then(|word| word.strip_prefix('[')?.strip_suffix(']'));
            let module = module.map(printable);
            let symbol = Symbol { address, end: u64::MAX, name: printable(name), module };
            match &symbol.module {
                // What the kernel has made itself (`__builtin__ftrace`, `bpf`) comes and goes.
                Some(module) if module == "bpf" || module.starts_with("__builtin__") => {}
                Some(_) => modules.push((kind, symbol)),
                None => image.push((kind, symbol)),
            }
        }
        // System.map's order among equals is the linker's.
        if modules.is_empty() && table.build_id.is_none() {
            vmlinux::as_the_kernel(&mut image);
        }
        table.set_image(image.into_iter().map(|(_, symbol)| symbol).collect())?;
        table.set_modules(modules, &ranges);
        Ok(table)
    }

    #[cfg(test)]
    /// Reads text that is in memory.
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn parse(text: &str) -> Result<Self, SymbolError> {
        Self::read(text.as_bytes())
    }

    /// Keeps what lies in the image's text.
    pub fn set_image(&mut self, mut symbols: Vec<Symbol>) -> Result<(), SymbolError> {
        let find = |name| symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address);
        let stext = find("_stext").ok_or(SymbolError::NoStext)?;
        // A saved table's addresses count from _stext, so that it is zero there.
        if stext == 0 && symbols.iter().all(|symbol| symbol.address == 0) && symbols.len() > 1 {
            return Err(SymbolError::Hidden);
        }
        let last = symbols.iter().map(|symbol| symbol.address).max().unwrap_or(stext);
        let init = find("_sinittext").zip(find("_einittext")).unwrap_or_default();
        self.text = [stext..find("_etext").unwrap_or(last), init.0..init.1];
        self.stext = stext;
        symbols.retain_mut(|symbol| {
            let text =
                self.text.iter().find(|text| text.contains(&symbol.address) || text.end == symbol.address);
            symbol.end = text.map_or(0, |text| text.end);
            text.is_some()
        });
        sort::by_key(&mut symbols, |symbol| symbol.address);
        self.image = symbols;
        Ok(())
    }

    /// Keeps the modules' text. `ranges`: the most that they take, as /proc/modules has it; what a module throws away
    /// after its start lies elsewhere.
    fn set_modules(&mut self, mut symbols: Vec<(char, Symbol)>, ranges: &BTreeMap<String, Range<u64>>) {
        sort::by_key(&mut symbols, |(_, symbol)| symbol.address);
        // The next symbol at a higher address.
        let (mut here, mut next) = ((u64::MAX, None), (u64::MAX, None));
        for (_, symbol) in symbols.iter_mut().rev() {
            if symbol.address < here.0 {
                next = std::mem::replace(&mut here, (symbol.address, symbol.module.clone()));
            }
            let range = symbol.module.as_ref().and_then(|module| ranges.get(module));
            let range = range.filter(|range| range.contains(&symbol.address));
            let last = symbol.address.saturating_add(LAST);
            let limit = match range {
                Some(range) if next.1 == symbol.module && range.contains(&next.0) => next.0,
                Some(range) => range.end.min(last),
                None => last,
            };
            symbol.end = next.0.min(limit);
        }
        let is_text = |kind: char| matches!(kind, 't' | 'T' | 'w' | 'W');
        self.modules =
            symbols.into_iter().filter(|(kind, _)| is_text(*kind)).map(|(_, symbol)| symbol).collect();
    }

    /// The name for an offset from `_stext`.
    #[must_use]
    pub fn kernel(&self, offset: u64) -> Option<Name> {
        let address = self.stext.checked_add(offset)?;
        name(&self.image, address)
    }

    /// The name for an address in a module of this boot.
    #[must_use]
    pub fn module(&self, address: u64) -> Option<Name> {
        name(&self.modules, address)
    }

    /// The name for an address in the boot that the table is of: in a module, or in the image where it is known where
    /// that lay.
    #[must_use]
    pub fn address(&self, address: u64) -> Option<Name> {
        let image = || self.kernel(address.checked_sub(self.stext).filter(|_| self.stext != 0)?);
        self.module(address).or_else(image)
    }
}

/// Reads the next line, without its end; one that is longer than any of a table is empty. False behind the last one.
pub fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let len = reader.by_ref().take(LINE as u64 + 1).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if len > LINE {
        line.clear();
        reader.skip_until(b'\n')?;
    }
    Ok(len > 0)
}

/// The nearest symbol at or below the address, the first of those at its own.
fn name(symbols: &[Symbol], address: u64) -> Option<Name> {
    let after = symbols.partition_point(|symbol| symbol.address <= address);
    let nearest = symbols.get(after.checked_sub(1)?)?.address;
    let first = symbols.get(symbols.partition_point(|symbol| symbol.address < nearest))?;
    (address < first.end).then(|| Name {
        symbol: first.name.clone(),
        offset: address - nearest,
        module: first.module.clone(),
    })
}

/// A number of hex digits.
pub fn address(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Hex digits as bytes.
pub fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| Some(address(str::from_utf8(pair).ok()?)? as u8));
    digits.len().is_multiple_of(2).then(|| pairs.collect()).flatten()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::symbols::file;
    use flate2::{Compression, write::GzEncoder};
    use object::write::{Object, Symbol as Written, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
    use proptest::prelude::*;
    use std::{fmt::Write as _, io::Write as _};

    /// As Linux 6.1 prints it: aliases, data on both sides, text that is thrown away after boot, modules.
    pub const KALLSYMS: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff9a000000 T srso_untrain
ffffffff9a000000 T _stext
ffffffff9a000000 T _text
ffffffff9a000040 t do_one
ffffffff9a000100 T sys_ni
ffffffff9a000100 T __x64_sys_ni
ffffffff9a000100 W weak_ni
ffffffff9a000180 t last
ffffffff9a000200 T _etext
ffffffff9a400000 R __start_rodata
ffffffff9a800000 T _sinittext
ffffffff9a800010 t start_init
ffffffff9a800040 T _einittext
ffffffff9a900000 B _end
ffffffffc0202000 t on_init\t[first]
ffffffffc0200010 t later\t[first]
ffffffffc0200000 t alias_a\t[first]
ffffffffc0200000 t alias_b\t[first]
ffffffffc0203000 d data\t[first]
ffffffffc0206000 t deaf\t[second]
ffffffffc020a000 t bpf_prog_1\t[bpf]
ffffffffc020b000 t ftrace_trampoline\t[__builtin__ftrace]
";

    fn shown(name: Option<Name>) -> String {
        name.map_or_else(|| "-".to_owned(), |name| name.to_string())
    }

    #[test]
    fn names_are_those_that_the_kernel_prints() {
        let table = Table::parse(KALLSYMS).unwrap();
        for (offset, name) in [
            (0, "srso_untrain+0x0"),
            (0x3f, "srso_untrain+0x3f"),
            (0x40, "do_one+0x0"),
            (0x17f, "sys_ni+0x7f"),
            (0x1ff, "last+0x7f"),
            // Behind the text, in data, in the text of booting, behind everything.
            (0x200, "-"),
            (0x400000, "-"),
            (0x80000f, "_sinittext+0xf"),
            (0x800010, "start_init+0x0"),
            (0x800040, "-"),
            (u64::MAX, "-"),
        ] {
            assert_eq!(shown(table.kernel(offset)), name, "{offset:#x}");
        }
        for (address, name) in [
            (0xffffffff9a000041, "do_one+0x1"),
            (0xffffffffc0200005, "alias_a+0x5 [first]"),
            (0xffffffffc0202001, "on_init+0x1 [first]"),
            (0xffffffffc0202fff, "on_init+0xfff [first]"),
            (0xffffffffc0203000, "-"),
            (0xffffffffc0208fff, "deaf+0x2fff [second]"),
            (0xffffffffc020a000, "-"),
            (0xffffffffc020b000, "-"),
            (0xffffffffc01fffff, "-"),
            (0x40, "-"),
        ] {
            assert_eq!(shown(table.address(address)), name, "{address:#x}");
        }
    }

    #[test]
    fn system_map_and_vmlinux_are_put_in_the_kernels_order() {
        let map = "\
ffffffff81000000 T _stext
ffffffff81000010 T __do_sys_one
ffffffff81000010 T __stop_before
ffffffff81000010 W a_weak_one
ffffffff81000010 T do_sys_one
ffffffff81000020 T _etext
";
        let table = Table::parse(map).unwrap();
        assert_eq!(shown(table.kernel(0x11)), "do_sys_one+0x1");

        let mut elf = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = elf.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
        elf.append_section_data(text, &[0x90; 0x20], 16);
        for line in map.lines().chain(["ffffffff81000010 T .Lpart", "ffffffff81000010 T $x"]) {
            let words: Vec<_> = line.split(' ').collect();
            elf.add_symbol(Written {
                name: words[2].into(),
                value: address(words[0]).unwrap(),
                size: 0,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: words[1] == "W",
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        }
        let elf = elf.write().unwrap();
        assert_eq!(Table::vmlinux(&elf[..]).unwrap().image, table.image);
        // From a file only what is needed is read; a packed one is unpacked before.
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&elf).unwrap();
        for bytes in [&elf, &packed.finish().unwrap()] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().write_all(bytes).unwrap();
            assert_eq!(file::open(file.path()).unwrap().image, table.image);
        }
        assert!(Table::vmlinux(&elf[..elf.len() / 2]).is_err());
    }

    #[test]
    fn what_is_no_kernels_symbols_is_refused() {
        assert!(matches!(Table::parse("hello\nworld\n"), Err(SymbolError::NoStext)));
        let hidden = "0000000000000000 T _stext\n0000000000000000 t do_one\n";
        assert!(matches!(Table::parse(hidden), Err(SymbolError::Hidden)));
    }

    proptest! {
        /// The nearest symbol, the first of several, as somebody who reads the list with his finger finds it.
        #[test]
        fn the_nearest_symbol(mut places in prop::collection::vec(0u64..64, 1..40), at in 0u64..64) {
            places.sort_unstable();
            let mut text = String::from("ffffffff81000000 T _stext\n");
            for (index, place) in places.iter().enumerate() {
                writeln!(text, "{:x} t s{index}", 0xffffffff81000000 + place).unwrap();
            }
            text.push_str("ffffffff81000040 T _etext\nffffffffc0000000 t module\t[module]\n");
            let nearest = places.iter().filter(|place| **place <= at).max();
            let expected = match nearest {
                Some(place) if *place > 0 => {
                    format!("s{}+{:#x}", places.iter().position(|one| one == place).unwrap(), at - place)
                }
                _ => format!("_stext+{at:#x}"),
            };
            prop_assert_eq!(shown(Table::parse(&text).unwrap().kernel(at)), expected);
        }

        #[test]
        fn any_text_is_taken_or_refused(lines in prop::collection::vec(
            prop_oneof![
                Just("ffffffffffffffff t top\t[m]".to_owned()),
                Just("ffffffff81000000 T _stext".to_owned()),
                "[0-9a-f]{0,17} [tTwWdA] [a-z_.]{0,6}( |\t)(\\[[a-z]{0,3}\\])?",
                "# (module|booted|build-id|release) [a-z0-9é]{0,3} [0-9a-f]{0,17} [0-9a-f]{0,17}",
                ".{0,20}",
            ], 0..30), at in any::<u64>()) {
            if let Ok(table) = Table::parse(&lines.join("\n")) {
                let _ = (table.kernel(at), table.address(at), table.module(at));
            }
            prop_assert!(Table::vmlinux(lines.join("").as_bytes()).is_err());
        }
    }
}
