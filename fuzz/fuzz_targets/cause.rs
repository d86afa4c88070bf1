//! A kernel's log, from which the lines that matter are picked; and the lines of the SEL that come of it.
#![no_main]

use lastwords_core::crash::CauseReader;
use lastwords_core::report::{Content, Cost, CrashId, Fnv, Line, lines};
use lastwords_core::store::sel::{Records, text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((limit, log)) = input.split_first() else { return };
    let mut reader = CauseReader::default();
    for (ms, line) in (0..).zip(log.split(|byte| *byte == b'\n')) {
        reader.text(1_000_000 * ms, None, line);
    }
    let limit = u32::from(*limit);
    let mut content = Content {
        cause: Some(&reader.cause),
        build_id: Some(7),
        id: Some(CrashId::new(Fnv::default())),
        panicked: Some(Line::PanickedUnknown),
        no_dump: limit % 2 == 1,
        groups: None,
    };
    let mut records = 0;
    lines::<Records>(limit, &mut content, &mut |line, left| {
        assert!(text(line).as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7e)));
        records += Records::line(line);
        left
    });
    assert!(records <= limit);
});
