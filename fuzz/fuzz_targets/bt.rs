//! A BMC behind BT that answers anything.
#![no_main]

#[path = "../bmc.rs"]
mod bmc;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| bmc::ask("bt:0xe4", input));
