//! A kernel's signature: PKCS #7 SignedData (RFC 2315) around the kernel's digest, as "Windows Authenticode Portable
//! Executable Signature Format" has it. Made here, and read, whoever has made it.
//!
//! The ones that are made have no signingTime: with it Linux refuses what was signed after the certificate's end, or by a
//! wrong clock.

use super::{
    certificate::{self, Certificate},
    der::{Reader, element, tag},
    key::{Hash, Key, verify},
};
use anyhow::{Result, bail, ensure};
use lastwords_boot as boot;

/// Object identifiers, each with its content octets.
mod oid {
    /// 1.2.840.113549.1.7.2
    pub const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    /// 1.2.840.113549.1.9.3
    pub const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
    /// 1.2.840.113549.1.9.4
    pub const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
    /// 1.2.840.113549.1.9.5
    pub const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 5];
    /// 2.16.840.1.101.3.4.2.1
    pub const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    /// SPC_INDIRECT_DATA_OBJID, 1.3.6.1.4.1.311.2.1.4
    pub const INDIRECT_DATA: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 4];
    /// SPC_PE_IMAGE_DATAOBJ, 1.3.6.1.4.1.311.2.1.15
    pub const PE_IMAGE_DATA: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 15];
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, parts)
}

fn id(oid: &[u8]) -> Vec<u8> {
    element(tag::OID, &[oid])
}

/// Makes the signature of a kernel, which has none and comes from [`boot::unsigned`].
///
/// # Errors
/// When it has no PE header, or the first certificate is not the key's.
pub fn make(kernel: &[u8], key: &Key, certificates: &[Certificate]) -> Result<Vec<u8>> {
    let Some(signer) = certificates.first() else { bail!("no certificate") };
    let sha256 = sequence(&[&id(oid::SHA256), &element(tag::NULL, &[])]);
    let digest = element(tag::OCTET_STRING, &[&Hash::Sha256.digest(&boot::signed_parts(kernel)?)]);

    // SpcPeImageData: no flags, and a link to a file that has an empty name.
    let file = element(tag::context(0), &[&element(tag::context(2), &[&element(tag::implicit(0), &[])])]);
    let image_data = sequence(&[&element(tag::BIT_STRING, &[&[0]]), &file]);
    let data = sequence(&[&id(oid::PE_IMAGE_DATA), &image_data]);
    let digest_info = sequence(&[&sha256, &digest]);
    let indirect_data = [data, digest_info].concat();
    let content =
        sequence(&[&id(oid::INDIRECT_DATA), &element(tag::context(0), &[&sequence(&[&indirect_data])])]);

    // Without tag and length of the content (RFC 2315, 9.3).
    let message_digest = element(tag::OCTET_STRING, &[&Hash::Sha256.digest(&[&indirect_data])]);
    let attribute = |oid, value: &[u8]| sequence(&[&id(oid), &element(tag::SET, &[value])]);
    let attributes = [
        attribute(oid::CONTENT_TYPE, &id(oid::INDIRECT_DATA)),
        attribute(oid::MESSAGE_DIGEST, &message_digest),
    ]
    .concat();
    // What is signed is a SET, and what stands in the file is [0].
    let signed = Hash::Sha256.digest(&[&element(tag::SET, &[&attributes])]);
    let signature = key.sign(&signed)?;
    ensure!(
        verify(&signer.public_key, Hash::Sha256, &signed, &signature) == Some(true),
        "the certificate is another key's\nhint: give the certificate of this private key"
    );

    let version = element(tag::INTEGER, &[&[1]]);
    let signer_info = sequence(&[
        &version,
        &sequence(&[&signer.issuer, &signer.serial]),
        &sha256,
        &element(tag::context(0), &[&attributes]),
        &key.algorithm(),
        &element(tag::OCTET_STRING, &[&signature]),
    ]);
    let certificates: Vec<u8> = certificates.iter().flat_map(|one| one.der.iter().copied()).collect();
    let signed_data = sequence(&[
        &version,
        &element(tag::SET, &[&sha256]),
        &content,
        &element(tag::context(0), &[&certificates]),
        &element(tag::SET, &[&signer_info]),
    ]);
    Ok(sequence(&[&id(oid::SIGNED_DATA), &element(tag::context(0), &[&signed_data])]))
}

/// A signature that was read.
#[derive(Debug)]
pub struct Signature<'a> {
    /// What the signers have signed: the content without tag and length.
    content: &'a [u8],
    /// The object identifier of the hash of the kernel.
    algorithm: &'a [u8],
    /// The kernel's digest.
    digest: &'a [u8],
    pub certificates: Vec<Certificate>,
    pub signers: Vec<Signer<'a>>,
}

/// One that has signed.
#[derive(Debug)]
pub struct Signer<'a> {
    issuer: &'a [u8],
    serial: &'a [u8],
    /// The object identifier of the hash.
    algorithm: &'a [u8],
    /// What is signed in the content's place: a SET, without tag and length.
    attributes: Option<&'a [u8]>,
    message_digest: Option<&'a [u8]>,
    /// When, in seconds since 1970, where that is signed, too.
    pub signing_time: Option<i64>,
    signature: &'a [u8],
}

impl<'a> Signature<'a> {
    /// Reads one; `None` for what is not understood.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut info = Reader(bytes).expect(tag::SEQUENCE)?.inside();
        if info.expect(tag::OID)?.content != oid::SIGNED_DATA {
            return None;
        }
        let mut fields = info.expect(tag::context(0))?.inside().expect(tag::SEQUENCE)?.inside();
        fields.expect(tag::INTEGER)?;
        fields.expect(tag::SET)?;
        let mut content = fields.expect(tag::SEQUENCE)?.inside();
        if content.expect(tag::OID)?.content != oid::INDIRECT_DATA {
            return None;
        }
        let content = content.expect(tag::context(0))?.inside().expect(tag::SEQUENCE)?;
        let mut digest_info = content.inside().nth(1)?.inside();
        let algorithm = digest_info.expect(tag::SEQUENCE)?.inside().expect(tag::OID)?.content;
        let digest = digest_info.expect(tag::OCTET_STRING)?.content;
        let certificates = fields.optional(tag::context(0)).map_or(Reader(&[]), |field| field.inside());
        let certificates = certificates.map(|one| Certificate::parse(one.whole)).collect::<Option<_>>()?;
        fields.optional(tag::context(1));
        let signers = fields.expect(tag::SET)?.inside().map(|one| Signer::parse(one.inside()));
        Some(Self {
            content: content.content,
            algorithm,
            digest,
            certificates,
            signers: signers.collect::<Option<_>>()?,
        })
    }

    /// Is it the signature of this kernel? `None`, where the hash is not known here.
    pub fn is_of(&self, kernel: &[u8]) -> Option<bool> {
        Some(Hash::of(self.algorithm)?.digest(&boot::signed_parts(kernel).ok()?) == self.digest)
    }

    /// The certificate of one of its signers, where it is among them.
    pub fn certificate(&self, signer: &Signer) -> Option<&Certificate> {
        self.certificates.iter().find(|one| one.issuer == signer.issuer && one.serial == signer.serial)
    }

    /// Has the key of this certificate signed it? `None`, where an algorithm is not known here.
    pub fn is_signed_by(&self, signer: &Signer, certificate: &Certificate) -> Option<bool> {
        let hash = Hash::of(signer.algorithm)?;
        let signed = match signer.attributes {
            Some(attributes) => {
                if signer.message_digest != Some(&hash.digest(&[self.content])) {
                    return Some(false);
                }
                hash.digest(&[&element(tag::SET, &[attributes])])
            }
            None => hash.digest(&[self.content]),
        };
        verify(&certificate.public_key, hash, &signed, signer.signature)
    }

    /// Are its algorithms SHA-256 and RSA alone, which every kernel has?
    pub fn is_plain(&self) -> bool {
        let sha256 = |algorithm| algorithm == oid::SHA256;
        let rsa = |signer: &Signer| {
            self.certificate(signer).is_none_or(|one| {
                let algorithm =
                    Reader(&one.public_key).next().and_then(|key| key.inside().next()?.inside().next());
                algorithm.is_some_and(|oid| oid.content == super::key::RSA)
            })
        };
        sha256(self.algorithm) && self.signers.iter().all(|signer| sha256(signer.algorithm) && rsa(signer))
    }
}

impl<'a> Signer<'a> {
    fn parse(mut fields: Reader<'a>) -> Option<Self> {
        fields.expect(tag::INTEGER)?;
        let mut who = fields.expect(tag::SEQUENCE)?.inside();
        let (issuer, serial) = (who.expect(tag::SEQUENCE)?.whole, who.expect(tag::INTEGER)?.whole);
        let algorithm = fields.expect(tag::SEQUENCE)?.inside().expect(tag::OID)?.content;
        let attributes = fields.optional(tag::context(0)).map(|field| field.content);
        fields.expect(tag::SEQUENCE)?;
        let signature = fields.expect(tag::OCTET_STRING)?.content;
        let (mut message_digest, mut signing_time) = (None, None);
        for attribute in Reader(attributes.unwrap_or_default()) {
            let mut parts = attribute.inside();
            let id = parts.expect(tag::OID)?.content;
            let value = parts.expect(tag::SET)?.inside().next()?;
            match id {
                oid::MESSAGE_DIGEST => message_digest = Some(value.content),
                oid::SIGNING_TIME => signing_time = Some(certificate::time(&value)?),
                _ => {}
            }
        }
        Some(Self { issuer, serial, algorithm, attributes, message_digest, signing_time, signature })
    }
}
