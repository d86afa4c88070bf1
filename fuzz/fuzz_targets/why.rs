//! A kernel's log, from which the lines that matter are picked; and the lines of the SEL that come of it.
#![no_main]

use lastwords_core::crash::Why;
use lastwords_core::sel::{self, Known, Line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((limit, log)) = input.split_first() else { return };
    let mut why = Why::default();
    for (ms, line) in (0..).zip(log.split(|byte| *byte == b'\n')) {
        why.words(1_000_000 * ms, line);
    }
    let limit = u32::from(*limit);
    let known = Known { why: Some(&why), build_id: Some(7), panicked: Some(Line::PanickedUnknown) };
    let mut records = 0;
    sel::lines(limit, &known, None, &mut |line| {
        assert!(line.text().as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7e)));
        records += line.records();
        true
    });
    assert!(records <= limit);
});
