//! `lastwords status` shows what is loaded, whoever has loaded it: the stock kexec with either system call, a plain kernel, a
//! wrapped one, one of another release, and `lastwords load`. The bench knows what it has loaded each time.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};
use serde_json::{Value, json};

/// `other` is the same kernel, but for a letter of its release and of its packed part. Of the initial RAM disk the beginning
/// is enough, and summed up sooner.
const LOADS: &str = r#"
    kernel=/boot/vmlinuz release=$(uname -r)
    at=$(($(od -An -tu2 -j 526 -N 2 $kernel) + 512))
    head -c 100000 /boot/initrd >/tmp/initrd; mv /tmp/initrd /boot/initrd
    cp $kernel /boot/vmlinuz-other
    printf 9 | dd of=/boot/vmlinuz-other bs=1 seek=$at conv=notrunc 2>/dev/null
    printf X | dd of=/boot/vmlinuz-other bs=1 seek=4000000 conv=notrunc 2>/dev/null
    lastwords wrap $kernel -o /tmp/wrapped --ipmi-handle-panic --budget 7
    mkdir -p /var/lib/kdump/lastwords
    cp /tmp/wrapped /var/lib/kdump/lastwords/vmlinuz-$release
    rm /tmp/wrapped
    wrapped=/var/lib/kdump/lastwords/vmlinuz-$release
    stock() { kexec $1 -p $2 --initrd=/boot/initrd --append="console=ttyS0 lastwords.budget=8"; }
    ours() { lastwords load $kernel --initrd /boot/initrd --append console=ttyS0 --output-cpu-ip --no-symbols --via $1; }
    status() { _load=$1; shift; section load-$_load "$@"; section $_load lastwords status --json; }
    section release uname -r
    status plain-c stock -c $kernel
    status plain-s stock -s $kernel
    status other-c stock -c /boot/vmlinuz-other
    status other-s stock -s /boot/vmlinuz-other
    status wrapped-c stock -c $wrapped
    status wrapped-s stock -s $wrapped
    status purgatory ours purgatory
    status wrap ours wrap
    stock -s $wrapped; rm $wrapped
    section removed lastwords status --json
    stock -c /boot/vmlinuz-other; rm /boot/vmlinuz-other
    section gone lastwords status --json
    mkdir -p /etc; echo nobody:x:65534:65534::/:/bin/sh >/etc/passwd
    section nobody su nobody -c '/bin/lastwords status --json'
    lastwords unload
    section none lastwords status --json
"#;

/// What is expected of a status: exit status, and fields of its JSON.
fn check(outcome: &Outcome, name: &str, exit: i32, expected: &Value) -> Result<()> {
    let section = outcome.section(name)?;
    ensure!(section.status == exit, "{name}: exit status {}: {}", section.status, section.text);
    let found: Value = serde_json::from_str(&section.text).with_context(|| section.text.clone())?;
    for (key, value) in expected.as_object().context("an object")? {
        ensure!(found[key] == *value, "{name}: {key} is {}, not {value}", found[key]);
    }
    Ok(())
}

/// The wrapped kernel's, with this machine's BMC, and that of the command line.
const PARAMETERS: &str = "lastwords.ipmi_handle_panic lastwords.budget=7 lastwords.ipmi_kcs_ports=0xca2,0xca3 \
                          lastwords.budget=8";

fn told_apart(kernel: Release) -> Result<()> {
    let outcome = Scenario::new(kernel).arm(Arm::Not).lastwords_at_hand().death(LOADS).run()?;
    println!("{outcome}");
    let release = outcome.text("release")?.trim().to_owned();
    let other = format!("9{}", &release[1..]);
    let wrapped = format!("/var/lib/kdump/lastwords/vmlinuz-{release}");
    for name in ["plain-c", "plain-s", "other-c", "other-s", "wrapped-c", "wrapped-s", "purgatory", "wrap"] {
        outcome.text(&format!("load-{name}"))?;
    }
    for (call, system_call) in [("c", "kexec_load"), ("s", "kexec_file_load")] {
        let common = |more: Value| {
            let mut all = json!({ "system_call": system_call, "initrd": "/boot/initrd", "loaded_at": null });
            all.as_object_mut()
                .into_iter()
                .for_each(|all| all.extend(more.as_object().cloned().unwrap_or_default()));
            all
        };
        let plain = json!({
            "loaded_as": "plain", "kernel": "/boot/vmlinuz", "kernel_release": release, "is_running_kernel": true,
            "parameters": null, "reports": [], "ready": false,
        });
        check(&outcome, &format!("plain-{call}"), 3, &common(plain))?;
        let stranger = json!({
            "loaded_as": "plain", "kernel": "/boot/vmlinuz-other", "kernel_release": other, "is_running_kernel": false,
        });
        check(&outcome, &format!("other-{call}"), 3, &common(stranger))?;
        let reporting = json!({
            "loaded_as": "wrapped", "kernel": wrapped, "kernel_release": release, "is_running_kernel": true,
            "parameters": PARAMETERS, "ready": true,
            "reports": ["panic reason, to SEL and ttyS0"],
        });
        check(&outcome, &format!("wrapped-{call}"), 0, &common(reporting))?;
    }
    let ours = json!({ "kernel": "/boot/vmlinuz", "kernel_release": release, "ready": true });
    for (name, system_call) in [("purgatory", "kexec_load"), ("wrap", "kexec_file_load")] {
        check(&outcome, name, 0, &ours)?;
        check(&outcome, name, 0, &json!({ "method": name, "system_call": system_call }))?;
        let found: Value = serde_json::from_str(outcome.text(name)?)?;
        ensure!(found["loaded_at"].is_i64(), "{name}: {}", found["loaded_at"]);
    }
    // The wrapped file is gone, but not the kernel that was wrapped; and nothing is left of the other one.
    let removed = json!({ "loaded_as": "wrapped", "kernel": "/boot/vmlinuz", "is_running_kernel": true });
    check(&outcome, "removed", 0, &removed)?;
    check(&outcome, "gone", 3, &json!({ "loaded_as": "plain", "kernel": null, "is_running_kernel": null }))?;
    check(&outcome, "nobody", 3, &json!({ "loaded": true, "loaded_as": null, "ready": null }))?;
    check(&outcome, "none", 3, &json!({ "loaded": false, "loaded_as": null, "ready": false }))
}

#[test]
#[ignore = "make test-all: Linux 6.12 is in make test"]
fn what_anybody_has_loaded_is_told_apart_on_6_1() -> Result<()> {
    told_apart(Release::V6_1)
}

#[test]
fn what_anybody_has_loaded_is_told_apart_on_6_12() -> Result<()> {
    told_apart(Release::V6_12)
}
