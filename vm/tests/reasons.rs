//! Every kind of crash: the SEL says why, in the kernel's own words, and where. Held against vmcore-dmesg and the
//! notes of the same crash's dump, and read by ipmitool and by `lastwords read`.
//!
//! Each way to die is in `make test` on one of the kernels. What differs from another kind in the log alone is in
//! `make test-all` here, and by the logs of the same crashes in core's own tests (`core/tests/cause.rs`).

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::dmesg::{self, Dmesg};
use lastwords_vm::judge::identity;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::reading;
use lastwords_vm::judge::sections::Section;
use lastwords_vm::judge::sel_text;
use lastwords_vm::judge::symbols::Kallsyms;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::Release::{self, Newest, V6_1, V6_12};
use lastwords_vm::scenarios::crash_kinds::Kind;
use lastwords_vm::scenarios::{Arm, Call, Scenario};
use std::time::Duration;

/// How the dump kernel is loaded.
#[derive(Clone, Copy)]
enum By {
    /// `kexec -s` and a wrapped kernel.
    Wrap,
    /// `lastwords load`.
    Load,
}
use By::{Load, Wrap};

/// How the kernel's report of a crash begins in the SEL. It is the reason itself where the kernel crashes on it at
/// once.
fn report(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Sysrq | Kind::KilledInit | Kind::Nmi => None,
        Kind::NullPointer
        | Kind::FatalException
        | Kind::OomThenOops
        | Kind::HungTaskThenOops
        | Kind::UserFaultThenOops
        | Kind::MachineCheckThenOops
        | Kind::Interleaved
        | Kind::ForgedMount
        | Kind::ForgedName
        | Kind::ForgedPath => Some("NULL deref at 18"),
        Kind::ProtectionFault => Some("GP fault at dead4ead00000000"),
        Kind::Bug => Some("BUG at crash.s:42"),
        Kind::StackOverflow => Some("stack overflow"),
        Kind::HungTask => Some("hung task"),
        Kind::SoftLockup | Kind::SlowLockup => Some("soft lockup CPU#0"),
        Kind::HardLockup | Kind::HardLockupEverywhere => Some("hard LOCKUP on CPU 0"),
        Kind::RcuStall => Some("RCU stall"),
        Kind::OutOfMemory => Some("oom-killer"),
        Kind::MachineCheck => Some("machine check bank 1 b600000000000135"),
        Kind::Warning => Some("WARNING at crash.s:43"),
        Kind::Refcount => Some("refcount underflow"),
        Kind::Ubsan => Some("UBSAN array-index-out-of-bounds"),
        Kind::ListCorruption => Some("list corruption"),
    }
}

/// How the kernel's record begins from which on its log is of the crash, and not of what it survived or somebody else
/// brought it to say.
fn begins(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::OomThenOops
        | Kind::HungTaskThenOops
        | Kind::UserFaultThenOops
        | Kind::MachineCheckThenOops
        | Kind::Interleaved
        | Kind::ForgedMount
        | Kind::ForgedName
        | Kind::ForgedPath => Some("BUG: kernel NULL pointer dereference"),
        _ => None,
    }
}

fn crash(kind: Kind, release: Release, bmc: Bmc, by: By) -> Result<()> {
    let openipmi = matches!(bmc, Bmc::OpenIpmi);
    let options = Asked::ALL.options();
    let arm = match by {
        Wrap => Arm::Wrapped(Call::FileLoad, options),
        // The host has the kernel's own list.
        Load => Arm::Lastwords(format!("{options} --no-symbols")),
    };
    let mut outcome = Scenario::new(release)
        .bmc(bmc)
        .arm(arm)
        .log_at_hand()
        // The slow line takes a minute, on a busy machine more.
        .limit(Duration::from_secs(600))
        .before("section kallsyms kallsyms")
        .death(&kind.death())
        .dump("collect_bmc\ncollect_vmcore\nsection log vmcore-log")
        .watch(|vm, line| kind.act(vm, line))?;
    println!("{outcome}");
    ensure!(outcome.notes()?.randomized()?, "the kernel's addresses are not randomized");
    // vmcore-dmesg does not tell who wrote what: it has to agree, and what is looked at is the part of the crash.
    let log = outcome.text("log")?;
    let panic = Dmesg::parse(log).panic();
    ensure!(
        Dmesg::parse(outcome.text("dmesg")?).panic() == panic,
        "vmcore-dmesg has not the panic {panic:?}"
    );
    let part = begins(kind).map_or(Some(log.to_owned()), |begins| dmesg::from(log, begins));
    let part = part.with_context(|| format!("the crash is not in the log: {log}"))?;
    outcome.sections.insert("dmesg".to_owned(), Section { status: 0, text: part });
    // A machine check's report does not name its CPU so.
    let panicked = Dmesg::parse(outcome.text("dmesg")?).panicked().map_or(0, |(cpu, _)| cpu);
    Asked::ALL.check_console(&outcome, panicked)?;
    Asked::ALL.check_bmc(&outcome, panicked, !openipmi)?;
    check_words(&outcome, kind)?;
    let symbols = Kallsyms::get(&outcome)?;
    let told = reading::read_file(&outcome, &symbols)?;
    identity::check(&outcome, &told)?;
    reading::check(&outcome, &told, &symbols, panicked)
}

/// What [`Asked`] does not know: what kind of crash it was, and what ipmitool shows of the reason.
fn check_words(outcome: &Outcome, kind: Kind) -> Result<()> {
    let said = sel_text::said(&outcome.sel()?)?;
    let reason = said.reason.as_deref().context("no reason")?;
    let panic = Dmesg::parse(outcome.text("dmesg")?).panic();
    let reported = if panic.is_some() { said.cause.as_deref() } else { Some(reason) };
    let right = match (reported, report(kind)) {
        (Some(reported), Some(begin)) => reported.starts_with(begin),
        (reported, expected) => reported.is_none() && expected.is_none(),
    };
    ensure!(right, "the report is {reported:?}, the reason {reason:?}");
    let shown = outcome.text("sel")?;
    let texts = shown.lines().filter_map(|line| Some(line.split_once("Linux kernel panic: ")?.1));
    let texts = texts.collect::<String>();
    ensure!(texts.starts_with(reason), "ipmitool shows {shown}");
    Ok(())
}

macro_rules! reasons {
    ($($(#[$attribute:meta])* $name:ident: $kind:ident, $release:ident, $bmc:ident, $by:ident;)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $name() -> Result<()> {
            crash(Kind::$kind, $release, Bmc::$bmc, $by)
        }
    )*};
}

reasons! {
    #[ignore = "make test-all: core's tests have this kind's logs"]
    sysrq: Sysrq, V6_12, OpenIpmi, Load;
    #[ignore = "make test-all: the other kernel has this kind in make test"]
    null_pointer: NullPointer, V6_1, Simulator, Wrap;
    null_pointer_new: NullPointer, V6_12, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    fatal_exception: FatalException, V6_12, OpenIpmi, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    protection_fault: ProtectionFault, V6_1, OpenIpmi, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    protection_fault_new: ProtectionFault, V6_12, Simulator, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    bug: Bug, V6_1, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    bug_new: Bug, V6_12, Simulator, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    stack_overflow: StackOverflow, V6_1, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    stack_overflow_new: StackOverflow, V6_12, OpenIpmi, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    killed_init: KilledInit, V6_1, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    hung_task: HungTask, V6_1, OpenIpmi, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    soft_lockup: SoftLockup, V6_12, Simulator, Load;
    hard_lockup: HardLockup, V6_1, Simulator, Load;
    #[ignore = "make test-all: the other kernel has this kind in make test"]
    hard_lockup_new: HardLockup, V6_12, OpenIpmi, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    rcu_stall: RcuStall, V6_1, Simulator, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    out_of_memory: OutOfMemory, V6_12, Simulator, Load;
    nmi: Nmi, V6_1, OpenIpmi, Wrap;
    #[ignore = "make test-all: the other kernel has this kind in make test"]
    nmi_new: Nmi, V6_12, Simulator, Load;
    #[ignore = "make test-all: the other kernel has this kind in make test"]
    machine_check: MachineCheck, V6_1, Simulator, Load;
    machine_check_new: MachineCheck, V6_12, Simulator, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    warning: Warning, V6_12, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    warning_old: Warning, V6_1, OpenIpmi, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    warning_newest: Warning, Newest, Simulator, Wrap;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    refcount: Refcount, V6_12, OpenIpmi, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    refcount_newest: Refcount, Newest, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    ubsan: Ubsan, Newest, Simulator, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    list_corruption: ListCorruption, V6_1, Simulator, Load;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    list_corruption_newest: ListCorruption, Newest, OpenIpmi, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    oom_then_oops: OomThenOops, V6_1, Simulator, Wrap;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    oom_then_oops_newest: OomThenOops, Newest, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    hung_task_then_oops: HungTaskThenOops, V6_12, Simulator, Load;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    hung_task_then_oops_newest: HungTaskThenOops, Newest, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    user_fault_then_oops: UserFaultThenOops, Newest, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    machine_check_then_oops: MachineCheckThenOops, V6_12, OpenIpmi, Load;
    interleaved: Interleaved, V6_1, Simulator, Load;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    interleaved_newest: Interleaved, Newest, Simulator, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    slow_lockup: SlowLockup, V6_12, Simulator, Wrap;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    hard_lockup_everywhere: HardLockupEverywhere, V6_12, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    forged_mount: ForgedMount, V6_1, Simulator, Load;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    forged_mount_newest: ForgedMount, Newest, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    forged_name: ForgedName, V6_12, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    forged_path: ForgedPath, Newest, Simulator, Wrap;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    null_pointer_newest: NullPointer, Newest, Simulator, Load;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    hung_task_newest: HungTask, Newest, Simulator, Wrap;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    soft_lockup_newest: SoftLockup, Newest, Simulator, Load;
    #[ignore = "make test-all: core's tests have this kind's logs"]
    rcu_stall_newest: RcuStall, Newest, Simulator, Load;
    #[ignore = "make test-all: another kernel has this kind in make test"]
    machine_check_newest: MachineCheck, Newest, OpenIpmi, Wrap;
}
