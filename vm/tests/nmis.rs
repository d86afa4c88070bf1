//! NMIs at the border between the image and a real dump kernel, which has no table for them at first. `make inject` has
//! those in the image.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::console;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::segments::Segments;
use lastwords_vm::machine::gdb::{Debugger, Gdb};
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::machine::monitor::Monitor;
use lastwords_vm::scenarios::inject::Code;
use lastwords_vm::scenarios::{Arm, Scenario};

/// Without an APIC nobody can mask an NMI. Loads, shows where everything lies, and panics.
fn loaded() -> Scenario {
    Scenario::new(Release::V6_1)
        .cpus(1)
        .cpu("max,la57=off,erms=off,-apic")
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(
            "lastwords load --via purgatory --verbose --no-symbols --output-cpu-ip /boot/vmlinuz --initrd=/boot/initrd \
         --append='console=ttyS0 quiet nr_cpus=1 reset_devices no_timer_check' >/tmp/load 2>&1 || step not armed\n\
         grep '^segment' /tmp/load >/dev/console\nstep the dump kernel is loaded\nsleep 1\npanic_on 0",
        )
}

/// Runs it with a debugger, which `inject` uses when the dump kernel is loaded.
fn crash(
    scenario: Scenario,
    inject: impl Fn(&mut Gdb, &mut Monitor, &Segments) -> Result<()>,
) -> Result<Outcome> {
    let debugger = Debugger::new()?;
    let mut segments = Segments::default();
    let outcome = scenario.debugger(&debugger).watch(|vm, line| {
        segments.read(&line.text);
        if line.text.contains("the dump kernel is loaded") {
            let mut gdb = debugger.connect()?;
            inject(&mut gdb, &mut vm.monitor()?, &segments)?;
            gdb.detach()?;
        }
        Ok(())
    })?;
    println!("{outcome}");
    Ok(outcome)
}

/// The dump kernel came up, and the report before it is whole.
fn is_up(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.dumped(), "no dump");
    console::check(outcome, 0)
}

#[test]
fn an_nmi_at_the_dump_kernels_first_instruction_does_no_harm() -> Result<()> {
    let outcome = crash(loaded().dump("collect_vmcore"), |gdb, monitor, segments| {
        gdb.go_to(segments.entry()?)?;
        monitor.nmi()
    })?;
    is_up(&outcome)
}

/// The CPU holds NMIs back once one has come in the report, for nobody has said yet that it is over: until the dump
/// kernel's first IRET. Here nine come before it.
#[test]
fn an_nmi_in_the_report_and_nine_in_the_dump_kernels_beginning_do_no_harm() -> Result<()> {
    let outcome = crash(loaded().dump("collect_vmcore"), |gdb, monitor, segments| {
        let report = segments.get("image")?.start + Code::get()?.symbol("lastwords_guarded")?;
        gdb.go_to(report)?;
        monitor.nmi()?;
        gdb.go_to(segments.entry()?)?;
        for _ in 0..9 {
            monitor.nmi()?;
            for _ in 0..100 {
                gdb.step()?;
            }
        }
        Ok(())
    })?;
    is_up(&outcome)
}

/// NMIs that are held back are not so for ever: the dump kernel gets them, though one has come in the report.
#[test]
fn the_dump_kernel_takes_nmis_again() -> Result<()> {
    let scenario = loaded().dump(
        "section nmis-before grep NMI: /proc/interrupts\nstep an nmi is to come\nsleep 3\n\
         section nmis-after grep NMI: /proc/interrupts\ncollect_vmcore",
    );
    let debugger = Debugger::new()?;
    let mut segments = Segments::default();
    let outcome = scenario.debugger(&debugger).watch(|vm, line| {
        segments.read(&line.text);
        if line.text.contains("the dump kernel is loaded") {
            let mut gdb = debugger.connect()?;
            gdb.go_to(segments.get("image")?.start + Code::get()?.symbol("lastwords_guarded")?)?;
            vm.monitor()?.nmi()?;
            gdb.detach()?;
        }
        if line.text.contains("an nmi is to come") {
            vm.monitor()?.nmi()?;
        }
        Ok(())
    })?;
    println!("{outcome}");
    is_up(&outcome)?;
    let count = |section: &str| -> Result<u64> {
        // `NMI:          1   Non-maskable interrupts`
        let number = outcome.text(section)?.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        number.with_context(|| format!("{section} has no number"))
    };
    let (before, after) = (count("nmis-before")?, count("nmis-after")?);
    ensure!(after == before + 1, "the dump kernel has counted {before} NMIs before and {after} behind it");
    Ok(())
}
