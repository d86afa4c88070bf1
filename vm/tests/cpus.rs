//! CPUs that are not all there: offline ones, slots, siblings that are not to be used, numbers with holes.
//!
//! And which CPU panicked, on machines where the local APIC ids are not the kernel's numbers: two sockets of three cores
//! have the ids 0, 1, 2, 4, 5, 6. Right where something tells, and no guess where nothing does.
//!
//! Linux 6.12 alone: 6.1 hangs on such a machine when QEMU emulates it, early in its boot.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::{console, sel_text};
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};
use serde_json::json;
use std::time::Duration;

/// CPU 4, whose local APIC id is 5.
const PANICKED: usize = 4;
const OPTIONS: &str = "--output-cpu-ip";
/// Linux keeps its number of a CPU in the register that these two instructions read.
const WITHOUT_NUMBER: &str = "max,la57=off,erms=off,-rdtscp,-rdpid";
const WITH_NUMBER: &str = "max,la57=off,erms=off";

fn crash(cpu: &str, arm: Arm) -> Result<Outcome> {
    let outcome = Scenario::new(Release::V6_12)
        .cpus(6)
        .topology("sockets=2,cores=3")
        .cpu(cpu)
        .arm(arm)
        .before("section cpuinfo grep apicid /proc/cpuinfo")
        .death("panic_on 4")
        .dump("collect_bmc\ncollect_vmcore")
        .run()?;
    let ids: Vec<_> = outcome
        .text("cpuinfo")?
        .lines()
        .filter(|line| line.starts_with("apicid"))
        .filter_map(|line| line.split(": ").nth(1))
        .collect();
    ensure!(ids == ["0", "1", "2", "4", "5", "6"], "the machine has the local APIC ids {ids:?}");
    Ok(outcome)
}

fn check(outcome: &Outcome, panicked: Option<usize>) -> Result<()> {
    console::check(outcome, panicked)?;
    sel_text::check_cpus(outcome, &outcome.sel()?, panicked)?;
    let headline = console::lines(outcome).first().copied().unwrap_or_default().to_owned();
    let expected = match panicked {
        Some(number) => format!(" panicked on CPU {number}"),
        None => " panicked on an unknown CPU, local APIC ID 5".to_owned(),
    };
    ensure!(headline.ends_with(&expected), "the headline is {headline:?}");
    Ok(())
}

#[test]
fn lastwords_load_passes_the_ids() -> Result<()> {
    let outcome = crash(WITHOUT_NUMBER, Arm::Lastwords(OPTIONS.to_owned()))?;
    let cmdline = outcome.text("cmdline")?;
    ensure!(cmdline.contains("lastwords.apic_ids=0-2,4-6"), "the command line is {cmdline}");
    check(&outcome, Some(PANICKED))
}

#[test]
#[ignore = "make test-all: the two without this number are in make test"]
fn linux_own_number_is_enough() -> Result<()> {
    let arm = Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned());
    check(&crash(WITH_NUMBER, arm)?, Some(PANICKED))
}

#[test]
fn where_nothing_tells_nothing_is_guessed() -> Result<()> {
    let arm = Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned());
    check(&crash(WITHOUT_NUMBER, arm)?, None)
}

/// What the kernel itself shows of its CPUs, right before it dies on this one.
fn death(panicked: usize) -> String {
    format!("section online cat /sys/devices/system/cpu/online\npanic_on {panicked}")
}

/// Four CPUs, loaded in this way.
fn four(release: Release, arm: Arm) -> Scenario {
    Scenario::new(release).cpus(4).arm(arm).dump("collect_bmc\ncollect_vmcore")
}

fn loaded(via: &str) -> Arm {
    Arm::Lastwords(format!("--via {via} {OPTIONS} --ipmi-handle-panic --no-symbols"))
}

const TWO_GOES: &str = "echo 0 >/sys/devices/system/cpu/cpu2/online";
const TWO_COMES: &str = "echo 1 >/sys/devices/system/cpu/cpu2/online";

/// These CPUs were online, this one panicked, and there is this group of others.
fn check_off(outcome: &Outcome, online: &str, panicked: usize, off: &str) -> Result<()> {
    ensure!(outcome.text("online")?.trim() == online, "online: {}", outcome.text("online")?);
    console::check(outcome, panicked)?;
    sel_text::check_cpus_and(outcome, &outcome.sel()?, panicked, off)?;
    let headline = console::lines(outcome).first().copied().unwrap_or_default().to_owned();
    ensure!(headline.contains(&format!(" panicked on CPU {panicked}")), "the headline is {headline:?}");
    Ok(())
}

fn says(outcome: &Outcome, line: &str) -> bool {
    console::lines(outcome).contains(&line)
}

#[test]
#[ignore = "make test-all: a_cpu_that_went_offline_after_loading_is_off shows it"]
fn a_cpu_that_was_offline_before_loading_is_off() -> Result<()> {
    let outcome = four(Release::V6_1, loaded("purgatory")).before(TWO_GOES).death(&death(3)).run()?;
    ensure!(says(&outcome, "CPU 2  is offline"), "{:?}", console::lines(&outcome));
    check_off(&outcome, "0-1,3", 3, "1*off")
}

#[test]
fn a_cpu_that_went_offline_after_loading_is_off() -> Result<()> {
    let death = format!("{TWO_GOES}\n{}", death(3));
    let outcome = four(Release::V6_12, loaded("wrap")).death(&death).run()?;
    check_off(&outcome, "0-1,3", 3, "1*off")
}

/// It panics. Its local APIC id was in no list when the dump kernel was loaded.
#[test]
#[ignore = "make test-all: a_cpu_that_came_after_loading_is_named shows it"]
fn a_cpu_that_came_back_after_loading_is_named() -> Result<()> {
    let death = format!("{TWO_COMES}\n{}", death(2));
    let outcome = four(Release::V6_1, loaded("purgatory")).before(TWO_GOES).death(&death).run()?;
    console::check(&outcome, 2)?;
    sel_text::check_cpus(&outcome, &outcome.sel()?, 2)
}

/// Two CPUs that nobody has started, as in slots that wait for theirs.
#[test]
fn cpus_that_were_never_started_are_off() -> Result<()> {
    let crash =
        |arm| four(Release::V6_12, arm).first_append("crashkernel=256M maxcpus=2").death(&death(1)).run();
    check_off(&crash(loaded("wrap"))?, "0-1", 1, "2*off")?;
    // Nobody has told where the mask is.
    let outcome = crash(Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned()))?;
    let line = "CPU 2  is offline or did not respond to the stop NMI";
    ensure!(says(&outcome, line), "{:?}", console::lines(&outcome));
    check_off(&outcome, "0-1", 1, "2*off/dead")
}

/// It panics, and 6.1 has no note for it: the dump kernel does not see it either.
#[test]
fn a_cpu_that_came_after_loading_is_named() -> Result<()> {
    let death = format!(
        "step a CPU comes\nwhile [ ! -e /sys/devices/system/cpu/cpu2 ]; do sleep 1; done\n{TWO_COMES}\npanic_on 2"
    );
    let outcome = four(Release::V6_1, loaded("purgatory"))
        .cpus(2)
        .topology("maxcpus=4,sockets=4,cores=1,threads=1")
        .death(&death)
        .watch(|vm, line| {
            if line.text.ends_with("a CPU comes") {
                let cpu = json!({ "driver": "max-x86_64-cpu", "socket-id": 2, "core-id": 0, "thread-id": 0 });
                vm.monitor()?.execute("device_add", &cpu)?;
            }
            Ok(())
        })?;
    let said = sel_text::said(&outcome.sel()?)?;
    ensure!(said.panicked.as_deref() == Some("2=unread"), "{said:?}");
    let headline = console::lines(&outcome).first().copied().unwrap_or_default().to_owned();
    ensure!(headline.ends_with(" panicked on CPU 2: sysrq triggered crash"), "the headline is {headline:?}");
    console::check(&outcome, None)
}

#[test]
#[ignore = "make test-all: cpus_that_were_never_started_are_off shows it"]
fn siblings_that_are_not_to_be_used_are_off() -> Result<()> {
    let outcome = four(Release::V6_1, loaded("purgatory"))
        // QEMU's own kind of CPU shows no threads.
        .cpu("Haswell")
        .topology("sockets=1,cores=2,threads=2")
        .first_append("crashkernel=256M nosmt")
        .death(&death(2))
        .run()?;
    check_off(&outcome, "0,2", 2, "2*off")
}

/// CPU 1 is taken out before the dump kernel is loaded. The others keep their numbers, in the kernel and in the report. QEMU
/// ends by itself when another kernel starts then, so that the judge is the crashed kernel's own line.
#[test]
#[ignore = "make test-all: core/tests/crash.rs has such numbers, and another CPU that is taken out is in make test"]
fn numbers_with_holes_are_the_kernels() -> Result<()> {
    let cpu = |socket: u32| format!("max-x86_64-cpu,id=cpu{socket},socket-id={socket},core-id=0,thread-id=0");
    let outcome = four(Release::V6_1, loaded("purgatory"))
        .cpus(1)
        .topology("maxcpus=4,sockets=4,cores=1,threads=1")
        // With one thread for all CPUs, QEMU waits for itself to take one out.
        .qemu(["-accel", "tcg,thread=multi", "-device", &cpu(1), "-device", &cpu(2), "-device", &cpu(3)])
        .before("step take CPU 1 out\nwhile [ -e /sys/devices/system/cpu/cpu1 ]; do sleep 1; done")
        .death("panic_on 2")
        .watch(|vm, line| {
            if line.text.contains("take CPU 1 out") {
                vm.monitor()?.execute("device_del", &json!({ "id": "cpu1" }))?;
            }
            if line.text.contains("starting the dump kernel") {
                vm.monitor()?.execute("quit", &json!({}))?;
            }
            Ok(())
        })?;
    let has = |text: &str| outcome.console.iter().any(|line| line.text.contains(text));
    let said: Vec<_> = console::cpus(&outcome);
    let numbers: Vec<_> = said.iter().map(|cpu| cpu.number).collect();
    ensure!(numbers == [0, 2, 3], "the report's numbers are {numbers:?}");
    let panicked = said.iter().find(|cpu| cpu.panicked).context("no CPU is marked")?;
    ensure!(panicked.number == 2 && has(&format!("] CPU: 2 PID: {} Comm: sh", panicked.pid)), "{said:?}");
    Ok(())
}

#[test]
#[ignore = "make test-all: with 72 emulated CPUs Linux 6.12 itself crashes at times (dl_server_start); core's tests show the groups"]
fn more_than_64_cpus_stand_in_groups_on_the_console() -> Result<()> {
    let outcome = four(Release::V6_12, loaded("purgatory"))
        .cpus(72)
        .memory(2048)
        .limit(Duration::from_secs(900))
        .death(&death(3))
        .run()?;
    console::check(&outcome, 3)?;
    let lines = console::lines(&outcome);
    let in_full = lines.iter().filter(|line| line.starts_with("CPU ")).count();
    let groups = lines.iter().filter(|line| line.contains(" CPUs RIP ")).count();
    ensure!(groups > 0 && in_full < 40, "{lines:?}");
    Ok(())
}
