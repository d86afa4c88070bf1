//! The bench itself, with Debian's kernel and kexec and no lastwords: a crash is dumped, and nobody tells the BMC.

use anyhow::Result;
use lastwords_vm::kernels::Release;
use lastwords_vm::scenario::{Arm, Bmc, Call, Scenario};
use lastwords_vm::vmbmc::obedient;
use lastwords_vm::words;

#[test]
fn without_lastwords_a_crash_is_dumped_and_nothing_is_said() -> Result<()> {
    let outcome = Scenario::new(Release::V6_1)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Stock(Call::Load))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    assert!(outcome.dumped());
    words::check_dump(&outcome, 2)?;
    assert_eq!(words::console(&outcome), [""; 0]);
    assert_eq!(outcome.requests()?, []);
    Ok(())
}
