//! `lastwords load` in a running kernel, given what cannot be loaded: a clear word, and what was armed stays armed.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::dump;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::obedient;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};

/// Was it refused as a failure (not as wrong usage), with these words?
fn refused(outcome: &Outcome, section: &str, words: &[&str]) -> Result<()> {
    let refused = outcome.section(section)?;
    ensure!(refused.status == 1, "{section}: status {}: {}", refused.status, refused.text);
    for word in words {
        ensure!(refused.text.contains(word), "{section} does not say {word:?}: {}", refused.text);
    }
    Ok(())
}

/// Each refusal, with something armed; and that it is still armed after it.
const REFUSALS: &str = "
    still_armed() { section $1-armed grep 1 /sys/kernel/kexec_crash_loaded; }
    load() { lastwords load \"$@\" --append console=ttyS0; }
    head -c 3000000 /boot/vmlinuz >/tmp/truncated
    section truncated load /tmp/truncated --initrd /boot/initrd; still_armed truncated
    section text load /init --initrd /boot/initrd; still_armed text
    section no-initrd load /boot/vmlinuz --initrd /boot/none; still_armed no-initrd
    section no-kernel load /boot/none --initrd /boot/initrd; still_armed no-kernel
    section long lastwords load /boot/vmlinuz --initrd /boot/initrd --append \"$(head -c 4000 /dev/zero | tr '\\0' x)\"
    still_armed long
    mkdir -p /etc
    echo nobody:x:65534:65534::/:/bin/sh >/etc/passwd
    section nobody su nobody -c '/bin/lastwords load /boot/vmlinuz --initrd /boot/initrd --append console=ttyS0'
    still_armed nobody
    section status lastwords status
";

#[test]
fn what_was_armed_stays_armed_and_boots() -> Result<()> {
    let outcome = Scenario::new(Release::V6_1)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Lastwords(Asked::ALL.options()))
        .death(&format!("{REFUSALS}\npanic_on 0"))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    refused(&outcome, "truncated", &["/tmp/truncated", "truncated"])?;
    refused(&outcome, "text", &["/init"])?;
    refused(&outcome, "no-initrd", &["/boot/none", "no such file"])?;
    refused(&outcome, "no-kernel", &["/boot/none", "no such file"])?;
    refused(&outcome, "long", &["command line"])?;
    refused(&outcome, "nobody", &["run it as root"])?;
    for case in ["truncated", "text", "no-initrd", "no-kernel", "long", "nobody"] {
        outcome.text(&format!("{case}-armed"))?;
    }
    let status = outcome.text("status")?;
    for line in [
        "READY: the next panic will be reported and dumped",
        "/boot/vmlinuz, loaded ",
        "panic reason and CPU locations, to SEL and ttyS0",
        "256 MiB reserved",
        "Lockdown     none",
        "0xca2,0xca3",
    ] {
        ensure!(status.contains(line), "status does not show {line:?}: {status}");
    }
    dump::check(&outcome, 2)?;
    Asked::ALL.check_console(&outcome, 0)?;
    Asked::ALL.check_requests(&outcome, 0)
}

/// The machine is locked down when something is armed already: it stays armed, and says its words.
#[test]
fn lockdown_wants_a_signed_kernel() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Lastwords(Asked::ALL.options()))
        .death(
            "mount -t securityfs securityfs /sys/kernel/security
             echo integrity >/sys/kernel/security/lockdown
             section locked lastwords load /boot/vmlinuz --initrd /boot/initrd --append console=ttyS0
             section armed grep 1 /sys/kernel/kexec_crash_loaded
             section status lastwords status
             panic_on 0",
        )
        .dump("collect_vmcore")
        .run()?;
    refused(&outcome, "locked", &["locked down (integrity", "demands a signature", "--sign-key"])?;
    outcome.text("armed")?;
    let status = outcome.text("status")?;
    ensure!(status.contains("Lockdown     integrity"), "status says {status}");
    Asked::ALL.check_console(&outcome, 0)?;
    Asked::ALL.check_requests(&outcome, 0)
}

#[test]
fn without_reserved_memory_nothing_can_be_armed() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .first_append("")
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(
            "section load lastwords load /boot/vmlinuz --initrd /boot/initrd --append console=ttyS0
             section status lastwords status
             section unload lastwords unload",
        )
        .run()?;
    refused(&outcome, "load", &["no memory is reserved", "crashkernel="])?;
    let status = outcome.section("status")?;
    ensure!(status.status == 3, "status {}: {}", status.status, status.text);
    for line in ["NOT READY", "! Dump kernel  none loaded", "! Memory       none reserved"] {
        ensure!(status.text.contains(line), "status does not show {line:?}: {}", status.text);
    }
    ensure!(outcome.text("unload")?.contains("nothing is loaded"));
    Ok(())
}

#[test]
fn unloaded_is_no_longer_armed() -> Result<()> {
    let outcome = Scenario::new(Release::V6_1)
        .arm(Arm::Lastwords(Asked::ALL.options()))
        .death(
            "section before cat /sys/kernel/kexec_crash_loaded
             section ours lastwords status
             section other kexec -c -p /boot/vmlinuz --initrd=/boot/initrd --append=console=ttyS0
             section others lastwords status
             section unload lastwords unload
             section after cat /sys/kernel/kexec_crash_loaded
             section none lastwords status",
        )
        .run()?;
    ensure!(outcome.text("before")?.trim() == "1");
    ensure!(outcome.text("ours")?.contains("/boot/vmlinuz, loaded "), "{}", outcome.text("ours")?);
    // What another program has loaded over it is not taken for ours.
    outcome.text("other")?;
    let others = outcome.section("others")?;
    ensure!(others.status == 3 && others.text.contains("none: plain kdump is loaded"), "{}", others.text);
    ensure!(outcome.section("none")?.status == 3, "{}", outcome.section("none")?.text);
    outcome.text("unload")?;
    ensure!(outcome.text("after")?.trim() == "0");
    Ok(())
}
