//! A dump kernel: read, wrapped and unwrapped.
#![no_main]

use lastwords_boot::{BzImage, embedded_parameters, unwrap, wrap};
use libfuzzer_sys::fuzz_target;

#[path = "../image.rs"]
mod image;
use image::image;

fuzz_target!(|input: &[u8]| {
    let _ = BzImage::parse(input);
    let _ = unwrap(input);
    let _ = embedded_parameters(input);
    let image = image();
    if let Ok(wrapped) = wrap(input, &image, "lastwords.budget=1") {
        assert_eq!(embedded_parameters(&wrapped).as_deref().ok(), Some("lastwords.budget=1"));
        unwrap(&wrapped).expect("what was wrapped is unwrapped");
    }
});
