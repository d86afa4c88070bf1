//! The keys that the running kernel trusts, as /proc/keys lists them. A line of an asymmetric key (Linux,
//! asymmetric_key_describe and x509_key_preparse):
//!
//! ```text
//! 1f8c3a02 I------     1 perm 1f030000     0     0 asymmetri Name: SKID-OR-SERIAL: X509.rsa LAST-4-OF-SKID []
//! ```
//!
//! The list does not show in which keyring a key is, so that it may have keys that do not count for kernels; one that is not in
//! it certainly does not.

use super::certificate::{Certificate, hex};
use std::{fs, path::Path};

/// The list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    /// Identifiers of the asymmetric keys.
    ids: Vec<String>,
    /// Are all of the kernel's keys shown, each with its identifier?
    complete: bool,
}

impl Keyring {
    /// Reads it.
    pub fn read(root: &Path) -> Self {
        Self::parse(&fs::read_to_string(root.join("proc/keys")).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let (mut ids, mut complete, mut sees_kernels_own) = (Vec::new(), true, false);
        for line in text.lines() {
            // Serial number, flags, usage, time left, permissions, user, group.
            let mut rest = line;
            for _ in 0..7 {
                rest = rest.trim_start().split_once(' ').map_or("", |(_, rest)| rest);
            }
            let Some((kind, description)) = rest.trim_start().split_once(' ') else { continue };
            match kind {
                "asymmetri" => match id(description) {
                    Some(id) => ids.push(id.to_owned()),
                    // Added under a name of its own.
                    None => complete = false,
                },
                // In a container it is not shown.
                "keyring" => {
                    sees_kernels_own |= description.trim_start().starts_with(".builtin_trusted_keys:");
                }
                _ => {}
            }
        }
        Self { ids, complete: complete && sees_kernels_own }
    }

    /// Is this certificate's key in it, or its issuer's? `None` where the list does not show all.
    pub fn has(&self, certificate: &Certificate) -> Option<bool> {
        let own = certificate.key_id();
        let issuers = [&certificate.authority_key_id, &certificate.authority_serial];
        let mut all =
            issuers.into_iter().flatten().map(|id| hex(id)).chain([own, hex(certificate.serial_content())]);
        if all.any(|id| self.ids.contains(&id)) { Some(true) } else { self.complete.then_some(false) }
    }
}

/// The identifier in a description.
fn id(description: &str) -> Option<&str> {
    let (name, _) = description.rsplit_once(": X509.")?;
    let (_, id) = name.rsplit_once(": ")?;
    let is_hex = |letter: char| letter.is_ascii_digit() || ('a'..='f').contains(&letter);
    (!id.is_empty() && id.chars().all(is_hex)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's 6.1 lists them.
    const KEYS: &str = "\
01d3a4e5 I------     1 perm 1f030000     0     0 keyring   .builtin_trusted_keys: 2
0a2d2c7f I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot CA: 6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1: X509.rsa bb419ea1 []
0b2d2c7f I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot Signer 2022 - linux: 14011249c2675ea8e5148542202005810584b25f: X509.rsa []
2f1c7d3e I--Q---     3 perm 3f030000     0     0 keyring   _ses: 1
";

    fn certificate(subject: Option<&[u8]>, serial: &[u8], authority: Option<&[u8]>) -> Certificate {
        Certificate {
            der: Vec::new(),
            issuer: Vec::new(),
            serial: super::super::der::element(2, &[serial]),
            public_key: Vec::new(),
            name: String::new(),
            subject_key_id: subject.map(<[u8]>::to_vec),
            authority_key_id: authority.map(<[u8]>::to_vec),
            authority_serial: None,
            valid: 0..=1,
        }
    }

    #[test]
    fn a_key_is_known_by_its_identifier_its_serial_number_or_its_issuer() {
        let keyring = Keyring::parse(KEYS);
        let ca = b"\x6c\xce\xce\x7e\x4c\x6c\x0d\x1f\x61\x49\xf3\xdd\x27\xdf\xcc\x5c\xbb\x41\x9e\xa1";
        let serial = b"\x14\x01\x12\x49\xc2\x67\x5e\xa8\xe5\x14\x85\x42\x20\x20\x05\x81\x05\x84\xb2\x5f";
        assert_eq!(keyring.has(&certificate(Some(ca), b"\x01", None)), Some(true));
        assert_eq!(keyring.has(&certificate(Some(b"\x01"), b"\x02", Some(ca))), Some(true));
        assert_eq!(keyring.has(&certificate(None, serial, None)), Some(true));
        assert_eq!(keyring.has(&certificate(Some(b"\x01"), b"\x02", Some(b"\x03"))), Some(false));
    }

    #[test]
    fn nothing_is_known_of_a_list_that_does_not_show_all() {
        let stranger = certificate(Some(b"\x01"), b"\x02", None);
        let own_name = "0a2d2c7f I------     1 perm 1f030000     0     0 asymmetri my own name []\n";
        for text in ["", &KEYS.replace(".builtin", "builtin"), &[KEYS, own_name].concat()] {
            assert_eq!(Keyring::parse(text).has(&stranger), None, "{text}");
        }
    }
}
