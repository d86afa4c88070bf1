//! The image as the purgatory: words first, then the digest; and what comes of a dump kernel that somebody has
//! written to since it was loaded. The damage is done from outside, to physical memory, as a stray DMA would.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::image::{FILE_SIZE, FIRST_SEGMENT_LEN, FIRST_WAY_OUT};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::segments::Segments;
use lastwords_vm::judge::{console, dump, sel_text};
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::{netfn, obedient};
use lastwords_vm::machine::bmc::recording::Request;
use lastwords_vm::machine::gdb::{Debugger, Gdb};
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};
use serde_json::json;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Longer than any digest takes on an emulated CPU.
const HANGS: Duration = Duration::from_secs(30);

/// The dump kernel's command line. It does not test its timer: on a busy machine an emulated one fails.
const APPEND: &str =
    "console=ttyS0 quiet nr_cpus=1 reset_devices mitigations=off no_timer_check tsc=reliable";

/// Arms by `command`, shows where everything lies, waits for the damage, and panics.
fn armed_by(command: &str) -> Scenario {
    Scenario::new(Release::V6_12).arm(Arm::Not).lastwords_at_hand().death(&format!(
        "{command} /boot/vmlinuz --initrd=/boot/initrd --append='{APPEND}' \
         >/tmp/load 2>&1 || step not armed\ngrep -E '^segment|kernel at 0x' /tmp/load >/dev/console\n\
         step the dump kernel is loaded\nsleep 2\npanic_on 0"
    ))
}

fn armed_with(options: &str) -> Scenario {
    armed_by(&format!("lastwords load --via purgatory --verbose --no-symbols {options}"))
}

/// Runs it, and once it is armed inverts the bytes of memory that `which` picks.
fn damaged<const N: usize>(
    scenario: Scenario,
    which: impl Fn(&mut Gdb, &Segments) -> Result<[u64; N]>,
) -> Result<Outcome> {
    let debugger = Debugger::new()?;
    let mut segments = Segments::default();
    let outcome = scenario.debugger(&debugger).watch(|_, line| {
        segments.read(&line.text);
        if line.text.contains("the dump kernel is loaded") {
            let mut gdb = debugger.connect()?;
            for byte in which(&mut gdb, &segments)? {
                gdb.damage(byte)?;
            }
            gdb.detach()?;
        }
        Ok(())
    })?;
    println!("{outcome}");
    Ok(outcome)
}

fn said(outcome: &Outcome, start: &str) -> bool {
    console::lines(outcome).iter().any(|line| line.starts_with(start))
}

/// The text of the SEL records that our BMC was sent.
fn sel(requests: &[Request]) -> Vec<String> {
    let records =
        requests.iter().filter(|request| request.netfn == netfn::STORAGE && request.command == 0x44);
    let text =
        |request: &Request| String::from_utf8_lossy(&request.data[5..]).trim_end_matches('\0').to_owned();
    records.map(text).collect()
}

/// Words to BMC and console that name the segment, then the reset; the recording BMC does not carry it out, so the
/// chipset does, which ends the machine.
#[test]
fn a_damaged_kernel_is_named_and_the_machine_resets() -> Result<()> {
    let scenario = armed_with("--output-cpu-ip").bmc(Bmc::Ours(obedient()));
    let outcome = damaged(scenario, |_, segments| Ok([segments.get("kernel")?.start + 0x10_0000]))?;
    ensure!(!outcome.dumped(), "the damaged kernel was started");
    ensure!(said(&outcome, "dump kernel corrupt: checksum of kernel differs from the one loaded"));
    ensure!(said(&outcome, "resetting the machine"));
    let requests = outcome.requests()?;
    ensure!(sel(&requests).last().is_some_and(|text| text == "bad kernel"), "{:?}", sel(&requests));
    let last = requests.last().context("no request")?;
    ensure!((last.netfn, last.command, &last.data[..]) == (0, 2, &[3][..]), "no hard reset: {last:x?}");
    Ok(())
}

/// The last byte of the initial RAM disk is padding: told to start all the same, the dump kernel does.
#[test]
fn a_damaged_initrd_is_named_and_started_all_the_same_when_told_to() -> Result<()> {
    let scenario = armed_with("--output-cpu-ip --on-corrupt boot");
    let outcome = damaged(scenario, |_, segments| Ok([segments.get("initrd")?.end - 1]))?;
    ensure!(said(&outcome, "dump kernel corrupt: checksum of initrd differs from the one loaded"));
    ensure!(said(&outcome, "starting the dump kernel"));
    dump::check(&outcome, 2)
}

/// Told to halt, the machine says so and then nothing more, though it still runs.
#[test]
#[ignore = "make test-all: what else can be done is in make test"]
fn a_damaged_kernel_halts_the_machine_when_told_to() -> Result<()> {
    let debugger = Debugger::new()?;
    let mut segments = Segments::default();
    let outcome =
        armed_with("--output-cpu-ip=console --on-corrupt halt").debugger(&debugger).watch(|vm, line| {
            segments.read(&line.text);
            if line.text.contains("the dump kernel is loaded") {
                let mut gdb = debugger.connect()?;
                gdb.damage(segments.get("kernel")?.start + 0x10_0000)?;
                gdb.detach()?;
            }
            if line.text.contains("halting the machine") {
                std::thread::sleep(HANGS);
                let status = vm.monitor()?.execute("query-status", &json!({}))?;
                ensure!(status["running"] == true, "it does not halt: {status}");
                vm.monitor()?.execute("quit", &json!({}))?;
            }
            Ok(())
        })?;
    println!("{outcome}");
    ensure!(said(&outcome, "dump kernel corrupt: checksum of kernel differs from the one loaded"));
    ensure!(!outcome.dumped(), "the damaged kernel was started");
    ensure!(console::lines(&outcome).last().is_some_and(|line| line.starts_with("halting")), "it goes on");
    Ok(())
}

/// A damaged speaker is silent, and the dump kernel comes up.
#[test]
#[ignore = "make test-all: damage::as_the_purgatory_ has this part, too"]
fn a_damaged_image_is_silent_and_the_dump_kernel_starts() -> Result<()> {
    let scenario = armed_with(&Asked::ALL.options());
    let outcome = damaged(scenario, |_, segments| Ok([segments.get("image")?.start + 0x2000]))?;
    ensure!(console::lines(&outcome).is_empty(), "{:#?}", console::lines(&outcome));
    dump::check(&outcome, 2)
}

/// What the image was handed is part of what it sums up: it goes by no length that somebody has written to.
#[test]
#[ignore = "make test-all: damage::as_the_purgatory_ has this part, too"]
fn a_damaged_handoff_is_not_gone_by_and_the_dump_kernel_starts() -> Result<()> {
    let scenario = armed_with(&Asked::ALL.options());
    let outcome = damaged(scenario, |gdb, segments| {
        let len = segments.get("image")?.start + FIRST_SEGMENT_LEN;
        let bytes = gdb.read(len, 8)?;
        let value = u64::from_le_bytes(bytes.as_slice().try_into()?);
        ensure!(segments.has_len(value), "no segment has the {value:#x} bytes of the handoff: {segments:x?}");
        // The uppermost byte.
        Ok([len + 7])
    })?;
    ensure!(console::lines(&outcome).is_empty(), "{:#?}", console::lines(&outcome));
    dump::check(&outcome, 2)
}

/// A length of its own is not gone by where it leads out of the image.
#[test]
fn an_image_that_is_longer_than_it_can_be_is_silent_and_the_dump_kernel_starts() -> Result<()> {
    let scenario = armed_with(&Asked::ALL.options());
    let outcome = damaged(scenario, |_, segments| Ok([segments.get("image")?.start + FILE_SIZE as u64 + 3]))?;
    ensure!(console::lines(&outcome).is_empty(), "{:#?}", console::lines(&outcome));
    dump::check(&outcome, 2)
}

/// The way out is there twice, and boot_params with the command line too: with one of each damaged nothing is lost, and it
/// is said.
#[test]
fn a_damaged_way_out_and_damaged_boot_params_are_put_right() -> Result<()> {
    let scenario = armed_with("--output-cpu-ip --ipmi-handle-panic").bmc(Bmc::Ours(obedient()));
    let outcome = damaged(scenario, |_, segments| {
        let boot_params = segments.get("boot_params")?.start;
        // cmd_line_ptr's upper byte, a letter of `elfcorehdr=`, and the kernel's entry point.
        let way_out = segments.get("image")?.start + FIRST_WAY_OUT as u64;
        Ok([boot_params + 0x22b, boot_params + 0x1000 + APPEND.len() as u64 + 2, way_out + 24 + 3])
    })?;
    ensure!(said(&outcome, "dump kernel: boot_params was corrupt, restored from its copy"));
    ensure!(said(&outcome, "starting the dump kernel"));
    let sel = sel(&outcome.requests()?);
    ensure!(sel.iter().any(|text| text.starts_with("restored bo")), "{sel:?}");
    console::check(&outcome, 0)?;
    dump::check(&outcome, 2)
}

/// Where the copy is no better, it is as with every other part.
#[test]
fn boot_params_that_are_damaged_twice_are_named_and_the_machine_resets() -> Result<()> {
    let scenario = armed_with("--output-cpu-ip").bmc(Bmc::Ours(obedient()));
    let outcome = damaged(scenario, |_, segments| {
        let [one, other] = [segments.get("boot_params")?.start, segments.get("copy of boot_params")?.start];
        // A byte of the screen's data, which nobody here reads.
        Ok([one + 0x10, other + 0x11])
    })?;
    ensure!(!outcome.dumped(), "the damaged kernel was started");
    ensure!(said(&outcome, "dump kernel corrupt: checksum of boot_params differs from the one loaded"));
    ensure!(said(&outcome, "resetting the machine"));
    Ok(())
}

/// The kernel is damaged only when the first record reaches the BMC. If its digest had been computed by then, nobody
/// would notice.
#[test]
fn the_words_are_in_the_sel_before_the_digest_is_computed() -> Result<()> {
    let debugger = Debugger::new()?;
    let (tell, first_record) = channel();
    let mut obey = obedient();
    let bmc = Box::new(move |request: &Request| {
        if request.netfn == netfn::STORAGE {
            let _ = tell.send(());
            // Time to do the damage in.
            std::thread::sleep(Duration::from_secs(2));
        }
        obey(request)
    });
    let mut segments = Segments::default();
    let outcome = armed_with("--output-cpu-ip=sel --on-corrupt boot")
        .bmc(Bmc::Ours(bmc))
        .debugger(&debugger)
        .watch(|_, line| {
            segments.read(&line.text);
            if line.text.contains("Kernel panic") {
                first_record.recv_timeout(Duration::from_secs(60))?;
                let mut gdb = debugger.connect()?;
                gdb.damage(segments.get("initrd")?.end - 1)?;
                gdb.detach()?;
            }
            Ok(())
        })?;
    println!("{outcome}");
    ensure!(said(&outcome, "dump kernel corrupt: checksum of initrd"), "the digest came before the words");
    let sel = sel(&outcome.requests()?);
    ensure!(sel.last().is_some_and(|text| text == "bad initrd"), "{sel:?}");
    dump::check(&outcome, 2)
}

/// Why all this: the same damage, and kexec-tools' purgatory stands still for ever without a word.
#[test]
#[ignore = "make test-all: it is about stock kexec's purgatory alone"]
fn stock_kexec_hangs_on_the_same_damage() -> Result<()> {
    let debugger = Debugger::new()?;
    let scenario = armed_by("kexec -p -c -d").debugger(&debugger);
    let mut segments = Segments::default();
    let outcome = scenario.watch(|vm, line| {
        segments.read(&line.text);
        if line.text.contains("the dump kernel is loaded") {
            let mut gdb = debugger.connect()?;
            gdb.damage(segments.get("kernel")?.start + 0x10_0000)?;
            gdb.detach()?;
        }
        if line.text.contains("Kernel panic") {
            std::thread::sleep(HANGS);
            let status = vm.monitor()?.execute("query-status", &json!({}))?;
            ensure!(status["running"] == true, "it does not hang: {status}");
            vm.monitor()?.execute("quit", &json!({}))?;
        }
        Ok(())
    })?;
    println!("{outcome}");
    ensure!(!outcome.dumped(), "the damaged kernel was started");
    Ok(())
}

/// The kernel rewrites the ELF core header when CPUs come and go, which is no damage; and the words are right.
#[test]
fn cpus_go_and_come_back_after_arming() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .cpus(4)
        .arm(Arm::Lastwords("--via purgatory --output-cpu-ip".to_owned()))
        .death(
            "section hotplug cat /sys/devices/system/cpu/crash_hotplug\n\
             for cpu in 2 3; do echo 0 >/sys/devices/system/cpu/cpu$cpu/online; done\n\
             for cpu in 3 2; do echo 1 >/sys/devices/system/cpu/cpu$cpu/online; done\npanic_on 3",
        )
        .run()?;
    ensure!(outcome.text("hotplug")?.trim() == "1", "the kernel does not keep the core header up to date");
    dump::check(&outcome, 4)?;
    console::check(&outcome, 3)?;
    sel_text::check_cpus(&outcome, &outcome.sel()?, 3)
}

/// Memory that came after arming is in the dump: the kernel has put it into the ELF core header.
#[test]
fn memory_comes_after_arming() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .qemu(["-m", "slots=2,maxmem=4G"])
        // With memory to come above 4 GiB a dump kernel takes 64 MiB for bounce buffers, and would else have no room for
        // the dump. It is not to take the new memory for itself, where the crashed kernel's lies.
        .first_append("crashkernel=384M")
        .append("acpi_no_memhotplug")
        .arm(Arm::Lastwords("--via purgatory --output-cpu-ip".to_owned()))
        .before("echo online >/sys/devices/system/memory/auto_online_blocks")
        .death("until grep -q 100000000-107ffffff /proc/iomem; do sleep 1; done\nsleep 1\npanic_on 1")
        .dump("section loads readelf -lW /proc/vmcore\ncollect_bmc\ncollect_vmcore\ncollect_dump")
        .watch(|vm, line| {
            if line.text.contains("the dump kernel is loaded") {
                let mut monitor = vm.monitor()?;
                let backend = json!({ "qom-type": "memory-backend-ram", "id": "more", "size": 128 << 20 });
                monitor.execute("object-add", &backend)?;
                monitor.execute("device_add", &json!({ "driver": "pc-dimm", "memdev": "more" }))?;
            }
            Ok(())
        })?;
    println!("{outcome}");
    dump::check(&outcome, 2)?;
    console::check(&outcome, 1)?;
    ensure!(outcome.text("loads")?.contains(" 0x0000000100000000 "), "{}", outcome.text("loads")?);
    Ok(())
}

/// More than the reserved memory holds: it is said how much is needed, and what was armed before is still armed, which
/// the crash then shows.
#[test]
fn what_does_not_fit_is_refused_and_what_was_armed_stays() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .arm(Arm::Lastwords("--via purgatory --output-cpu-ip".to_owned()))
        .death(
            "truncate -s 220M /tmp/big\n\
             section too-big lastwords load --via purgatory /boot/vmlinuz --initrd /tmp/big --append quiet\n\
             section still cat /sys/kernel/kexec_crash_loaded\npanic_on 0",
        )
        .run()?;
    let refusal = outcome.section("too-big")?;
    ensure!(refusal.status == 1, "it ends with {}", refusal.status);
    let said = &refusal.text;
    ensure!(said.contains("are too few") && said.contains("boot with a larger crashkernel="), "{said}");
    ensure!(outcome.text("still")?.trim() == "1", "what was armed is lost");
    dump::check(&outcome, 2)?;
    console::check(&outcome, 0)
}
