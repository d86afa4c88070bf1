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

use crate::config::{self, Config};
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
                Ok(boot::attach(kernel, &signature)?)
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
pub fn secure_boot(root: &Path) -> bool {
    const OFFSET: u64 = 0x1ec;
    const ENABLED: u8 = 3;
    let mut byte = [0];
    let read = File::open(root.join("sys/kernel/boot_params/data"))
        .and_then(|file| file.read_exact_at(&mut byte, OFFSET));
    read.is_ok() && byte == [ENABLED]
}

#[cfg(test)]
pub mod tests {
    use super::{
        verdict::{doubt, refusal},
        *,
    };
    use boot::synthetic::Kernel;
    use sha2::{Digest, Sha256};
    use std::{fmt::Write as _, fs, process::Command};
    use tempfile::TempDir;

    /// A machine's root: openssl's test keys in /keys, and what the kernel shows.
    pub struct Machine(TempDir);

    impl Machine {
        pub fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.file("proc/kallsyms", "0000000000000000 T verify_pefile_signature\n");
            fs::create_dir(machine.root().join("keys")).unwrap();
            machine
        }

        pub fn root(&self) -> &Path {
            self.0.path()
        }

        pub fn file(&self, path: &str, text: &str) {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Runs a program in /keys.
        pub fn run(&self, program: &str, words: &str) {
            let mut command = Command::new(program);
            let output =
                command.current_dir(self.root().join("keys")).args(words.split_whitespace()).output();
            let output =
                output.unwrap_or_else(|error| panic!("{program}: {error}: install openssl and sbsigntool"));
            assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        }

        /// A test key of this kind, with a certificate of so many days.
        pub fn key(&self, name: &str, kind: &str, days: i32) -> config::Sign {
            self.run(
                "openssl",
                &format!(
                    "req -new -newkey {kind} -noenc -keyout {name} -out {name}.csr -subj /CN=test-key-{name}"
                ),
            );
            self.run(
                "openssl",
                &format!("x509 -req -in {name}.csr -signkey {name} -days {days} -out {name}.crt"),
            );
            let path = |name: &str| Some(self.root().join("keys").join(name));
            config::Sign { key: path(name), cert: path(&format!("{name}.crt")), command: None }
        }

        /// The kernel's list of keys has these.
        pub fn trusts(&self, keys: &[&config::Sign]) {
            let mut list =
                "01d3a4e5 I------     1 perm 1f030000     0     0 keyring   .builtin_trusted_keys: 2\n"
                    .to_owned();
            for key in keys {
                let id = signer(key).key_id().unwrap();
                let _ = writeln!(
                    list,
                    "0a2d2c7f I------     1 perm 1f030000     0     0 asymmetri test: {id}: X509.rsa 00 []"
                );
            }
            self.file("proc/keys", &list);
        }
    }

    pub fn signer(config: &config::Sign) -> Signer {
        Signer::from(config).unwrap().unwrap()
    }

    fn why(machine: &Machine, kernel: &[u8]) -> String {
        refusal(machine.root(), kernel, false).map_or_else(String::new, |refusal| refusal.to_string())
    }

    #[test]
    fn what_the_kernel_would_refuse_is_known_before() {
        let machine = Machine::new();
        let kernel = Kernel::default().build();
        let (ours, other) = (machine.key("ours", "rsa:2048", 9), machine.key("other", "rsa:2048", 9));
        let expired = machine.key("expired", "rsa:2048", -1);
        machine.trusts(&[&ours, &expired]);
        assert!(why(&machine, &kernel).contains("there is none"));
        let signed = signer(&ours).sign(&kernel).unwrap();
        assert_eq!(why(&machine, &signed), "");
        assert_eq!(key_id(&signed), signer(&ours).key_id());

        let mut changed = signed.clone();
        changed[5000] ^= 1;
        assert!(why(&machine, &changed).contains("changed after it was signed"));
        // Whoever changes the digest in it, too, changes what is signed.
        let digest = Sha256::digest(boot::signed_parts(&signed).unwrap().concat());
        let at = signed.windows(32).position(|bytes| bytes == digest.as_slice()).unwrap();
        let digest = Sha256::digest(boot::signed_parts(&changed).unwrap().concat());
        changed[at..][..32].copy_from_slice(&digest);
        assert!(why(&machine, &changed).contains("changed after it was signed"));
        // Its last byte is the signature's, and padding.
        let end = boot::signature(&signed).unwrap().unwrap();
        let end = signed.windows(end.len()).rposition(|bytes| bytes == end).unwrap() + end.len() - 1;
        let mut changed = signed.clone();
        changed[end] ^= 1;
        assert!(why(&machine, &changed).contains("changed after it was signed"));

        let text = why(&machine, &signer(&other).sign(&kernel).unwrap());
        assert!(text.contains("does not trust the key of the signature: test-key-other"), "{text}");
        // Without a signing time nobody looks at the certificate's end.
        assert_eq!(why(&machine, &signer(&expired).sign(&kernel).unwrap()), "");
        fs::write(machine.root().join("keys/kernel"), boot::unsigned(&kernel).unwrap()).unwrap();
        machine.run("sbsign", "--key expired --cert expired.crt --output signed kernel");
        let text = why(&machine, &fs::read(machine.root().join("keys/signed")).unwrap());
        assert!(text.contains("certificate was not valid: test-key-expired"), "{text}");
        machine.run("sbsign", "--key ours --cert ours.crt --output signed kernel");
        assert_eq!(why(&machine, &fs::read(machine.root().join("keys/signed")).unwrap()), "");
    }

    #[test]
    fn nothing_is_said_of_a_signature_that_is_not_understood() {
        let machine = Machine::new();
        machine.trusts(&[]);
        let kernel = Kernel::default().build();
        for signature in [&b"\x30\x03\x02\x01\x01"[..], b"", &[0x30; 100]] {
            let signed = boot::attach(kernel.clone(), signature).unwrap();
            assert!(refusal(machine.root(), &signed, false).is_none());
            assert_eq!(key_id(&signed), None);
        }
        let signed = signer(&machine.key("ours", "rsa:2048", 9)).sign(&kernel).unwrap();
        assert!(why(&machine, &signed).contains("does not trust"));
        // As in a container, which sees none of the kernel's keys.
        machine.file("proc/keys", "");
        assert_eq!(why(&machine, &signed), "");
    }

    #[test]
    fn only_old_kernels_are_doubted_with_new_algorithms() {
        let machine = Machine::new();
        let kernel = Kernel::default().build();
        let (rsa, ecdsa) = (
            machine.key("rsa", "rsa:2048", 9),
            machine.key("ecdsa", "ec -pkeyopt ec_paramgen_curve:P-256", 9),
        );
        let [rsa, ecdsa] = [rsa, ecdsa].map(|key| signer(&key).sign(&kernel).unwrap());
        for (release, doubted) in
            [("6.1.0-56-amd64", true), ("6.11.2", true), ("6.12.117+deb12-amd64", false), ("7.0", false)]
        {
            machine.file("proc/sys/kernel/osrelease", release);
            assert_eq!(doubt(machine.root(), &ecdsa).is_some(), doubted, "{release}");
            assert!(doubt(machine.root(), &rsa).is_none(), "{release}");
        }
    }

    #[test]
    fn a_key_is_found_where_the_distribution_has_it_if_the_kernel_trusts_it() {
        let machine = Machine::new();
        assert!(find(machine.root()).is_none());
        let dkms = machine.key("dkms", "rsa:2048", 9);
        machine.run("openssl", "x509 -in dkms.crt -outform DER -out dkms.pub");
        fs::create_dir_all(machine.root().join("var/lib/dkms")).unwrap();
        for (from, to) in [("dkms", "mok.key"), ("dkms.pub", "mok.pub")] {
            fs::rename(machine.root().join("keys").join(from), machine.root().join("var/lib/dkms").join(to))
                .unwrap();
        }
        machine.trusts(&[]);
        assert!(find(machine.root()).is_none());
        let place = |name: &str| Some(machine.root().join("var/lib/dkms").join(name));
        let found = config::Sign { key: place("mok.key"), cert: place("mok.pub"), command: None };
        machine.trusts(&[&found]);
        assert_eq!(find(machine.root()), Some(found));
        assert_eq!(at_hand(machine.root()).unwrap().map(|(_, whose)| whose), Some("a key of this machine"));
        // What is configured comes first, and is not passed over when it cannot be used.
        machine.file("etc/lastwords.conf", "[sign]\ncommand = 'true'\n");
        assert_eq!(at_hand(machine.root()).unwrap().map(|(_, whose)| whose), Some("the configured key"));
        machine.file("etc/lastwords.conf", "[sign]\nkey = '/none'\ncert = '/none'\n");
        assert!(at_hand(machine.root()).is_err());
        drop(dkms);
    }

    #[test]
    fn secure_boot_is_what_the_kernel_has_found() {
        let machine = Machine::new();
        for (value, on) in [(0, false), (2, false), (3, true)] {
            let mut data = vec![0; 0x1000];
            data[0x1ec] = value;
            machine.file("sys/kernel/boot_params/data", "");
            fs::write(machine.root().join("sys/kernel/boot_params/data"), data).unwrap();
            assert_eq!(secure_boot(machine.root()), on, "{value}");
        }
    }

    #[test]
    fn a_damaged_signature_is_read_without_a_panic() {
        let machine = Machine::new();
        let ours = machine.key("ours", "rsa:2048", 9);
        machine.trusts(&[&ours]);
        let signed = signer(&ours).sign(&Kernel::default().build()).unwrap();
        let signature = boot::signature(&signed).unwrap().unwrap();
        let at = signed.windows(signature.len()).rposition(|bytes| bytes == signature).unwrap();
        for at in at..at + signature.len() {
            let mut changed = signed.clone();
            changed[at] = changed[at].wrapping_add(1);
            let _ =
                (refusal(machine.root(), &changed, false), doubt(machine.root(), &changed), key_id(&changed));
        }
    }
}
