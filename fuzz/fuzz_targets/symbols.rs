//! A file of any bytes as `lastwords read --symbols` takes it: kallsyms, System.map, a saved table or a vmlinux, packed or not.
#![no_main]
#![allow(dead_code)]

#[path = "../../cli/src/symbols/error.rs"]
mod error;
#[path = "../../cli/src/symbols/file.rs"]
mod file;
#[path = "../../cli/src/sort.rs"]
mod sort;
#[path = "../../cli/src/symbols/stream.rs"]
mod stream;
#[path = "../../cli/src/symbols/table.rs"]
mod table;
#[path = "../../cli/src/unpack.rs"]
mod unpack;
#[path = "../../cli/src/visible.rs"]
mod visible;
#[path = "../../cli/src/symbols/vmlinux.rs"]
mod vmlinux;

use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use stream::Modules;

fuzz_target!(|input: &[u8]| {
    if let Ok(table) = file::read(Cursor::new(input)) {
        for at in [0, 1, 0x10, 0xfff, 0x10_0000, u64::MAX] {
            let names = [table.kernel(at), table.address(table.stext.wrapping_add(at)), table.module(at)];
            for name in names.into_iter().flatten() {
                let text = name.to_string();
                assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
                assert!(name.offset <= at || name.module.is_some(), "{text}");
            }
        }
    }
    // The same as the running kernel's, on its way to a saved file: which is one in turn.
    let (mut kernel, mut boot) = (Vec::new(), Vec::new());
    let modules = String::from_utf8_lossy(input);
    if stream::split(input, &Modules::parse(&modules), Some(&mut kernel), &mut boot).is_ok() {
        // Modules' names are as the kernel has them, until they are read.
        assert!(kernel.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')));
        assert!(file::read(Cursor::new(&boot)).is_ok());
    }
});
