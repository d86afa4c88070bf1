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
    let mut machine = Scenario::new(release).bmc_device(device.qemu()).lastwords_at_hand();
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
        .before(&format!(
            "{RECORD}\n{before}section probe lastwords probe\nsection json lastwords probe --json\n{wrap}"
        ))
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
    if driver {
        ensure!(outcome.text("json")?.contains(r#""source": "driver""#));
    }
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
    ($($(#[$attribute:meta])* $name:ident: $device:expr, $driver:expr, $way:expr, $release:expr;)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $name() -> Result<()> {
            all_words($device, $driver, $way, $release)
        }
    )*};
}

pairwise! {
    pci_kcs_amid_the_drivers_traffic: PciKcs, true, Wrap, Release::V6_1;
    #[ignore = "make test-all: each device, and each of the rest, has a row in make test"]
    pci_kcs_without_a_driver: PciKcs, false, Purgatory, Release::V6_12;
    #[ignore = "make test-all: each device, and each of the rest, has a row in make test"]
    pci_bt_amid_the_drivers_traffic: PciBt, true, Purgatory, Release::V6_1;
    pci_bt_without_a_driver: PciBt, false, Wrap, Release::V6_12;
    isa_bt_amid_the_drivers_traffic: IsaBt, true, Purgatory, Release::V6_12;
    #[ignore = "make test-all: each device, and each of the rest, has a row in make test"]
    isa_bt_without_a_driver: IsaBt, false, Wrap, Release::V6_1;
    #[ignore = "make test-all: each device, and each of the rest, has a row in make test"]
    ssif_amid_the_drivers_traffic: Smbus, true, Wrap, Release::V6_12;
    ssif_without_a_driver: Smbus, false, Purgatory, Release::V6_1;
}

/// A BMC that is no part of QEMU, and records: every request of a report comes once, in its order.
fn every_request(device: Device, release: Release) -> Result<()> {
    let outcome = Scenario::new(release)
        .bmc(Bmc::Ours(obedient()))
        .bmc_device(device.qemu())
        .arm(Arm::Lastwords(format!("--via purgatory {}", Asked::ALL.options())))
        .dump("collect_vmcore\ncollect_dump")
        .run()?;
    println!("{outcome}");
    dump::check(&outcome, 2)?;
    Asked::ALL.check_console(&outcome, 0)?;
    // Behind PCI loading asks for the device ID, once.
    let before: &[_] = if matches!(device, PciKcs | PciBt) { &[(0x06, 0x01)] } else { &[] };
    Asked::ALL.check_requests_behind(before, &outcome, 0)
}

#[test]
fn a_recording_bmc_behind_ssif_gets_every_request_once() -> Result<()> {
    every_request(Smbus, Release::V6_12)
}

#[test]
#[ignore = "make test-all: faults:: has a BMC that records behind BT"]
fn a_recording_bmc_behind_bt_gets_every_request_once() -> Result<()> {
    every_request(IsaBt, Release::V6_1)
}

#[test]
#[ignore = "make test-all: faults:: has a BMC that records behind BT"]
fn a_recording_bmc_behind_pci_bt_gets_every_request_once() -> Result<()> {
    every_request(PciBt, Release::V6_12)
}

#[test]
#[ignore = "make test-all: the same KCS as at the usual ports"]
fn a_recording_bmc_behind_pci_kcs_gets_every_request_once() -> Result<()> {
    every_request(PciKcs, Release::V6_1)
}

/// Over the registers, with no driver and also without /dev/port (by ioperm(2)); over the SMBus by the driver alone.
fn the_tool(device: Device, parameter: &str) -> Result<()> {
    let driver = if device == Smbus { "ipmi" } else { "" };
    let outcome = machine(Release::V6_1, device)
        .arm(Arm::Lastwords("--ipmi-handle-panic".to_owned()))
        .death(&format!(
            "export NO_COLOR=1
             {driver}
             section probe lastwords probe --write-test
             mv /dev/port /dev/gone; section without lastwords probe --print-parameters; mv /dev/gone /dev/port
             section test lastwords test
             section mark lastwords mark saved
             section read lastwords read
             section ipmi ipmi
             section sel ipmitool sel elist
             section end true
             poweroff -f"
        ))
        .run()?;
    let [what, who] = device.found();
    let who = if driver.is_empty() { who } else { ", from the running ipmi_ssif driver" };
    let probe = outcome.text("probe")?.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(probe.contains(what) && probe.contains(who) && probe.contains("stored"), "{probe}");
    let without = outcome.text("without")?;
    ensure!(without.starts_with(parameter), "{without}");
    let test = outcome.text("test")?;
    ensure!(test.contains("sent and read back"), "{test}");
    outcome.text("mark")?;
    let (read, sel) = (outcome.text("read")?, outcome.text("sel")?);
    ensure!(read.contains("test report"), "{read}");
    ensure!(sel.contains("panic: test report") && sel.contains("panic: dump saved"), "{sel}");
    Ok(())
}

#[test]
fn the_tool_speaks_to_kcs_behind_pci() -> Result<()> {
    the_tool(PciKcs, "lastwords.ipmi_kcs_ports=0x")
}

#[test]
#[ignore = "make test-all: the_tool_speaks_to_kcs_behind_pci; the ports of BT are reached likewise"]
fn the_tool_speaks_to_bt_behind_pci() -> Result<()> {
    the_tool(PciBt, "lastwords.ipmi_interface=bt:0x")
}

#[test]
#[ignore = "make test-all: the_tool_speaks_to_kcs_behind_pci; the ports of BT are reached likewise"]
fn the_tool_speaks_to_bt() -> Result<()> {
    the_tool(IsaBt, "lastwords.ipmi_interface=bt:0xe4")
}

#[test]
fn the_tool_speaks_over_the_smbus_by_its_driver() -> Result<()> {
    the_tool(Smbus, "lastwords.ipmi_interface=ssif:i801:0x700,0x42")
}

/// Two BMCs in the tables, and nobody can look at one of them; then an interface that is named, at which nobody is.
#[test]
fn the_bmc_that_answers_is_used_and_one_that_does_not_is_not_ready() -> Result<()> {
    let report = "--reuse-cmdline --ipmi-handle-panic";
    let outcome = Scenario::new(Release::V6_1)
        .qemu(["-device", "ipmi-bmc-sim,id=bmc1", "-device", "smbus-ipmi,bmc=bmc1,address=0x42"])
        .lastwords_at_hand()
        .arm(Arm::Lastwords("--ipmi-handle-panic".to_owned()))
        .death(&format!(
            "export NO_COLOR=1
             section ready lastwords status
             section probe lastwords probe
             section refused lastwords load /boot/vmlinuz {report} --ipmi-interface ssif:i801:0x700,0x50
             section nobody lastwords load /boot/vmlinuz {report} --ipmi-interface bt:0xe4
             section status lastwords status
             section named lastwords probe --ipmi-interface bt:0xe4
             ipmi
             section driver lastwords probe
             section beside lastwords probe --ipmi-interface bt:0xe4
             section kcs lastwords probe --ipmi-interface kcs:0xca2
             section ssif lastwords probe --ipmi-interface ssif:i801:0x700,0x42
             section read lastwords read --ipmi-interface bt:0xe4
             section end true
             poweroff -f"
        ))
        .run()?;
    let expected = [
        ("ready", 0, "BMC          KCS 0xca2,0xca3 from SMBIOS type 38"),
        ("probe", 0, "KCS at I/O ports 0xca2,0xca3, from SMBIOS type 38"),
        ("refused", 2, "no memory module's"),
        ("nobody", 0, "BMC: BT at I/O ports from 0xe4, from its parameter"),
        ("nobody", 0, "now a report would not reach it: port 0xe4 reads 0xff"),
        ("status", 3, "port 0xe4 reads 0xff: nobody answers there"),
        ("named", 1, "no BMC answers at BT ports from 0xe4"),
        ("driver", 0, "Asked through    /dev/ipmi0"),
        ("beside", 1, "no BMC answers at BT ports from 0xe4"),
        // Linux serves the one on the SMBus; the other one's registers are nobody's.
        ("kcs", 0, "Asked through    KCS ports 0xca2,0xca3"),
        ("ssif", 0, "Asked through    /dev/ipmi0"),
        ("read", 1, "no BMC answers at BT ports from 0xe4"),
    ];
    for (name, status, part) in expected {
        let section = outcome.section(name)?;
        ensure!(section.status == status && section.text.contains(part), "{name}: {section:?}");
    }
    let load = outcome.text("arm")?;
    ensure!(load.contains("BMC: KCS at I/O ports 0xca2,0xca3"), "{load}");
    Ok(())
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
             mount --bind /dev/null /proc/ioports
             section load lastwords load /boot/vmlinuz --reuse-cmdline --ipmi-handle-panic
             section status lastwords status
             mount --bind /dev/null /proc/iomem
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
    let load = outcome.text("load")?;
    let first = "lastwords: warning: the next panic will be reported to the console alone: no BMC interface was found";
    ensure!(load.starts_with(first), "{load}");
    let status = outcome.section("status")?;
    ensure!(status.status == 3 && status.text.contains("its report will not reach the BMC"), "{status:?}");
    let said = console::lines(&outcome);
    ensure!(
        said.iter()
            .any(|line| line.contains("reads 0x00, lastwords.ipmi_kcs_ports=0xca2,0xca3 would use it")),
        "{said:#?}"
    );
    Ok(())
}
