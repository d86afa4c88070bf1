//! A module that keeps a CPU in a loop with interrupts off: the CPU that a crash finds deaf to all but the NMI.
//!
//! Made from a module of the kernel's own, by writing the loop over the start of its init function. Nothing needs to
//! be compiled against the kernel, and it is the same few bytes for every kernel.

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, elf};

/// `cli`, and a jump back to it.
const LOOP: [u8; 3] = [0xfa, 0xeb, 0xfd];

/// `endbr64`, which may stand at a function's start.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// What ends a signed module (Linux `Documentation/admin-guide/module-signing.rst`).
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// Bytes of a `call`, and of one entry in a table of relocations.
const CALL: u64 = 5;
const RELA: u64 = 24;

/// The module with its init function replaced by the loop.
///
/// # Errors
/// When it is not a module whose init function can be found.
pub fn spinning(mut module: Vec<u8>) -> Result<Vec<u8>> {
    // The signature is void. Without its mark the module counts as one that never had any, which Debian's kernels take.
    if module.ends_with(SIGNED) {
        module.truncate(module.len() - SIGNED.len());
    }
    let (patch, relocations) = places(&module)?;
    module
        .get_mut(patch..patch + LOOP.len())
        .context("the module's init function lies outside of the file")?
        .copy_from_slice(&LOOP);
    // What the kernel would have written into these bytes when it loads the module, it must not write now.
    for relocation in relocations {
        module
            .get_mut(relocation + 8..relocation + 12)
            .context("a relocation lies outside of the file")?
            .copy_from_slice(&elf::R_X86_64_NONE.0.to_le_bytes());
    }
    Ok(module)
}

/// File offsets: where the loop goes, and the relocations that would write into it.
fn places(module: &[u8]) -> Result<(usize, Vec<usize>)> {
    let file = ElfFile64::<object::Endianness>::parse(module).context("not a module")?;
    let endian = file.elf_header().endian()?;
    let init = file.symbol_by_name("init_module").context("the module has no init function")?;
    let index = init.section_index().context("the module's init function is in no section")?;
    let section = file.section_by_index(index)?;
    let (section_offset, _) = section.file_range().context("the module's init function has no bytes")?;

    // The kernel's tracer checks and rewrites the call at the function's start (__fentry__): that stays.
    let mut at = init.address();
    let code = section.data()?;
    if code.get(at as usize..).is_some_and(|code| code.starts_with(&ENDBR64)) {
        at += ENDBR64.len() as u64;
    }
    let traced = section.relocations().any(|(offset, relocation)| {
        offset == at + 1
            && matches!(relocation.target(), RelocationTarget::Symbol(symbol)
                if file.symbol_by_index(symbol).is_ok_and(|symbol| symbol.name() == Ok("__fentry__")))
    });
    if traced {
        at += CALL;
    }

    let table = file
        .elf_section_table()
        .iter()
        .find(|header| {
            header.sh_type.get(endian) == elf::SHT_RELA && header.sh_info.get(endian) as usize == index.0
        })
        .map_or(0, |header| header.sh_offset.get(endian));
    let mut relocations = Vec::new();
    for (number, (offset, _)) in section.relocations().enumerate() {
        if offset < at + LOOP.len() as u64 && offset + 8 > at && offset != init.address() + 1 {
            if table == 0 {
                bail!("the module's relocations have no table");
            }
            if offset >= at {
                relocations.push((table + RELA * number as u64) as usize);
            }
        }
    }
    Ok(((section_offset + at) as usize, relocations))
}
