//! The dead kernel's memory: ELF core header, notes, VMCOREINFO and log, all of it arbitrary. The input is a row
//! of pieces as in core/tests/data/crash-*.bin: address and length (8 bytes each) and the bytes; the first one is the
//! ELF core header.
#![no_main]

use lastwords_core::crash::Crash;
use lastwords_core::hw::Memory;
use lastwords_core::numbers::Numbers;
use lastwords_core::report::Groups;
use libfuzzer_sys::fuzz_target;

/// Memory that counts what is read of it.
struct Pieces<'a> {
    pieces: Vec<(u64, &'a [u8])>,
    read: usize,
}

impl Memory for Pieces<'_> {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        self.read += buf.len();
        self.pieces.iter().any(|(base, bytes)| {
            let offset = addr.checked_sub(*base).and_then(|offset| usize::try_from(offset).ok());
            match offset.and_then(|offset| bytes.get(offset..)?.get(..buf.len())) {
                Some(bytes) => {
                    buf.copy_from_slice(bytes);
                    true
                }
                None => false,
            }
        })
    }

    fn write(&mut self, _: u64, _: &[u8]) {
        panic!("nothing is written to the dead kernel's memory");
    }
}

fuzz_target!(|input: &[u8]| {
    let mut pieces = Vec::new();
    let mut rest = input;
    while let Some((head, behind)) = rest.split_at_checked(16) {
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let len = usize::try_from(number(8)).unwrap_or(usize::MAX).min(behind.len());
        let (bytes, behind) = behind.split_at(len);
        pieces.push((number(0), bytes));
        rest = behind;
    }
    let Some(elfcorehdr) = pieces.first().map(|(addr, _)| *addr) else { return };
    let mut memory = Pieces { pieces, read: 0 };
    let Ok(mut crash) = Crash::read(&mut memory, elfcorehdr) else { return };
    let lists = [Numbers::parse("0-1,3"), Numbers::parse("0x3000000,0x5f3e9a1b")];
    crash.know(&mut memory, lists[0], lists[1], Some(1));
    let mut groups = Groups::new();
    let (mut notes, mut cpus) = (crash.notes(), 0);
    while let Some(cpu) = crash.next_cpu(&mut memory, &mut notes) {
        groups.add(cpu.location);
        cpus += 1;
    }
    assert!(cpus <= 8192);
    let cause = crash.cause(&mut memory, None);
    assert!(cause.reason.as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7e)));
    // Two looks at 8192 records, with 63 headers before each of an older log; its walk; four looks at 32,768 notes; 2^20
    // program headers in search of a range.
    assert!(memory.read < 256 << 20, "{} bytes were read", memory.read);
});
