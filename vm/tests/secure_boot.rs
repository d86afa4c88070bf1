//! Secure Boot, as firmware with a key of its own has it: what `lastwords` signs the kernel accepts, words are said, and the
//! dump is written by a dump kernel that is locked down, too. What the kernel would refuse `lastwords` refuses before it, with
//! the reason; and the stock kexec shows that the kernel does.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::dump;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::{Kernel, Release};
use lastwords_vm::machine::qemu::Firmware;
use lastwords_vm::machine::{lastwords, packages, process};
use lastwords_vm::scenarios::{Arm, Scenario};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Test keys and their certificates, and kernels that they have signed. The owner's key is the one in the firmware's db.
const MAKE: &str = r"
    set -e
    test_key=/usr/share/ovmf/PkKek-1-snakeoil
    openssl pkey -in $test_key.key -passin pass:snakeoil -out owner.key
    cp $test_key.pem owner.crt
    openssl x509 -in owner.crt -outform DER -out owner.der
    openssl req -x509 -newkey rsa:2048 -noenc -keyout unknown.key -out unknown.crt -days 3650 -subj /CN=unknown-test-key
    printf 'subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid,issuer\n' >extensions
    leaf() {
        openssl req -new -newkey $2 -noenc -keyout $1.key -out $1.csr -subj /CN=$1-test-key
        openssl x509 -req -in $1.csr -CA owner.crt -CAkey owner.key -set_serial $4 -days $3 -extfile extensions -out $1.crt
    }
    leaf ecdsa 'ec -pkeyopt ec_paramgen_curve:P-256' 3650 2
    leaf expired rsa:2048 -1 3
    # These have a signingTime.
    sbsign --key unknown.key --cert unknown.crt --output unknown wrapped
    sbsign --key expired.key --cert expired.crt --output expired wrapped
    sbsign --key owner.key --cert owner.crt --output tampered wrapped
    printf x | dd of=tampered bs=1 seek=5000000 conv=notrunc
";

/// What is loaded first, and stays loaded. Of the initial RAM disk the beginning is enough, and summed up sooner.
const GOOD: &str = "
    INITRD=/tmp/initrd
    head -c 100000 /boot/initrd >$INITRD
    mount -t securityfs securityfs /sys/kernel/security
    section lockdown cat /sys/kernel/security/lockdown
    section keys cat /proc/keys
    load() { lastwords load $1 --initrd $INITRD --append \"$APPEND\" --no-symbols $2; }
    section given load /boot/vmlinuz \"--sign-key /boot/owner.key --sign-cert /boot/owner.crt\"
    section as-it-is load /boot/ours
    section ecdsa load /boot/vmlinuz \"--sign-key /boot/ecdsa.key --sign-cert /boot/ecdsa.crt\"
";

/// Each is refused, by us and by the kernel, and what was loaded still is.
const BAD: &str = "
    bad() {
        section bad-$1 load /boot/$1
        section armed-$1 grep 1 /sys/kernel/kexec_crash_loaded
        section kernel-$1 kexec -s -l /boot/$1 --append=x
    }
    bad wrapped
    bad unknown
    bad expired
    bad tampered
    section bad-stock load /boot/vmlinuz
";

/// A key in the place where Ubuntu has it. The last one counts.
const FOUND: &str = "
    mkdir -p /var/lib/shim-signed/mok
    cp /boot/owner.key /var/lib/shim-signed/mok/MOK.priv
    cp /boot/owner.der /var/lib/shim-signed/mok/MOK.der
    INITRD=/boot/initrd
    section found load /boot/vmlinuz \"$OPTIONS\"
";

fn secure_boot(release: Release) -> Result<()> {
    packages::install()?;
    let folder = tempfile::tempdir()?;
    let kernel = Kernel::get(release)?;
    let path = |name: &str| folder.path().join(name);
    lastwords::wrap(&kernel.image, &path("wrapped"), &Asked::ALL.options())?;
    process::output(Command::new("sh").args(["-c", MAKE]).current_dir(&folder))?;
    let sign = format!("--sign-key {0}/owner.key --sign-cert {0}/owner.crt", folder.path().display());
    lastwords::wrap(&kernel.image, &path("ours"), &format!("{} {sign}", Asked::ALL.options()))?;
    process::output(Command::new("sbverify").arg("--cert").args([path("owner.crt"), path("ours")]))?;

    let mut scenario = Scenario::new(release)
        .firmware(Firmware::SecureBoot)
        .boots_here()
        .bmc(Bmc::Simulator)
        .arm(Arm::Not)
        .lastwords_at_hand()
        // A dozen loads, and no snapshot.
        .limit(Duration::from_secs(900));
    for name in [
        "owner.key",
        "owner.crt",
        "owner.der",
        "ecdsa.key",
        "ecdsa.crt",
        "ours",
        "wrapped",
        "unknown",
        "expired",
        "tampered",
    ] {
        scenario = scenario.file(name, fs::read(path(name))?);
    }
    let append = "console=ttyS0 quiet nr_cpus=1 reset_devices mitigations=off no_timer_check tsc=reliable";
    let set = format!("APPEND='{append}'; OPTIONS='{}'", Asked::ALL.options());
    let outcome = scenario.death(&format!("{set}\n{GOOD}{BAD}{FOUND}\npanic_on 0")).run()?;

    ensure!(outcome.text("lockdown")?.contains("[integrity]"));
    ensure!(
        outcome.text("given")?.contains("signed with the key that is given"),
        "{}",
        outcome.text("given")?
    );
    ensure!(outcome.text("as-it-is")?.contains("loaded: /boot/ours"));
    let ecdsa = outcome.section("ecdsa")?;
    if release == Release::V6_1 {
        ensure!(ecdsa.status == 1 && ecdsa.text.contains("warning: Linux 6.1"), "{ecdsa:?}");
        ensure!(ecdsa.text.contains("cannot check this kind of signature"), "{ecdsa:?}");
    } else {
        ensure!(ecdsa.status == 0 && !ecdsa.text.contains("warning: Linux"), "{ecdsa:?}");
    }
    for (case, ours, kernels) in [
        ("wrapped", "demands a signature, and there is none", "No data available"),
        (
            "unknown",
            "does not trust the key of the signature: unknown-test-key",
            "Required key not available",
        ),
        ("expired", "when its certificate was not valid: expired-test-key", "Key was rejected by service"),
        ("tampered", "was changed after it was signed", "Key was rejected by service"),
    ] {
        let refused = outcome.section(&format!("bad-{case}"))?;
        ensure!(refused.status == 1 && refused.text.contains(ours), "{case}: {refused:?}");
        // Before the system call: the kernel was not asked.
        ensure!(!refused.text.contains("not loaded"), "{case}: {refused:?}");
        outcome.text(&format!("armed-{case}"))?;
        let kernel = outcome.section(&format!("kernel-{case}"))?;
        ensure!(kernel.status != 0 && kernel.text.contains(kernels), "{case}: {kernel:?}");
    }
    let stock = outcome.section("bad-stock")?;
    ensure!(stock.status == 1 && stock.text.contains("does not cover what is put into it"), "{stock:?}");
    ensure!(
        outcome.text("found")?.contains("signed with a key of this machine"),
        "{}",
        outcome.text("found")?
    );
    dump::check(&outcome, 2)?;
    Asked::ALL.check_console(&outcome, 0)?;
    Asked::ALL.check_bmc(&outcome, 0, true)
}

#[test]
fn linux_6_1_accepts_what_is_signed_and_the_rest_is_refused_before() -> Result<()> {
    secure_boot(Release::V6_1)
}

#[test]
#[ignore = "make test-all: the same with Linux 6.1 is in make test"]
fn linux_6_12_accepts_what_is_signed_and_the_rest_is_refused_before() -> Result<()> {
    secure_boot(Release::V6_12)
}
