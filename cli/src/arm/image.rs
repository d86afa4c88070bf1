//! The flat image: built and embedded by build.rs, so that the tool and what it loads are of one build.

use sha2::{Digest, Sha256};
use std::{fmt::Write, sync::LazyLock};

/// The flat image, with `entry`, `file_size` and `memory_size` filled in.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/purgatory.bin"));

/// Version of the tool and checksum of the image, for `--version`.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut version = format!("{}\nimage SHA-256: ", env!("CARGO_PKG_VERSION"));
    for byte in Sha256::digest(IMAGE) {
        let _ = write!(version, "{byte:02x}");
    }
    version
});
