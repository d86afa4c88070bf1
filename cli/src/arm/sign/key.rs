//! Private keys, and what is made and checked with one. The signatures are the same at each time (PKCS #1 v1.5, and ECDSA
//! by RFC 6979), so that what is signed twice is the same file.

use super::{
    der::{Reader, element, tag},
    pem,
};
use crate::arm::file;
use anyhow::{Context, Result, anyhow, bail, ensure};
use p256::{ecdsa as p256_ecdsa, elliptic_curve::SecretKey};
use p384::ecdsa as p384_ecdsa;
use rsa::{
    Pkcs1v15Sign,
    pkcs1::DecodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, DecodePublicKey},
    signature::hazmat::{PrehashSigner, PrehashVerifier},
    traits::PublicKeyParts,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::path::Path;

/// rsaEncryption, 1.2.840.113549.1.1.1.
pub const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2.
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// A private key of a kind that Linux can check signatures of.
pub enum Key {
    /// 2048 to 4096 bits.
    Rsa(Box<rsa::PrivateKey>),
    P256(p256_ecdsa::SigningKey),
    P384(p384_ecdsa::SigningKey),
}

impl Key {
    /// Reads one from a file: PKCS #8, PKCS #1 or SEC 1, in PEM or DER.
    ///
    /// # Errors
    /// When it has none, or one that cannot be used.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || {
            let (file, len) = file::open(path)?;
            ensure!(len <= pem::MOST, "too large for a private key");
            Self::from_bytes(&file::read(&file, path)?, path)
        };
        read().with_context(|| path.display().to_string())
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let encrypted = || {
            anyhow!(
                "the private key is encrypted\n\
                 hint: openssl pkey -in {} -out FILE decrypts it into FILE; or sign with --sign-command",
                path.display()
            )
        };
        let der = match pem::blocks(bytes) {
            Some(blocks) => {
                let block = blocks.into_iter().find(|block| block.label.ends_with("PRIVATE KEY"));
                let block = block.ok_or_else(no_key)?;
                ensure!(!block.encrypted && block.label != "ENCRYPTED PRIVATE KEY", encrypted());
                block.der
            }
            None => bytes.to_vec(),
        };
        let first = Reader(&der).expect(tag::SEQUENCE).and_then(|key| key.inside().next());
        // All others begin with their version.
        ensure!(first.is_none_or(|first| first.tag != tag::SEQUENCE), encrypted());
        if let Ok(key) =
            rsa::PrivateKey::from_pkcs8_der(&der).or_else(|_| rsa::PrivateKey::from_pkcs1_der(&der))
        {
            let bits = key.n().bits();
            ensure!(
                (2048..=4096).contains(&bits),
                "an RSA key of {bits} bits\nhint: use one of 2048 to 4096 bits"
            );
            return Ok(Self::Rsa(Box::new(key)));
        }
        if let Ok(key) = SecretKey::from_pkcs8_der(&der).or_else(|_| SecretKey::from_sec1_der(&der)) {
            return Ok(Self::P256(key.into()));
        }
        if let Ok(key) = SecretKey::from_pkcs8_der(&der).or_else(|_| SecretKey::from_sec1_der(&der)) {
            return Ok(Self::P384(key.into()));
        }
        bail!(no_key())
    }

    /// AlgorithmIdentifier of its signatures.
    pub fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => element(tag::SEQUENCE, &[&element(tag::OID, &[RSA]), &element(tag::NULL, &[])]),
            Self::P256(_) | Self::P384(_) => {
                element(tag::SEQUENCE, &[&element(tag::OID, &[ECDSA_WITH_SHA256])])
            }
        }
    }

    /// Signs a SHA-256 digest.
    ///
    /// # Errors
    /// When the key is broken.
    pub fn sign(&self, digest: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Rsa(key) => key.sign(Pkcs1v15Sign::new::<Sha256>(), digest)?,
            Self::P256(key) => {
                let signature: p256_ecdsa::Signature = key.sign_prehash(digest)?;
                signature.to_der().as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384_ecdsa::Signature = key.sign_prehash(digest)?;
                signature.to_der().as_bytes().to_vec()
            }
        })
    }
}

fn no_key() -> anyhow::Error {
    anyhow!(
        "no private key that can sign kernels\nhint: give one of RSA (2048 to 4096 bits) or ECDSA (P-256), in PEM or DER"
    )
}

/// The hash functions of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The one of this object identifier, 2.16.840.1.101.3.4.2.n.
    pub fn of(oid: &[u8]) -> Option<Self> {
        let (last, before) = oid.split_last()?;
        if before != [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2] {
            return None;
        }
        match last {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha384),
            3 => Some(Self::Sha512),
            _ => None,
        }
    }

    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            parts.iter().fold(D::new(), |digest, part| digest.chain_update(part)).finalize().to_vec()
        }
        match self {
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha384 => digest::<Sha384>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
        }
    }
}

/// Is it the signature of this digest by this key (a SubjectPublicKeyInfo)? `None` for a kind of key that is not known
/// here.
pub fn verify(public_key: &[u8], hash: Hash, digest: &[u8], signature: &[u8]) -> Option<bool> {
    if let Ok(key) = rsa::PublicKey::from_public_key_der(public_key) {
        let scheme = match hash {
            Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        };
        return Some(key.verify(scheme, digest, signature).is_ok());
    }
    if let Ok(key) = p256_ecdsa::VerifyingKey::from_public_key_der(public_key) {
        let signature = p256_ecdsa::Signature::from_der(signature).ok();
        return Some(signature.is_some_and(|signature| key.verify_prehash(digest, &signature).is_ok()));
    }
    let key = p384_ecdsa::VerifyingKey::from_public_key_der(public_key).ok()?;
    let signature = p384_ecdsa::Signature::from_der(signature).ok();
    Some(signature.is_some_and(|signature| key.verify_prehash(digest, &signature).is_ok()))
}
