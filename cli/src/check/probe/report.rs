//! What probing has found, for people and as JSON (`docs/probe.md` has the schema).

use super::write_test::WriteTest;
use crate::{
    arm::pstore::Store,
    bmc::{
        self,
        discovery::{Found, Kind, Place, Source, place},
    },
    layout::{BAD, GOOD, Row, wrap, write_rows},
};
use lastwords_core::{
    ipmi::{
        commands::{DeviceId, SelInfo, WatchdogTimer},
        interface::Interface,
    },
    plan::{PREFIX, Plan},
};
use serde::Serialize;
/// Columns of the rows' labels.
const LABELS: usize = 17;

/// Raised when a field changes its meaning or goes away; new fields may come at any time.
const SCHEMA: u32 = 1;

/// Records that come besides the report: the platform event, and the progress records of the dump kernel.
const OTHER_RECORDS: u16 = 3;

/// The interface that is used, and why it is.
#[derive(Clone, Copy)]
pub enum Used {
    /// An option names it.
    Asked(Interface),
    /// It is the first that can be, at this place of what was found.
    Found(usize, Interface),
    /// None can be.
    None,
}

impl Used {
    fn interface(self) -> Option<Interface> {
        match self {
            Self::Asked(interface) | Self::Found(_, interface) => Some(interface),
            Self::None => None,
        }
    }
}

/// Everything.
#[derive(Serialize)]
pub struct Report {
    schema: u32,
    interfaces: Vec<Shown>,
    asked_through: String,
    bmc: Device,
    sel: Option<Sel>,
    watchdog: Option<WatchdogState>,
    write_test: Option<WriteTest>,
    /// The platform's error store, where there is one.
    pub pstore: Option<Store>,
    /// Options for `load` and `wrap`.
    pub options: Vec<String>,
    #[serde(skip)]
    usable: bool,
    /// The place of the interface that an option names; is it one that was not found?
    #[serde(skip)]
    asked: Option<(String, bool)>,
}

#[derive(Serialize)]
struct Shown {
    kind: &'static str,
    space: &'static str,
    /// Of the first register; of SSIF, the slave address.
    address: u64,
    /// SSIF has none.
    spacing: Option<u16>,
    source: &'static str,
    /// The value of `--ipmi-interface`, where a panic can be reported through it.
    interface: Option<String>,
    /// Can a panic be reported through it?
    usable: bool,
    /// What it would need for that.
    needs: Option<String>,
    /// Is it the one that is used?
    used: bool,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    from: &'static str,
    /// The interface that another source has, before this one.
    #[serde(skip)]
    same_as: Option<usize>,
}

#[derive(Serialize)]
struct Device {
    manufacturer: u32,
    product: u16,
    firmware: String,
    ipmi: String,
    updating: bool,
}

#[derive(Serialize)]
struct Sel {
    entries: u16,
    free_records: Option<u16>,
    overflow: bool,
}

#[derive(Serialize)]
struct WatchdogState {
    running: bool,
    #[serde(rename = "use")]
    used_for: &'static str,
    action: &'static str,
    initial_seconds: f64,
    present_seconds: Option<f64>,
}

impl Report {
    /// Puts the answers together.
    pub fn new(
        interfaces: &[Found],
        asked_through: &str,
        used: Used,
        device: DeviceId,
        sel: Option<SelInfo>,
        watchdog: Option<WatchdogTimer>,
        write_test: Option<WriteTest>,
    ) -> Self {
        // Of several sources that have it the first.
        let used_at = match used {
            Used::Asked(asked) => interfaces.iter().position(|one| one.may_be(asked)),
            Used::Found(at, _) => Some(at),
            Used::None => None,
        };
        let shown = interfaces.iter().enumerate().map(|(at, one)| {
            let is_it = |other: &Found| other.interface().is_ok_and(|interface| one.may_be(interface));
            let same_as = interfaces[..at].iter().position(is_it);
            Shown { same_as, ..Shown::new(one, used_at == Some(at)) }
        });
        let asked = match used {
            Used::Asked(asked) => Some((place(asked), used_at.is_none())),
            Used::Found(..) | Used::None => None,
        };
        let interface = used.interface();
        Self {
            schema: SCHEMA,
            interfaces: shown.collect(),
            asked,
            asked_through: asked_through.to_owned(),
            bmc: Device {
                manufacturer: device.manufacturer,
                product: device.product,
                firmware: format!("{}.{:02x}", device.firmware.0, device.firmware.1),
                ipmi: format!("{}.{}", device.ipmi.0, device.ipmi.1),
                updating: device.updating,
            },
            sel: sel.map(|sel| Sel {
                entries: sel.entries,
                free_records: sel.free_records(),
                overflow: sel.overflow,
            }),
            watchdog: watchdog.map(WatchdogState::new),
            options: options(interface, sel, write_test.as_ref()),
            write_test,
            pstore: None,
            usable: interface.is_some(),
        }
    }
}

/// The options that are not what would be used anyway.
fn options(
    interface: Option<Interface>,
    sel: Option<SelInfo>,
    write_test: Option<&WriteTest>,
) -> Vec<String> {
    let interface = interface.map(|interface| {
        let (name, value) = bmc::named(interface);
        format!("--{}={value}", name.replace('_', "-"))
    });
    let sel_type = write_test.and_then(WriteTest::sel_type).map(|kind| format!("--sel-type={kind}"));
    let most = u16::from(Plan::default().sel_records);
    let room = sel.and_then(SelInfo::free_records).map(|free| free.saturating_sub(OTHER_RECORDS).max(1));
    let records = room.filter(|room| *room < most).map(|room| format!("--sel-records={room}"));
    [interface, sel_type, records].into_iter().flatten().collect()
}

impl Shown {
    fn new(found: &Found, used: bool) -> Self {
        let (space, address, spacing) = match found.place {
            Place::Io { address, spacing } => ("io", address, Some(spacing)),
            Place::Memory { address, spacing } => ("memory", address, Some(spacing)),
            Place::Smbus { address, .. } => ("smbus", u64::from(address), None),
        };
        let interface = found.interface();
        Self {
            kind: match found.kind {
                Kind::Kcs => "kcs",
                Kind::Smic => "smic",
                Kind::Bt => "bt",
                Kind::Ssif => "ssif",
            },
            space,
            address,
            spacing,
            source: match found.source {
                Source::Driver => "driver",
                Source::Smbios => "smbios",
                Source::Spmi => "spmi",
                Source::Acpi => "acpi",
                Source::Pci => "pci",
            },
            usable: interface.is_ok(),
            interface: interface.as_ref().ok().map(ToString::to_string),
            needs: interface.err(),
            used,
            text: found.to_string(),
            from: found.source_name(),
            same_as: None,
        }
    }
}

impl WatchdogState {
    fn new(timer: WatchdogTimer) -> Self {
        Self {
            running: timer.running,
            used_for: match timer.timer_use {
                1 => "bios-frb2",
                2 => "bios-post",
                3 => "os-load",
                4 => "sms-os",
                5 => "oem",
                _ => "none",
            },
            action: match timer.action {
                0 => "none",
                1 => "reset",
                2 => "power-off",
                3 => "power-cycle",
                _ => "reserved",
            },
            initial_seconds: f64::from(timer.initial) / 10.0,
            present_seconds: timer.present.map(|present| f64::from(present) / 10.0),
        }
    }
}

impl Report {
    /// The options as parameters, with blanks between.
    pub fn parameters(&self) -> String {
        let parameter = |option: &String| {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            format!("{PREFIX}{}={value}", name.trim_start_matches('-').replace('-', "_"))
        };
        self.options.iter().map(parameter).collect::<Vec<_>>().join(" ")
    }

    /// Can this BMC store a panic report, as far as is known?
    pub fn is_ready(&self) -> bool {
        self.verdict().0
    }

    /// Can this BMC store a panic report, and what is known of that?
    fn verdict(&self) -> (bool, String) {
        if !self.usable {
            return (false, "the BMC cannot be reached at a panic".to_owned());
        }
        if self.sel.as_ref().is_some_and(|sel| sel.free_records == Some(0)) {
            return (false, "the BMC's event log (SEL) is full".to_owned());
        }
        match self.write_test.as_ref().map(WriteTest::sel_type) {
            None => (
                true,
                "the BMC answers; what it stores is untested (lastwords probe --write-test)".to_owned(),
            ),
            Some(None) => (false, "the BMC stores no panic reports".to_owned()),
            Some(Some(kind)) => (true, format!("the BMC stores panic reports (--sel-type={kind})")),
        }
    }

    /// For people: the verdict, and a row for each thing that is known.
    pub fn text(&self, width: usize) -> String {
        let (ready, verdict) = self.verdict();
        let (style, title) = if ready { (GOOD, "READY") } else { (BAD, "NOT READY") };
        let mut text = format!("{style}{}{style:#}\n\n", wrap(&format!("{title}: {verdict}"), 0, 2, width));
        // A String takes everything.
        let _ = write_rows(&mut text, &self.rows(), LABELS, width);
        text
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        // They stand in the order of trust. What several sources have is shown once, with all of them.
        let also = |at| {
            let others = self.interfaces.iter().filter(move |other| other.same_as == Some(at));
            others.map(|other| other.from).collect::<Vec<_>>()
        };
        let shown = self.interfaces.iter().enumerate().filter(|(_, one)| one.same_as.is_none());
        let shown: Vec<_> = shown.map(|(at, one)| (one, also(at))).collect();
        for (index, (interface, also)) in shown.iter().enumerate() {
            let label = if index == 0 { "Interface" } else { "" };
            let also =
                if also.is_empty() { String::new() } else { format!(", and from {}", also.join(", ")) };
            let used = match self.asked {
                Some(_) if interface.used => " (used: named by an option)",
                None if interface.used && shown.len() > 1 => " (used: the first that can be)",
                _ => "",
            };
            rows.push(Row::new(label, format!("{}{also}{used}", interface.text)));
        }
        if let Some((place, true)) = &self.asked {
            let label = if rows.is_empty() { "Interface" } else { "" };
            rows.push(Row::new(label, format!("{place}, named by an option (used)")));
        }
        if rows.is_empty() {
            rows.push(Row::new("Interface", "none in SMBIOS, ACPI and PCI"));
        }
        rows.push(Row::new("Asked through", &self.asked_through));
        let Device { manufacturer, product, firmware, ipmi, updating } = &self.bmc;
        let text =
            format!("manufacturer {manufacturer}, product {product}, firmware {firmware}, IPMI {ipmi}");
        rows.push(Row::new("BMC", text));
        if *updating {
            rows.push(Row::alarm("", "starting or being updated").fix("lastwords probe again, later"));
        }
        rows.push(self.sel.as_ref().map_or_else(|| Row::new("SEL", UNKNOWN), Sel::row));
        rows.push(self.watchdog.as_ref().map_or_else(|| Row::new("Watchdog", UNKNOWN), WatchdogState::row));
        if let Some(WriteTest { oem, system, event, left }) = &self.write_test {
            rows.push(Row::new("OEM records", oem));
            rows.push(Row::new("System events", system));
            rows.push(Row::new("Platform events", event));
            if let Some(first) = left.first() {
                let ids: Vec<_> = left.iter().map(|left| format!("{:#06x}", left.id)).collect();
                let text = format!("test records {}, which do no harm: {}", ids.join(", "), first.error);
                rows.push(Row::new("Left in the SEL", text));
            }
        }
        rows.extend(self.pstore.as_ref().map(pstore));
        rows.push(if self.usable {
            Row::new("Options to use", self.options.join(" "))
        } else {
            let text = "none: no interface was found that can be used at a panic";
            Row::alarm("Options to use", text).fix("report to the console: --serial ttyS0")
        });
        rows
    }
}

/// The row of the platform's error store.
fn pstore(store: &Store) -> Row {
    const LABEL: &str = "pstore";
    match &store.why {
        Some(why) => Row::alarm(LABEL, format!("{}: {why}", store.text())).fix("leave --output-pstore out"),
        None => Row::new(LABEL, store.text()),
    }
}

/// What the BMC refuses to show.
const UNKNOWN: &str = "unknown: the BMC refuses to show it";

impl Sel {
    fn row(&self) -> Row {
        const LABEL: &str = "SEL";
        let missing = if self.overflow { "; some are missing, it was full" } else { "" };
        let entries = self.entries;
        match self.free_records {
            None => Row::new(LABEL, format!("{entries} records, room for more{missing}")),
            Some(0) => {
                Row::alarm(LABEL, format!("{entries} records, full{missing}")).fix("ipmitool sel clear")
            }
            Some(free) => Row::new(LABEL, format!("{entries} records, room for {free} more{missing}")),
        }
    }
}

impl WatchdogState {
    fn row(&self) -> Row {
        const LABEL: &str = "Watchdog";
        if !self.running {
            return Row::new(LABEL, "not running");
        }
        let left = self.present_seconds.map_or(String::new(), |left| format!("{left:.1} of "));
        let Self { used_for, initial_seconds, action, .. } = self;
        let text = format!("running for {used_for}, {action} in {left}{initial_seconds:.1} s");
        // Nobody restarts its countdown after a panic.
        Row::alarm(LABEL, text).fix("--ipmi-watchdog stop, or start=SECONDS longer than a dump takes")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::write_test::{Left, Verdict},
        *,
    };

    use crate::bmc::discovery::tests::{KCS_CA2 as KCS, found};
    use lastwords_core::ipmi::interface::KcsPorts;

    const DEVICE: DeviceId =
        DeviceId { manufacturer: 4753, product: 3842, firmware: (9, 8), ipmi: (2, 0), updating: false };
    const SEL: SelInfo = SelInfo { entries: 108, free_bytes: 320, overflow: true };
    const TIMER: WatchdogTimer =
        WatchdogTimer { running: true, timer_use: 4, action: 1, initial: 100, present: Some(86) };

    fn full() -> Report {
        let other = found(Kind::Kcs, Place::Io { address: 0xca3, spacing: 1 }, Source::Spmi);
        let left = Left { id: 7, error: "the BMC is gone".to_owned() };
        let write_test = WriteTest {
            oem: Verdict::Refused { code: 0xcc },
            system: Verdict::Kept { left: None },
            event: Verdict::Kept { left: Some(left.clone()) },
            left: vec![left],
        };
        Report::new(
            &[KCS, other],
            "/dev/ipmi0",
            Used::Found(0, Interface::Kcs(KcsPorts::DEFAULT)),
            DEVICE,
            Some(SEL),
            Some(TIMER),
            Some(write_test),
        )
    }

    #[test]
    fn for_people() {
        let report = |report: Report| anstream::adapter::strip_str(&report.text(80)).to_string();
        assert_eq!(
            report(full()),
            "\
READY: the BMC stores panic reports (--sel-type=system)

  Interface        KCS at I/O ports 0xca2,0xca3, from the running ipmi_si driver
                   (used: the first that can be)
                   KCS at I/O ports 0xca3,0xca4, from ACPI SPMI
  Asked through    /dev/ipmi0
  BMC              manufacturer 4753, product 3842, firmware 9.08, IPMI 2.0
  SEL              108 records, room for 20 more; some are missing, it was full
! Watchdog         running for sms-os, reset in 8.6 of 10.0 s
                   fix: --ipmi-watchdog stop, or start=SECONDS longer than a
                   dump takes
  OEM records      refused: completion code 0xcc, Invalid data field in Request
  System events    stored
  Platform events  stored
  Left in the SEL  test records 0x0007, which do no harm: the BMC is gone
  Options to use   --ipmi-kcs-ports=0xca2,0xca3 --sel-type=system
                   --sel-records=17
"
        );
        let memory = Place::Memory { address: 0xf000_0000, spacing: 1 };
        let smic = found(Kind::Smic, memory, Source::Driver);
        let bare = Report::new(&[smic], "/dev/ipmi0", Used::None, DEVICE, None, None, None);
        assert_eq!(
            report(bare),
            "\
NOT READY: the BMC cannot be reached at a panic

  Interface        SMIC at memory address 0xf0000000, from the running ipmi_si
                   driver (not usable: SMIC is not supported)
  Asked through    /dev/ipmi0
  BMC              manufacturer 4753, product 3842, firmware 9.08, IPMI 2.0
  SEL              unknown: the BMC refuses to show it
  Watchdog         unknown: the BMC refuses to show it
! Options to use   none: no interface was found that can be used at a panic
                   fix: report to the console: --serial ttyS0
"
        );
        // KCS in memory can be used at a panic, and so can BT and SSIF.
        let ssif = Place::Smbus { address: 0x42, controller: Some(0x700) };
        for (one, option) in [
            (found(Kind::Kcs, memory, Source::Driver), "--ipmi-kcs-ports=mmio:0xf0000000"),
            (found(Kind::Bt, memory, Source::Driver), "--ipmi-interface=bt:mmio:0xf0000000"),
            (found(Kind::Ssif, ssif, Source::Driver), "--ipmi-interface=ssif:i801:0x700,0x42"),
        ] {
            let used = Used::Found(0, one.interface().unwrap());
            let text = report(Report::new(&[one], "/dev/ipmi0", used, DEVICE, Some(SEL), None, None));
            assert!(text.starts_with("READY: ") && text.contains(option), "{text}");
        }
    }

    #[test]
    fn what_an_option_names_is_used_whether_it_was_found_or_not() {
        let asked = |value| {
            let used = Used::Asked(Interface::parse(value).unwrap());
            let report = Report::new(&[KCS], "KCS ports", used, DEVICE, None, None, None);
            (anstream::adapter::strip_str(&report.text(200)).to_string(), report.interfaces[0].used)
        };
        let (text, used) = asked("kcs:0xca2");
        assert!(
            text.contains("from the running ipmi_si driver (used: named by an option)\n") && used,
            "{text}"
        );
        let (text, used) = asked("bt:0xe4");
        let rows = "from the running ipmi_si driver\n                   BT at I/O ports from 0xe4, named by an option (used)\n";
        assert!(text.contains(rows) && !used, "{text}");
        assert!(text.contains("Options to use   --ipmi-interface=bt:0xe4\n"), "{text}");
    }

    #[test]
    fn what_several_sources_have_is_shown_once() {
        let at = |address, source| found(Kind::Kcs, Place::Io { address, spacing: 1 }, source);
        let uncertain = at(0xca2, Source::Acpi).needing("modprobe ipmi_si");
        let all = [KCS, at(0xca4, Source::Acpi), at(0xca2, Source::Smbios), uncertain];
        let used = Used::Found(0, Interface::Kcs(KcsPorts::DEFAULT));
        let report = Report::new(&all, "/dev/ipmi0", used, DEVICE, None, None, None);
        let text = anstream::adapter::strip_str(&report.text(200)).to_string();
        let rows = "  Interface        KCS at I/O ports 0xca2,0xca3, from the running ipmi_si driver, and from SMBIOS \
                    type 38, ACPI IPI0001 (used: the first that can be)\n                   \
                    KCS at I/O ports 0xca4,0xca5, from ACPI IPI0001\n";
        assert!(text.contains(rows), "{text}");
    }

    #[test]
    fn options_are_parameters_too() {
        let bt = Interface::parse("bt:0xe4").unwrap();
        let report = Report { options: options(Some(bt), Some(SEL), None), ..full() };
        assert_eq!(report.parameters(), "lastwords.ipmi_interface=bt:0xe4 lastwords.sel_records=17");
        assert_eq!(Plan::new("", &report.parameters()).interface, Some(bt));
    }

    #[test]
    fn the_error_store_has_a_row_and_what_keeps_from_using_it_is_alarming() {
        let mut report = full();
        let range = (Some(0xfebd_6000), Some(8192));
        report.pstore = Some(Store {
            usable: true,
            address: range.0,
            length: range.1,
            slow: Some(true),
            typical_us: Some(50_000),
            maximum_us: Some(1_000_000),
            records: Some(3),
            ..Store::default()
        });
        let row = "  pstore           ERST, records of up to 8192 bytes at 0xfebd6000, slow, 50000 us an operation, 1000000 us at most, \
                   3 records in /sys/fs/pstore";
        let text = |report: &Report| anstream::adapter::strip_str(&report.text(200)).to_string();
        assert!(text(&report).contains(row), "{}", text(&report));
        report.pstore =
            Some(Store { why: Some("the ERST table is malformed".to_owned()), ..Store::default() });
        let row = "! pstore           ERST: the ERST table is malformed";
        assert!(text(&report).contains(row), "{}", text(&report));
        assert!(text(&report).contains("fix: leave --output-pstore out"));
    }

    #[test]
    fn as_json() {
        let json = serde_json::to_value(full()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "schema": 1,
                "interfaces": [
                    { "kind": "kcs", "space": "io", "address": 0xca2, "spacing": 1, "source": "driver",
                      "interface": "kcs:0xca2,0xca3", "usable": true, "needs": null, "used": true },
                    { "kind": "kcs", "space": "io", "address": 0xca3, "spacing": 1, "source": "spmi",
                      "interface": "kcs:0xca3,0xca4", "usable": true, "needs": null, "used": false },
                ],
                "asked_through": "/dev/ipmi0",
                "bmc": { "manufacturer": 4753, "product": 3842, "firmware": "9.08", "ipmi": "2.0", "updating": false },
                "sel": { "entries": 108, "free_records": 20, "overflow": true },
                "watchdog": { "running": true, "use": "sms-os", "action": "reset", "initial_seconds": 10.0, "present_seconds": 8.6 },
                "pstore": null,
                "write_test": {
                    "oem": { "result": "refused", "code": 0xcc },
                    "system": { "result": "kept" },
                    "event": { "result": "kept", "left": { "id": 7, "error": "the BMC is gone" } },
                    "left": [{ "id": 7, "error": "the BMC is gone" }],
                },
                "options": ["--ipmi-kcs-ports=0xca2,0xca3", "--sel-type=system", "--sel-records=17"],
            })
        );
    }

    #[test]
    fn options_only_where_they_are_needed() {
        let roomy = SelInfo { free_bytes: u16::MAX, ..SEL };
        assert_eq!(options(None, Some(roomy), None), [""; 0]);
        assert_eq!(
            options(Some(Interface::Kcs(KcsPorts::DEFAULT)), None, None),
            ["--ipmi-kcs-ports=0xca2,0xca3"]
        );
        for (free, expected) in [(0, Some(1)), (2, Some(1)), (4, Some(1)), (34, Some(31)), (35, None)] {
            let sel = SelInfo { free_bytes: free * 16, ..SEL };
            let records = expected.map(|records| format!("--sel-records={records}"));
            assert_eq!(options(None, Some(sel), None), records.into_iter().collect::<Vec<_>>());
        }
    }
}
