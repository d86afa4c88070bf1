//! This machine's crashes, in /var/lib/lastwords/crashes: a file each, TIME-ID.json, which is never deleted. A crash that has
//! one is known, whatever becomes of the SEL. Written before anybody is told of it, it counts as reported only when all have
//! been: so a power cut leads to two reports, not to none.

use super::watchdog::Stopped;
use crate::{arm::file, machine::now, message, read::Found, sort, symbols::store, utc::date_and_time};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The folder, in `store::FOLDER`.
pub const FOLDER: &str = "crashes";
/// The schema's version, that of `lastwords read --json`.
const SCHEMA: u32 = 1;
/// This file shows that the crashes before lastwords was installed are known.
const BEGUN: &str = ".begun";

/// A crash as it is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    schema: u32,
    /// The machine's name.
    pub host: Option<String>,
    /// What happened, in a line.
    pub summary: String,
    /// When it was found, in seconds since 1970.
    found_at: i64,
    /// All have been told of it.
    pub reported: bool,
    /// Somebody has seen it (`lastwords list --seen`).
    pub seen: bool,
    /// The BMC's watchdog that it had started, and that was stopped.
    pub watchdog_stopped: Option<Stopped>,
    /// As `lastwords read --json` has it.
    #[serde(flatten)]
    crash: Map<String, Value>,
    /// Its file's name.
    #[serde(skip)]
    pub name: String,
}

impl Stored {
    /// A crash that was just found.
    #[must_use]
    pub fn new(found: Found, host: Option<&str>) -> Self {
        let time = found.seconds.and_then(|seconds| date_and_time(seconds.into()));
        let time = time.map_or_else(
            || "unknown".to_owned(),
            |(date, time)| format!("{}T{}Z", date.replace('-', ""), time.replace(':', "")),
        );
        let Value::Object(crash) = found.json else { unreachable!("a crash is an object") };
        Self {
            schema: SCHEMA,
            host: host.map(str::to_owned),
            summary: found.summary,
            found_at: now(),
            reported: false,
            seen: false,
            watchdog_stopped: None,
            crash,
            name: format!("{time}-{}.json", found.key),
        }
    }

    /// The same, and somebody has seen it.
    #[must_use]
    pub fn as_seen(&self) -> Self {
        Self { seen: true, ..self.clone() }
    }

    /// A text of `lastwords read --json`, by its name there.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.crash.get(name)?.as_str()
    }

    /// When it was, by the BMC's clock.
    #[must_use]
    pub fn time(&self) -> &str {
        self.crash.get("time").and_then(|time| time.get("text")?.as_str()).unwrap_or("time unknown")
    }

    /// Where it was: the log's location, else that of the CPU that panicked, where it has a name.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        let symbol = || self.crash.get("panicked")?.get("place")?.get("symbol")?.as_str();
        self.text("rip").or_else(symbol)
    }

    /// What became of the dump: `saved`, `failed`, `unfinished` or `unknown`.
    #[must_use]
    pub fn dump(&self) -> &'static str {
        let stages = self.crash.get("dump").and_then(Value::as_array);
        match stages.and_then(|stages| stages.last()?.as_str()) {
            Some("saved") => "saved",
            Some("failed") => "failed",
            Some(_) => "unfinished",
            None => "unknown",
        }
    }

    /// The same in words, and where the dump is.
    #[must_use]
    pub fn dump_text(&self) -> String {
        let mut text = match (self.dump(), self.text("dump_failure")) {
            ("unfinished", _) => "DUMP UNFINISHED".to_owned(),
            ("unknown", _) => "no progress of the dump recorded".to_owned(),
            ("failed", Some(why)) => format!("dump failed ({why})"),
            (dump, _) => format!("dump {dump}"),
        };
        if let Some(vmcore) = self.text("vmcore") {
            text += ": ";
            text += vmcore;
        }
        text
    }

    /// `db04 crashed at 2026-11-23 01:38:20 (BMC clock): NULL pointer dereference at ...; dump saved: /var/crash/...`.
    #[must_use]
    pub fn line(&self) -> String {
        let host = self.host.as_deref().unwrap_or("this server");
        let time = match self.time() {
            "time unknown" => String::new(),
            time => format!(" at {time} (BMC clock)"),
        };
        format!("{host} crashed{time}: {}; {}", self.summary, self.dump_text())
    }
}

/// The folder of this machine's crashes.
pub struct Store<'a> {
    root: &'a Path,
}

impl<'a> Store<'a> {
    /// That of this machine.
    #[must_use]
    pub fn new(root: &'a Path) -> Self {
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(store::FOLDER).join(FOLDER).join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name.strip_suffix(".json").is_some_and(|name| !name.starts_with('.')));
        sort::all(&mut names);
        names
    }

    /// Has nobody looked for crashes so far?
    #[must_use]
    pub fn is_new(&self) -> bool {
        !self.path(BEGUN).exists()
    }

    /// From now on every crash that is not known is new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self) -> Result<()> {
        if self.is_new() { self.put(BEGUN, b"") } else { Ok(()) }
    }

    /// Is there a crash with this key? Its file's name counts, whatever is in it.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        let end = format!("-{key}.json");
        self.names().iter().any(|name| name.ends_with(&end))
    }

    /// All crashes, the newest first. One that cannot be read is left out, with a warning.
    #[must_use]
    pub fn list(&self) -> Vec<Stored> {
        let read = |name: String| {
            let read = || -> Result<Stored> {
                let bytes = store::read(self.root, &format!("{FOLDER}/{name}"))?;
                let crash: Stored =
                    serde_json::from_slice(&bytes).with_context(|| message::path(&self.path(&name)))?;
                Ok(Stored { name: name.clone(), ..crash })
            };
            read().map_err(|error| message::warning(&error)).ok()
        };
        self.names().into_iter().rev().filter_map(read).collect()
    }

    /// Writes a crash down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, crash: &Stored) -> Result<()> {
        self.put(&crash.name, (serde_json::to_string_pretty(crash)? + "\n").as_bytes())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        let write = || -> Result<()> {
            // Where others could write a link they would choose what root replaces.
            store::folder(self.root)?;
            let folder = self.path("");
            // Process names and locations are nobody's but root's.
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
            Ok(file::replace(&path, bytes, &Permissions::from_mode(0o600))?)
        };
        write().with_context(|| message::path(&path))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A crash with this key, so many seconds after 2026-11-22 16:17:10.
    pub fn crash(key: &str, after: u32) -> Stored {
        let seconds = 1_795_364_230 + after;
        let found = Found {
            key: key.to_owned(),
            seconds: Some(seconds),
            age: None,
            summary: "NULL pointer dereference at 0x18 in null_pointer+0xa, process insmod".to_owned(),
            json: json!({
                "id": key, "signature": "de47bb07", "class": "null-pointer", "reason": "Fatal exception",
                "cause": "NULL deref at 18", "rip": "null_pointer+0xa", "build_id": "eb4fbcd0",
                "release": "6.1.0-56-amd64", "dump": ["started", "saved"], "dump_failure": null,
                "time": {"seconds": seconds, "text": "2026-11-22 16:17:10", "age_seconds": null},
                "panicked": {"cpu": 1, "place": {"kind": "kernel", "offset": "0x1", "symbol": "panic+0x1"}},
                "vmcore": "/var/crash/202611221617/dump.202611221617",
            }),
        };
        Stored::new(found, Some("db04"))
    }

    #[test]
    fn what_is_written_is_read_again_newest_first_and_known_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        assert!(store.is_new() && !store.knows("06bz7sfyrb") && store.list().is_empty());
        let (old, new) = (crash("06bz7sfyrb", 0), crash("16bz7sfyrb", 60));
        for one in [&new, &old] {
            store.write(one).unwrap();
        }
        assert_eq!(store.list(), [new.clone(), old.clone()]);
        assert_eq!(old.name, "20261122T161710Z-06bz7sfyrb.json");
        assert!(store.knows("06bz7sfyrb") && !store.knows("6bz7sfyrb"));
        // Nothing of it can be read, and it is known all the same.
        fs::write(store.path(&old.name), "{").unwrap();
        assert_eq!(store.list(), [new]);
        assert!(store.knows("06bz7sfyrb") && store.is_new());
        store.begin().unwrap();
        assert!(!store.is_new());
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.path("")), mode(store.path(BEGUN))), (0o700, 0o600));
    }

    #[test]
    fn a_line_tells_who_when_what_and_where_the_dump_is() {
        let with = |name: &str, value: Value| {
            let mut crash = crash("06bz7sfyrb", 0);
            crash.crash.insert(name.to_owned(), value);
            crash
        };
        let head = "db04 crashed at 2026-11-22 16:17:10 (BMC clock): NULL pointer dereference at 0x18 in \
                    null_pointer+0xa, process insmod; ";
        let dump = "/var/crash/202611221617/dump.202611221617";
        assert_eq!(crash("06bz7sfyrb", 0).line(), format!("{head}dump saved: {dump}"));
        assert_eq!(with("vmcore", Value::Null).line(), format!("{head}dump saved"));
        assert_eq!(with("dump", json!(["started"])).line(), format!("{head}DUMP UNFINISHED: {dump}"));
        assert_eq!(with("dump", json!([])).line(), format!("{head}no progress of the dump recorded: {dump}"));
        let mut failed = with("dump", json!(["started", "failed"]));
        failed.crash.insert("dump_failure".to_owned(), json!("no space"));
        failed.crash.insert("vmcore".to_owned(), Value::Null);
        assert_eq!(failed.line(), format!("{head}dump failed (no space)"));
        assert_eq!(with("time", Value::Null).time(), "time unknown");
        assert_eq!(crash("06bz7sfyrb", 0).location(), Some("null_pointer+0xa"));
        assert_eq!(with("rip", Value::Null).location(), Some("panic+0x1"));
    }
}
