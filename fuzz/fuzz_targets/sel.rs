//! A System Event Log of any records.
#![no_main]

use lastwords_core::store::sel::{self, Decoded, Decoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut decoder = Decoder::default();
    let mut bytes = 0;
    let mut keep = |found: Decoded| {
        let printable = |text: &[u8]| text.iter().all(|byte| matches!(byte, 0x20..=0x7e));
        match found {
            Decoded::Line(line) => {
                let text = sel::text(line);
                assert!(printable(text.as_bytes()));
                bytes += text.as_bytes().len();
            }
            Decoded::Truncated(text) | Decoded::Headless(text) => {
                assert!(printable(text));
                bytes += text.len();
            }
            _ => {}
        }
    };
    for record in input.as_chunks().0 {
        decoder.push(record, &mut keep);
    }
    decoder.finish(&mut keep);
    // Nothing is made up.
    assert!(bytes <= input.len());
});
