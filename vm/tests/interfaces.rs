//! BMCs behind other interfaces than KCS at I/O ports of the tables: found without being told, and spoken to with no driver.

use anyhow::{Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::{console, dump};
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};

const REPORTS: &str = "--ipmi-handle-panic --output-cpu-ip=sel";

/// A crash of a machine whose BMC, QEMU's own, is this device, with these drivers in the first kernel.
fn crash(device: &str, drivers: &str, arm: Arm, dump: &str) -> Result<Outcome> {
    let outcome = Scenario::new(Release::V6_1)
        .bmc(Bmc::None)
        .qemu(["-device", "ipmi-bmc-sim,id=bmc0", "-device", &format!("{device},bmc=bmc0")])
        .arm(arm)
        .lastwords_at_hand()
        .before(&format!(
            "{drivers}\nsection probe lastwords probe\nsection json lastwords probe --json\n\
             mv /dev/port /dev/gone\nsection without lastwords probe --print-parameters\nmv /dev/gone /dev/port"
        ))
        .death("section status lastwords status\nsection test lastwords test\npanic_on 0")
        .dump(&format!("{dump}\ncollect_vmcore\ncollect_dump"))
        .run()?;
    for section in ["arm", "probe", "status", "test"] {
        println!("{section}:\n{}", outcome.section(section)?.text);
    }
    println!("{:#?}", console::lines(&outcome));
    dump::check(&outcome, 2)?;
    Ok(outcome)
}

/// The SEL has the panic, as ipmitool reads it.
fn reported(outcome: &Outcome) -> Result<()> {
    let sel = outcome.text("sel")?;
    let count = |text: &str| sel.lines().filter(|line| line.contains(text)).count();
    ensure!(count("panic: sysrq trigg") == 1 && count("Run-time critical stop") == 1, "{sel}");
    let said = console::lines(outcome);
    ensure!(!said.iter().any(|line| line.contains("no BMC")), "{said:#?}");
    Ok(())
}

#[test]
fn kcs_behind_pci_is_found_by_its_class_and_by_its_answer() -> Result<()> {
    let outcome = crash("pci-ipmi-kcs", "", Arm::Lastwords(REPORTS.to_owned()), "collect_bmc")?;
    let load = outcome.text("arm")?;
    ensure!(load.contains("BMC: KCS at I/O ports 0x") && load.contains(", from its PCI class"), "{load}");
    let probe = outcome.text("probe")?;
    ensure!(probe.contains("KCS at I/O ports 0x") && probe.contains("from its PCI class"), "{probe}");
    without_the_device(&outcome, "lastwords.ipmi_kcs_ports=0x")?;
    ensure!(outcome.section("test")?.status == 0, "{}", outcome.text("test")?);
    reported(&outcome)
}

#[test]
fn kcs_behind_pci_that_the_driver_has_is_the_drivers() -> Result<()> {
    let outcome = crash("pci-ipmi-kcs", "ipmi", Arm::Lastwords(REPORTS.to_owned()), "collect_bmc")?;
    let load = outcome.text("arm")?;
    ensure!(load.contains("BMC: KCS at I/O ports 0x") && load.contains("ipmi_si driver"), "{load}");
    ensure!(outcome.text("json")?.contains(r#""source": "driver""#));
    reported(&outcome)
}

/// The tool has found it without /dev/port, too: by ioperm(2).
fn without_the_device(outcome: &Outcome, kind: &str) -> Result<()> {
    let without = outcome.text("without")?;
    ensure!(without.starts_with(kind), "{without}");
    Ok(())
}

/// With no driver in either kernel, but for ipmitool in the dump kernel.
fn bt(device: &str, source: &str) -> Result<()> {
    let outcome = crash(device, "", Arm::Lastwords(REPORTS.to_owned()), "lastwords mark saved\ncollect_bmc")?;
    let load = outcome.text("arm")?;
    ensure!(load.contains("BMC: BT at I/O ports from 0x") && load.contains(source), "{load}");
    let probe = outcome.text("probe")?;
    ensure!(probe.contains("BT ports from 0x") && probe.contains("--ipmi-interface=bt:0x"), "{probe}");
    ensure!(outcome.section("test")?.status == 0, "{}", outcome.text("test")?);
    ensure!(outcome.text("sel")?.contains("dump saved"), "{}", outcome.text("sel")?);
    without_the_device(&outcome, "lastwords.ipmi_interface=bt:0x")?;
    reported(&outcome)
}

#[test]
fn bt_in_smbios_is_found_and_spoken_to() -> Result<()> {
    bt("isa-ipmi-bt", "SMBIOS type 38")
}

#[test]
fn bt_behind_pci_is_found_by_its_class_and_by_its_answer() -> Result<()> {
    bt("pci-ipmi-bt", "its PCI class")
}

/// The tool leaves the running kernel's SMBus controller alone, and says so; the image does not need it.
#[test]
fn ssif_in_smbios_is_found_on_the_i801_and_the_image_speaks_to_it() -> Result<()> {
    let outcome = crash("smbus-ipmi,address=0x42", "", Arm::Lastwords(REPORTS.to_owned()), "true")?;
    let load = outcome.text("arm")?;
    ensure!(load.contains("BMC: SSIF at SMBus address 0x42 of the i801 at 0x"), "{load}");
    for section in ["probe", "test"] {
        let section = outcome.section(section)?;
        ensure!(
            section.status == 1 && section.text.contains("modprobe -a i2c_i801 ipmi_ssif"),
            "{}",
            section.text
        );
    }
    let said = console::lines(&outcome);
    let added = |line: &&str| line.starts_with("SEL: ") && line.contains(" records added");
    ensure!(said.iter().any(added), "{said:#?}");
    Ok(())
}
