//! The cipher suites that are spoken: which algorithms they stand for, and the codes that these make. Codes are compared
//! in constant time, so that a forger learns nothing from how long it takes.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// Cipher suites (table 22-20), the better first. Both encrypt with AES-CBC-128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// 17: HMAC-SHA256 and HMAC-SHA256-128.
    Sha256,
    /// 3: HMAC-SHA1 and HMAC-SHA1-96.
    Sha1,
}

impl Suite {
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha1];

    /// Authentication, integrity and confidentiality algorithm.
    pub fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Sha256 => [3, 4, 1],
            Self::Sha1 => [1, 1, 1],
        }
    }

    /// Bytes of a code that is cut to "integrity" length.
    pub fn cut(self) -> usize {
        match self {
            Self::Sha256 => 16,
            Self::Sha1 => 12,
        }
    }

    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => code::<Hmac<Sha256>>(key, parts).finalize().into_bytes().to_vec(),
            Self::Sha1 => code::<Hmac<Sha1>>(key, parts).finalize().into_bytes().to_vec(),
        }
    }

    /// Bytes of a whole code.
    pub fn whole(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha1 => 20,
        }
    }

    /// Is this the beginning of the code? However short it is: its length is the caller's to check. In constant time.
    pub fn verify(self, key: &[u8], parts: &[&[u8]], expected: &[u8]) -> bool {
        match self {
            Self::Sha256 => code::<Hmac<Sha256>>(key, parts).verify_truncated_left(expected).is_ok(),
            Self::Sha1 => code::<Hmac<Sha1>>(key, parts).verify_truncated_left(expected).is_ok(),
        }
    }
}

fn code<H: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> H {
    // A key may have any length.
    let mut hmac = <H as KeyInit>::new_from_slice(key).expect("HMAC takes every key");
    for part in parts {
        hmac.update(part);
    }
    hmac
}
