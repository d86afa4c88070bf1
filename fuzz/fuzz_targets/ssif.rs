//! A BMC behind SSIF that answers anything.
#![no_main]

#[path = "../bmc.rs"]
mod bmc;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| bmc::ask("ssif:i801:0x700,0x42", input));
