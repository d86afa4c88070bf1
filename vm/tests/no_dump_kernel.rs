//! Without a dump kernel: a panic is reported, then the machine is reset, whatever happened on the way.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::console;
use lastwords_vm::judge::image::FIRST_WAY_OUT;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::segments::Segments;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::obedient;
use lastwords_vm::machine::bmc::recording::{Answer, Request};
use lastwords_vm::machine::gdb::{Debugger, Gdb};
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::machine::monitor::Monitor;
use lastwords_vm::machine::process;
use lastwords_vm::machine::qemu::Firmware;
use lastwords_vm::scenarios::inject::{Code, Event};
use lastwords_vm::scenarios::{Arm, Scenario};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

const OPTIONS: &str = "--ipmi-handle-panic --output-cpu-ip";
/// Seconds: the budget, and what may come behind it.
const LATEST: f64 = 15.0 + 2.0;

/// How the image is loaded.
#[derive(Clone, Copy)]
enum By {
    /// kexec_load(2).
    Load,
    /// kexec_file_load(2).
    FileLoad,
    /// As a file, by kexec-tools with this option.
    Stock(&'static str),
}

impl By {
    fn command(self, options: &str) -> String {
        let load =
            |via| format!("lastwords load --no-dump-kernel --no-symbols --verbose --via {via} {options}");
        match self {
            Self::Load => load("purgatory"),
            Self::FileLoad => load("wrap"),
            Self::Stock(option) => format!(
                "lastwords wrap --no-dump-kernel -o /tmp/alone {options} &&
                 kexec {option} -p /tmp/alone --command-line=console=ttyS0"
            ),
        }
    }
}

/// A machine with this much memory, 2 MiB of it reserved. It loads, tells what is loaded, and dies.
fn machine(release: Release, by: By, options: &str, death: &str) -> Scenario {
    let load = by.command(options);
    let script = format!(
        "section load sh -c '{load} >/tmp/load 2>&1; status=$?; cat /tmp/load; exit $status' ||
             {{ step not armed; poweroff -f; }}
         section status lastwords status --color never
         grep ^segment /tmp/load >/dev/console
         step the image is loaded
         sleep 1
         {death}"
    );
    let scenario = Scenario::new(release).first_append("crashkernel=2M").arm(Arm::Not);
    scenario.payload().lastwords_at_hand().death(&script)
}

/// What was in the way until the end, and that it was a reset.
struct Ended {
    outcome: Outcome,
    events: Vec<(String, Value)>,
}

impl Ended {
    fn is_reset(&self) -> Result<()> {
        let reset = |(name, data): &(String, Value)| name == "SHUTDOWN" && data["reason"] == "guest-reset";
        ensure!(self.events.iter().any(reset), "no reset: {:?}", self.events);
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        console::lines(&self.outcome).into_iter().map(str::to_owned).collect()
    }
}

/// Seconds from the image's entry to its last line, as its own clock has it.
fn took(lines: &[impl AsRef<str>]) -> Result<f64> {
    let last = lines.iter().find_map(|line| line.as_ref().strip_prefix("resetting the machine, "));
    let text = last.and_then(|text| text.strip_suffix(" s")).context("no last line")?;
    Ok(text.parse()?)
}

/// Runs it to the reset, at which QEMU ends. When it is loaded, `act` may do something to the machine.
fn run(scenario: Scenario, act: impl Fn(&mut Gdb, &mut Monitor, &Segments) -> Result<()>) -> Result<Ended> {
    let debugger = Debugger::new()?;
    let (mut segments, mut monitor) = (Segments::default(), None);
    let outcome = scenario.debugger(&debugger).watch(|vm, line| {
        segments.read(&line.text);
        if line.text.contains("the image is loaded") {
            let monitor = monitor.insert(vm.monitor()?);
            monitor.execute("set-action", &json!({ "panic": "none" }))?;
            let mut gdb = debugger.connect()?;
            act(&mut gdb, monitor, &segments)?;
            // The machine may be off by now: a machine check that the CPU does not take yet resets it at once.
            let _ = gdb.detach();
        }
        Ok(())
    })?;
    println!("{outcome}");
    let events = monitor.context("it was not loaded")?.to_the_end();
    Ok(Ended { outcome, events })
}

/// Panic, report, reset; and the next boot, which reads the report.
fn reported_and_read(release: Release, memory: u32, firmware: Firmware, by: By) -> Result<()> {
    let next = "section ipmi ipmi
        if ipmitool sel list | grep -q 'kernel panic'; then
            step the next boot is up
            section read lastwords read --color never
            section sel ipmitool sel elist
            section loaded cat /sys/kernel/kexec_crash_loaded
            poweroff -f
        fi";
    let scenario = machine(release, by, OPTIONS, "panic_on 0").memory(memory).firmware(firmware).before(next);
    let outcome = scenario.watch(|vm, line| {
        if line.text.contains("the image is loaded") {
            vm.monitor()?.execute("set-action", &json!({ "reboot": "reset" }))?;
        }
        Ok(())
    })?;
    println!("{outcome}");
    let status = outcome.text("status")?;
    let ready = "READY: the next panic will be reported, then the machine resets (no dump kernel)";
    ensure!(status.replace("\n  ", " ").starts_with(ready), "{status}");
    let lines = console::lines(&outcome);
    let seconds = took(&lines)?;
    ensure!(seconds <= LATEST, "{seconds} s");
    ensure!(outcome.when("the next boot is up").is_some(), "no next boot");
    let (read, sel) = (outcome.text("read")?, outcome.text("sel")?);
    ensure!(sel.contains("OS Critical Stop") && sel.contains("sysrq trigg"), "{sel}");
    ensure!(read.starts_with("PANIC") && read.contains("sysrq triggered crash"), "{read}");
    ensure!(read.contains("; no dump kernel\n") && !read.contains("Next"), "{read}");
    ensure!(read.contains("Records") && read.contains("none missing"), "{read}");
    ensure!(outcome.text("loaded")?.trim() == "0");
    Ok(())
}

#[test]
fn a_panic_is_reported_and_the_next_boot_reads_it() -> Result<()> {
    reported_and_read(Release::V6_12, 1024, Firmware::Bios, By::Load)
}

#[test]
fn the_stock_kexec_loads_the_file_under_uefi() -> Result<()> {
    reported_and_read(Release::V6_1, 1024, Firmware::Uefi, By::Stock("-s"))
}

/// Every exit leads to the instructions that reset the machine: from an image that somebody has written to, they are reached
/// without a word.
#[test]
fn a_damaged_image_resets() -> Result<()> {
    let ended = run(machine(Release::V6_12, By::Load, OPTIONS, "panic_on 0"), |gdb, _, segments| {
        gdb.damage(segments.get("image")?.start + 0x2000)
    })?;
    ensure!(ended.lines().is_empty(), "{:?}", ended.lines());
    ended.is_reset()
}

macro_rules! grid {
    ($($name:ident: $release:ident $memory:literal $firmware:ident $by:expr;)*) => {$(
        #[test]
        #[ignore = "make test-all: the grid; two of it are in make test"]
        fn $name() -> Result<()> {
            reported_and_read(Release::$release, $memory, Firmware::$firmware, $by)
        }
    )*};
}

grid! {
    old_1g_bios_load: V6_1 1024 Bios By::Load;
    old_1g_bios_file: V6_1 1024 Bios By::FileLoad;
    old_1g_uefi_load: V6_1 1024 Uefi By::Load;
    old_6g_bios_load: V6_1 6144 Bios By::Load;
    old_6g_bios_file: V6_1 6144 Bios By::FileLoad;
    old_6g_uefi_load: V6_1 6144 Uefi By::Load;
    old_6g_uefi_file: V6_1 6144 Uefi By::FileLoad;
    old_1g_bios_kexec_load: V6_1 1024 Bios By::Stock("-c");
    new_1g_bios_file: V6_12 1024 Bios By::FileLoad;
    new_1g_uefi_load: V6_12 1024 Uefi By::Load;
    new_1g_uefi_file: V6_12 1024 Uefi By::FileLoad;
    new_6g_bios_load: V6_12 6144 Bios By::Load;
    new_6g_bios_file: V6_12 6144 Bios By::FileLoad;
    new_6g_uefi_load: V6_12 6144 Uefi By::Load;
    new_6g_uefi_file: V6_12 6144 Uefi By::FileLoad;
    new_1g_bios_kexec_load: V6_12 1024 Bios By::Stock("-c");
    new_1g_bios_kexec_file: V6_12 1024 Bios By::Stock("-s");
}

/// A BMC that says nothing takes all of the budget, and no more than that.
#[test]
#[ignore = "make test-all: core/tests/sequence.rs has a_bmc_that_does_not_respond_delays_the_reset_by_no_more"]
fn a_mute_bmc_does_not_keep_the_machine_from_its_reset() -> Result<()> {
    for then in ["reset", "power-cycle", "power-off"] {
        let options = format!("{OPTIONS} --ipmi-interface kcs:0xca2 --then {then}");
        let scenario = machine(Release::V6_12, By::Load, &options, "panic_on 0");
        let ended = run(scenario.bmc(Bmc::Ours(Box::new(|_| Answer::Silence))), |_, _, _| Ok(()))?;
        ended.is_reset()?;
        let last = ended.lines().pop().context("no line")?;
        let seconds: f64 = last.rsplit(' ').nth(1).context("no time")?.parse()?;
        ensure!(seconds <= LATEST, "{then}: {last}");
    }
    Ok(())
}

/// What the BMC was asked of the machine's power.
fn chassis(requests: &[Request]) -> Vec<u8> {
    let control = requests.iter().filter(|request| (request.netfn, request.command) == (0, 2));
    control.filter_map(|request| request.data.first().copied()).collect()
}

#[test]
#[ignore = "make test-all: core/tests/sequence.rs has without_a_dump_kernel_the_bmc_switches_the_machine_off"]
fn the_bmc_is_asked_to_switch_the_machine_off_and_where_it_refuses_the_machine_resets() -> Result<()> {
    for (then, data, last) in
        [("power-cycle", 2, "power-cycling the machine"), ("power-off", 0, "powering the machine off")]
    {
        let options = format!("{OPTIONS} --then {then}");
        let scenario = machine(Release::V6_12, By::Load, &options, "panic_on 0");
        let ended = run(scenario.bmc(Bmc::Ours(obedient())), |_, _, _| Ok(()))?;
        ended.is_reset()?;
        ensure!(ended.lines().iter().any(|line| line.starts_with(last)), "{:?}", ended.lines());
        ensure!(chassis(&ended.outcome.requests()?) == [data]);
    }
    Ok(())
}

#[test]
#[ignore = "make test-all: core/tests/sequence.rs has a_machine_that_is_to_halt_is_not_touched_any_more"]
fn a_machine_that_is_to_halt_halts() -> Result<()> {
    let options = format!("{OPTIONS} --then halt");
    let outcome = machine(Release::V6_12, By::Load, &options, "panic_on 0").watch(|vm, line| {
        if line.text.contains("halting the machine") {
            std::thread::sleep(std::time::Duration::from_secs(10));
            let mut monitor = vm.monitor()?;
            let status = monitor.execute("query-status", &json!({}))?;
            ensure!(status["running"] == true, "it does not halt: {status}");
            monitor.execute("quit", &json!({}))?;
        }
        Ok(())
    })?;
    println!("{outcome}");
    let lines = console::lines(&outcome);
    ensure!(lines.last().is_some_and(|line| line.starts_with("halting the machine")), "{lines:?}");
    Ok(())
}

/// An NMI or a machine check at an instruction of the image: of its entry, of the report, and of the instructions that are there
/// for the case that all else fails.
fn hit_at(place: &str, event: Event) -> Result<Ended> {
    // Without an APIC nobody can mask an NMI.
    let scenario =
        machine(Release::V6_1, By::Load, OPTIONS, "panic_on 0").cpus(1).cpu("max,la57=off,erms=off,-apic");
    run(scenario, |gdb, monitor, segments| {
        let image = segments.get("image")?.start;
        if place == "the last instructions" {
            // Whatever leads there: here an image that somebody has written to.
            gdb.damage(image + 0x2000)?;
            gdb.go_to(segments.entry()?)?;
        } else {
            gdb.go_to(image + Code::get()?.symbol(place)?)?;
        }
        match event {
            Event::Nmi => monitor.nmi(),
            check => monitor.human(&check.machine_check()).map(drop),
        }
    })
}

#[test]
#[ignore = "make test-all: a_damaged_image_resets, by the same way out"]
fn nmis_and_machine_checks_end_in_the_reset() -> Result<()> {
    for place in ["lastwords_purgatory_entry", "lastwords_guarded", "the last instructions"] {
        for event in [Event::Nmi, Event::Restartable, Event::Fatal] {
            let ended = hit_at(place, event)?;
            ended.is_reset().with_context(|| format!("{event} at {place}"))?;
        }
    }
    Ok(())
}

/// What else there is in memory, with bytes that somebody has written to.
#[test]
#[ignore = "make test-all: a_damaged_image_resets, by the same way out"]
fn what_else_is_damaged_resets_too() -> Result<()> {
    for what in ["kernel", "boot_params", "ELF core header", "way out"] {
        let ended =
            run(machine(Release::V6_12, By::Load, OPTIONS, "panic_on 0"), |gdb, _, segments| match what {
                // The instructions that reset the machine, behind the first five.
                "kernel" => gdb.damage(segments.entry()? + 20),
                "way out" => gdb.damage(segments.get("image")?.start + FIRST_WAY_OUT as u64),
                _ => (0..64).try_for_each(|byte| gdb.damage(segments.get(what)?.start + byte)),
            })?;
        ended.is_reset().with_context(|| what.to_owned())?;
        ensure!(what == "ELF core header" || !ended.lines().is_empty(), "{what}: not a word");
    }
    Ok(())
}

/// PANICKED comes last, and only where it is asked for.
#[test]
#[ignore = "make test-all: core/tests/sequence.rs has panicked_is_raised_only_without_a_dump_kernel"]
fn the_hypervisor_hears_of_the_end_only_where_that_is_asked_for() -> Result<()> {
    for (option, told) in
        [("--notify-hypervisor=panicked", "GUEST_PANICKED"), ("--notify-hypervisor", "GUEST_CRASHLOADED")]
    {
        let scenario = machine(Release::V6_12, By::Load, &format!("{OPTIONS} {option}"), "panic_on 0");
        let ended = run(scenario.qemu(["-device", "pvpanic"]), |_, _, _| Ok(()))?;
        ended.is_reset()?;
        let names: Vec<_> = ended
            .events
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("GUEST_"))
            .collect();
        ensure!(names == [told], "{option}: {names:?}");
    }
    Ok(())
}

/// With a dump kernel it is refused, as is all that makes no sense together.
#[test]
#[ignore = "make test-all: cli's tests have these"]
fn what_cannot_be_is_refused_and_what_is_loaded_stays() -> Result<()> {
    let by = By::Load;
    let outcome = machine(
        Release::V6_12,
        by,
        OPTIONS,
        "
        section watchdog lastwords load --no-dump-kernel --ipmi-handle-panic --ipmi-watchdog start=300
        section panicked lastwords load /boot/vmlinuz --append console=ttyS0 --notify-hypervisor=panicked
        section enable lastwords enable --dry-run
        section loaded lastwords status -q
        section unload lastwords unload
        section unloaded grep 0 /sys/kernel/kexec_crash_loaded
        poweroff -f",
    )
    .first_append("crashkernel=64M")
    .run()?;
    for (section, why) in [
        ("watchdog", "cut the next boot off"),
        ("panicked", "the dump would be lost"),
        ("enable", "there is no dump kernel on purpose"),
    ] {
        let section = outcome.section(section)?;
        ensure!(section.status == 1 && section.text.contains(why), "{section:?}");
    }
    for section in ["loaded", "unload", "unloaded"] {
        outcome.text(section)?;
    }
    Ok(())
}

/// From the panic to the reset, beside Linux's own `panic=1`. The figures are in docs/no-dump-kernel.md; here it is to be sooner.
#[test]
#[ignore = "make test-all: measures"]
fn the_reset_comes_sooner_than_linux_own_after_a_second() -> Result<()> {
    let until_off = |scenario: Scenario| -> Result<f64> {
        let mut panic = None;
        let started = std::time::Instant::now();
        let outcome = scenario.watch(|_, line| {
            if line.text.contains("Kernel panic") {
                panic.get_or_insert(started.elapsed());
            }
            Ok(())
        })?;
        let off = started.elapsed();
        println!("{outcome}");
        Ok(off.saturating_sub(panic.context("no panic")?).as_secs_f64())
    };
    let linux = Scenario::new(Release::V6_12).arm(Arm::Not).payload().lastwords_at_hand();
    let linux = linux.death("kernel kernel/panic 1\npanic_on 0");
    let (ours, theirs) =
        (until_off(machine(Release::V6_12, By::Load, OPTIONS, "panic_on 0"))?, until_off(linux)?);
    println!("from panic to reset: {ours:.2} s, with panic=1 {theirs:.2} s");
    ensure!(ours < theirs, "{ours} s, Linux takes {theirs} s");
    Ok(())
}

/// The reservation is made smaller step by step; the figures are in docs/no-dump-kernel.md. Where it is too small, `load` says how
/// much is needed, and with that much it loads.
#[test]
#[ignore = "make test-all: measures"]
fn it_loads_in_as_little_memory_as_is_promised() -> Result<()> {
    const TRY: &str = "
        load() {
            lastwords load --no-dump-kernel --no-symbols --output-cpu-ip --via $1 >/tmp/out 2>&1 &&
                { lastwords unload >/dev/null; least=$kib; } || { echo $kib; cat /tmp/out; }
        }
        least() {
            method=$1 least=none
            shift
            for kib in $*; do
                echo $((kib * 1024)) >/sys/kernel/kexec_crash_size
                load $method
            done
            echo least $least
        }
        section file least wrap $FILE
        section load least purgatory $LOAD
        section refused lastwords load --no-dump-kernel --no-symbols --output-cpu-ip
        poweroff -f";
    const FEW: &str = "352 336 320 304";
    for (release, memory, cpu, file) in [
        (Release::V6_1, 1024, "max,la57=off,erms=off", "368 360"),
        (Release::V6_12, 1024, "max,la57=off,erms=off", "1248 1232 1216 1200 1184"),
        (Release::V6_12, 6144, "max,la57=off,erms=off,pdpe1gb=off", "1264 1248 1232 1216"),
    ] {
        let script = TRY.replace("$FILE", file).replace("$LOAD", FEW);
        let scenario = Scenario::new(release).memory(memory).cpu(cpu).first_append("crashkernel=2M");
        let outcome = scenario.arm(Arm::Not).payload().lastwords_at_hand().death(&script).run()?;
        for (section, most) in [("file", 1232), ("load", 352)] {
            let text = outcome.text(section)?.trim();
            println!("{release:?}, {memory} MiB, {cpu}, {section}: {text}");
            let least = text.rsplit(' ').next().and_then(|kib| kib.parse::<u32>().ok());
            ensure!(least.is_some_and(|kib| kib <= most), "{section}: {text}");
        }
        let refused = outcome.section("refused")?;
        ensure!(
            refused.status == 1 && refused.text.contains("hint: boot with crashkernel=1M"),
            "{refused:?}"
        );
    }
    Ok(())
}

/// Under lockdown the kernel takes what the tool makes and signs in memory.
#[test]
#[ignore = "make test-all: image::what_stands_for_no_dump_kernel_is_signed_as_any_kernel has the signature"]
fn under_lockdown_it_is_signed_and_loaded() -> Result<()> {
    const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil";
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-in", &format!("{KEY}.key"), "-passin", "pass:snakeoil", "-out"]).arg(&key);
    process::output(&mut openssl)?;
    let options = format!("{OPTIONS} --sign-key /boot/owner.key --sign-cert /boot/owner.crt");
    let scenario = machine(Release::V6_12, By::FileLoad, &options, "panic_on 0")
        .firmware(Firmware::SecureBoot)
        .boots_here()
        .file("owner.key", fs::read(&key)?)
        .file("owner.crt", fs::read(format!("{KEY}.pem"))?)
        .before("mount -t securityfs securityfs /sys/kernel/security\nsection lockdown cat /sys/kernel/security/lockdown");
    let ended = run(scenario, |_, _, _| Ok(()))?;
    ensure!(ended.outcome.text("lockdown")?.contains("[integrity]"));
    ensure!(ended.outcome.text("load")?.contains("signed with the key that is given"));
    took(&ended.lines())?;
    ended.is_reset()
}
