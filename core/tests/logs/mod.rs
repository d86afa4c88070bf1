//! The stored logs of real crashes (`tests/data/log-*.txt`), read for the tests that pick something out of them.

use lastwords_core::crash::{CauseReader, Panicked};
use lastwords_core::report::Cause;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A record: when, by whom, and what.
pub type Record = (u64, Option<u32>, String);

/// A log with who panicked, where it tells: record by record, with the time in seconds and `T` and a process, or `C` and
/// a CPU. A line without a time belongs to the record before.
pub fn parse(log: &str) -> (Option<Panicked>, Vec<Record>) {
    let panicked = log.strip_prefix("panicked: CPU ").and_then(|rest| {
        let (cpu, pid) = rest.lines().next()?.split_once(" PID ")?;
        Some(Panicked { cpu: cpu.parse().ok()?, pid: pid.parse().ok() })
    });
    let mut records = Vec::<Record>::new();
    for line in log.lines().skip(usize::from(panicked.is_some())) {
        match stamped(line) {
            Some(record) => records.push(record),
            None => records.last_mut().unwrap().2.extend(["\n", line]),
        }
    }
    (panicked, records)
}

fn stamped(line: &str) -> Option<Record> {
    let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = time.trim().split_once('.')?;
    let ts_nsec = seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000;
    let caller = rest.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let (caller_id, text) = match caller {
        Some((caller, text)) => {
            let number: u32 = caller.trim().get(1..)?.parse().ok()?;
            (Some(if caller.contains('C') { number | IN_INTERRUPT } else { number }), text)
        }
        None => (None, rest.strip_prefix(' ')?),
    };
    Some((ts_nsec, caller_id, text.to_owned()))
}

/// A caller_id of an interrupt on CPU 0.
pub const IN_INTERRUPT: u32 = 1 << 31;

/// What is picked out of them.
pub fn pick(panicked: Option<Panicked>, records: &[Record]) -> Cause {
    let mut reader = CauseReader::new(panicked);
    for (ts_nsec, caller_id, text) in records {
        reader.text(*ts_nsec, *caller_id, text.as_bytes());
    }
    reader.cause
}

/// Where the tests' data is.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The stored logs by kind and kernel.
pub fn logs() -> BTreeMap<String, String> {
    let log = |path: &Path| {
        let name = path.file_stem()?.to_str()?.strip_prefix("log-")?.to_owned();
        Some((name, fs::read_to_string(path).unwrap()))
    };
    fs::read_dir(data()).unwrap().filter_map(|entry| log(&entry.unwrap().path())).collect()
}
