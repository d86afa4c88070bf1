//! The image's instructions: where its functions are, by the symbols of its ELF file.

use crate::machine::lastwords;
use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use std::fmt;
use std::fs;

/// The image's functions, and its other parts that have a name, in the order of their places.
#[derive(Clone, Debug)]
pub struct Code {
    symbols: Vec<(u64, String)>,
    data: u64,
    file_end: u64,
    end: u64,
}

/// A place in the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The symbol in front of it.
    pub symbol: String,
    /// Bytes from there.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.symbol, self.offset)
    }
}

impl Code {
    /// Reads the symbols of the image that the program under test has in it.
    ///
    /// # Errors
    /// When there is no image.
    pub fn get() -> Result<Self> {
        let file = fs::read(lastwords::image_elf()?)?;
        let elf = object::File::parse(file.as_slice())?;
        let mut symbols = Vec::new();
        let mut end = None;
        for symbol in elf.symbols() {
            let name = symbol.name()?;
            if name == "__memory_end" {
                end = Some(symbol.address());
            }
            if symbol.is_definition() && symbol.kind() != SymbolKind::File && symbol.section_index().is_some()
            {
                symbols.push((symbol.address(), plain(name)));
            }
        }
        symbols.sort();
        // Of several at one address the last one: the linker's own begin with two underscores.
        symbols.dedup_by(|one, before| {
            one.0 == before.0 && {
                std::mem::swap(one, before);
                true
            }
        });
        let section = |name: &str| {
            elf.section_by_name(name).with_context(|| format!("the image has no section {name}"))
        };
        let got = section(".got")?;
        Ok(Self {
            symbols,
            data: section(".rodata")?.address(),
            file_end: got.address() + got.size(),
            end: end.context("the image has no symbol __memory_end")?,
        })
    }

    /// The place at this offset in the image.
    #[must_use]
    pub fn place(&self, offset: u64) -> Place {
        let before = self.symbols.iter().rfind(|(at, _)| *at <= offset);
        let (at, name) = before.map_or((0, "the header"), |(at, name)| (*at, name.as_str()));
        Place { symbol: name.to_owned(), offset: offset - at }
    }

    /// Offset of a symbol in the image.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn symbol(&self, name: &str) -> Result<u64> {
        let found = self.symbols.iter().find(|(_, symbol)| symbol == name);
        Ok(found.with_context(|| format!("the image has no symbol {name}"))?.0)
    }

    /// Where code ends, and constants and data begin.
    #[must_use]
    pub fn data(&self) -> u64 {
        self.data
    }

    /// Where data ends. Behind it the file has the relocations.
    #[must_use]
    pub fn file_end(&self) -> u64 {
        self.file_end
    }

    /// The image's bytes in memory.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }
}

/// A name as it is in the source: of Rust's, without the compiler's counts and its hash.
fn plain(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_ZN") else { return name.to_owned() };
    let mut words: Vec<&str> = Vec::new();
    while let Some(digits) = rest.find(|char: char| !char.is_ascii_digit()).filter(|digits| *digits > 0) {
        let Some(len) = rest[..digits].parse().ok().filter(|len: &usize| digits + len <= rest.len()) else {
            break;
        };
        words.push(&rest[digits..digits + len]);
        rest = &rest[digits + len..];
    }
    words.pop();
    words
        .join("::")
        .replace("$u7b$$u7b$closure$u7d$$u7d$", "closure")
        .replace("$LT$", "<")
        .replace("$GT$", ">")
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_lose_what_the_compiler_has_added() {
        assert_eq!(plain("lastwords_entry"), "lastwords_entry");
        assert_eq!(plain("_ZN9purgatory4main17h0123456789abcdefE"), "purgatory::main");
        let closure = "_ZN9purgatory4main28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE";
        assert_eq!(plain(closure), "purgatory::main::_closure");
    }
}
