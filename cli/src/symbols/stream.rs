//! The running kernel's symbols on their way from /proc/kallsyms to the saved files: line by line, for a table of them all
//! takes more memory than loading does.
//!
//! The kernel prints its image by address, as it looks symbols up in it, and then module by module.

use super::{
    error::SymbolError,
    table::{SYMBOLS, next_line},
};
use crate::{sort, visible::printable};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

/// Where the image's text begins and ends, and that which it has while it boots.
const TEXTS: [[&[u8]; 2]; 2] = [[b"_stext", b"_etext"], [b"_sinittext", b"_einittext"]];

/// The kernel's variables that we look at, in any load: where they are is saved, so that it need not print all of its symbols
/// each time.
const VARIABLES: [&str; 2] = [KEXEC_CRASH_IMAGE, CPU_ONLINE_MASK];
/// The loaded dump kernel (`kernel/kexec_core.c`).
pub const KEXEC_CRASH_IMAGE: &str = "kexec_crash_image";
/// The CPUs that are online (`kernel/cpu.c`).
pub const CPU_ONLINE_MASK: &str = "__cpu_online_mask";

/// What /proc/modules has of the modules: their names, where they begin, and where they end.
#[derive(Debug, Default)]
pub struct Modules<'a>(BTreeMap<&'a str, (u64, u64)>);

impl<'a> Modules<'a> {
    /// Reads it.
    pub fn parse(text: &'a str) -> Self {
        let module = |line: &'a str| {
            // `lkdtm 45056 0 - Live 0xffffffffc0263000 (OE)`
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let [name, size, _, _, _, start, ..] = words[..] else { return None };
            let start = u64::from_str_radix(start.strip_prefix("0x")?, 16).ok()?;
            Some((name, (start, start.saturating_add(size.parse().ok()?))))
        };
        let mut modules = Self::default();
        modules.0.extend(text.lines().filter_map(module));
        modules
    }
}

/// Writes the image's text symbols to `kernel`, counted from `_stext`, and to `boot` the modules, with their text symbols at
/// their addresses. Both as /proc/kallsyms has them; which kind of text symbol it is makes no difference.
///
/// # Errors
/// [`SymbolError`].
pub fn split(
    mut kallsyms: impl BufRead,
    modules: &Modules<'_>,
    mut kernel: Option<&mut dyn Write>,
    boot: &mut dyn Write,
) -> Result<(), SymbolError> {
    let mut image = Image::default();
    let mut module = Module::default();
    let (mut line, mut count, mut is_headed) = (Vec::new(), 0, false);
    while next_line(&mut kallsyms, &mut line)? {
        let Some(symbol) = Symbol::parse(&line) else { continue };
        count += 1;
        if count > SYMBOLS {
            return Err(SymbolError::TooMany);
        }
        match symbol.module {
            None => image.take(&symbol, &mut kernel)?,
            Some(name) => {
                // Before all symbols of modules: variables are found without unpacking those.
                if !is_headed {
                    is_headed = true;
                    image.end(&mut kernel)?;
                    image.head(modules, boot)?;
                }
                if module.name != name {
                    module.write(boot)?;
                    name.clone_into(&mut module.name);
                    module.is_there = str::from_utf8(name).is_ok_and(|name| modules.0.contains_key(name));
                }
                module.take(&symbol);
            }
        }
    }
    if !is_headed {
        image.end(&mut kernel)?;
        image.head(modules, boot)?;
    }
    module.write(boot)?;
    Ok(())
}

/// A line.
struct Symbol<'a> {
    address: u64,
    kind: u8,
    name: &'a [u8],
    module: Option<&'a [u8]>,
}

impl<'a> Symbol<'a> {
    /// `ffffffffc0206000 t deaf\t[second]`
    fn parse(line: &'a [u8]) -> Option<Self> {
        // Word by word would take most of the time that this takes.
        let digits = line.iter().take(16).take_while(|digit| digit.is_ascii_hexdigit()).count();
        let (address, rest) = line.split_at(digits);
        let [b' ', kind, b' ', rest @ ..] = rest else { return None };
        let digit = |address, digit: &u8| address << 4 | u64::from((digit & 0xf) + 9 * (digit >> 6));
        let (address, module) = (address.iter().fold(0, digit), rest.strip_suffix(b"]"));
        let (name, module) = match module {
            None => (rest, None),
            Some(rest) => {
                let tab = rest.iter().position(|byte| *byte == b'\t')?;
                (&rest[..tab], Some(rest[tab + 1..].strip_prefix(b"[")?))
            }
        };
        (digits > 0).then_some(Self { address, kind: *kind, name, module })
    }
}

/// What has come of the image.
#[derive(Default)]
struct Image {
    stext: Option<u64>,
    /// In which of the texts are we?
    is_in: [bool; 2],
    /// Those at one address: only the last of them may tell that a text begins there.
    address: u64,
    names: Vec<u8>,
    /// Which of the texts end there?
    ends: [bool; 2],
    variables: Vec<(&'static str, u64)>,
}

impl Image {
    /// What the file of a boot has before the modules' symbols: where the image and its variables are in this boot, and the
    /// modules.
    fn head(&self, modules: &Modules<'_>, boot: &mut dyn Write) -> Result<(), SymbolError> {
        writeln!(boot, "{:x} T _stext", self.stext.ok_or(SymbolError::NoStext)?)?;
        for (name, address) in &self.variables {
            writeln!(boot, "# variable {name} {address:x}")?;
        }
        for (name, (start, end)) in &modules.0 {
            writeln!(boot, "# module {name} {start:x} {end:x}")?;
        }
        Ok(())
    }

    fn take(&mut self, symbol: &Symbol<'_>, kernel: &mut Option<&mut dyn Write>) -> Result<(), SymbolError> {
        if symbol.address != self.address {
            self.end(kernel)?;
            self.address = symbol.address;
        }
        for (text, [begin, end]) in TEXTS.into_iter().enumerate() {
            self.is_in[text] |= symbol.name == begin;
            self.ends[text] |= symbol.name == end;
        }
        if symbol.name == TEXTS[0][0] {
            if symbol.address == 0 {
                return Err(SymbolError::Hidden);
            }
            self.stext.get_or_insert(symbol.address);
        }
        let variable = VARIABLES.into_iter().find(|name| name.as_bytes() == symbol.name);
        self.variables.extend(variable.map(|name| (name, symbol.address)));
        push(&mut self.names, symbol.name);
        self.names.push(b'\n');
        Ok(())
    }

    /// Writes those at one address, all of which there are.
    fn end(&mut self, kernel: &mut Option<&mut dyn Write>) -> io::Result<()> {
        let offset = self.stext.and_then(|stext| self.address.checked_sub(stext));
        if let ([true, _] | [_, true], Some(offset), Some(kernel)) = (self.is_in, offset, kernel) {
            for name in self.names.split_inclusive(|byte| *byte == b'\n') {
                write!(kernel, "{offset:x} t ")?;
                kernel.write_all(name)?;
            }
        }
        self.names.clear();
        // What lies at the end itself belongs to it.
        for (is_in, ends) in self.is_in.iter_mut().zip(std::mem::take(&mut self.ends)) {
            *is_in &= !ends;
        }
        Ok(())
    }
}

/// One module's text symbols.
#[derive(Default)]
struct Module {
    name: Vec<u8>,
    /// Does /proc/modules have it? What the kernel makes itself (`bpf`) comes and goes.
    is_there: bool,
    /// Addresses, and where in `names` each one's name begins and ends.
    symbols: Vec<(u64, usize, usize)>,
    names: Vec<u8>,
}

impl Module {
    fn take(&mut self, symbol: &Symbol<'_>) {
        if self.is_there && matches!(symbol.kind, b't' | b'T' | b'w' | b'W') {
            let start = self.names.len();
            push(&mut self.names, symbol.name);
            self.symbols.push((symbol.address, start, self.names.len()));
        }
    }

    fn write(&mut self, boot: &mut dyn Write) -> io::Result<()> {
        sort::by_key(&mut self.symbols, |(address, ..)| *address);
        for (address, start, end) in self.symbols.drain(..) {
            write!(boot, "{address:x} t ")?;
            for part in [&self.names[start..end], b" [", &self.name, b"]\n"] {
                boot.write_all(part)?;
            }
        }
        self.names.clear();
        Ok(())
    }
}

/// A name in printable ASCII, whatever it was.
fn push(names: &mut Vec<u8>, name: &[u8]) {
    if name.iter().all(u8::is_ascii_graphic) {
        names.extend(name);
    } else {
        names.extend(printable(&String::from_utf8_lossy(name)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::table::{Table, tests::KALLSYMS},
        *,
    };
    use proptest::prelude::*;
    use std::fmt::Write as _;

    const MODULES: &str =
        "first 8192 0 - Live 0xffffffffc0200000\nsecond 65536 1 first, Live 0xffffffffc0206000 (OE)\n";

    fn texts(kallsyms: &str, modules: &str) -> Result<[String; 2], SymbolError> {
        let (mut kernel, mut boot) = (Vec::new(), Vec::new());
        split(kallsyms.as_bytes(), &Modules::parse(modules), Some(&mut kernel), &mut boot)?;
        Ok([kernel, boot].map(|text| String::from_utf8(text).unwrap()))
    }

    /// What a table of all symbols has of the image's text.
    fn image(kallsyms: &str) -> String {
        let table = Table::parse(kallsyms).unwrap();
        table.image.iter().filter(|symbol| symbol.address >= table.stext).fold(
            String::new(),
            |mut text, symbol| {
                writeln!(text, "{:x} t {}", symbol.address - table.stext, symbol.name).unwrap();
                text
            },
        )
    }

    #[test]
    fn text_symbols_are_told_from_all_others_as_by_a_table_of_them() {
        let [kernel, boot] = texts(KALLSYMS, MODULES).unwrap();
        assert_eq!(kernel, image(KALLSYMS));
        assert!(
            kernel.contains("\n100 t weak_ni\n") && kernel.ends_with("\n800040 t _einittext\n"),
            "{kernel}"
        );
        let expected = "\
ffffffff9a000000 T _stext
# module first ffffffffc0200000 ffffffffc0202000
# module second ffffffffc0206000 ffffffffc0216000
ffffffffc0200000 t alias_a [first]
ffffffffc0200000 t alias_b [first]
ffffffffc0200010 t later [first]
ffffffffc0202000 t on_init [first]
ffffffffc0206000 t deaf [second]
";
        assert_eq!(boot, expected);
    }

    #[test]
    fn what_modules_does_not_have_is_left_out_and_variables_come_first() {
        let with = KALLSYMS.replace(
            "ffffffff9a900000 B _end\n",
            "ffffffff9a880000 D __cpu_online_mask\nffffffff9a890000 B kexec_crash_image\nffffffff9a900000 B _end\n",
        );
        let [_, boot] = texts(&with, "").unwrap();
        let expected = "\
ffffffff9a000000 T _stext
# variable __cpu_online_mask ffffffff9a880000
# variable kexec_crash_image ffffffff9a890000
";
        assert_eq!(boot, expected);
        // A module's own symbol of that name is none of the kernel's.
        let [_, boot] = texts(&(with + "ffffffffc0300000 d kexec_crash_image\t[evil]\n"), "").unwrap();
        assert_eq!(boot, expected);
    }

    #[test]
    fn hidden_and_missing_symbols_are_errors() {
        assert!(matches!(texts("0 T _stext\n0 T other\n", ""), Err(SymbolError::Hidden)));
        assert!(matches!(texts("ffffffff9a000000 T other\n", ""), Err(SymbolError::NoStext)));
        assert!(matches!(texts(&"1 t a\n".repeat(SYMBOLS + 1), ""), Err(SymbolError::TooMany)));
    }

    proptest! {
        #[test]
        fn any_image_in_order_comes_out_as_from_a_table(
            mut places in prop::collection::vec((0u64..0x40, "[a-zé]{1,3}"), 0..30), edges in prop::array::uniform4(0u64..0x40),
        ) {
            let mut edges = edges;
            edges.sort_unstable();
            for (edge, name) in edges.into_iter().zip(["_stext", "_etext", "_sinittext", "_einittext"]) {
                places.push((edge, name.to_owned()));
            }
            places.sort_by_key(|(place, _)| *place);
            let text = places.iter().fold(String::new(), |mut text, (place, name)| {
                writeln!(text, "{:x} t {name}", 0xffffffff81000000 + place).unwrap();
                text
            });
            let module = text.clone() + "ffffffffc0000000 t module\t[module]\n";
            prop_assert_eq!(&texts(&text, "").unwrap()[0], &image(&module));
        }

        #[test]
        fn any_lines_are_taken_or_refused(lines in prop::collection::vec(prop_oneof![
            "[0-9a-f]{0,17} [tTwWdA] [a-z_.]{0,6}( |\t)(\\[[a-z]{0,3}\\])?", Just("81000000 T _stext".to_owned()), ".{0,20}",
        ], 0..30), modules in ".{0,40}") {
            let _ = texts(&lines.join("\n"), &modules);
        }
    }
}
