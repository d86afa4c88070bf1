//! The flat image: built, packed and embedded by build.rs, so that the tool and what it loads are of one build.

use flate2::bufread::ZlibDecoder;
use std::{io::Read, sync::LazyLock};

/// The image as zlib packs it (RFC 1950).
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/purgatory.z"));

/// The flat image, with `entry`, `file_size` and `memory_size` filled in.
pub static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut image = Vec::new();
    ZlibDecoder::new(PACKED).read_to_end(&mut image).expect("build.rs has packed it, and zlib checks that");
    image
});

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
        assert_eq!(CHECKSUM, hex(&Sha256::digest(&*IMAGE)));
        assert!(VERSION.ends_with(CHECKSUM));
    }
}
