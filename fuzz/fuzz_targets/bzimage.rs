//! A dump kernel: read, wrapped and unwrapped, signed.
#![no_main]

use lastwords_boot::{
    BzImage, Uki, attach, embedded_parameters, is_uki, signature, signed_parts, synthetic, unsigned, unwrap,
    wrap,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = BzImage::parse(input);
    let _ = unwrap(input);
    let _ = embedded_parameters(input);
    if let Ok(uki) = Uki::parse(input) {
        assert_eq!(uki.is_some(), is_uki(input));
    }
    let _ = (signature(input), signed_parts(input));
    if let Ok(signed) = attach(input.to_vec(), b"signature") {
        assert_eq!(signature(&signed), Ok(Some(&b"signature"[..])));
        let kernel = unsigned(input).expect("what was signed has a PE header");
        if let Ok(parts) = signed_parts(&kernel) {
            assert_eq!(signed_parts(&signed).map(|parts| parts.concat()), Ok(parts.concat()));
        }
    }
    let image = synthetic::image(4096, 8192);
    if let Ok(wrapped) = wrap(input, &image, "lastwords.budget=1") {
        assert_eq!(embedded_parameters(&wrapped).as_deref().ok(), Some("lastwords.budget=1"));
        unwrap(&wrapped).expect("what was wrapped is unwrapped");
    }
});
