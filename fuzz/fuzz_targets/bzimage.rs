//! A dump kernel: read, wrapped and unwrapped.
#![no_main]

use lastwords_boot::{BzImage, Uki, embedded_parameters, is_uki, synthetic, unwrap, wrap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = BzImage::parse(input);
    let _ = unwrap(input);
    let _ = embedded_parameters(input);
    if let Ok(uki) = Uki::parse(input) {
        assert_eq!(uki.is_some(), is_uki(input));
    }
    let image = synthetic::image(4096, 8192);
    if let Ok(wrapped) = wrap(input, &image, "lastwords.budget=1") {
        assert_eq!(embedded_parameters(&wrapped).as_deref().ok(), Some("lastwords.budget=1"));
        unwrap(&wrapped).expect("what was wrapped is unwrapped");
    }
});
