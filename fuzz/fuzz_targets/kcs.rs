//! A BMC behind KCS that answers anything.
#![no_main]

#[path = "../bmc.rs"]
mod bmc;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| bmc::ask("kcs:0xca2,0xca3", input));
