//! What `lastwords read --json` prints. `docs/reading.md` describes it; a program may rely on what is there.

use super::{
    Reading,
    crash::{At, Crash, Named, Panicked, Time, Words},
};
use lastwords_core::{
    report::{Location, Stage},
    store::sel::Source,
};
use serde::Serialize;

/// The schema's version. It changes when something that was there changes its meaning or goes.
const VERSION: u32 = 1;

/// As JSON, without a newline at its end.
#[must_use]
pub fn json(reading: &Reading) -> String {
    let root = Root {
        version: VERSION,
        source: &reading.source,
        crashes: reading.crashes.iter().map(CrashJson::from).collect(),
        notes: reading.notes.iter().map(|note| note.name()).collect(),
    };
    serde_json::to_string_pretty(&root).unwrap_or_default()
}

#[derive(Serialize)]
struct Root<'a> {
    version: u32,
    source: &'a str,
    crashes: Vec<CrashJson>,
    notes: Vec<&'static str>,
}

#[derive(Serialize)]
struct CrashJson {
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
    dump: Vec<&'static str>,
    missing_records: u32,
    fragments: Vec<String>,
}

#[derive(Serialize)]
struct TimeJson {
    seconds: Option<u32>,
    text: String,
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
    Kernel { offset: String, symbol: Option<String> },
    Address { address: String, symbol: Option<String>, other_boot: bool },
    User,
    Dead,
}

impl From<&Crash> for CrashJson {
    fn from(crash: &Crash) -> Self {
        let text = |words: &Option<Words>| words.as_ref().map(Words::to_string);
        let texts = |words: &[Words]| words.iter().map(Words::to_string).collect();
        Self {
            rehearsal: crash.is_rehearsal(),
            time: crash.time.as_ref().map(TimeJson::from),
            speaker: crash.speaker.map(|speaker| match speaker {
                Source::Lastwords => "lastwords",
                Source::Linux => "linux",
            }),
            reason: text(&crash.reason),
            reason_whole: crash.reason.as_ref().is_some_and(|reason| !reason.cut),
            cause: text(&crash.cause),
            rip: text(&crash.rip),
            process: text(&crash.comm),
            callers: texts(&crash.callers),
            build_id: crash.build_id.map(|id| format!("{id:08x}")),
            release: crash.release.clone(),
            panicked: crash.panicked.as_ref().map(|panicked| match panicked {
                Panicked::Cpu(cpu, at) => PanickedJson { cpu: Some(*cpu), place: Some(at.into()) },
                Panicked::Unknown => PanickedJson { cpu: None, place: None },
            }),
            groups: crash
                .groups
                .iter()
                .map(|group| GroupJson { count: group.count, place: (&group.at).into() })
                .collect(),
            cpus_left_out: crash.left_out,
            damaged: texts(&crash.damaged),
            dump: crash
                .dump
                .iter()
                .map(|stage| match stage {
                    Stage::Started => "started",
                    Stage::Saved => "saved",
                    Stage::Failed => "failed",
                })
                .collect(),
            missing_records: crash.missing,
            fragments: texts(&crash.fragments),
        }
    }
}

impl From<&Time> for TimeJson {
    fn from(time: &Time) -> Self {
        let seconds = match time {
            Time::Seconds(seconds) => Some(*seconds),
            Time::Uptime(_) | Time::Listed(_) => None,
        };
        Self { seconds, text: time.to_string() }
    }
}

impl From<&At> for PlaceJson {
    fn from(at: &At) -> Self {
        let symbol = at.name.name().map(str::to_owned);
        match at.place {
            Location::Kernel(offset) => Self::Kernel { offset: format!("{offset:#x}"), symbol },
            Location::Address(address) => Self::Address {
                address: format!("{address:#x}"),
                symbol,
                other_boot: at.name == Named::OtherBoot,
            },
            Location::User => Self::User,
            Location::NotResponding => Self::Dead,
        }
    }
}
