//! `lastwords test`: the report of a made-up crash in a real BMC, from a machine that goes on running, with ipmitool and
//! `lastwords read` as the judges.

use anyhow::{Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::judge::watchdog::Watchdog;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::recording::Answer;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};

/// A machine with a loaded dump kernel, whose kernel's symbols are saved, that runs this script and is switched off.
fn sends(release: Release, bmc: Bmc, script: &str) -> Result<Outcome> {
    Scenario::new(release)
        .cpus(4)
        .bmc(bmc)
        .arm(Arm::Lastwords("--ipmi-handle-panic".to_owned()))
        .death(&format!("export NO_COLOR=1\n{script}\nsection end true\npoweroff -f"))
        .run()
}

/// The texts of ipmitool's list.
fn texts(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| Some(line.split_once(" | ")?.1)).collect()
}

#[test]
fn by_the_ports_and_by_the_driver() -> Result<()> {
    let outcome = sends(
        Release::V6_1,
        Bmc::Simulator,
        "\
section ports lastwords test
ipmi
section first ipmitool sel elist
ipmitool raw 6 0x24 0x44 1 0 0 0xb0 4 >/dev/null
section watchdog-before ipmitool mc watchdog get
section driver lastwords rehearse --event --sel-records 6 --ipmi-watchdog start=60
section watchdog-after ipmitool mc watchdog get
section second ipmitool sel elist
section read lastwords read",
    )?;
    let first = texts(outcome.text("first")?);
    let reason = [
        "Linux kernel panic: test report",
        "Linux kernel panic: , nothing h",
        "Linux kernel panic: as crashed",
    ];
    ensure!(first.starts_with(&reason), "{first:?}");
    // Records only: no event, so nobody is alerted.
    ensure!(
        first.len() > 6 && first.iter().all(|text| text.starts_with("Linux kernel panic: ")),
        "{first:?}"
    );

    let second = texts(outcome.text("second")?);
    let new = &second[first.len()..];
    ensure!(new.len() == 7 && new[0].contains("Run-time critical stop"), "{new:?}");
    ensure!(new[1..].starts_with(&reason), "{new:?}");

    let watchdogs = [outcome.text("watchdog-before")?, outcome.text("watchdog-after")?];
    let [before, after] = watchdogs.map(Watchdog::parse);
    ensure!(before? == after?, "the watchdog was touched: {watchdogs:?}");

    for name in ["ports", "driver"] {
        let printed = outcome.text(name)?;
        for part in [
            "test report sent and read back: ",
            "panicked on CPU 3: test report, nothing has crashed",
            "TEST REPORT",
            // The locations are the running kernel's, by name.
            "3, in sysrq_handle_crash+0x16",
            "3 idle (native_safe_halt+0xb)",
            "6.1.0-56-amd64 (build ID ",
        ] {
            ensure!(printed.contains(part), "no {part:?}: {printed}");
        }
    }
    // Read again, it is two test reports and no crash.
    let read = outcome.text("read")?;
    ensure!(read.starts_with("TEST REPORT") && read.contains("Test reports: 1, "), "{read}");
    ensure!(!read.contains("PANIC"), "{read}");
    Ok(())
}

#[test]
fn over_the_lan_it_is_seen_as_well() -> Result<()> {
    let outcome = sends(Release::V6_12, Bmc::OpenIpmi, "section driver lastwords test")?;
    ensure!(outcome.text("driver")?.contains("3, in sysrq_handle_crash+0x16"));
    let list = outcome.ipmitool(&["sel", "elist"])?;
    ensure!(texts(&list).contains(&"Linux kernel panic: test report"), "{list}");
    Ok(())
}

/// QEMU answers for it in the end, after 4 s a request, that it took too long.
#[test]
fn an_unresponsive_bmc() -> Result<()> {
    let outcome =
        sends(Release::V6_12, Bmc::Ours(Box::new(|_| Answer::Silence)), "section ports lastwords test")?;
    let ports = outcome.section("ports")?;
    ensure!(
        ports.status == 1 && ports.text.contains("has accepted no record"),
        "{}: {}",
        ports.status,
        ports.text
    );
    ensure!(ports.text.contains("SEL: gave up after 0 records: the BMC does not respond"), "{}", ports.text);
    ensure!(!ports.text.contains("read back"), "{}", ports.text);
    Ok(())
}
