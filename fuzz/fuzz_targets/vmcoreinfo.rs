//! VMCOREINFO's text.
#![no_main]

use lastwords_core::crash::VmCoreInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let info = VmCoreInfo::parse(input);
    assert!(info.release.as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7e)));
});
