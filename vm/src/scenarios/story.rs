//! The demo: one crash, told as a story that a person reads from top to bottom.

use crate::judge::outcome::Outcome;
use crate::judge::reading;
use crate::judge::symbols::Kallsyms;
use crate::judge::{console, dump, sel_text};
use crate::machine::bmc::Bmc;
use crate::machine::console::Line;
use crate::machine::kernels::Release;
use crate::scenarios::{Arm, Call, Scenario};
use anyhow::Result;
use std::io::{IsTerminal, Write, stderr};

/// What the image is asked to do.
const OPTIONS: &str = "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=120";
const CPUS: u32 = 4;
const PANICS: usize = 1;
const SPINS: usize = 2;

/// Which BMC the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// QEMU's simulator.
    Simulator,
    /// ipmi_sim, asked over the LAN.
    OpenIpmi,
}

/// Runs the demo and prints its story.
///
/// # Errors
/// When something went wrong, or what was said is not what /proc/vmcore says.
pub fn tell(which: Which) -> Result<()> {
    let (bmc, name) = match which {
        Which::Simulator => (Bmc::Simulator, "QEMU's BMC simulator"),
        Which::OpenIpmi => (Bmc::OpenIpmi, "OpenIPMI's ipmi_sim"),
    };
    let scenario = Scenario::new(Release::V6_1)
        .cpus(CPUS)
        .boots_here()
        .bmc(bmc)
        .arm(Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned()))
        .before("section kallsyms kallsyms")
        .death(&format!("spin_on {SPINS}; panic_on {PANICS}"));
    eprintln!("a machine with {CPUS} CPUs and {name} starts, loads a dump kernel, panics and is dumped");
    let outcome = scenario.watch(|_, line| {
        progress(line);
        Ok(())
    })?;
    if stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }

    println!("What was loaded");
    println!("    lastwords wrap vmlinuz-{} -o wrapped {OPTIONS}", outcome.kernel.version);
    println!("    kexec -s -p wrapped --initrd=... --append=...");
    println!("\nHow it crashed");
    println!("    CPU {SPINS} went into a loop with interrupts off, then CPU {PANICS} panicked (sysrq)");
    println!("\nWhat came over the serial line between the panic and the dump kernel");
    let said = outcome
        .last_words()
        .iter()
        .filter(|line| line.text.contains("Kernel panic") || line.text.starts_with("lastwords: "));
    for line in said {
        println!("    {:6.2} s  {}", line.at.as_secs_f64(), line.text);
    }
    told_by_bmc(&outcome, which)?;
    println!("\nWhat lastwords read makes of it, with the kernel's symbols");
    let told = reading::read_file_text(&outcome, &Kallsyms::get(&outcome)?)?;
    told.lines().for_each(|line| println!("    {line}"));
    told_by_vmcore(&outcome)?;
    times(&outcome);
    Ok(())
}

fn told_by_bmc(outcome: &Outcome, which: Which) -> Result<()> {
    let (sel, watchdog) = match which {
        Which::Simulator => {
            println!("\nWhat the BMC holds (ipmitool, in the dump kernel)");
            (outcome.text("sel")?.to_owned(), outcome.text("watchdog")?.to_owned())
        }
        Which::OpenIpmi => {
            println!("\nWhat the BMC holds (ipmitool -I lanplus, from another machine)");
            (outcome.ipmitool(&["sel", "elist"])?, outcome.ipmitool(&["mc", "watchdog", "get"])?)
        }
    };
    sel.lines().filter(|line| !line.is_empty()).for_each(|line| println!("    {line}"));
    let wanted = ["Watchdog Timer Use", "Watchdog Timer Action", "Initial Countdown", "Present Countdown"];
    // ipmi_sim's answer ends before the present countdown.
    let wanted = &wanted[..if which == Which::OpenIpmi { 3 } else { 4 }];
    for line in watchdog.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
        println!("    {line}");
    }
    Ok(())
}

fn told_by_vmcore(outcome: &Outcome) -> Result<()> {
    println!("\nIs it true? /proc/vmcore of the same crash");
    console::check(outcome, PANICS)?;
    println!("    the console's {CPUS} instruction pointers are those of its crash notes");
    sel_text::check_cpus(outcome, &outcome.sel()?, PANICS)?;
    println!("    the SEL's build id and places are its own");
    sel_text::check_reason(outcome, &outcome.sel()?)?;
    println!("    the SEL's reason, process and callers stand in its log, as vmcore-dmesg prints it");
    dump::check(outcome, CPUS as usize)?;
    let size: f64 = outcome.text("dump-size")?.trim().parse()?;
    println!(
        "    readelf reads it, makedumpfile made {:.0} MB of it, and the panic is in its log",
        size / 1e6
    );
    Ok(())
}

fn times(outcome: &Outcome) {
    println!("\nHow long it took (emulated CPUs)");
    let steps = [
        ("first kernel up", "bench: the first kernel is up"),
        ("dump kernel loaded", "bench: the dump kernel is loaded"),
        ("panic", "Kernel panic"),
        ("first line of the report", "lastwords: "),
        ("dump kernel started", "lastwords: starting the dump kernel"),
        ("dump kernel up", "bench: the dump kernel is up"),
        ("BMC read", "bench: the BMC is read"),
        ("dump written", "bench: the dump is written"),
    ];
    let mut before = 0.0;
    for (name, text) in steps {
        if let Some(at) = outcome.when(text) {
            let at = at.as_secs_f64();
            println!("    {name:<24}{at:6.2} s  (+{:.2})", at - before);
            before = at;
        }
    }
}

/// One line that is written over and over; on a pipe, a line for each step.
fn progress(line: &Line) {
    let Some(step) = line.text.strip_prefix("bench: ") else { return };
    let at = line.at.as_secs_f64();
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{at:5.1} s  {step}");
        let _ = stderr().flush();
    } else {
        eprintln!("{at:5.1} s  {step}");
    }
}
