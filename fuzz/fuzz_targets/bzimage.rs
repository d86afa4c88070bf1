//! A dump kernel: read, wrapped and unwrapped.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, missing_docs)]
#[path = "../../cli/src/bzimage.rs"]
mod bzimage;

#[path = "../image.rs"]
mod image;
use image::image;

fuzz_target!(|input: &[u8]| {
    let _ = bzimage::BzImage::parse(input);
    let _ = bzimage::unwrap(input);
    let _ = bzimage::embedded_parameters(input);
    let image = image();
    if let Ok(wrapped) = bzimage::wrap(input, &image, "lastwords.budget=1") {
        assert_eq!(bzimage::embedded_parameters(&wrapped).as_deref().ok(), Some("lastwords.budget=1"));
        bzimage::unwrap(&wrapped).expect("what was wrapped is unwrapped");
    }
});
