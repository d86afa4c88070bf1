//! A wrapped kernel as the *first* one: it boots as it did before and says nothing, from BIOS and from UEFI, with the
//! image in memory and without. And the machine that it runs dies with last words.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::dump;
use lastwords_vm::judge::image::Image;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::obedient;
use lastwords_vm::machine::kernels::{Kernel, Release};
use lastwords_vm::machine::lastwords;
use lastwords_vm::machine::qemu::Firmware;
use lastwords_vm::scenarios::{Arm, Call, Scenario};
use std::fs;

fn boots_silently(scenario: Scenario) -> Result<Outcome> {
    let outcome = scenario.bmc(Bmc::Ours(obedient())).arm(Arm::Not).death("section up uname -r").run()?;
    ensure!(outcome.text("up")?.trim() == outcome.kernel.version);
    Asked::NOTHING.check_console(&outcome, 0)?;
    Asked::NOTHING.check_requests(&outcome, 0)?;
    Ok(outcome)
}

#[test]
#[ignore = "make test-all: linux_6_12_boots_from_bios shows it"]
fn linux_6_1_boots_from_bios() -> Result<()> {
    boots_silently(Scenario::new(Release::V6_1).boots_wrapped(&Asked::ALL.options()))?;
    Ok(())
}

#[test]
fn linux_6_12_boots_from_bios() -> Result<()> {
    boots_silently(Scenario::new(Release::V6_12).boots_wrapped(&Asked::ALL.options()))?;
    Ok(())
}

/// The hook looks whether the image is there before it goes to it: a loader may leave out what lies behind the
/// kernel's own sections.
#[test]
fn a_wrapped_kernel_whose_image_is_not_in_memory_boots() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kernel");
    lastwords::wrap(&Kernel::get(Release::V6_1)?.image, &path, &Asked::ALL.options())?;
    let mut kernel = fs::read(&path)?;
    let image = Image::find(&kernel)?.at;
    kernel[image..][..4096].fill(0);
    fs::write(&path, kernel)?;
    boots_silently(Scenario::new(Release::V6_1).boots(&path))?;
    Ok(())
}

/// From UEFI, and then a crash: if the first boot had asked the BMC for anything, it would stand among the requests.
fn boots_from_uefi_and_dies(release: Release, call: Call) -> Result<()> {
    let outcome = Scenario::new(release)
        .firmware(Firmware::Uefi)
        .bmc(Bmc::Ours(obedient()))
        .boots_wrapped(&Asked::ALL.options())
        .arm(Arm::Wrapped(call, Asked::ALL.options()))
        .before("section firmware ls /sys/firmware/efi/fw_platform_size")
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    outcome.text("firmware")?;
    let said_when = outcome.when("lastwords: ");
    ensure!(said_when > outcome.when("Kernel panic"), "words at {said_when:?}, before the panic");
    dump::check(&outcome, 2)?;
    Asked::ALL.check_console(&outcome, 0)?;
    Asked::ALL.check_requests(&outcome, 0)
}

#[test]
#[ignore = "make test-all: linux_6_12_boots_from_uefi_and_dies_with_last_words shows it"]
fn linux_6_1_boots_from_uefi_and_dies_with_last_words() -> Result<()> {
    boots_from_uefi_and_dies(Release::V6_1, Call::Load)
}

#[test]
fn linux_6_12_boots_from_uefi_and_dies_with_last_words() -> Result<()> {
    boots_from_uefi_and_dies(Release::V6_12, Call::FileLoad)
}
