//! A file of any bytes as `lastwords read --file` takes it: a raw log, a listing of any tool, of one host or of several.
#![no_main]
#![allow(dead_code)]

#[path = "../../cli/src/read/log/mod.rs"]
mod log;
#[path = "../../cli/src/bmc/redfish/maker.rs"]
mod maker;
#[path = "../../cli/src/read/text.rs"]
mod text;
#[path = "../../cli/src/visible.rs"]
mod visible;
#[path = "../../cli/src/read/why.rs"]
mod why;

/// As the tool has it.
mod bmc {
    pub mod redfish {
        pub use crate::maker::Maker;
    }
}

use lastwords_core::store::sel::{self, Decoded, Decoder};
use libfuzzer_sys::fuzz_target;
use log::Log;

fuzz_target!(|input: &[u8]| {
    let mut refused = Vec::new();
    let logs = match Log::hosts(input, &mut |host, error| refused.push((host.to_owned(), error))) {
        Ok(logs) => logs,
        // What is refused is refused with what to do.
        Err(error) => return assert!(error.to_string().contains("\nhint: "), "{error}"),
    };
    assert!(!logs.is_empty());
    let mut entries = 0;
    for (host, log) in &logs {
        assert_eq!(host.is_none(), logs.len() + refused.len() == 1 && host.is_none());
        entries += log.entries.len();
        let (mut decoder, mut parts) = (Decoder::default(), why::Parts::default());
        let mut keep = |found: Decoded| {
            let printable = |text: &[u8]| text.iter().all(|byte| matches!(byte, 0x20..=0x7e));
            match found {
                Decoded::Line(line) => assert!(printable(sel::text(line).as_bytes())),
                Decoded::Truncated(bytes) | Decoded::Headless(bytes) => assert!(printable(bytes)),
                _ => {}
            }
        };
        for entry in &log.entries {
            parts.take(&entry.record);
            decoder.push(&entry.record, &mut keep);
        }
        decoder.finish(&mut keep);
        if let Some((text, _)) = parts.end() {
            assert!(!text.value.chars().any(visible::is_control), "{text:?}");
        }
    }
    // Nothing is made up: the shortest record of a listing is `1|,`, and of a file in bytes 16.
    assert!(entries * 3 <= input.len() + 3, "{entries} entries of {} bytes", input.len());
});
