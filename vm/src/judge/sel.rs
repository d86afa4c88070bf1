//! The SEL as `ipmitool sel writeraw` hands it out: records of 16 bytes (IPMI 2.0 section 32).

use anyhow::{Result, bail};

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record(pub [u8; 16]);

impl Record {
    /// Splits a raw SEL into its records.
    ///
    /// # Errors
    /// When it is not a whole number of them.
    pub fn split(raw: &[u8]) -> Result<Vec<Self>> {
        let (records, rest) = raw.as_chunks::<16>();
        if !rest.is_empty() {
            bail!("the SEL has {} bytes, not a multiple of 16", raw.len());
        }
        Ok(records.iter().map(|record| Self(*record)).collect())
    }

    /// Its type: 0x02 is a system event, 0xf0 the Linux kernel's panic text and ours.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.0[2]
    }
}
