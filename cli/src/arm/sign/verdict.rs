//! What a kernel that demands signatures would answer, found out before it is asked: its error numbers mean too many things,
//! and in its answer an earlier dump kernel may be lost. Nothing is said here of what is not certain.

use super::{keyring::Keyring, pkcs7::Signature};
use crate::{arm::refusal::Refusal, utc::date_and_time};
use anyhow::{Error, anyhow};
use lastwords_boot as boot;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

/// Why it would refuse this kernel; `None` where nothing is known against it.
pub fn refusal(root: &Path, kernel: &[u8], was_signed: bool) -> Option<Refusal> {
    let signature = match boot::signature(kernel) {
        Ok(Some(signature)) => Signature::parse(signature)?,
        Ok(None) => return Some(Refusal::Unsigned { was_signed }),
        Err(_) => return None,
    };
    if signature.is_of(kernel) == Some(false) {
        return Some(Refusal::Tampered);
    }
    for signer in &signature.signers {
        let certificate = signature.certificate(signer)?;
        if signature.is_signed_by(signer, certificate) == Some(false) {
            return Some(Refusal::Tampered);
        }
        if let Some(at) = signer.signing_time
            && !certificate.valid.contains(&at)
        {
            let at =
                date_and_time(at).map_or_else(|| at.to_string(), |(date, time)| format!("{date}T{time}Z"));
            return Some(Refusal::Expired { by: certificate.title(), at });
        }
    }
    let keyring = Keyring::read(root);
    let unknown = signature.certificates.iter().all(|one| keyring.has(one) == Some(false));
    let by = signature.certificate(signature.signers.first()?)?;
    unknown.then(|| Refusal::UnknownKey { by: format!(": {}", by.title()) })
}

/// What a kernel before 6.12 may not be able to check of a signature.
pub fn doubt(root: &Path, kernel: &[u8]) -> Option<Error> {
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok()?;
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next()?, numbers.next()?);
    let plain = Signature::parse(boot::signature(kernel).ok()??)?.is_plain();
    (!plain && version < (6, 12)).then(|| {
        anyhow!(
            "Linux {} may not be able to check the signature: it takes ECDSA and SHA-384 from 6.12 on\n\
             hint: sign with an RSA key and SHA-256",
            release.trim()
        )
    })
}

/// Does the running kernel look at signatures at all? Without CONFIG_KEXEC_BZIMAGE_VERIFY_SIG, which brings this
/// function, it accepts everything, or nothing.
pub fn can_verify(root: &Path) -> bool {
    let Ok(file) = File::open(root.join("proc/kallsyms")) else { return false };
    BufReader::new(file).lines().map_while(Result::ok).any(|line| line.ends_with(" verify_pefile_signature"))
}
