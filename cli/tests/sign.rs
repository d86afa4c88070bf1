//! What `wrap --sign-key` and `--sign-command` make, with tools as judges that know nothing of us: openssl makes the test
//! keys, sbverify and osslsigncode look at the signatures. Needs Debian's packages openssl, sbsigntool and osslsigncode.

use lastwords_boot::{self as boot, synthetic::Kernel};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

/// Runs a program in a folder.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: install openssl, sbsigntool and osslsigncode"))
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// Runs a program with these words, which must do it.
fn does(folder: &Path, program: &str, words: &str) -> String {
    let output = run(folder, program, &words.split_whitespace().collect::<Vec<_>>());
    assert!(output.status.success(), "{program} {words}: {}", text(&output));
    text(&output)
}

fn lastwords(folder: &Path, arguments: &[&str]) -> Output {
    run(folder, env!("CARGO_BIN_EXE_lastwords"), arguments)
}

/// Signs with these arguments besides, and returns the file.
fn signs(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let wrap = ["wrap", "kernel", "-o", "out", "--ipmi-handle-panic", "--force"];
    let output = lastwords(folder, &[&wrap, arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    fs::read(folder.join("out")).unwrap()
}

/// Asserts that it does not, with this text, and that nothing is left.
fn refuses(folder: &Path, arguments: &[&str], what: &str) {
    let output =
        lastwords(folder, &[&["wrap", "kernel", "-o", "none", "--ipmi-handle-panic"], arguments].concat());
    let text = text(&output);
    assert!(output.status.code() == Some(1) && text.contains(what), "{arguments:?}: {text}");
    assert!(!folder.join("none").exists());
}

/// A test key of this kind (openssl's `-newkey`) in `NAME.key`, PEM, with its certificate in `NAME.crt`.
fn test_key(folder: &Path, name: &str, kind: &str) {
    let words = format!(
        "req -x509 -newkey {kind} -noenc -keyout {name}.key -out {name}.crt -days 3650 -subj /O=lastwords/CN=test-key-{name}"
    );
    does(folder, "openssl", &words);
}

/// A folder with a kernel that is signed already, and an RSA key.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let kernel = Kernel { certificates: 0x108, ..Kernel::default() }.build();
    fs::write(folder.path().join("kernel"), kernel).unwrap();
    test_key(folder.path(), "rsa", "rsa:2048");
    folder
}

/// Asserts that every judge finds the signature of this key good, and that of a changed file bad.
fn judges_agree(folder: &Path, certificate: &str) {
    does(folder, "sbverify", &format!("--cert {certificate} out"));
    does(folder, "osslsigncode", &format!("verify -CAfile {certificate} -in out"));
    let signed = fs::read(folder.join("out")).unwrap();
    fs::write(folder.join("p7"), boot::signature(&signed).unwrap().unwrap()).unwrap();
    does(folder, "openssl", "pkcs7 -inform DER -in p7 -noout");
    for at in [0x2345, signed.len() / 2] {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        fs::write(folder.join("changed"), changed).unwrap();
        assert!(!run(folder, "sbverify", &["--cert", certificate, "changed"]).status.success(), "{at:#x}");
        let words = ["verify", "-CAfile", certificate, "-in", "changed"];
        assert!(!run(folder, "osslsigncode", &words).status.success(), "{at:#x}");
    }
}

#[test]
fn every_kind_of_key_makes_signatures_that_other_tools_accept() {
    let folder = folder();
    let folder = folder.path();
    for (name, kind) in [
        ("rsa", ""),
        ("rsa3072", "rsa:3072"),
        ("rsa4096", "rsa:4096"),
        ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
    ] {
        if !kind.is_empty() {
            test_key(folder, name, kind);
        }
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        signs(folder, &["--sign-key", &key, "--sign-cert", &certificate]);
        judges_agree(folder, &certificate);
    }
}

#[test]
fn every_form_of_a_key_and_a_certificate_makes_the_same_file() {
    let folder = folder();
    let folder = folder.path();
    does(folder, "openssl", "x509 -in rsa.crt -outform DER -out rsa.der");
    does(folder, "openssl", "x509 -in rsa.crt -text -out rsa.txt");
    does(folder, "openssl", "pkcs8 -topk8 -nocrypt -in rsa.key -outform DER -out rsa.p8");
    does(folder, "openssl", "rsa -traditional -in rsa.key -out rsa.pem1");
    does(folder, "openssl", "rsa -traditional -in rsa.key -outform DER -out rsa.p1");
    let first = signs(folder, &["--sign-key", "rsa.key", "--sign-cert", "rsa.crt"]);
    for key in ["rsa.key", "rsa.p8", "rsa.pem1", "rsa.p1"] {
        for certificate in ["rsa.crt", "rsa.der", "rsa.txt"] {
            let again = signs(folder, &["--sign-key", key, "--sign-cert", certificate]);
            assert!(again == first, "{key} {certificate}");
        }
    }
    // As `openssl ecparam -genkey` writes it: the parameters first.
    does(folder, "openssl", "ecparam -name prime256v1 -genkey -out ec.key");
    does(folder, "openssl", "ec -in ec.key -outform DER -out ec.sec1");
    does(folder, "openssl", "req -x509 -key ec.key -out ec.crt -days 9 -subj /CN=test-key-ec");
    let first = signs(folder, &["--sign-key", "ec.key", "--sign-cert", "ec.crt"]);
    assert!(signs(folder, &["--sign-key", "ec.sec1", "--sign-cert", "ec.crt"]) == first);
    judges_agree(folder, "ec.crt");
}

/// The certificate of a machine's owner, by an own authority, which is enrolled; the chain is in one file.
#[test]
fn a_chain_of_certificates_goes_into_the_signature() {
    let folder = folder();
    let folder = folder.path();
    does(
        folder,
        "openssl",
        "req -new -newkey rsa:2048 -noenc -keyout leaf.key -out leaf.csr -subj /CN=test-key-leaf",
    );
    does(folder, "openssl", "x509 -req -in leaf.csr -CA rsa.crt -CAkey rsa.key -out leaf.crt -days 9");
    let chain = ["leaf.crt", "rsa.crt"].map(|name| fs::read(folder.join(name)).unwrap()).concat();
    fs::write(folder.join("chain.crt"), chain).unwrap();
    signs(folder, &["--sign-key", "leaf.key", "--sign-cert", "chain.crt"]);
    judges_agree(folder, "rsa.crt");
}

#[test]
fn what_cannot_sign_is_refused_before_anything_is_written() {
    let folder = folder();
    let folder = folder.path();
    test_key(folder, "other", "rsa:2048");
    test_key(folder, "small", "rsa:1024");
    test_key(folder, "ed25519", "ed25519");
    does(folder, "openssl", "pkey -in rsa.key -aes256 -passout pass:x -out encrypted.key");
    does(folder, "openssl", "pkcs8 -topk8 -in rsa.key -passout pass:x -outform DER -out encrypted.der");
    does(folder, "openssl", "rsa -traditional -in rsa.key -aes256 -passout pass:x -out encrypted.pem1");
    fs::write(folder.join("broken.key"), "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n")
        .unwrap();
    for (key, certificate, what) in [
        ("other.key", "rsa.crt", "the certificate is another key's"),
        ("small.key", "small.crt", "an RSA key of 1024 bits"),
        ("ed25519.key", "ed25519.crt", "no private key that can sign kernels"),
        ("encrypted.key", "rsa.crt", "openssl pkey -in encrypted.key -out FILE"),
        ("encrypted.der", "rsa.crt", "the private key is encrypted"),
        ("encrypted.pem1", "rsa.crt", "the private key is encrypted"),
        ("broken.key", "rsa.crt", "no private key that can sign kernels"),
        ("rsa.crt", "rsa.crt", "no private key"),
        ("rsa.key", "rsa.key", "no X.509 certificate"),
        ("missing", "rsa.crt", "missing: no such file"),
    ] {
        refuses(folder, &["--sign-key", key, "--sign-cert", certificate], what);
    }
    for arguments in [
        &["--sign-key", "rsa.key"][..],
        &["--sign-cert", "rsa.crt"],
        &["--sign-key", "rsa.key", "--sign-cert", "rsa.crt", "--sign-command", "true"],
    ] {
        let output = lastwords(folder, &[&["wrap", "kernel", "-o", "none"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn a_signing_command_signs_and_what_it_brings_back_is_looked_at() {
    let folder = folder();
    let folder = folder.path();
    let sbsign = "sbsign --key rsa.key --cert rsa.crt --output \"$OUT\" \"$IN\"";
    signs(folder, &["--sign-command", sbsign]);
    judges_agree(folder, "rsa.crt");
    let osslsigncode = "osslsigncode sign -certs rsa.crt -key rsa.key -h sha256 -in \"$IN\" -out \"$OUT\"";
    signs(folder, &["--sign-command", osslsigncode]);
    judges_agree(folder, "rsa.crt");
    // What is signed is what would be signed here: the rest of the file is the same.
    let theirs = boot::unsigned(&signs(folder, &["--sign-command", sbsign])).unwrap();
    let ours = boot::unsigned(&signs(folder, &["--sign-key", "rsa.key", "--sign-cert", "rsa.crt"])).unwrap();
    assert!(theirs == ours);

    fs::copy(folder.join("out"), folder.join("signed")).unwrap();
    for (command, what) in [
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "signal 9"),
        ("true", "has not written the file OUT"),
        ("cp \"$IN\" \"$OUT\"", "has not signed the kernel"),
        ("echo nonsense >\"$OUT\"", "something else than the kernel"),
        ("cp kernel \"$OUT\"", "something else than the kernel"),
        (
            "cp signed \"$OUT\"; printf x | dd of=\"$OUT\" bs=1 seek=5000 conv=notrunc",
            "something else than the kernel",
        ),
    ] {
        refuses(folder, &["--sign-command", command], what);
    }
    // The output of the command is not ours, which a program may read.
    let output = lastwords(
        folder,
        &["wrap", "kernel", "-o", "none", "--sign-command", &format!("echo by hand; {sbsign}")],
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("by hand"));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("by hand"));
}

#[test]
fn wrapping_and_signing_twice_makes_the_same_file_and_a_signature_is_replaced() {
    let folder = folder();
    let folder = folder.path();
    let sign = ["--sign-key", "rsa.key", "--sign-cert", "rsa.crt"];
    let first = signs(folder, &sign);
    assert!(signs(folder, &sign) == first);
    fs::write(folder.join("kernel"), &first).unwrap();
    assert!(signs(folder, &sign) == first);
    let listed = does(folder, "sbverify", "--list out");
    assert_eq!(listed.matches("image signature issuers").count(), 1, "{listed}");
    assert!(signs(folder, &[]) == boot::unsigned(&first).unwrap());
}

#[test]
fn a_kernel_without_pe_header_cannot_be_signed() {
    let folder = folder();
    fs::write(folder.path().join("kernel"), Kernel { pe: false, ..Kernel::default() }.build()).unwrap();
    refuses(folder.path(), &["--sign-key", "rsa.key", "--sign-cert", "rsa.crt"], "CONFIG_EFI_STUB=n");
}
