//! PEM files (RFC 7468), read as OpenSSL reads them: other text and other blocks may stand around what is looked for.

use base64ct::{Base64, Encoding};

/// No key and no chain of certificates is as large as this.
pub const MOST: u64 = 1 << 20;

/// One block of a file.
pub struct Block {
    /// What it is: `CERTIFICATE`.
    pub label: String,
    pub der: Vec<u8>,
    /// Has it the header of the older encryption (RFC 1421)?
    pub encrypted: bool,
}

/// The blocks of a file; `None` for one that is not PEM, and so may be DER.
pub fn blocks(bytes: &[u8]) -> Option<Vec<Block>> {
    const BEGIN: &str = "-----BEGIN ";
    let text = str::from_utf8(bytes).ok().filter(|text| text.contains(BEGIN))?;
    let blocks = text.split(BEGIN).skip(1).filter_map(|rest| {
        let (label, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let encrypted = body.contains("ENCRYPTED");
        let body: String =
            body.lines().filter(|line| !line.contains(':')).flat_map(str::split_whitespace).collect();
        let der = Base64::decode_vec(&body).unwrap_or_default();
        Some(Block { label: label.to_owned(), der, encrypted })
    });
    Some(blocks.collect())
}
