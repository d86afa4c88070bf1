//! A flat image that is only a header: all that wrapping looks at.

use lastwords_core::stub;

/// It.
pub fn image() -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[..stub::MAGIC.len()].copy_from_slice(&stub::MAGIC);
    for (at, value) in [
        (stub::VERSION_AT, stub::VERSION),
        (stub::FILE_SIZE, 4096),
        (stub::MEMORY_SIZE, 8192),
        (stub::ENTRY, 2048),
        (stub::PURGATORY_ENTRY, 2048),
    ] {
        image[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    image
}
