//! Signing a dump kernel for Secure Boot: keys and certificates, PKCS #7, signing commands, and what the running kernel
//! would answer to a signature.
//!
//! A kernel that demands signatures compares the certificates of one with its keyrings. What is put into a dump kernel
//! makes its own signature void, so that it has to be signed again, by a key of the machine's owner.

mod certificate;
mod command;
mod der;
mod key;
mod keyring;
mod pem;
mod pkcs7;
pub mod verdict;

use super::{file, kdump::Kdump, via};
use crate::{
    config::{self, Config},
    message,
};
use anyhow::{Context, Result};
use certificate::Certificate;
use clap::Args;
use key::Key;
use keyring::Keyring;
use lastwords_boot as boot;
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
pub use verdict::{can_verify, refusal, warn_of_algorithms};

/// How the dump kernel is signed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Signing options")]
pub struct SignOptions {
    /// Sign with the private key FILE, for Secure Boot [default: unsigned]
    ///
    /// PKCS #8, PKCS #1 or SEC 1, in PEM or DER, and not encrypted: RSA with 2048 to 4096 bits, or ECDSA P-256 or P-384
    /// (from Linux 6.12 on).
    #[arg(id = "sign_key", long = "sign-key", value_name = "FILE", requires = "sign_cert")]
    key: Option<PathBuf>,
    /// Use the certificate FILE of --sign-key, in PEM or DER
    #[arg(id = "sign_cert", long = "sign-cert", value_name = "FILE", requires = "sign_key")]
    cert: Option<PathBuf>,
    /// Sign with a shell command, which reads $IN and writes $OUT
    ///
    /// For keys that lie elsewhere (HSM, signing server): sh -c COMMAND, with the paths of two files in the environment.
    /// Example: 'sbsign --engine pkcs11 --key pkcs11:object=KEY --cert CERT --output "$OUT" "$IN"'
    #[arg(id = "sign_command", long = "sign-command", value_name = "COMMAND", conflicts_with_all = ["sign_key", "sign_cert"])]
    command: Option<String>,
}

impl SignOptions {
    /// Is signing asked for?
    pub fn is_given(&self) -> bool {
        self.key.is_some() || self.command.is_some()
    }

    /// As the configuration has it.
    pub fn config(&self) -> config::Sign {
        config::Sign { key: self.key.clone(), cert: self.cert.clone(), command: self.command.clone() }
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
    #[allow(dead_code, reason = "the rooms that ask come next")]
    pub fn key_id(&self) -> Option<String> {
        match &self.0 {
            Way::Key { certificates, .. } => certificates.first().map(Certificate::key_id),
            Way::Command(_) => None,
        }
    }
}

/// What signs where nothing was asked for, and how it is called: what is configured, else a key that is found.
///
/// # Errors
/// When the configuration or what it names cannot be used.
pub fn at_hand(root: &Path) -> Result<Option<(Signer, &'static str)>> {
    if let Some(signer) = Signer::from(&Config::read(root)?.sign).context("[sign] of the configuration")? {
        return Ok(Some((signer, "the configured key")));
    }
    let found = find(root).map(|found| Signer::from(&found)).transpose()?.flatten();
    Ok(found.map(|signer| (signer, "a key of this machine")))
}

/// The identifier of the key that a kernel is signed with; `None` for one that is unsigned, or whose signature is not
/// understood.
#[allow(dead_code, reason = "the rooms that ask come next")]
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

/// Where tools of distributions keep the key that they sign kernel modules with, and its certificate: shim-signed of Ubuntu,
/// DKMS, akmods of Fedora, sbctl.
const PLACES: [[&str; 2]; 4] = [
    ["var/lib/shim-signed/mok/MOK.priv", "var/lib/shim-signed/mok/MOK.der"],
    ["var/lib/dkms/mok.key", "var/lib/dkms/mok.pub"],
    ["etc/pki/akmods/private/private_key.priv", "etc/pki/akmods/certs/public_key.der"],
    ["var/lib/sbctl/keys/db/db.key", "var/lib/sbctl/keys/db/db.pem"],
];

/// A key in the distribution's places that the running kernel trusts, by its certificate, and that can be used.
pub fn find(root: &Path) -> Option<config::Sign> {
    let keyring = Keyring::read(root);
    PLACES.into_iter().find_map(|[key, cert]| {
        let (key, cert) = (root.join(key), root.join(cert));
        let certificates = Certificate::read(&cert).ok()?;
        let trusted = keyring.has(certificates.first()?) == Some(true);
        (trusted && Key::read(&key).is_ok()).then_some(config::Sign {
            key: Some(key),
            cert: Some(cert),
            command: None,
        })
    })
}

/// Has the firmware booted this machine with Secure Boot? As the kernel keeps it in boot_params (`secure_boot`, which lockdown
/// leaves readable).
#[allow(dead_code, reason = "the rooms that ask come next")]
pub fn secure_boot(root: &Path) -> bool {
    const OFFSET: u64 = 0x1ec;
    const ENABLED: u8 = 3;
    let mut byte = [0];
    let read = File::open(root.join("sys/kernel/boot_params/data"))
        .and_then(|file| file.read_exact_at(&mut byte, OFFSET));
    read.is_ok() && byte == [ENABLED]
}

/// A wrapped kernel that has to be signed before this machine's kernel accepts it.
#[allow(dead_code, reason = "likewise")]
#[derive(Debug, PartialEq, Eq)]
pub struct ToSign {
    /// Why: what is printed as an error's fact.
    pub reason: String,
    /// The command that signs it, where KEY and CERT are. Wrapping is reproducible: the file may be signed, or made and
    /// signed, on another machine.
    pub command: String,
}

/// What has to be signed for this machine, elsewhere: a file that the kernel would not accept as it is. `None` where it
/// demands no signature, or nothing is known against the file.
///
/// # Errors
/// When the file cannot be read.
#[allow(dead_code, reason = "the rooms that ask come next")]
pub fn what_to_sign(root: &Path, path: &Path) -> Result<Option<ToSign>> {
    if !secure_boot(root) && !via::demands_signatures(root, &Kdump::read(root)) {
        return Ok(None);
    }
    let (opened, _) = file::open(path)?;
    let refusal = refusal(root, &file::read(&opened, path)?, false);
    Ok(refusal.map(|refusal| {
        let name = message::path(path);
        ToSign {
            reason: message::fact(&refusal.to_string()).to_owned(),
            command: format!("sbsign --key KEY --cert CERT --output {name} {name}"),
        }
    }))
}
