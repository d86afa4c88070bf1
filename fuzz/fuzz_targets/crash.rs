//! The dead kernel's memory: ELF core header, notes, VMCOREINFO and printk ring, all of it arbitrary. The input is a row
//! of pieces as in core/tests/data/crash-*.bin: address and length (8 bytes each) and the bytes; the first one is the
//! ELF core header.
#![no_main]

use lastwords_core::crash::Crash;
use lastwords_core::hw::Memory;
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
    let Ok(crash) = Crash::read(&mut memory, elfcorehdr) else { return };
    let mut groups = Groups::new();
    let mut cpus = 0;
    crash.cpus(&mut memory, &mut |_, cpu| {
        groups.add(crash.location(&cpu));
        cpus += 1;
        true
    });
    assert!(cpus <= 8192);
    let cause = crash.cause(&mut memory, None);
    assert!(cause.reason.as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7e)));
    // Two looks at 8192 records, and as many notes; program headers are 65535 at most.
    assert!(memory.read < 64 << 20, "{} bytes were read", memory.read);
});
