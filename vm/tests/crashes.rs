//! Everything asked for, on each kernel, before both simulators, by each way of arming; and with 1, 2 and 8 CPUs,
//! panics on different ones, one in a loop with interrupts off. The words are held against the same crash's dump.
//!
//! Some of the grid are in `make test`: each kernel, each BMC, each way, and each number of CPUs.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::dump;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::watchdog::Watchdog;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::Release::{self, Newest, V6_1, V6_12};
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// How the dump kernel is loaded.
#[derive(Clone, Copy)]
enum By {
    /// `kexec -s` and a wrapped kernel.
    FileLoad,
    /// `kexec -c` and a wrapped kernel.
    Load,
    /// `lastwords load`.
    Lastwords,
}
use By::{FileLoad, Lastwords, Load};

fn crash(release: Release, bmc: Bmc, by: By, cpus: u32, panics: usize, spins: Option<u32>) -> Result<()> {
    let openipmi = matches!(bmc, Bmc::OpenIpmi);
    let options = Asked::ALL.options();
    let arm = match by {
        FileLoad => Arm::Wrapped(Call::FileLoad, options),
        Load => Arm::Wrapped(Call::Load, options),
        Lastwords => Arm::Lastwords(options),
    };
    let spin = spins.map_or(String::new(), |cpu| format!("spin_on {cpu}; "));
    let outcome = Scenario::new(release)
        .cpus(cpus)
        .bmc(bmc)
        .arm(arm)
        .death(&format!("{spin}panic_on {panics}"))
        .run()?;
    dump::check(&outcome, cpus as usize)?;
    ensure!(outcome.notes()?.randomized()?, "the kernel's addresses are not randomized");
    Asked::ALL.check_console(&outcome, panics)?;
    Asked::ALL.check_bmc(&outcome, panics, !openipmi)?;
    if openipmi {
        check_from_outside(&outcome)?;
    }
    Ok(())
}

/// The administrator's view, over the LAN, when the machine is off.
fn check_from_outside(outcome: &Outcome) -> Result<()> {
    let sel = outcome.ipmitool(&["sel", "elist"])?;
    ensure!(sel == outcome.text("sel")?, "over the LAN the SEL reads {sel}");
    ensure!(sel.contains("Linux kernel panic: id "), "ipmitool does not show the words: {sel}");
    let watchdog = Watchdog::parse(&outcome.ipmitool(&["mc", "watchdog", "get"])?)?;
    ensure!(watchdog.initial == 3000, "over the LAN the watchdog reads {watchdog:?}");
    Ok(())
}

macro_rules! crashes {
    ($($(#[$attribute:meta])* $name:ident: $release:ident, $bmc:ident, $by:ident, $cpus:literal CPUs, panic on $panics:literal, loop on $spins:expr;)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $name() -> Result<()> {
            crash($release, Bmc::$bmc, $by, $cpus, $panics, $spins)
        }
    )*};
}

crashes! {
    old_simulator_file_load: V6_1, Simulator, FileLoad, 2 CPUs, panic on 0, loop on Some(1);
    #[ignore = "make test-all: another cell of the grid"]
    old_simulator_load: V6_1, Simulator, Load, 8 CPUs, panic on 7, loop on None;
    #[ignore = "make test-all: another cell of the grid"]
    old_simulator_lastwords: V6_1, Simulator, Lastwords, 1 CPUs, panic on 0, loop on None;
    #[ignore = "make test-all: another cell of the grid"]
    old_openipmi_file_load: V6_1, OpenIpmi, FileLoad, 8 CPUs, panic on 3, loop on Some(0);
    #[ignore = "make test-all: another cell of the grid"]
    old_openipmi_load: V6_1, OpenIpmi, Load, 1 CPUs, panic on 0, loop on None;
    #[ignore = "make test-all: another cell of the grid"]
    old_openipmi_lastwords: V6_1, OpenIpmi, Lastwords, 2 CPUs, panic on 1, loop on None;
    #[ignore = "make test-all: another cell of the grid"]
    new_simulator_file_load: V6_12, Simulator, FileLoad, 1 CPUs, panic on 0, loop on None;
    #[ignore = "make test-all: another cell of the grid"]
    new_simulator_load: V6_12, Simulator, Load, 2 CPUs, panic on 1, loop on Some(0);
    new_simulator_lastwords: V6_12, Simulator, Lastwords, 8 CPUs, panic on 5, loop on Some(2);
    new_openipmi_file_load: V6_12, OpenIpmi, FileLoad, 2 CPUs, panic on 0, loop on None;
    #[ignore = "make test-all: another cell of the grid"]
    new_openipmi_load: V6_12, OpenIpmi, Load, 8 CPUs, panic on 1, loop on Some(6);
    #[ignore = "make test-all: another cell of the grid"]
    new_openipmi_lastwords: V6_12, OpenIpmi, Lastwords, 1 CPUs, panic on 0, loop on None;
    newest_simulator_lastwords: Newest, Simulator, Lastwords, 2 CPUs, panic on 1, loop on Some(0);
    #[ignore = "make test-all: another cell of the grid"]
    newest_openipmi_file_load: Newest, OpenIpmi, FileLoad, 2 CPUs, panic on 0, loop on None;
    #[ignore = "make test-all: another cell of the grid"]
    newest_simulator_load: Newest, Simulator, Load, 8 CPUs, panic on 5, loop on Some(2);
}
