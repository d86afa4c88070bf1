//! BMCs behind other interfaces than KCS at I/O ports of the tables: found without being told, and spoken to.
//!
//! QEMU's own BMC keeps the words, ipmitool reads them. Recorders at the usual ports of KCS keep what is written there, where no
//! KCS is; and behind the SMBus's other addresses are the memory's EEPROMs, which hold what they held.

use anyhow::{Result, ensure};
use lastwords_vm::judge::asked::Asked;
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::sections::Section;
use lastwords_vm::judge::{console, dump};
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::obedient;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Call, Scenario};
use std::fs;

/// The BMC's device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    PciKcs,
    PciBt,
    IsaBt,
    Smbus,
}
use Device::{IsaBt, PciBt, PciKcs, Smbus};

impl Device {
    const fn qemu(self) -> &'static str {
        match self {
            PciKcs => "pci-ipmi-kcs,bmc=bmc0",
            PciBt => "pci-ipmi-bt,bmc=bmc0",
            IsaBt => "isa-ipmi-bt,bmc=bmc0",
            Smbus => "smbus-ipmi,bmc=bmc0,address=0x42",
        }
    }

    /// How it is called, and who knows of it where no driver does.
    const fn found(self) -> [&'static str; 2] {
        match self {
            PciKcs => ["KCS at I/O ports 0x", ", from its PCI class"],
            PciBt => ["BT at I/O ports from 0x", ", from its PCI class"],
            IsaBt => ["BT at I/O ports from 0xe4", ", from SMBIOS type 38"],
            Smbus => ["SSIF at SMBus address 0x42 of the i801 at 0x700", ", from SMBIOS type 38"],
        }
    }
}

/// The usual ports of KCS.
const PORTS: std::ops::RangeInclusive<u16> = 0xca2..=0xca9;

/// A machine with this device, and with recorders.
fn machine(release: Release, device: Device) -> Scenario {
    let mut machine = Scenario::new(release)
        .bmc(Bmc::None)
        .qemu(["-device", "ipmi-bmc-sim,id=bmc0", "-device", device.qemu()])
        .lastwords_at_hand();
    for port in PORTS {
        machine = machine.qemu([
            "-chardev",
            &format!("file,id=port{port},path=port-{port:x}"),
            "-device",
            &format!("isa-debugcon,iobase={port},chardev=port{port},readback=0xff"),
        ]);
    }
    machine
}

/// What the recorders have.
fn recorded(outcome: &Outcome) -> Result<Vec<u8>> {
    let files = PORTS.map(|port| fs::read(outcome.folder.path().join(format!("port-{port:x}"))));
    Ok(files.collect::<std::io::Result<Vec<_>>>()?.concat())
}

/// How the dump kernel is loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `lastwords wrap` on the machine, and stock kexec.
    Wrap,
    Purgatory,
}
use Way::{Purgatory, Wrap};

/// Everything is asked for, the machine panics, and ipmitool finds it all. With the driver that happens amid its own traffic.
fn all_words(device: Device, driver: bool, way: Way, release: Release) -> Result<()> {
    // Where it is nobody's, the recorder at 0xca2 shows that it records.
    const RECORD: &str = "printf x | dd of=/dev/port bs=1 seek=$((0xca2)) 2>/dev/null";
    let traffic = "ipmi\n(while :; do ipmitool raw 6 1; done) >/dev/null 2>&1 &\n";
    let before = if driver { traffic } else { "section left eeproms\nrmmod i2c-i801 2>/dev/null\n" };
    let options = Asked::ALL.options();
    let (arm, wrap) = match way {
        Purgatory => (Arm::Lastwords(format!("--via purgatory {options}")), String::new()),
        Wrap => (
            Arm::Stock(Call::FileLoad),
            format!("section wrap lastwords wrap --force /boot/vmlinuz -o /boot/vmlinuz {options}\n"),
        ),
    };
    let outcome = machine(release, device)
        .arm(arm)
        .before(&format!("{RECORD}\n{before}section probe lastwords probe\n{wrap}"))
        .dump("section held eeproms\ncollect_bmc\ncollect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    dump::check(&outcome, 2)?;
    Asked::ALL.check_console(&outcome, 0)?;
    Asked::ALL.check_bmc(&outcome, 0, true)?;
    // The tool itself leaves a running kernel's SMBus alone.
    let alone = device == Smbus && !driver;
    let Section { status, text } = outcome.section("probe")?;
    let probe = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let [what, who] = device.found();
    let who = if driver { ", from the running ipmi_s" } else { who };
    let said = if alone { "modprobe -a i2c_i801 ipmi_ssif ipmi_devintf" } else { who };
    ensure!(*status == i32::from(alone) && probe.contains(said), "{probe}");
    if way == Purgatory {
        let load = outcome.text("arm")?;
        ensure!(load.contains(&format!("BMC: {what}")) && load.contains(who), "{load}");
    }
    ensure!(recorded(&outcome)? == b"x", "written to KCS's ports: {:x?}", recorded(&outcome)?);
    if !driver && device == Smbus {
        let (left, held) = (outcome.text("left")?, outcome.text("held")?);
        ensure!(left.contains("70: 00 00") && left == held, "{left}{held}");
    }
    Ok(())
}

/// Each pair of two columns' values is in a row.
macro_rules! pairwise {
    ($($name:ident: $device:expr, $driver:expr, $way:expr, $release:expr;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            all_words($device, $driver, $way, $release)
        }
    )*};
}

pairwise! {
    pci_kcs_amid_the_drivers_traffic: PciKcs, true, Wrap, Release::V6_1;
    pci_kcs_without_a_driver: PciKcs, false, Purgatory, Release::V6_12;
    pci_bt_amid_the_drivers_traffic: PciBt, true, Purgatory, Release::V6_1;
    pci_bt_without_a_driver: PciBt, false, Wrap, Release::V6_12;
    isa_bt_amid_the_drivers_traffic: IsaBt, true, Purgatory, Release::V6_12;
    isa_bt_without_a_driver: IsaBt, false, Wrap, Release::V6_1;
    ssif_amid_the_drivers_traffic: Smbus, true, Wrap, Release::V6_12;
    ssif_without_a_driver: Smbus, false, Purgatory, Release::V6_1;
}

const REPORTS: &str = "--ipmi-handle-panic --output-cpu-ip=sel";

/// A crash of a machine whose BMC, QEMU's own, is this device, with these drivers in the first kernel.
fn crash(device: &str, drivers: &str, arm: Arm, dump: &str) -> Result<Outcome> {
    let outcome = Scenario::new(Release::V6_1)
        .bmc(Bmc::None)
        .qemu(["-device", "ipmi-bmc-sim,id=bmc0", "-device", &format!("{device},bmc=bmc0")])
        .arm(arm)
        .lastwords_at_hand()
        .before(&format!("{drivers}\nsection probe lastwords probe\nsection json lastwords probe --json"))
        .death("section status lastwords status\nsection test lastwords test\npanic_on 0")
        .dump(&format!("{dump}\ncollect_vmcore\ncollect_dump"))
        .run()?;
    for section in ["arm", "probe", "json", "status", "test"] {
        println!("{section}:\n{}", outcome.section(section)?.text);
    }
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

/// A machine that shows its BMC nowhere, and a kernel that was wrapped there: one register is read, none is written.
#[test]
fn a_bmc_that_nobody_names_is_not_written_to() -> Result<()> {
    let outcome = Scenario::new(Release::V6_12)
        .bmc(Bmc::Ours(obedient()))
        .arm(Arm::Stock(Call::FileLoad))
        .lastwords_at_hand()
        .before(&format!(
            "for _folder in /sys/firmware /sys/bus; do mount -t tmpfs tmpfs $_folder; done
             mount --bind /dev/null /proc/ioports; mount --bind /dev/null /proc/iomem
             section wrap lastwords wrap --force /boot/vmlinuz -o /boot/vmlinuz {}
             for _folder in /sys/firmware /sys/bus /proc/ioports /proc/iomem; do umount $_folder; done",
            Asked::ALL.options()
        ))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    dump::check(&outcome, 2)?;
    ensure!(outcome.requests()?.is_empty(), "{:x?}", outcome.requests()?);
    let wrap = outcome.text("wrap")?;
    ensure!(wrap.contains("no BMC"), "{wrap}");
    let said = console::lines(&outcome);
    ensure!(
        said.iter()
            .any(|line| line.contains("reads 0x00, lastwords.ipmi_kcs_ports=0xca2,0xca3 would use it")),
        "{said:#?}"
    );
    Ok(())
}
