//! `lastwords probe` on a running machine: by the driver and by the ports, with ipmitool as the judge of what it says
//! and of what it leaves behind; and on BMCs that do not keep what they are given.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::outcome::Outcome;
use lastwords_vm::machine::bmc::Bmc;
use lastwords_vm::machine::bmc::manners::{netfn, obedient};
use lastwords_vm::machine::bmc::recording::{Answer, Manner, Request};
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};

/// A machine that only runs this script.
fn machine(release: Release, bmc: Bmc, script: &str) -> Result<Outcome> {
    Scenario::new(release)
        .bmc(bmc)
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(&format!("{script}\nsection end true\npoweroff -f"))
        .run()
}

/// The value behind a label in what `lastwords probe` prints, the lines that go on with it joined.
fn row(text: &str, label: &str) -> Result<String> {
    /// Columns before the values.
    const INDENT: usize = 19;
    let mut lines = text.lines().skip_while(|line| line.get(2..INDENT).map(str::trim_end) != Some(label));
    let first = lines.next().with_context(|| format!("no {label}: {text}"))?;
    let rest = lines.take_while(|line| line.len() > INDENT && line[..INDENT].trim().is_empty());
    let values = [first].into_iter().chain(rest).filter_map(|line| Some(line.get(INDENT..)?.trim()));
    Ok(values.collect::<Vec<_>>().join(" "))
}

/// The value behind a name, in ipmitool's tables.
fn value<'a>(table: &'a str, name: &str) -> Result<&'a str> {
    let named = |line: &'a str| line.split_once(':').filter(|(start, _)| start.trim() == name);
    let (_, value) = table.lines().find_map(named).with_context(|| format!("no {name}: {table}"))?;
    Ok(value.trim())
}

/// QEMU's BMC cannot delete single records, and does not say so either.
#[test]
fn by_the_ports_and_by_the_driver() -> Result<()> {
    let outcome = machine(
        Release::V6_1,
        Bmc::Simulator,
        "\
section ports lastwords probe --write-test
insmod /modules/ipmi_msghandler.ko; insmod /modules/ipmi_si.ko
section half lastwords probe
ipmi
section sel ipmitool sel elist
ipmitool raw 6 0x24 0x44 1 0 0 0xb0 4; ipmitool raw 6 0x22
section driver lastwords probe --json
section options lastwords probe --print-options
section after ipmitool sel elist",
    )?;
    let ports = outcome.text("ports")?;
    ensure!(
        row(ports, "Interface")?
            == "KCS at I/O ports 0xca2,0xca3, from SMBIOS type 38, and from ACPI IPI0001"
    );
    ensure!(row(ports, "Asked through")? == "KCS ports 0xca2,0xca3");
    ensure!(row(ports, "SEL")? == "0 records, room for 128 more");
    ensure!(row(ports, "Watchdog")? == "not running");
    for kind in ["OEM records", "System events", "Platform events"] {
        ensure!(row(ports, kind)? == "stored", "{ports}");
    }
    ensure!(row(ports, "Left in the SEL")?.starts_with("test records 0x0000, 0x0001, 0x0002, "), "{ports}");
    ensure!(row(ports, "Options to use")? == "--ipmi-kcs-ports=0xca2,0xca3 --sel-type=oem");

    // What stays is what the manual says.
    let sel: Vec<_> = outcome.text("sel")?.lines().filter_map(|line| line.split_once(" | ")).collect();
    ensure!(sel.len() == 3 && sel[0].1 == "Linux kernel panic: only a test", "{sel:?}");
    ensure!(
        // Their sensor numbers show bytes that a BMC cuts or changes.
        sel[1..].iter().zip(["0x4c", "0x6c"]).all(|((_, text), number)| {
            text.ends_with(&format!("OS Boot #{number} | C: boot completed | Asserted"))
        }),
        "{sel:?}"
    );

    // The driver has the ports, but nobody can reach it.
    let half = outcome.section("half")?;
    ensure!(half.status == 1 && half.text.contains("modprobe ipmi_devintf"), "{}", half.text);

    let driver = outcome.text("driver")?;
    for line in [
        r#""asked_through": "/dev/ipmi0""#,
        r#""source": "driver""#,
        r#""source": "smbios""#,
        r#""entries": 3"#,
        r#""free_records": 125"#,
        r#""running": true"#,
        r#""use": "sms-os""#,
        r#""action": "reset""#,
        r#""initial_seconds": 120.0"#,
        r#""write_test": null"#,
    ] {
        ensure!(driver.contains(line), "no {line}: {driver}");
    }
    ensure!(outcome.text("options")?.trim() == "--ipmi-kcs-ports=0xca2,0xca3");
    ensure!(outcome.text("after")? == outcome.text("sel")?, "probing without a test changed the SEL");
    Ok(())
}

#[test]
fn what_is_asked_is_what_ipmitool_sees() -> Result<()> {
    let outcome = machine(
        Release::V6_12,
        Bmc::OpenIpmi,
        "\
ipmi
ipmitool raw 0x0a 0x44 0 0 2 0 0 0 0 0x20 0 4 4 0x30 1 9 0xff 0xff
# What an earlier test could not delete, and another kind of record behind it.
ipmitool raw 0x0a 0x44 0 0 0xf0 0 0xff 0x6f 0x6e 0x6c 0x79 0x20 0x61 0x20 0x74 0x65 0x73 0x74
ipmitool raw 0x0a 0x44 0 0 0xf0 0x20 0 0x6f 0x6c 0x64 0 0 0 0 0 0 0 0
section before ipmitool sel elist
section probe lastwords probe --write-test
section after ipmitool sel elist
section info ipmitool mc info",
    )?;
    let (probe, info) = (outcome.text("probe")?, outcome.text("info")?);
    let maker = value(info, "Manufacturer ID")?;
    let product = value(info, "Product ID")?.split(' ').next().unwrap_or_default();
    let firmware = value(info, "Firmware Revision")?;
    let expected = format!("manufacturer {maker}, product {product}, firmware {firmware}, IPMI 2.0");
    ensure!(row(probe, "BMC")? == expected, "{expected}: {probe}");
    ensure!(row(probe, "SEL")?.starts_with("3 records, room for 997 more"), "{probe}");
    ensure!(row(probe, "OEM records")? == "stored" && row(probe, "System events")? == "stored", "{probe}");
    // This one deletes what it is told to. What was there before stays, also what looks like ours.
    ensure!(!probe.contains("Left in the SEL"), "{probe}");
    let [before, after] = [outcome.text("before")?, outcome.text("after")?]
        .map(|list| list.lines().filter(|line| line.contains(" | ")).collect::<Vec<_>>());
    ensure!(before.len() == 3 && after == before, "{before:?} {after:?}");
    Ok(())
}

/// A BMC with a SEL that can be read back, after what `add` makes of a record: an answer, and whether it is kept.
fn keeping(mut add: impl FnMut(&Request) -> (u8, bool) + Send + 'static) -> Manner {
    let mut obedient = obedient();
    let mut sel: Vec<Vec<u8>> = Vec::new();
    Box::new(move |request| match (request.netfn, request.command) {
        (netfn::STORAGE, 0x44) | (netfn::SENSOR, 0x02) => {
            let (code, kept) = add(request);
            let id = sel.len() as u8 + 1;
            if kept {
                // A platform event's record has a channel, which the message has not.
                let event = || [&[0, 0, 2, 0, 0, 0, 0, request.data[0], 0], &request.data[1..]].concat();
                let mut record = if request.command == 0x44 { request.data.clone() } else { event() };
                record[0] = id;
                sel.push(record);
            }
            Answer::Say(if code == 0 { vec![0, id, 0] } else { vec![code] })
        }
        (netfn::STORAGE, 0x43) => {
            let asked = match request.data[2] {
                0xff => sel.last(),
                id => sel.iter().find(|record| record[0] == id),
            };
            Answer::Say(asked.map_or(vec![0xcb], |record| [&[0, 0xff, 0xff], &record[..]].concat()))
        }
        (netfn::STORAGE, 0x42) => Answer::Say(vec![0, 1, 0]),
        (netfn::STORAGE, 0x46) => {
            sel.retain(|record| record[0] != request.data[2]);
            Answer::Say(vec![0, request.data[2], 0])
        }
        _ => obedient(request),
    })
}

/// OpenBMC as its project ships it, and with Intel's policy "Restricted".
#[test]
fn bmcs_that_do_not_keep_oem_records() -> Result<()> {
    let forgets = keeping(|request| (0, request.netfn == netfn::SENSOR || request.data[2] == 2));
    let refuses = keeping(|request| match request.netfn {
        netfn::SENSOR => (0, true),
        _ => (0xd4, false),
    });
    for (manner, oem, system, rung) in [
        (forgets, "accepted but not stored", "stored", "system"),
        (
            refuses,
            "refused: completion code 0xd4, Insufficient privilege level",
            "refused: completion code 0xd4, Insufficient privilege level",
            "event",
        ),
    ] {
        let outcome =
            machine(Release::V6_1, Bmc::Ours(manner), "section probe lastwords probe --write-test")?;
        let probe = outcome.text("probe")?;
        ensure!(row(probe, "OEM records")? == oem, "{probe}");
        ensure!(row(probe, "System events")? == system, "{probe}");
        ensure!(row(probe, "Platform events")? == "stored", "{probe}");
        let options = format!("--ipmi-kcs-ports=0xca2,0xca3 --sel-type={rung}");
        ensure!(row(probe, "Options to use")? == options, "{probe}");
        ensure!(!probe.contains("Left in the SEL"), "{probe}");
    }
    Ok(())
}

/// The exit status is that of `status`.
#[test]
fn a_bmc_that_stores_no_report_is_not_ready() -> Result<()> {
    let refuses = keeping(|_| (0xd4, false));
    let outcome = machine(
        Release::V6_1,
        Bmc::Ours(refuses),
        "section probe lastwords probe --write-test\nsection known lastwords probe",
    )?;
    let probe = outcome.section("probe")?;
    ensure!(
        probe.status == 3 && probe.text.contains("NOT READY: the BMC stores no panic reports"),
        "{}",
        probe.text
    );
    ensure!(outcome.section("known")?.status == 0, "{}", outcome.section("known")?.text);
    Ok(())
}

/// A BMC that leaves the sender's id bytes in a record, and knows its records by numbers of its own.
#[test]
fn records_of_others_stay_on_a_bmc_that_keeps_the_senders_id_bytes() -> Result<()> {
    let mut sel: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut last = 0;
    let mut obedient = obedient();
    let keeps_ids: Manner = Box::new(move |request| {
        let at = |id: u8, sel: &[(u8, Vec<u8>)]| match id {
            0 => (!sel.is_empty()).then_some(0),
            0xff => sel.len().checked_sub(1),
            id => sel.iter().position(|(number, _)| *number == id),
        };
        match (request.netfn, request.command) {
            (netfn::STORAGE, 0x44) => {
                last += 1;
                sel.push((last, request.data.clone()));
                Answer::Say(vec![0, last, 0])
            }
            (netfn::STORAGE, 0x42) => Answer::Say(vec![0, 1, 0]),
            (netfn::STORAGE, 0x43) => Answer::Say(at(request.data[2], &sel).map_or(vec![0xcb], |at| {
                let next = sel.get(at + 1).map_or([0xff; 2], |(number, _)| [*number, 0]);
                [&[0], &next[..], &sel[at].1].concat()
            })),
            (netfn::STORAGE, 0x46) => Answer::Say(at(request.data[2], &sel).map_or(vec![0xcb], |at| {
                sel.remove(at);
                vec![0, request.data[2], 0]
            })),
            (netfn::SENSOR, 0x02) => Answer::Say(vec![0xc1]),
            _ => obedient(request),
        }
    });
    let outcome = machine(
        Release::V6_1,
        Bmc::Ours(keeps_ids),
        "\
ipmi
ipmitool raw 0x0a 0x44 0 0 2 1 0 0 0 0x20 0 4 4 0x30 1 9 0xff 0xff
ipmitool raw 0x0a 0x44 0 0 2 2 0 0 0 0x20 0 4 4 0x30 1 9 0xff 0xff
section probe lastwords probe --write-test
section first ipmitool raw 0x0a 0x43 0 0 1 0 0 0xff
section second ipmitool raw 0x0a 0x43 0 0 2 0 0 0xff
section last ipmitool raw 0x0a 0x43 0 0 0xff 0xff 0 0xff",
    )?;
    let probe = outcome.text("probe")?;
    ensure!(row(probe, "OEM records")? == "stored" && row(probe, "System events")? == "stored", "{probe}");
    ensure!(!probe.contains("Left in the SEL"), "{probe}");
    let record = |section: &str| -> Result<String> {
        Ok(outcome.text(section)?.split_whitespace().skip(2).collect::<Vec<_>>().join(" "))
    };
    ensure!(record("first")?.starts_with("00 00 02 01"), "{}", record("first")?);
    ensure!(record("second")?.starts_with("00 00 02 02") && record("last")? == record("second")?);
    Ok(())
}

#[test]
fn without_a_bmc_it_fails_and_says_what_to_do() -> Result<()> {
    let outcome = machine(Release::V6_12, Bmc::None, "section probe lastwords probe")?;
    let probe = outcome.section("probe")?;
    ensure!(
        probe.status == 1
            && probe.text.contains("no BMC interface was found")
            && probe.text.contains("port 0xca3 reads 0xff"),
        "{}",
        probe.text
    );
    Ok(())
}
