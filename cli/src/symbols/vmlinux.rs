//! A kernel's symbols from its vmlinux, in the order of the kernel's own table.

use super::{
    error::SymbolError,
    table::{SYMBOLS, Symbol, Table},
};
use crate::{sort, visible::printable};
use object::{Endianness, Object, ObjectSymbol, ReadRef, SymbolSection, read::elf::ElfFile64};

impl Table {
    /// Reads the symbol table of a vmlinux (ELF).
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn vmlinux<'a>(file: impl ReadRef<'a>) -> Result<Self, SymbolError> {
        let elf = ElfFile64::<Endianness, _>::parse(file)?;
        if elf.symbols().nth(SYMBOLS).is_some() {
            return Err(SymbolError::TooMany);
        }
        let mut symbols: Vec<_> = elf
            .symbols()
            .filter(|symbol| matches!(symbol.section(), SymbolSection::Section(_) | SymbolSection::Absolute))
            .filter_map(|symbol| {
                let name = symbol.name().ok().filter(|name| is_in_the_kernels_table(name))?;
                let kind = if symbol.is_weak() { 'w' } else { 't' };
                let (address, name) = (symbol.address(), printable(name));
                Some((kind, Symbol { address, end: u64::MAX, name, module: None }))
            })
            .collect();
        // As `nm -n` does, from whose output the kernel's table is made.
        sort::by(&mut symbols, |(_, one), (_, other)| {
            one.address.cmp(&other.address).then_with(|| one.name.cmp(&other.name))
        });
        as_the_kernel(&mut symbols);
        let build_id = elf.build_id()?.map(<[u8]>::to_owned);
        let mut table = Self::default();
        table.build_id = build_id;
        table.set_image(symbols.into_iter().map(|(_, symbol)| symbol).collect())?;
        Ok(table)
    }
}

/// Leaves out what the kernel's table does (`scripts/mksysmap`, `scripts/kallsyms.c`): the assembler's own labels,
/// section symbols, and what the linker script makes.
fn is_in_the_kernels_table(name: &str) -> bool {
    let others = ["$", ".L", "L0", "__crc_", "__kstrtab_", "__kstrtabns_", "__ksymtab_"];
    !name.is_empty() && !others.iter().any(|other| name.starts_with(other))
}

/// Puts symbols in the order of the kernel's table (`compare_symbols` in `scripts/kallsyms.c`): at one address weak
/// ones come last, before them the linker script's, and names with more underscores in front come after those with
/// fewer. The first of them is the one that the kernel prints.
pub fn as_the_kernel(symbols: &mut [(char, Symbol)]) {
    sort::by_key(symbols, |(kind, symbol)| {
        let underscores = symbol.name.bytes().take_while(|byte| *byte == b'_').count();
        (symbol.address, matches!(kind, 'w' | 'W'), is_linker_scripts(&symbol.name), underscores)
    });
}

fn is_linker_scripts(name: &str) -> bool {
    let Some(name) = name.strip_prefix("__") else { return false };
    ["start_", "stop_", "end_"].iter().any(|prefix| name.starts_with(prefix))
        || ["_start", "_end"].iter().any(|suffix| name.ends_with(suffix))
}
