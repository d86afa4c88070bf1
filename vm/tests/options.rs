//! Each option alone, before each kind of BMC: it does its own thing and nothing else.
//!
//! Our own BMC remembers every request from the machine's start on, and so shows what was *not* done; the two
//! simulators and ipmitool, which know nothing of us, show that what was done counts for others.

use anyhow::Result;
use lastwords_vm::judge::asked::{Asked, Watchdog};
use lastwords_vm::judge::dump;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::obedient;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// CPU 1 of two panics.
const PANICKED: usize = 1;

fn scenario(release: Release, bmc: Bmc) -> Scenario {
    Scenario::new(release).bmc(bmc).death("panic_on 1")
}

/// Asked for on the dump kernel's command line.
fn by_parameter(asked: Asked) -> Result<()> {
    let outcome = scenario(Release::V6_1, Bmc::Ours(obedient()))
        .arm(Arm::Wrapped(Call::FileLoad, String::new()))
        .append(&asked.parameters())
        .dump("collect_vmcore")
        .run()?;
    asked.check_console(&outcome, PANICKED)?;
    asked.check_requests(&outcome, PANICKED)
}

/// Embedded in the image.
fn by_option(asked: Asked) -> Result<()> {
    let outcome = scenario(Release::V6_12, Bmc::Ours(obedient()))
        .arm(Arm::Wrapped(Call::Load, asked.options()))
        .dump("collect_vmcore")
        .run()?;
    asked.check_console(&outcome, PANICKED)?;
    asked.check_requests(&outcome, PANICKED)
}

fn on_simulator(asked: Asked) -> Result<()> {
    let outcome = scenario(Release::V6_12, Bmc::Simulator)
        .arm(Arm::Wrapped(Call::FileLoad, asked.options()))
        .dump("collect_bmc\ncollect_vmcore")
        .run()?;
    asked.check_console(&outcome, PANICKED)?;
    asked.check_bmc(&outcome, PANICKED, true)
}

fn on_openipmi(asked: Asked) -> Result<()> {
    let outcome = scenario(Release::V6_1, Bmc::OpenIpmi)
        .arm(Arm::Lastwords(asked.options()))
        .dump("collect_bmc\ncollect_vmcore")
        .run()?;
    asked.check_console(&outcome, PANICKED)?;
    asked.check_bmc(&outcome, PANICKED, false)
}

/// Each option before our own BMC, which sees all that is done, and some before one of the others or by another way; what is
/// in brackets is in `make test-all` alone.
macro_rules! alone {
    ($($(#[$mark:meta])? $name:ident, by_parameter $(, $also:ident)? [$($more:ident),*]: $asked:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            $(#[$mark])?
            fn by_parameter() -> Result<()> {
                super::by_parameter($asked)
            }

            $(
                #[test]
                fn $also() -> Result<()> {
                    super::$also($asked)
                }
            )?

            $(
                #[test]
                #[ignore = "make test-all: another way has this option in make test"]
                fn $more() -> Result<()> {
                    super::$more($asked)
                }
            )*
        }
    )*};
}

alone! {
    handle_panic, by_parameter [by_option, on_simulator, on_openipmi]:
        Asked { event: true, ..Asked::NOTHING };
    #[ignore = "make test-all: watchdog:: starts it in make test"]
    watchdog_start, by_parameter [by_option, on_simulator, on_openipmi]:
        Asked { watchdog: Watchdog::Start(300), ..Asked::NOTHING };
    #[ignore = "make test-all: watchdog:: stops it in make test"]
    watchdog_stop, by_parameter [by_option, on_simulator, on_openipmi]:
        Asked { watchdog: Watchdog::Stop, ..Asked::NOTHING };
    cpu_ip_to_the_sel, by_parameter [by_option, on_simulator, on_openipmi]:
        Asked { sel: true, ..Asked::NOTHING };
    cpu_ip_to_the_console, by_parameter [by_option, on_simulator, on_openipmi]:
        Asked { console: true, ..Asked::NOTHING };
}

#[test]
fn nothing_asked_by_parameter_nothing_done() -> Result<()> {
    by_parameter(Asked::NOTHING)
}

#[test]
#[ignore = "make test-all: by parameter it is in make test"]
fn nothing_asked_by_option_nothing_done() -> Result<()> {
    by_option(Asked::NOTHING)
}

#[test]
#[ignore = "make test-all: crashes:: has them all, too"]
fn all_together() -> Result<()> {
    by_parameter(Asked::ALL)
}

/// The bench itself, with Debian's kernel and kexec as they are.
#[test]
#[ignore = "make test-all: shapes:: has stock crashes"]
fn without_lastwords_a_crash_is_dumped_and_nothing_is_said() -> Result<()> {
    let outcome = scenario(Release::V6_1, Bmc::Ours(obedient()))
        .arm(Arm::Stock(Call::Load))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    dump::check(&outcome, 2)?;
    Asked::NOTHING.check_console(&outcome, PANICKED)?;
    Asked::NOTHING.check_requests(&outcome, PANICKED)
}
