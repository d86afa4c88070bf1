//! Signing a dump kernel for Secure Boot: keys and certificates, PKCS #7, signing commands, and what the running kernel
//! would answer to a signature.
//!
//! A kernel that demands signatures compares the certificates of one with its keyrings. What is put into a dump kernel
//! makes its own signature void, so that it has to be signed again, by a key of the machine's owner.

mod certificate;
mod command;
mod der;
mod key;
mod pem;
mod pkcs7;

use crate::config;
use anyhow::{Context, Result};
use certificate::Certificate;
use clap::Args;
use key::Key;
use lastwords_boot as boot;
use std::path::PathBuf;

/// How the dump kernel is signed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Signing options")]
pub struct SignOptions {
    /// Sign with the private key FILE, for Secure Boot [default: unsigned]
    ///
    /// PKCS #8, PKCS #1 or SEC 1, in PEM or DER, and not encrypted: RSA with 2048 to 4096 bits, or ECDSA P-256 or P-384
    /// (from Linux 6.12 on).
    #[arg(long, value_name = "FILE", requires = "sign_cert")]
    sign_key: Option<PathBuf>,
    /// Use the certificate FILE of --sign-key, in PEM or DER
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    sign_cert: Option<PathBuf>,
    /// Sign with a shell command, which reads $IN and writes $OUT
    ///
    /// For keys that lie elsewhere (HSM, signing server): sh -c COMMAND, with the paths of two files in the environment.
    /// Example: 'sbsign --engine pkcs11 --key pkcs11:object=KEY --cert CERT --output "$OUT" "$IN"'
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["sign_key", "sign_cert"])]
    sign_command: Option<String>,
}

impl SignOptions {
    /// As the configuration has it.
    pub fn config(&self) -> config::Sign {
        config::Sign {
            key: self.sign_key.clone(),
            cert: self.sign_cert.clone(),
            command: self.sign_command.clone(),
        }
    }
}

/// What signs kernels.
pub struct Signer(Way);

enum Way {
    /// A key, and its certificates: the key's own first.
    Key {
        key: Key,
        certificates: Vec<Certificate>,
    },
    Command(String),
}

impl Signer {
    /// The one that is configured; `None` where none is.
    ///
    /// # Errors
    /// When key or certificate cannot be used.
    pub fn from(config: &config::Sign) -> Result<Option<Self>> {
        Ok(match (&config.key, &config.cert, &config.command) {
            (Some(key), Some(cert), _) => {
                Some(Self(Way::Key { key: Key::read(key)?, certificates: Certificate::read(cert)? }))
            }
            (.., Some(command)) => Some(Self(Way::Command(command.clone()))),
            _ => None,
        })
    }

    /// Signs a kernel, in the place of a signature that it has. With a key the same bytes come out each time.
    ///
    /// # Errors
    /// When it has no PE header, key and certificate do not belong together, or the command fails.
    pub fn sign(&self, kernel: &[u8]) -> Result<Vec<u8>> {
        let kernel = boot::unsigned(kernel)?;
        match &self.0 {
            Way::Key { key, certificates } => {
                let signature = pkcs7::make(&kernel, key, certificates).context("not signed")?;
                Ok(boot::attach(&kernel, &signature)?)
            }
            Way::Command(command) => command::sign(command, &kernel).context("not signed"),
        }
    }

    /// The key's identifier, as the kernel lists it (/proc/keys): the certificate's subject key identifier, else its serial
    /// number. A command's is known from what it has signed: [`key_id`].
    pub fn key_id(&self) -> Option<String> {
        match &self.0 {
            Way::Key { certificates, .. } => certificates.first().map(Certificate::key_id),
            Way::Command(_) => None,
        }
    }
}

/// The identifier of the key that a kernel is signed with; `None` for one that is unsigned, or whose signature is not
/// understood.
pub fn key_id(kernel: &[u8]) -> Option<String> {
    let signature = pkcs7::Signature::parse(boot::signature(kernel).ok()??)?;
    signature.certificate(signature.signers.first()?).map(Certificate::key_id)
}

/// By whom a kernel is signed, for the user: `db04 signing key (key ID 6cce...)`.
pub fn signed_by(kernel: &[u8]) -> String {
    let read = || {
        let signature = pkcs7::Signature::parse(boot::signature(kernel).ok()??)?;
        signature.certificate(signature.signers.first()?).map(Certificate::title)
    };
    read().unwrap_or_else(|| "by an unknown key".to_owned())
}
