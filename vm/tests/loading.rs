//! `lastwords load` in a running kernel, in company and in need: others that load at the same time, too little memory, its
//! own process killed, files that are none. A dump kernel is loaded in the end, or the earlier one still is.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::dump;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::obedient;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};
use std::time::Duration;

/// In each turn two of us load, and so does the stock kexec, which does not wait for anybody. Then the one that counts, with the
/// whole initial RAM disk.
const TOGETHER: &str = "
    initrd=/tmp/initrd
    head -c 100000 /boot/initrd >$initrd
    load() { lastwords load /boot/vmlinuz --initrd $initrd --append console=ttyS0 --no-symbols $@; }
    turns() {
        for turn in 1 2 3 4; do
            kexec -s -p /boot/vmlinuz --initrd=$initrd --append=console=ttyS0 >/dev/null 2>&1 &
            load --via purgatory >/dev/null || echo failed purgatory &
            load --via wrap >/dev/null || echo failed wrap &
            until cat /sys/kernel/kexec_crash_size >/dev/null 2>&1; do :; done
            lastwords status -q; [ $? != 1 ] || echo failed status
            wait
        done
    }
    section together turns 2>&1
    section armed grep 1 /sys/kernel/kexec_crash_loaded
    section not-for-reboot grep 0 /sys/kernel/kexec_loaded
";

#[test]
fn loads_at_the_same_time_wait_for_each_other() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .arm(Arm::Not)
        .lastwords_at_hand()
        // A dozen loads, three at a time.
        .limit(Duration::from_secs(900))
        .death(&format!("{TOGETHER}\ninitrd=/boot/initrd; load --serial ttyS0\npanic_on 0"))
        .dump("collect_vmcore")
        .run()?;
    let together = outcome.text("together")?;
    ensure!(!together.contains("failed"), "{together}");
    outcome.text("armed")?;
    outcome.text("not-for-reboot")?;
    ensure!(outcome.dumped());
    Ok(())
}

/// Each of them with a dump kernel loaded, which still is in the end.
const OBSTACLES: &str = "
    still_armed() { section $1-armed lastwords status --color never; }
    load() { lastwords load /boot/vmlinuz --initrd /boot/initrd --append console=ttyS0 --no-symbols $@; }
    mkfifo /tmp/fifo
    section fifo lastwords load /boot/vmlinuz --initrd /tmp/fifo --append console=ttyS0; still_armed fifo
    section zero lastwords load /dev/zero --append console=ttyS0; still_armed zero
    truncate -s 1024G /tmp/huge
    section huge lastwords load /boot/vmlinuz --initrd /tmp/huge --append console=ttyS0; still_armed huge
    section ioports cat /proc/ioports
    section port load --output-cpu-ip --serial 0x604; still_armed port
    section own-port load --output-cpu-ip --serial ttyS0
    mount -t tmpfs tmpfs /sys/class
    mkdir -p /sys/class/watchdog/watchdog0
    cd /sys/class/watchdog/watchdog0; echo active >state; echo 30 >timeout; echo 9 >pretimeout; echo hpwdt >identity; cd /
    section watchdog load --ipmi-handle-panic -v
    umount /sys/class
";

#[test]
fn what_cannot_be_loaded_leaves_what_is_loaded() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Lastwords(Asked::ALL.options()))
        .death(&format!("{OBSTACLES}\npanic_on 0"))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    for (case, what) in [
        ("fifo", "/tmp/fifo: not a regular file"),
        ("zero", "/dev/zero: not a regular file"),
        ("huge", "too many"),
        ("port", "I/O port 0x604 belongs to ACPI"),
    ] {
        let refused = outcome.section(case)?;
        ensure!(refused.status == 1 && refused.text.contains(what), "{case}: {refused:?}");
        let armed = outcome.text(&format!("{case}-armed"))?;
        ensure!(armed.starts_with("READY: the next panic will be reported and dumped"), "{case}: {armed}");
    }
    outcome.text("own-port")?;
    let watchdog = outcome.text("watchdog")?;
    for part in ["total time limit is 5 s: watchdog0 (hpwdt)", "lastwords.budget=5"] {
        ensure!(watchdog.contains(part), "{part}: {watchdog}");
    }
    ensure!(outcome.text("cmdline")?.contains("lastwords.budget=5"));
    dump::check(&outcome, 2)
}

/// An initial RAM disk of 200 MB, and the second load of it, where 300 MB can be had: enough to load it, too little to try
/// it as well. Zeros behind an archive are none of its files.
const NARROW: &str = "
    dd if=/dev/zero bs=1M count=200 >>/boot/initrd 2>/dev/null
    available=$(sed -n 's/^MemAvailable: *//p' /proc/meminfo)
    dd if=/dev/zero of=/tmp/others bs=1M count=$((${available% kB} / 1024 - 300)) 2>/dev/null
    load() { lastwords load /boot/vmlinuz --initrd /boot/initrd --append console=ttyS0 --no-symbols -v $@; }
    section first load
    section second load
    section wrapped load --via wrap
    section killer sh -c '! dmesg | grep -i \"out of memory\\|oom-kill\"'
    section armed grep 1 /sys/kernel/kexec_crash_loaded
    section not-for-reboot grep 0 /sys/kernel/kexec_loaded
";

#[test]
fn where_memory_is_short_nothing_is_tried_and_nobody_is_killed() -> Result<()> {
    let outcome = Scenario::new(Release::V6_1)
        .memory(1200)
        .first_append("crashkernel=400M")
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(NARROW)
        .run()?;
    println!("{outcome}");
    for section in ["second", "wrapped"] {
        let text = outcome.text(section)?;
        ensure!(text.contains("trial in ordinary memory: skipped ("), "{section}: {text}");
        ensure!(text.contains("loaded: /boot/vmlinuz"), "{section}: {text}");
    }
    for section in ["first", "killer", "armed", "not-for-reboot"] {
        outcome.text(section)?;
    }
    Ok(())
}

/// The initial RAM disk is written anew in its place while a dump kernel is loaded in a loop, by both methods. At last the
/// lease that holds the writer off ends before its time, since the loading process stands still.
const REWRITTEN: &str = "
    cp /boot/initrd /boot/whole
    load() { lastwords load /boot/vmlinuz --initrd /boot/initrd --append console=ttyS0 --no-symbols $@; }
    rewrite() { until [ -e /tmp/stop ]; do cat /boot/whole >/boot/initrd; usleep 50000; done; }
    turns() {
        for turn in 1 2 3 4; do
            for method in wrap purgatory; do
                load --via $method --output-cpu-ip
                echo $method $?
                grep -q 1 /sys/kernel/kexec_crash_loaded || echo lost
            done
        done
    }
    stopped() {
        echo 1 >/proc/sys/fs/lease-break-time
        for tenths in 0 1 2 3 4 6 8; do
            load --via purgatory & usleep $((tenths * 100000))
            kill -STOP $!; cp /dev/null /boot/initrd; kill -CONT $!
            wait $!; echo ended $?
            cat /boot/whole >/boot/initrd
        done
        echo 45 >/proc/sys/fs/lease-break-time
    }
    section stopped stopped
    section complete load
    rewrite &
    section turns turns
    touch /tmp/stop; wait
";

#[test]
fn an_initial_ram_disk_that_is_rewritten_meanwhile_is_loaded_whole_and_nobody_dies_of_it() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(&format!("{REWRITTEN}\npanic_on 0"))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    let turns = outcome.text("turns")?;
    for method in ["purgatory 0", "wrap 0"] {
        ensure!(turns.matches(method).count() == 4, "{turns}");
    }
    ensure!(!turns.contains("lost"), "{turns}");
    // Loaded, or refused: the file is empty.
    let stopped = outcome.text("stopped")?;
    let ends: Vec<_> = stopped.lines().filter_map(|line| line.strip_prefix("ended ")).collect();
    ensure!(ends.len() == 7 && ends.iter().all(|status| ["0", "1"].contains(status)), "{stopped}");
    ensure!(ends.contains(&"1"), "{stopped}");
    outcome.text("complete")?;
    ensure!(!outcome.console.iter().any(|line| line.text.contains("corrupt")), "{outcome}");
    dump::check(&outcome, 2)
}

/// 20 MB of memory of its own, however large the initial RAM disk is: RLIMIT_DATA counts it, written to or not.
const LITTLE: &str = "
    load() { sh -c 'ulimit -d 20000; exec lastwords load /boot/vmlinuz --initrd /boot/initrd --append console=ttyS0 \"$@\"' sh $@; }
    for mib in 16 64 256; do
        truncate -s ${mib}M /boot/initrd
        rm -rf /var/lib/lastwords
        section first-$mib load --via purgatory
        section again-$mib load --via purgatory
        section wrap-$mib load --via wrap
        section symbols-$mib ls /var/lib/lastwords
    done
    section armed grep 1 /sys/kernel/kexec_crash_loaded
";

#[test]
fn loading_takes_no_more_than_20_mb_of_memory_of_its_own_at_any_size() -> Result<()> {
    let outcome = Scenario::new(Release::V6_1)
        .memory(3000)
        .first_append("crashkernel=640M")
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(LITTLE)
        .run()?;
    println!("{outcome}");
    for mib in [16, 64, 256] {
        for how in ["first", "again", "wrap"] {
            let loaded = outcome.text(&format!("{how}-{mib}"))?;
            ensure!(loaded.contains("loaded: /boot/vmlinuz") && !loaded.contains("not saved"), "{loaded}");
        }
        ensure!(outcome.text(&format!("symbols-{mib}"))?.lines().count() == 2);
    }
    outcome.text("armed")?;
    Ok(())
}

/// Our process has too little memory for the initial RAM disk, and is aborted; the real kexec has enough.
const ABORTED: &str = "
    dd if=/dev/zero bs=1M count=100 >>/boot/initrd 2>/dev/null
    ln -s /bin/lastwords /tmp/kexec
    printf '#!/bin/sh\\nulimit -v unlimited\\nexec kexec \"$@\"\\n' >/tmp/real
    chmod +x /tmp/real
    section call sh -c '
        ulimit -S -v 80000
        LASTWORDS_KEXEC=/tmp/real exec /tmp/kexec -p /boot/vmlinuz --initrd=/boot/initrd --append=console=ttyS0'
    section armed grep 1 /sys/kernel/kexec_crash_loaded
    section status lastwords status
";

#[test]
fn by_the_name_kexec_a_dump_kernel_is_loaded_though_our_process_is_killed() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(&format!("{ABORTED}\npanic_on 0"))
        .dump("collect_vmcore")
        .run()?;
    println!("{outcome}");
    let call = outcome.text("call")?;
    ensure!(call.contains("calling the real kexec instead: lastwords was ended by signal"), "{call}");
    outcome.text("armed")?;
    ensure!(outcome.section("status")?.text.contains("plain kdump (kexec_"));
    ensure!(outcome.dumped());
    Ok(())
}

/// The device that the kernel of an SEV-SNP guest makes is there. The dump kernel is loaded as it is, without a word.
#[test]
fn in_a_confidential_guest_the_dump_kernel_starts_as_without_lastwords() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(obedient()))
        .before("touch /dev/sev-guest")
        .arm(Arm::Lastwords(Asked::ALL.options()))
        .death("section status lastwords status\npanic_on 1")
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    let loaded = outcome.text("arm")?;
    ensure!(loaded.contains("not reported: this is a confidential guest (SEV-SNP)"), "{loaded}");
    let status = outcome.section("status")?;
    ensure!(status.status == 3 && status.text.contains("dumped, but not reported"), "{status:?}");
    ensure!(!outcome.text("cmdline")?.contains("lastwords."), "{}", outcome.text("cmdline")?);
    dump::check(&outcome, 2)?;
    Asked::NOTHING.check_console(&outcome, 1)?;
    Asked::NOTHING.check_requests(&outcome, 1)
}
