//! By the name `kexec`, and with command lines as distributions have them: what the stock kexec loads is loaded, with panic
//! reports; and the reports get to consoles that are not called ttyS0.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::{console, dump};
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::obedient;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};
use std::time::Duration;

/// Calls as the scripts of distributions make them, or as people write them: the arguments, and whether they are ours.
const CALLS: [(&str, bool); 16] = [
    ("-p K --initrd=I --command-line=Q", true),
    ("-s -d -s -p --command-line=Q --initrd=I K", true),
    ("-c -p --append=1 --append=Q --initrd=/none --ramdisk=I K", true),
    ("-p K --append=Q --initrd=I --noefi -a", true),
    ("--load-pan --app=Q --init=I --kexec-file K", true),
    ("-l -p --append=Q --initrd=I K", true),
    ("-f -x -p --append=Q --initrd=I K", true),
    ("-i -y -x -p --append=Q --initrd=I K", true),
    ("-p --no-checks --elf32-core-headers --append=Q --initrd=I K", true),
    ("-p -t bzImage64 --append=Q --initrd=I K more", true),
    ("-p --mem-min=0 --serial-baud=9600 --append=Q --initrd=I K", true),
    ("-p -c --reset-vga --append=Q --initrd=I K", false),
    ("-p --entry-32bit --append=Q --initrd=I K", false),
    ("-p --no-such-option --append=Q --initrd=I K", false),
    ("-p --append=Q --initrd=/none K", false),
    ("-p -S", false),
];

/// Each call by the stock kexec and by us: exit status, and whether a dump kernel is loaded then. It is loaded with the
/// beginning of an initial RAM disk, which is summed up sooner.
const COMPARED: &str = r#"
    ln -s /bin/lastwords /tmp/kexec
    stock=$(command -v kexec)
    initrd=/tmp/initrd
    head -c 100000 /boot/initrd >$initrd
    try() {
        _kexec=$1; shift
        $stock -p -u >/dev/null 2>&1
        _line=$(echo " $1" | sed "s, K\\b, /boot/vmlinuz,; s,=I\\b,=$initrd,; s,=Q\\b,=console=ttyS0,")
        LASTWORDS_KEXEC=$stock $_kexec $_line $2 >/tmp/printed 2>&1
        echo "exit $?, loaded $(cat /sys/kernel/kexec_crash_loaded)"
    }
    compare() {
        try $stock "$1" >/tmp/theirs
        try /tmp/kexec "$1" --no-symbols >/tmp/ours
        cat /tmp/theirs; cat /tmp/ours
        lastwords status --color never | grep 'Dump kernel'
        cat /tmp/printed
    }
"#;

#[test]
fn by_the_name_kexec_the_same_is_loaded_as_by_the_stock_kexec() -> Result<()> {
    let calls = CALLS.iter().enumerate();
    let calls: Vec<_> =
        calls.map(|(number, (call, _))| format!("section call-{number} compare '{call}'\n")).collect();
    let last = "kexec -p -u\ninitrd=/boot/initrd\nsection last try /tmp/kexec '-p K --initrd=I --command-line=console=uart8250,io,0x3f8' \
               '--output-cpu-ip=console --no-symbols'\npanic_on 0";
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Not)
        .lastwords_at_hand()
        // Three dozen loads.
        .limit(Duration::from_secs(900))
        .death(&format!("{COMPARED}{}{last}", calls.concat()))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    for (number, (call, is_ours)) in CALLS.iter().enumerate() {
        let text = outcome.text(&format!("call-{number}"))?;
        let mut lines = text.lines();
        let (theirs, ours) = lines.next().zip(lines.next()).context("two results")?;
        ensure!(theirs == ours, "{call}: {text}");
        let by_us = text.contains("/boot/vmlinuz, loaded");
        ensure!(by_us == *is_ours, "{call}: {text}");
        let is_warned = text.contains("calling the real kexec instead");
        ensure!(is_warned != *is_ours || call.contains("-S"), "{call}: {text}");
    }
    console::check(&outcome, 0)?;
    dump::check(&outcome, 2)
}

/// A line of 2,000 bytes, which both system calls of the stock kexec take. No word of it is init's.
const LONG: &str = "
    line=\"console=ttyS0 nr_cpus=1 quiet no_timer_check pad.x=\"
    while [ ${#line} -lt 2000 ]; do line=${line}x; done
    section stock kexec -s -p /boot/vmlinuz --initrd=/boot/initrd --append=\"$line\"
    section stock-c kexec -c -p /boot/vmlinuz --initrd=/boot/initrd --append=\"$line\"
    load() { lastwords load /boot/vmlinuz --initrd /boot/initrd --append \"$line\" --no-symbols \"$@\"; }
";

fn with_a_long_line(via: &str) -> Result<()> {
    let load = format!("section ours load --via {via} {}", Asked::ALL.options());
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(&format!("{LONG}\n{load}\nsection status lastwords status\npanic_on 1"))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    outcome.text("stock")?;
    outcome.text("stock-c")?;
    let ours = outcome.text("ours")?;
    ensure!(ours.contains("embedded in the image") && !ours.contains("left out"), "{ours}");
    ensure!(outcome.text("status")?.contains("the next panic will be reported and dumped"));
    let line = outcome.text("cmdline")?;
    ensure!(line.contains("pad.x=xxx") && !line.contains("lastwords."), "{line}");
    Asked::ALL.check_console(&outcome, 1)?;
    Asked::ALL.check_requests(&outcome, 1)?;
    dump::check(&outcome, 2)
}

#[test]
#[ignore = "make test-all: the wrapped one is in make test"]
fn a_line_without_room_for_parameters_is_loaded_and_reported_as_the_purgatory() -> Result<()> {
    with_a_long_line("purgatory")
}

#[test]
fn a_line_without_room_for_parameters_is_loaded_and_reported_wrapped() -> Result<()> {
    with_a_long_line("wrap")
}

/// The dump kernel prints to the UART only at first, and to a console that the image cannot write to.
#[test]
fn what_the_dump_kernel_prints_to_for_a_moment_gets_the_report() -> Result<()> {
    let line = "console=hvc0 earlyprintk=serial,ttyS0,115200 nr_cpus=1 no_timer_check";
    let load = |line: &str| {
        format!(
            "lastwords load /boot/vmlinuz --initrd /boot/initrd --append '{line}' --no-symbols {}",
            Asked::ALL.options()
        )
    };
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(&format!(
            "section silent {}\nsection silent-status lastwords status --color never\nsection load {}\npanic_on 1",
            load("console=hvc0"),
            load(line)
        ))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    let silent = outcome.text("silent")?;
    ensure!(silent.contains("not be reported to a console: console=hvc0 is neither"), "{silent}");
    let status = outcome.text("silent-status")?;
    ensure!(status.contains("none: console=hvc0 is no UART (--serial)"), "{status}");
    ensure!(!outcome.text("load")?.contains("not be reported to a console"));
    Asked::ALL.check_console(&outcome, 1)?;
    Asked::ALL.check_requests(&outcome, 1)?;
    dump::check(&outcome, 2)
}

/// A unified kernel image: a PE header with the section table, the sections behind its first 4096 bytes. What was in the
/// initial RAM disk's place is gone.
const UKI: &str = "
    le() { for shift in 0 8 16 24; do printf \"\\\\$(printf %o $((($1 >> shift) & 255)))\"; done; }
    zeros() { head -c $1 /dev/zero; }
    entry() { printf \"$1\"; zeros $((8 - ${#1})); le $2; le $3; le $2; le $3; zeros 16; }
    kernel=$(stat -c %s /boot/vmlinuz) initrd=$(stat -c %s /boot/initrd)
    {
        printf MZ; zeros 58; le 64; printf 'PE\\0\\0\\144\\206\\003\\0'; zeros 16
        entry .cmdline 5 4096; entry .linux $kernel 4101; entry .initrd $initrd $((4101 + kernel))
    } >/tmp/head
    { cat /tmp/head; zeros $((4096 - $(stat -c %s /tmp/head))); printf quiet; cat /boot/vmlinuz /boot/initrd; } >/tmp/uki
    rm /boot/initrd
    load() { lastwords load /tmp/uki --append console=ttyS0 --no-symbols --output-cpu-ip=console $@; }
";

fn of_a_uki(via: &str) -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::None)
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(&format!("{UKI}\nsection load load --via {via}\npanic_on 0"))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    let load = outcome.text("load")?;
    let used = "/tmp/uki is a unified kernel image (UKI): its kernel and initial RAM disk are used, its command line is not";
    ensure!(load.contains(used), "{load}");
    console::check(&outcome, 0)?;
    dump::check(&outcome, 2)
}

#[test]
fn kernel_and_initial_ram_disk_of_a_uki_are_loaded_as_the_purgatory() -> Result<()> {
    of_a_uki("purgatory")
}

#[test]
#[ignore = "make test-all: as the purgatory it is in make test"]
fn kernel_and_initial_ram_disk_of_a_uki_are_loaded_wrapped() -> Result<()> {
    of_a_uki("wrap")
}
