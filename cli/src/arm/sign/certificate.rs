//! X.509 certificates (RFC 5280): what tells whose key it is, to the kernel and to the user.

use super::{
    der::{Element, Reader, tag},
    pem,
};
use crate::{arm::file, utc};
use anyhow::{Context, Result, bail, ensure};
use std::{fmt::Write as _, ops::RangeInclusive, path::Path};

/// A certificate, as much as is needed of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// All of it.
    pub der: Vec<u8>,
    /// Its issuer, with tag and length.
    pub issuer: Vec<u8>,
    /// Its serial number, with tag and length.
    pub serial: Vec<u8>,
    /// SubjectPublicKeyInfo, with tag and length.
    pub public_key: Vec<u8>,
    /// The common name of its subject, else its organization, else nothing.
    pub name: String,
    /// The identifier of its key, where it has the extension.
    pub subject_key_id: Option<Vec<u8>>,
    /// The identifier of the issuer's key, likewise.
    pub authority_key_id: Option<Vec<u8>>,
    /// The serial number of the issuer's certificate, likewise.
    pub authority_serial: Option<Vec<u8>>,
    /// When it is valid, in seconds since 1970.
    pub valid: RangeInclusive<i64>,
}

/// commonName, organizationName, subjectKeyIdentifier and authorityKeyIdentifier (2.5.4.3, 2.5.4.10, 2.5.29.14, 2.5.29.35).
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 29, 14];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 29, 35];

impl Certificate {
    /// The certificates of a file, the signer's first: PEM, which may have more than one, or DER.
    ///
    /// # Errors
    /// When it has none.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let read = || {
            let (file, len) = file::open(path)?;
            ensure!(len <= pem::MOST, "too large for a certificate");
            Self::from_bytes(&file::read(&file, path)?)
        };
        read().with_context(|| path.display().to_string())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Vec<Self>> {
        let ders = match pem::blocks(bytes) {
            Some(blocks) => blocks
                .into_iter()
                .filter(|block| block.label == "CERTIFICATE")
                .map(|block| block.der)
                .collect(),
            None => vec![bytes.to_vec()],
        };
        let found: Option<Vec<_>> = ders.iter().map(|der| Self::parse(der)).collect();
        match found {
            Some(found) if !found.is_empty() => Ok(found),
            _ => bail!("no X.509 certificate\nhint: give the key's certificate, in PEM or DER"),
        }
    }

    /// Reads one.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let whole = Reader(der).expect(tag::SEQUENCE)?;
        let mut fields = whole.inside().expect(tag::SEQUENCE)?.inside();
        fields.optional(tag::context(0));
        let serial = fields.expect(tag::INTEGER)?;
        fields.expect(tag::SEQUENCE)?;
        let issuer = fields.expect(tag::SEQUENCE)?;
        let mut validity = fields.expect(tag::SEQUENCE)?.inside();
        let valid = time(&validity.next()?)?..=time(&validity.next()?)?;
        let subject = fields.expect(tag::SEQUENCE)?;
        let public_key = fields.expect(tag::SEQUENCE)?;
        let (mut subject_key_id, mut authority_key_id, mut authority_serial) = (None, None, None);
        let extensions = fields.find(|field| field.tag == tag::context(3));
        for extension in extensions.and_then(|field| field.inside().next()).iter().flat_map(Element::inside) {
            let mut parts = extension.inside();
            let id = parts.expect(tag::OID)?.content;
            parts.optional(tag::BOOLEAN);
            let value = parts.expect(tag::OCTET_STRING)?.inside().next()?;
            if id == SUBJECT_KEY_ID {
                subject_key_id = Some(value.content.to_vec());
            } else if id == AUTHORITY_KEY_ID {
                for part in value.inside() {
                    match part.tag {
                        tag if tag == tag::implicit(0) => authority_key_id = Some(part.content.to_vec()),
                        tag if tag == tag::implicit(2) => authority_serial = Some(part.content.to_vec()),
                        _ => {}
                    }
                }
            }
        }
        Some(Self {
            der: whole.whole.to_vec(),
            issuer: issuer.whole.to_vec(),
            serial: serial.whole.to_vec(),
            public_key: public_key.whole.to_vec(),
            name: part(&subject, COMMON_NAME).or_else(|| part(&subject, ORGANIZATION)).unwrap_or_default(),
            subject_key_id,
            authority_key_id,
            authority_serial,
            valid,
        })
    }

    /// What the kernel's list of keys has it by: the identifier of its key, else its serial number, in hexadecimal.
    pub fn key_id(&self) -> String {
        hex(self.subject_key_id.as_deref().unwrap_or_else(|| self.serial_content()))
    }

    /// Whose it is, for the user.
    pub fn title(&self) -> String {
        let name = if self.name.is_empty() { "a certificate without a name" } else { &self.name };
        format!("{name} (key ID {})", self.key_id())
    }

    /// Its serial number without tag and length.
    pub fn serial_content(&self) -> &[u8] {
        Reader(&self.serial).next().map_or(&[], |serial| serial.content)
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The part of a name that has this object identifier; the last one, as Linux takes it.
fn part(name: &Element<'_>, oid: &[u8]) -> Option<String> {
    let attributes = name.inside().flat_map(|set| set.inside());
    let value = attributes.filter_map(|attribute| {
        let mut parts = attribute.inside();
        (parts.expect(tag::OID)?.content == oid).then(|| parts.next()).flatten()
    });
    value.last().map(|value| String::from_utf8_lossy(value.content).into_owned())
}

/// UTCTime or GeneralizedTime, in seconds since 1970. RFC 5280 (4.1.2.5): in seconds, in UTC.
pub fn time(element: &Element<'_>) -> Option<i64> {
    let text = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match element.tag {
        tag::UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        tag::GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let pair = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    utc::seconds(year, [pair(0)?, pair(2)?, pair(4)?, pair(6)?, pair(8)?])
}
