//! What `lastwords read --json` prints. `docs/reading.md` describes it: programs rely on it.

use super::{
    Reading,
    crash::{Complete, Crash, NamedLocation, Panicked, Symbol, Text, Time},
    identity::Identity,
    part::Part,
};
use lastwords_core::{
    report::{Location, Stage},
    store::sel::Source,
};
use serde::Serialize;

/// The schema's version. It changes when something that was there changes its meaning or goes.
const SCHEMA: u32 = 1;
/// What stands in a text where something is missing.
const MISSING: &str = "…";

#[derive(Serialize)]
pub struct Root<'a> {
    schema: u32,
    /// Its older name.
    version: u32,
    source: &'a str,
    host: Option<&'a str>,
    crashes: Vec<CrashJson>,
    notes: Vec<&'static str>,
    kernels_without_symbols: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sel: Option<&'a Part>,
}

impl<'a> Root<'a> {
    /// Of what was read.
    #[must_use]
    pub fn new(reading: &'a Reading) -> Self {
        let no_symbols = (!reading.unnamed.is_empty()).then_some("no-symbols");
        let crash = |crash| CrashJson::new(crash, reading.age(crash));
        Self {
            schema: SCHEMA,
            version: SCHEMA,
            source: &reading.source,
            host: reading.host.as_deref(),
            crashes: reading.crashes.iter().map(crash).collect(),
            notes: reading.notes.iter().map(|note| note.name()).chain(no_symbols).collect(),
            kernels_without_symbols: reading.unnamed.iter().map(|id| format!("{id:08x}")).collect(),
            sel: reading.part.as_ref(),
        }
    }
}

#[derive(Serialize)]
pub struct CrashJson {
    id: Option<String>,
    id_source: Option<&'static str>,
    signature: Option<String>,
    signature_text: Option<String>,
    signature_partial: bool,
    class: &'static str,
    rehearsal: bool,
    time: Option<TimeJson>,
    speaker: Option<&'static str>,
    reason: Option<String>,
    reason_whole: bool,
    cause: Option<String>,
    rip: Option<String>,
    process: Option<String>,
    callers: Vec<String>,
    build_id: Option<String>,
    release: Option<String>,
    panicked: Option<PanickedJson>,
    groups: Vec<GroupJson>,
    cpus_left_out: u32,
    damaged: Vec<String>,
    restored: Vec<String>,
    dump: Vec<&'static str>,
    dump_failure: Option<String>,
    records: u32,
    missing_records: u32,
    complete: Option<bool>,
    fragments: Vec<String>,
    vmcore: Option<String>,
    pstore: Option<String>,
}

#[derive(Serialize)]
struct TimeJson {
    seconds: Option<u32>,
    text: String,
    age_seconds: Option<i64>,
}

#[derive(Serialize)]
struct PanickedJson {
    cpu: Option<u32>,
    place: Option<PlaceJson>,
}

#[derive(Serialize)]
struct GroupJson {
    count: u32,
    place: PlaceJson,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum PlaceJson {
    Kernel {
        offset: String,
        symbol: Option<String>,
    },
    Address {
        address: String,
        symbol: Option<String>,
        other_boot: bool,
    },
    User,
    Dead,
    Off,
    #[serde(rename = "off-or-dead")]
    OffOrDead,
    Unread,
}

impl CrashJson {
    /// Of this crash, which was so many seconds ago.
    #[must_use]
    pub fn new(crash: &Crash, age: Option<i64>) -> Self {
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.marked(MISSING));
        let texts = |texts: &[Text]| texts.iter().map(|text| text.marked(MISSING)).collect();
        let identity = Identity::of(crash);
        let id_source = if identity.id_is_recorded { "recorded" } else { "derived" };
        Self {
            id_source: identity.id.is_some().then_some(id_source),
            id: identity.id,
            signature: identity.signature.map(|signature| format!("{signature:08x}")),
            signature_text: (!identity.text.value.is_empty()).then(|| identity.text.marked(MISSING)),
            signature_partial: !identity.signature_is_recorded,
            class: identity.class.name(),
            rehearsal: crash.is_test(),
            time: crash.time.as_ref().map(|time| TimeJson::new(time, age)),
            speaker: crash.source.map(|source| match source {
                Source::Lastwords => "lastwords",
                Source::Linux => "linux",
            }),
            reason: text(&crash.reason),
            reason_whole: crash.reason.as_ref().is_some_and(|reason| !reason.cut),
            cause: text(&crash.cause),
            rip: text(&crash.location),
            process: text(&crash.process),
            callers: texts(&crash.call_trace),
            build_id: crash.build_id.map(|id| format!("{id:08x}")),
            release: crash.release.clone(),
            panicked: crash.panicked.as_ref().map(|panicked| match panicked {
                Panicked::Cpu(cpu, location) => {
                    PanickedJson { cpu: Some(*cpu), place: Some((&location.of_panicked()).into()) }
                }
                Panicked::Unknown => PanickedJson { cpu: None, place: None },
            }),
            groups: crash
                .groups
                .iter()
                .map(|group| GroupJson { count: group.count, place: (&group.location).into() })
                .collect(),
            cpus_left_out: crash.left_out,
            damaged: texts(&crash.corrupt),
            restored: texts(&crash.restored),
            dump: crash
                .no_dump
                .then_some("none")
                .into_iter()
                .chain(crash.dump.iter().map(|stage| match stage {
                    Stage::Started => "started",
                    Stage::Saved => "saved",
                    Stage::Failed => "failed",
                }))
                .collect(),
            dump_failure: text(&crash.why),
            records: crash.records,
            missing_records: crash.missing,
            complete: match crash.complete {
                _ if crash.missing > 0 => Some(false),
                Complete::Yes => Some(true),
                Complete::No => Some(false),
                Complete::Numbered | Complete::Unknown => None,
            },
            fragments: texts(&crash.unparsed),
            vmcore: crash.vmcore.clone(),
            pstore: crash.pstore.clone(),
        }
    }
}

impl TimeJson {
    fn new(time: &Time, age_seconds: Option<i64>) -> Self {
        let seconds = match time {
            Time::Seconds(seconds) => Some(*seconds),
            Time::Uptime(_) | Time::Listed(_) => None,
        };
        Self { seconds, text: time.to_string(), age_seconds }
    }
}

impl From<&NamedLocation> for PlaceJson {
    fn from(location: &NamedLocation) -> Self {
        let symbol = location.symbol.name().map(str::to_owned);
        match location.location {
            Location::Kernel(offset) => Self::Kernel { offset: format!("{offset:#x}"), symbol },
            Location::Address(address) => Self::Address {
                address: format!("{address:#x}"),
                symbol,
                other_boot: location.symbol == Symbol::OtherBoot,
            },
            Location::User => Self::User,
            Location::NotResponding => Self::Dead,
            Location::Off => Self::Off,
            Location::OffOrNotResponding => Self::OffOrDead,
            Location::Unread => Self::Unread,
        }
    }
}
