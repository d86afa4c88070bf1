//! The flat image: built and embedded by build.rs, so that the tool and what it loads are of one build.

use super::kimage::hex;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// The flat image, with `entry`, `file_size` and `memory_size` filled in.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/purgatory.bin"));

/// Its SHA-256.
pub static CHECKSUM: LazyLock<String> = LazyLock::new(|| hex(&Sha256::digest(IMAGE)));

/// Version of the tool and checksum of the image, for `--version`.
pub static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{}\nimage SHA-256: {}", env!("CARGO_PKG_VERSION"), &*CHECKSUM));
