//! The flat image: built and embedded by build.rs, so that the tool and what it loads are of one build.

/// The flat image, with `entry`, `file_size` and `memory_size` filled in.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/purgatory.bin"));

/// Its SHA-256, in hex.
pub const CHECKSUM: &str = include_str!(concat!(env!("OUT_DIR"), "/purgatory.sha256"));

/// Version of the tool and checksum of the image, for `--version`.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nimage SHA-256: ",
    include_str!(concat!(env!("OUT_DIR"), "/purgatory.sha256"))
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::kimage::hex;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_checksum_is_that_of_the_image() {
        assert_eq!(CHECKSUM, hex(&Sha256::digest(IMAGE)));
        assert!(VERSION.ends_with(CHECKSUM));
    }
}
