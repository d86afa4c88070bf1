//! `lastwords read` where an administrator would run it: on the machine that crashed, with the symbols that `lastwords
//! load` saved; from another one, over the LAN and from a file, with the kernel's own list.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::identity;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::reading;
use lastwords_vm::judge::symbols::Kallsyms;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};

/// Of four CPUs this one panics, one is in a module, one in user space, one idle.
const PANICKED: usize = 3;

fn crash(release: Release, bmc: Bmc, arm: Arm) -> Result<(Outcome, Kallsyms)> {
    let outcome = Scenario::new(release)
        .cpus(4)
        .bmc(bmc)
        .arm(arm)
        .lastwords_at_hand()
        // The dump kernel stands for the machine after the crash, and gets its files.
        .before(
            "loop_on 2\nsection kallsyms kallsyms\n\
             section load lastwords load /boot/vmlinuz --initrd=/boot/initrd --append=quiet\n\
             carry /bin/lastwords /lib/x86_64-linux-gnu /lib64 /var",
        )
        .death("on_cpu 1 sh -c 'while :; do :; done' &\npanic_on 3")
        .dump(
            "collect_bmc\ncollect_vmcore\nsection mark-started lastwords mark started\n\
             section mark-saved lastwords mark saved\nsection read lastwords read --json\n\
             section told lastwords read",
        )
        .run()?;
    outcome.text("load")?;
    let symbols = Kallsyms::get(&outcome)?;
    Ok((outcome, symbols))
}

/// On the machine itself: also how far the dump came.
fn check_here(outcome: &Outcome, symbols: &Kallsyms) -> Result<()> {
    let told = serde_json::from_str(outcome.text("read")?)?;
    identity::check(outcome, &told)?;
    println!("{}", outcome.text("told")?);
    reading::check(outcome, &told, symbols, PANICKED)?;
    let groups = told["crashes"][0]["groups"].to_string();
    ensure!(groups.contains("busy+0x"), "the module's function is not named: {groups}");
    let dump = &told["crashes"][0]["dump"];
    ensure!(dump.as_array().is_some_and(|stages| stages.len() == 2), "the dump's stages are {dump}");
    let text = outcome.text("told")?;
    ensure!(text.contains("sysrq triggered crash") && text.contains("busy+0x"), "told: {text}");
    Ok(())
}

/// The same from a file that ipmitool has written.
fn check_file(outcome: &Outcome, symbols: &Kallsyms) -> Result<()> {
    let told = reading::read_file(outcome, symbols)?;
    identity::check(outcome, &told)?;
    reading::check(outcome, &told, symbols, PANICKED)
}

#[test]
#[ignore = "make test-all: the other one reads over the LAN, too"]
fn on_the_machine_and_from_a_file() -> Result<()> {
    let arm = Arm::Wrapped(Call::FileLoad, Asked::ALL.options());
    let (outcome, symbols) = crash(Release::V6_1, Bmc::Simulator, arm)?;
    check_here(&outcome, &symbols)?;
    check_file(&outcome, &symbols)
}

#[test]
fn on_the_machine_from_a_file_and_over_the_lan() -> Result<()> {
    let (outcome, symbols) = crash(Release::V6_12, Bmc::OpenIpmi, Arm::Lastwords(Asked::ALL.options()))?;
    check_here(&outcome, &symbols)?;
    check_file(&outcome, &symbols)?;
    let told = reading::read_lan(&outcome, &symbols)?;
    identity::check(&outcome, &told)?;
    reading::check(&outcome, &told, &symbols, PANICKED)
}
