//! What probing has found, for people and as JSON (`docs/probe.md` has the schema).

use super::write_test::WriteTest;
use crate::bmc::discovery::{self, Interface, Kind, Source, Space};
use lastwords_core::{
    ipmi::{
        commands::{DeviceId, SelInfo, WatchdogTimer},
        interface::KcsPorts,
    },
    plan::Plan,
};
use serde::Serialize;
use std::fmt;

/// Raised when a field changes its meaning or goes away; new fields may come at any time.
const SCHEMA: u32 = 1;

/// Records that come besides the words: the platform event, and the marks of the dump kernel.
const OTHER_RECORDS: u16 = 3;

/// Everything.
#[derive(Serialize)]
pub struct Report {
    schema: u32,
    interfaces: Vec<Found>,
    asked_through: String,
    bmc: Device,
    sel: Option<Sel>,
    watchdog: Option<WatchdogState>,
    write_test: Option<WriteTest>,
    /// Options for `load` and `wrap`.
    pub options: Vec<String>,
    #[serde(skip)]
    usable: bool,
}

#[derive(Serialize)]
struct Found {
    kind: &'static str,
    space: &'static str,
    address: u64,
    spacing: u8,
    source: &'static str,
    /// Can the last words be said through it?
    usable: bool,
    /// Is it the one that is used?
    used: bool,
    #[serde(skip)]
    text: String,
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
    /// Puts the answers together. `ports` are those to use.
    pub fn new(
        interfaces: &[Interface],
        asked_through: &str,
        ports: Option<KcsPorts>,
        device: DeviceId,
        sel: Option<SelInfo>,
        watchdog: Option<WatchdogTimer>,
        write_test: Option<WriteTest>,
    ) -> Self {
        let best = discovery::best(interfaces);
        Self {
            schema: SCHEMA,
            interfaces: interfaces.iter().map(|one| Found::new(one, best == Some(one))).collect(),
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
            options: options(ports, sel, write_test.as_ref()),
            write_test,
            usable: ports.is_some(),
        }
    }
}

/// The options that are not what would be used anyway.
fn options(ports: Option<KcsPorts>, sel: Option<SelInfo>, write_test: Option<&WriteTest>) -> Vec<String> {
    let ports = ports.map(|ports| format!("--ipmi-kcs-ports={ports}"));
    let sel_type = write_test.and_then(WriteTest::sel_type).map(|kind| format!("--sel-type={kind}"));
    let most = u16::from(Plan::default().sel_records);
    let room = sel.and_then(SelInfo::free_records).map(|free| free.saturating_sub(OTHER_RECORDS).max(1));
    let records = room.filter(|room| *room < most).map(|room| format!("--sel-records={room}"));
    [ports, sel_type, records].into_iter().flatten().collect()
}

impl Found {
    fn new(interface: &Interface, used: bool) -> Self {
        Self {
            kind: match interface.kind {
                Kind::Kcs => "kcs",
                Kind::Smic => "smic",
                Kind::Bt => "bt",
                Kind::Ssif => "ssif",
            },
            space: match interface.space {
                Space::Io => "io",
                Space::Memory => "memory",
            },
            address: interface.address,
            spacing: interface.spacing,
            source: match interface.source {
                Source::Driver => "driver",
                Source::Smbios => "smbios",
                Source::Spmi => "spmi",
            },
            usable: interface.ports().is_some(),
            used,
            text: interface.to_string(),
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interfaces.is_empty() {
            writeln!(f, "BMC interface:   the machine's tables name none")?;
        }
        for (at, interface) in self.interfaces.iter().enumerate() {
            let title = if at == 0 { "BMC interface:" } else { "" };
            let used = if self.interfaces.len() > 1 && interface.used { ": this one is used" } else { "" };
            writeln!(f, "{title:<16} {}{used}", interface.text)?;
        }
        writeln!(f, "asked through:   {}", self.asked_through)?;
        let Device { manufacturer, product, firmware, ipmi, updating } = &self.bmc;
        let updating = if *updating { ", not ready: it is starting or being updated" } else { "" };
        writeln!(
            f,
            "BMC:             manufacturer {manufacturer}, product {product}, firmware {firmware}, IPMI {ipmi}{updating}"
        )?;
        match &self.sel {
            None => writeln!(f, "SEL:             the BMC says nothing about it")?,
            Some(Sel { entries, free_records, overflow }) => {
                let room = match free_records {
                    None => "room for more".to_owned(),
                    Some(0) => "full: clear it (ipmitool sel clear)".to_owned(),
                    Some(free) => format!("room for {free} more"),
                };
                let lost = if *overflow { "; some were lost when it was full" } else { "" };
                writeln!(f, "SEL:             {entries} records, {room}{lost}")?;
            }
        }
        match &self.watchdog {
            None => writeln!(f, "watchdog:        the BMC says nothing about it")?,
            Some(WatchdogState { running: false, .. }) => writeln!(f, "watchdog:        stands still")?,
            Some(timer) => {
                let left = timer.present_seconds.map_or(String::new(), |left| format!("{left:.1} of "));
                writeln!(
                    f,
                    "watchdog:        runs for {}, {left}{:.1} s left until {}",
                    timer.used_for, timer.initial_seconds, timer.action
                )?;
                writeln!(
                    f,
                    "                 after a panic nobody feeds it: give --ipmi-watchdog stop, or start=SECONDS longer \
                     than a dump takes"
                )?;
            }
        }
        if let Some(test @ WriteTest { oem, system, event }) = &self.write_test {
            writeln!(f, "OEM records:     {oem}")?;
            writeln!(f, "system events:   {system}")?;
            writeln!(f, "platform events: {event}")?;
            if let Some(first) = test.left().next() {
                let ids: Vec<_> = test.left().map(|left| format!("{:#06x}", left.id)).collect();
                let ids = ids.join(", ");
                writeln!(f, "left in the SEL: test records {ids}; they do no harm. {}", first.error)?;
            }
        }
        if !self.usable {
            writeln!(
                f,
                "options to use:  none: at the crash only KCS at I/O ports can be used, and none is known here"
            )
        } else if self.write_test.as_ref().is_some_and(|test| test.sel_type().is_none()) {
            writeln!(f, "options to use:  {}, but this BMC takes no words", self.options.join(" "))
        } else {
            writeln!(f, "options to use:  {}", self.options.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::write_test::{Left, Verdict},
        *,
    };

    const KCS: Interface =
        Interface { kind: Kind::Kcs, space: Space::Io, address: 0xca2, spacing: 1, source: Source::Driver };
    const DEVICE: DeviceId =
        DeviceId { manufacturer: 4753, product: 3842, firmware: (9, 8), ipmi: (2, 0), updating: false };
    const SEL: SelInfo = SelInfo { entries: 108, free_bytes: 320, overflow: true };
    const TIMER: WatchdogTimer =
        WatchdogTimer { running: true, timer_use: 4, action: 1, initial: 100, present: Some(86) };

    fn report() -> Report {
        let other = Interface { source: Source::Spmi, address: 0xca3, ..KCS };
        let write_test = WriteTest {
            oem: Verdict::Refused { code: 0xcc },
            system: Verdict::Kept { left: None },
            event: Verdict::Kept { left: Some(Left { id: 7, error: "the BMC is gone".to_owned() }) },
        };
        Report::new(
            &[KCS, other],
            "/dev/ipmi0",
            Some(KcsPorts::DEFAULT),
            DEVICE,
            Some(SEL),
            Some(TIMER),
            Some(write_test),
        )
    }

    #[test]
    fn for_people() {
        assert_eq!(
            report().to_string(),
            "\
BMC interface:   KCS at I/O ports 0xca2,0xca3, from the running ipmi_si driver: this one is used
                 KCS at I/O ports 0xca3,0xca4, from ACPI SPMI
asked through:   /dev/ipmi0
BMC:             manufacturer 4753, product 3842, firmware 9.08, IPMI 2.0
SEL:             108 records, room for 20 more; some were lost when it was full
watchdog:        runs for sms-os, 8.6 of 10.0 s left until reset
                 after a panic nobody feeds it: give --ipmi-watchdog stop, or start=SECONDS longer than a dump takes
OEM records:     refused: completion code 0xcc, invalid data field
system events:   kept
platform events: kept
left in the SEL: test records 0x0007; they do no harm. the BMC is gone
options to use:  --ipmi-kcs-ports=0xca2,0xca3 --sel-type=system --sel-records=17
"
        );
        let memory = Interface { kind: Kind::Bt, space: Space::Memory, address: 0xf000_0000, ..KCS };
        let bare = Report::new(&[memory], "/dev/ipmi0", None, DEVICE, None, None, None);
        assert_eq!(
            bare.to_string(),
            "\
BMC interface:   BT at memory address 0xf0000000, from the running ipmi_si driver (not usable)
asked through:   /dev/ipmi0
BMC:             manufacturer 4753, product 3842, firmware 9.08, IPMI 2.0
SEL:             the BMC says nothing about it
watchdog:        the BMC says nothing about it
options to use:  none: at the crash only KCS at I/O ports can be used, and none is known here
"
        );
    }

    #[test]
    fn as_json() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "schema": 1,
                "interfaces": [
                    { "kind": "kcs", "space": "io", "address": 0xca2, "spacing": 1, "source": "driver", "usable": true, "used": true },
                    { "kind": "kcs", "space": "io", "address": 0xca3, "spacing": 1, "source": "spmi", "usable": true, "used": false },
                ],
                "asked_through": "/dev/ipmi0",
                "bmc": { "manufacturer": 4753, "product": 3842, "firmware": "9.08", "ipmi": "2.0", "updating": false },
                "sel": { "entries": 108, "free_records": 20, "overflow": true },
                "watchdog": { "running": true, "use": "sms-os", "action": "reset", "initial_seconds": 10.0, "present_seconds": 8.6 },
                "write_test": {
                    "oem": { "result": "refused", "code": 0xcc },
                    "system": { "result": "kept" },
                    "event": { "result": "kept", "left": { "id": 7, "error": "the BMC is gone" } },
                },
                "options": ["--ipmi-kcs-ports=0xca2,0xca3", "--sel-type=system", "--sel-records=17"],
            })
        );
    }

    #[test]
    fn options_only_where_they_are_needed() {
        let roomy = SelInfo { free_bytes: u16::MAX, ..SEL };
        assert_eq!(options(None, Some(roomy), None), [""; 0]);
        assert_eq!(options(Some(KcsPorts::DEFAULT), None, None), ["--ipmi-kcs-ports=0xca2,0xca3"]);
        for (free, expected) in [(0, Some(1)), (2, Some(1)), (4, Some(1)), (34, Some(31)), (35, None)] {
            let sel = SelInfo { free_bytes: free * 16, ..SEL };
            let records = expected.map(|records| format!("--sel-records={records}"));
            assert_eq!(options(None, Some(sel), None), records.into_iter().collect::<Vec<_>>());
        }
    }
}
